"""Gap between w = r and the best fixed allocation of every task, searched and measured on different seeds.

    python scripts/allocation_gap.py                 # runs/gap, then docs/allocation_gap.md
    python scripts/allocation_gap.py --processes 1   # after an interruption the same command continues

The winners of the search run together with task-static on fresh seeds, where the exam measures the paired difference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from common import exam_of, parser_of, run_all, write_page
from fixed_allocations import FINALISTS, SEARCH_SEEDS, SETTINGS, requests, search, shares_of

from read_env.capabilities import get_suite
from read_env.config import load_preset
from read_env.reporting.markdown import interval, markdown_table, number, p_value
from read_env.reporting.statistics import paired
from read_env.tasks import load_task, task_names

#: Seeds whose results were seen during development; never used for measurements again.
EARLIER_SEEDS = "seeds 6001 to 6008, 6101 to 6110 and 6201 to 6210"


def gap_table(
    profiles: Mapping[str, np.ndarray],
    tasks: Mapping[str, Callable[[np.ndarray], float]],
    given: Mapping[str, str],
    reference: Mapping[str, str],
) -> tuple[str, int]:
    """The gap of every task: arithmetic on final profiles, since those of a fixed allocation depend on no task.

    Search on one set of seeds and measure on another, or the best of many looks better than it is.

    Args:
        profiles: final profiles (seeds, |C|) by allocation name; row k is the same seed in all of them.
        tasks: utility of a profile by task name.
        given: the allocation to judge, by task (for example the best one on other seeds).
        reference: the allocation to judge it against, by task (task-static has one name per task).

    Returns:
        Markdown table, and the number of tasks whose whole t interval lies above zero.
    """
    rows = []
    for task, utility in tasks.items():
        names = given[task], reference[task]
        scores = [np.array([utility(profile) for profile in profiles[name]]) for name in names]
        test = paired(*scores)
        gap = test.difference
        rows.append([task, *(f"`{name}`" for name in names), *(number(float(values.mean())) for values in scores)])
        rows[-1] += [number(gap.mean, signed=True), interval(gap), p_value(test.p_t), str(gap.n)]
        rows[-1].append("yes" if gap.low > 0 else "no")
    header = "task,allocation,reference,utility,reference utility,gap,95 % (paired t),p,seeds,above zero".split(",")
    return markdown_table(header, rows, text_columns=3), sum(row[-1] == "yes" for row in rows)


def main() -> None:
    parser = parser_of(__doc__, "runs/gap")
    parser.add_argument("--preset", default="micro")
    parser.add_argument("--search-seeds", type=int, nargs="*", default=SEARCH_SEEDS)
    parser.add_argument("--seeds", type=int, nargs="*", default=list(range(6301, 6311)))
    parser.add_argument("--search-only", action="store_true", help="stop before the fresh seeds")
    args = parser.parse_args()

    config = load_preset(args.preset, SETTINGS)
    suite = get_suite(config.suite)
    tasks = {name: load_task(name, suite) for name in task_names()}
    static = {name: f"task-{name}" for name in tasks}
    found = search(config, args.search_seeds, args.out / "search", args.processes)
    if args.search_only:
        for name, label in found.best.items():
            gain = found.utilities[label][name] - found.utilities[static[name]][name]
            print(f"{name:20} {gain:+.4f} {label:24} {shares_of(found.space[label], suite.names)}")
        return

    chosen = {label: found.space[label] for label in [*found.best.values(), *static.values()]}
    measured = requests(chosen, args.seeds, config, args.out / "measure")
    runs = run_all("measuring on fresh seeds", measured, args.processes)
    profiles = {label: np.array([exam_of(runs[f"{label}__seed{seed}"]) for seed in args.seeds]) for label in chosen}
    utilities = {name: (lambda profile, task=task: task.utility(profile, suite)) for name, task in tasks.items()}
    table, above = gap_table(profiles, utilities, found.best, static)

    winners = dict.fromkeys(found.best.values())
    listing = "\n".join(f"- `{label}`: {shares_of(found.space[label], suite.names)}" for label in winners)
    write_page(
        "allocation_gap",
        f"# The best fixed allocation against w = r\n\nMade by `python scripts/allocation_gap.py`: "
        f"{config.budget.total_tokens:,} completion tokens in steps of {config.budget.step_tokens:,}; "
        f"{len(found.space)} allocations played on seed {args.search_seeds[0]}, the best {FINALISTS} of each task also "
        f"on {args.search_seeds[1:]}. The exact match of these runs on dev, pooled in a surface (ridge penalty "
        f"{found.surface.penalty:g}, which predicts an allocation that it hasn't seen best: to "
        f"{found.surface.error:.3f}), says which allocation is best for a task. Exam utility on the fresh seeds "
        f"{args.seeds}, which had no part in choosing allocations or tasks: cards were changed after looks at "
        f"{EARLIER_SEEDS}, the last time because a gap predicted there was half luck.\n\n"
        f"{table}\n\nAbove zero for {above} of {len(tasks)} tasks. A gap of "
        "exactly zero: the search found nothing better than w = r. The intervals are those of single tasks.\n\n"
        f"The allocations found:\n\n{listing}\n",
    )


if __name__ == "__main__":
    main()
