"""Remake docs/engine.md: schedules, passes and mixtures of the student's updates, by budget.

    python scripts/engine.py                 # grid on dev, exam of the chosen setting, page; resumable
    python scripts/engine.py --processes 1

The tokens go in equal parts to all capabilities. The setting is chosen by exact match on the dev split over ``SEEDS`` at the
larger budget; it and the setting before it then sit the exam on ``EXAM_SEEDS``, which chose nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from common import exam_of, parser_of, run_all, write_page

from read_env.config import Config, load_preset
from read_env.reporting.markdown import interval, markdown_table, number, plus_minus
from read_env.reporting.runs import Run
from read_env.reporting.statistics import mean_interval, paired
from read_env.running.requests import RunRequest

#: B -> tokens per step.
BUDGETS = {120_000: 6_000}
SEEDS = (8101, 8102, 8103)
EXAM_SEEDS = (8201, 8202, 8203, 8204, 8205)

#: The engine before schedules: a constant rate, one pass, optimizer steps of one length and so of one capability.
BEFORE = {
    "learning_rate": 3e-4, "lr_scheduler_type": "constant", "warmup_ratio": 0.0, "epochs": 1, "group_by_length": True,
}  # fmt: skip
_NEW = {
    "learning_rate": 1e-3,
    "lr_scheduler_type": "linear",
    "warmup_ratio": 0.02,
    "epochs": 3,
    "group_by_length": False,
}
#: Label -> settings of ``distill``.
SETTINGS: dict[str, dict[str, Any]] = {
    "before": BEFORE,
    "mixed, linear, 1 pass": {**_NEW, "epochs": 1},
    "mixed, linear, 3 passes": _NEW,
    "mixed, linear, 3 passes, 2e-3": {**_NEW, "learning_rate": 2e-3},
    "mixed, cosine, 3 passes": {**_NEW, "lr_scheduler_type": "cosine"},
    "mixed, linear, 5 passes": {**_NEW, "epochs": 5},
}


def config_of(label: str, budget: int, seed: int, split: str) -> Config:
    """Configuration of one run."""
    sections = {
        "budget": {"total_tokens": budget, "step_tokens": BUDGETS[budget]}, "distill": SETTINGS[label],
        "eval": {"exam_split": split, "dev": 2, "score_teacher": "never"},
    }  # fmt: skip
    return load_preset("micro", {"agent": "uniform", "task": "bookkeeper", "seed": seed, **sections})


def play(
    labels: list[str], seeds: tuple[int, ...], split: str, out: Path, processes: int
) -> dict[tuple[Any, ...], Run]:
    """(label, budget, seed) -> run."""
    keys = list(itertools.product(labels, BUDGETS, seeds))
    names = {key: f"{list(SETTINGS).index(key[0]):02}__{key[1]}__{key[2]}" for key in keys}
    requests = {names[key]: RunRequest(config_of(*key, split), out / split / names[key]) for key in keys}
    runs = run_all(f"engine, {split}", requests, processes)
    return {key: runs[names[key]] for key in keys}


def gains(runs: Mapping[tuple[Any, ...], Run], label: str, budget: int) -> np.ndarray:
    """Gain in mean exact match of each seed."""
    own = [run for (name, total, _), run in runs.items() if (name, total) == (label, budget)]
    return np.array([(exam_of(run) - run.begun.exam).mean() for run in own])


def main() -> None:
    options = parser_of(__doc__, "runs/engine").parse_args()
    grid = play(list(SETTINGS), SEEDS, "dev", options.out, options.processes)
    rows = []
    for label in SETTINGS:
        cells = [label]
        for budget in BUDGETS:
            own = gains(grid, label, budget)
            cells += [plus_minus(mean_interval(own)), number(own.mean() / gains(grid, "before", budget).mean(), 2)]
        student = [
            step.seconds["student"] + step.seconds["probes"]
            for (name, total, _), run in grid.items() for step in run.steps if (name, total) == (label, 120_000)
        ]  # fmt: skip
        rows.append([*cells, number(float(np.median(student)), 2)])
    header = ["setting"]
    for budget in BUDGETS:
        header += [f"gain on dev, {budget:,} tokens", "of before"]
    largest = max(BUDGETS)
    chosen = max(SETTINGS, key=lambda label: gains(grid, label, largest).mean())
    final = play(
        list(dict.fromkeys(["before", "mixed, linear, 3 passes", chosen])),
        EXAM_SEEDS,
        "exam",
        options.out,
        options.processes,
    )
    exams = []
    for label in dict.fromkeys(label for label, _, _ in final):
        for budget in BUDGETS:
            own, old = gains(final, label, budget), gains(final, "before", budget)
            exams.append([
                label, f"{budget:,}", plus_minus(mean_interval(own)), number(own.mean() / old.mean(), 2),
                "" if label == "before" else interval(paired(own, old).difference),
            ])  # fmt: skip
    write_page(
        "engine",
        "# Updates of the student\n\n"
        f"`python scripts/engine.py`: the micro pair, tokens in equal parts to all capabilities, seeds {SEEDS[0]} to {SEEDS[-1]}. "
        "Gains are in exact match, the mean over the capabilities, with 95 % t intervals over seeds. *Before* is the engine "
        "without schedules: rate 3e-4, one pass, optimizer steps of one length. The others have a peak rate of 1e-3 unless they "
        "name one.\n\n"
        + markdown_table([*header, "s per step, student and probes"], rows)
        + f"\n\nHighest on dev at {largest:,} tokens: *{chosen}*. On the exam, with seeds {EXAM_SEEDS[0]} to {EXAM_SEEDS[-1]}:\n\n"
        + markdown_table(
            ["setting", "tokens", "gain on the exam", "of before", "difference, 95 % (paired t)"], exams, 2
        )
        + "\n",
    )


if __name__ == "__main__":
    main()
