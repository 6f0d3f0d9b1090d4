"""How far is w = r from the best fixed allocation? The gap of every task, searched and measured on different seeds.

    python scripts/allocation_gap.py                 # runs/gap, then docs/allocation_gap.md
    python scripts/allocation_gap.py --processes 1   # interrupted, the same command goes on

A fixed allocation's final profile does not depend on the task: each is run once a seed and used for
all tasks. The best one for a task is chosen by dev utility on the search seeds, then run together
with task-static on fresh seeds, where the exam measures the paired difference.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
from pathlib import Path

import numpy as np
from rich.console import Console

from read_env.agents.registry import make_agent
from read_env.capabilities import get_suite
from read_env.config import Config, load_preset
from read_env.reporting import best_allocation, fixed_allocation_profiles, gap_markdown, gap_table
from read_env.reporting.records import load_run
from read_env.running.agents import AgentSpec
from read_env.running.comparison import run_many
from read_env.running.runner import RunRequest, make_env
from read_env.tasks import load_task, task_names

DOCS = Path(__file__).resolve().parent.parent / "docs"


def shares_of(allocation: np.ndarray, names: tuple[str, ...]) -> str:
    """An allocation as the ``fixed`` agent's option: ``"math=0.5 code=0.5"``."""
    return " ".join(f"{name}={share:.3f}" for name, share in zip(names, allocation, strict=True) if share > 0)


def search_space(tasks, suite, random_draws: int) -> dict[str, np.ndarray]:
    """Named allocations: task-static and √r of every task, tasks with a helper, uniform, corners, random mixes."""
    size = len(suite)
    space = {"uniform": np.full(size, 1 / size)}
    space |= {f"only-{name}": row for name, row in zip(suite.names, np.eye(size), strict=True)}
    for task in tasks:
        requirement = task.requirement_vector(suite)
        space[f"task-{task.name}"] = requirement
        space[f"sqrt-{task.name}"] = np.sqrt(requirement) / np.sqrt(requirement).sum()
        space[f"safe-{task.name}"] = 0.8 * requirement + 0.2 / size
    rng = np.random.default_rng(2026)
    for first, second in itertools.combinations(range(size), 2):
        space[f"pair-{first}{second}"] = 0.5 * (np.eye(size)[first] + np.eye(size)[second])
    for i in range(random_draws):
        space[f"mix-{i}"] = rng.dirichlet(np.full(size, 0.5))
    return space


def requests(space: dict[str, np.ndarray], seeds: list[int], config: Config, directory: Path) -> dict[str, RunRequest]:
    """A run for each allocation and seed."""
    names = get_suite(config.suite).names
    found = {}
    for seed, (label, allocation) in itertools.product(seeds, space.items()):
        options = {"shares": shares_of(allocation, names)}
        make_agent("fixed", capabilities=names, options=options)
        agent = AgentSpec("fixed", options, label=label)
        run_config = config.model_copy(update={"agent": "fixed", "agent_options": options, "seed": seed})
        found[f"{label}__seed{seed}"] = RunRequest(run_config, agent, directory / "runs" / f"{label}__seed{seed}")
    return found


def run_all(title: str, runs: dict[str, RunRequest], processes: int) -> None:
    """Runs what is missing; students are not kept."""
    failures = run_many(title, runs, processes, Console(), make_env)
    for run in runs.values():
        shutil.rmtree(run.directory / "student", ignore_errors=True)
        shutil.rmtree(run.directory / "tensorboard", ignore_errors=True)
    if failures:
        raise SystemExit("\n".join(f"{name}: {error}" for name, error in failures.items()))


def dev_profiles(runs: dict[str, RunRequest], labels, seeds) -> dict[str, np.ndarray]:
    """(seeds, |C|) last dev profile of every allocation: the search never sees the exam."""
    return {
        label: np.array([load_run(runs[f"{label}__seed{seed}"].directory).steps[-1].dev_profile for seed in seeds])
        for label in labels
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="micro")
    parser.add_argument("--total-tokens", type=int, default=60_000)
    parser.add_argument("--step-tokens", type=int, default=6_000)
    parser.add_argument("--search-seeds", type=int, nargs="*", default=[5001])
    parser.add_argument("--seeds", type=int, nargs="*", default=[6001, 6002, 6003, 6004, 6005, 6006, 6007, 6008])
    parser.add_argument("--random-draws", type=int, default=40)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/gap"))
    args = parser.parse_args()

    budget = {"total_tokens": args.total_tokens, "step_tokens": args.step_tokens}
    config = load_preset(args.preset, {"budget": budget})
    suite = get_suite(config.suite)
    tasks = [load_task(name, suite) for name in task_names()]
    utilities = {task.name: (lambda profile, task=task: task.utility(profile, suite)) for task in tasks}

    space = search_space(tasks, suite, args.random_draws)
    searched = requests(space, args.search_seeds, config, args.out / "search")
    run_all("searching fixed allocations", searched, args.processes)
    best = best_allocation(dev_profiles(searched, space, args.search_seeds), utilities)

    static = {task.name: f"task-{task.name}" for task in tasks}
    measured_labels = dict.fromkeys([*best.values(), *static.values()])
    measured = requests({label: space[label] for label in measured_labels}, args.seeds, config, args.out / "measure")
    run_all("measuring on fresh seeds", measured, args.processes)
    profiles, seeds = fixed_allocation_profiles(args.out / "measure")
    gaps = gap_table(profiles, utilities, best, static)

    listing = "\n".join(
        f"- `{label}`: {shares_of(space[label], suite.names)}" for label in dict.fromkeys(best.values())
    )
    (DOCS / "allocation_gap.md").write_text(
        f"# The best fixed allocation against w = r\n\nMade by `python scripts/allocation_gap.py`: "
        f"{args.total_tokens:,} completion tokens in steps of {args.step_tokens:,}; {len(space)} allocations searched "
        f"by dev utility on seeds {args.search_seeds}; exam utility on the fresh seeds {list(seeds)}.\n\n"
        f"{gap_markdown(gaps)}\n\nAbove zero for {sum(g.above_zero for g in gaps)} of {len(gaps)} tasks.\n\n"
        f"The allocations found:\n\n{listing}\n"
    )
    print((DOCS / "allocation_gap.md").read_text())


if __name__ == "__main__":
    main()
