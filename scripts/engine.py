"""Remake docs/engine.md: schedules, passes and mixtures of the student's updates, by budget.

    python scripts/engine.py                 # grid on dev, exam of the chosen setting, page; resumable
    python scripts/engine.py --processes 1

The tokens go in equal parts to all capabilities. The grid compares the settings by exact match on the dev split over ``SEEDS`` at
the preset's budget. The best one, the default and the setting without schedules then sit the exam on ``EXAM_SEEDS``, which chose
nothing, at this budget and at a larger one.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from common import exam_of, parser_of, run_all, write_page

from read_env.config import Config, load_preset
from read_env.reporting.markdown import interval, markdown_table, number, plus_minus
from read_env.reporting.runs import Run
from read_env.reporting.statistics import mean_interval, paired
from read_env.running.requests import RunRequest

#: B -> tokens per step.
BUDGETS = {24_000: 2_400, 120_000: 6_000}
GRID_BUDGET = 24_000
SEEDS = (8101, 8102, 8103, 8104, 8105)
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
DEFAULT = "mixed, linear, 3 passes"
#: Label -> settings of ``distill``.
SETTINGS: dict[str, dict[str, Any]] = {
    "before": BEFORE,
    "mixed, linear, 1 pass": {**_NEW, "epochs": 1},
    DEFAULT: _NEW,
    "mixed, linear, 3 passes, 2e-3": {**_NEW, "learning_rate": 2e-3},
    "mixed, cosine, 3 passes": {**_NEW, "lr_scheduler_type": "cosine"},
    "mixed, wsd, 3 passes": {**_NEW, "lr_scheduler_type": "wsd"},
    "mixed, linear, 5 passes": {**_NEW, "epochs": 5},
}

#: (label, budget, seed) -> run.
Runs = Mapping[tuple[str, int, int], Run]


def config_of(label: str, budget: int, seed: int, split: str) -> Config:
    """Configuration of one run."""
    sections = {
        "budget": {"total_tokens": budget, "step_tokens": BUDGETS[budget]}, "distill": SETTINGS[label],
        "eval": {"exam_split": split, "dev": 2, "score_teacher": "never"},
    }  # fmt: skip
    return load_preset("micro", {"agent": "uniform", "task": "bookkeeper", "seed": seed, **sections})


def play(
    labels: list[str], budgets: tuple[int, ...], seeds: tuple[int, ...], split: str, options: argparse.Namespace
) -> Runs:
    """(label, budget, seed) -> run."""
    keys = list(itertools.product(labels, budgets, seeds))
    names = {key: f"{list(SETTINGS).index(key[0]):02}__{key[1]}__{key[2]}" for key in keys}
    requests = {names[key]: RunRequest(config_of(*key, split), options.out / split / names[key]) for key in keys}
    runs = run_all(f"engine, {split}", requests, options.processes)
    return {key: runs[names[key]] for key in keys}


def gains(runs: Runs, label: str, budget: int) -> np.ndarray:
    """Gain in mean exact match of each seed."""
    own = [run for (name, total, _), run in runs.items() if (name, total) == (label, budget)]
    return np.array([(exam_of(run) - run.begun.exam).mean() for run in own])


def compared(runs: Runs, label: str, budget: int) -> list[str]:
    """Cells of a setting: its gain, its ratio to that of the setting before, and their difference."""
    own, old = gains(runs, label, budget), gains(runs, "before", budget)
    difference = "" if label == "before" else interval(paired(own, old).difference)
    return [plus_minus(mean_interval(own)), number(own.mean() / old.mean(), 2), difference]


def seconds(runs: Runs, label: str) -> str:
    """Median seconds of a step that train and probe the student."""
    steps = [step.seconds for (name, *_), run in runs.items() if name == label for step in run.steps]
    return number(float(np.median([step["student"] + step["probes"] for step in steps])), 2)


def main() -> None:
    options = parser_of(__doc__, "runs/engine").parse_args()
    grid = play(list(SETTINGS), (GRID_BUDGET,), SEEDS, "dev", options)
    chosen = max(SETTINGS, key=lambda label: gains(grid, label, GRID_BUDGET).mean())
    labels = list(dict.fromkeys(["before", DEFAULT, chosen]))
    final = play(labels, tuple(BUDGETS), EXAM_SEEDS, "exam", options)
    columns = ["of before", "difference, 95 % (paired t)"]
    rows = [[label, *compared(grid, label, GRID_BUDGET), seconds(grid, label)] for label in SETTINGS]
    exams = [
        [label, f"{budget:,}", *compared(final, label, budget)] for budget, label in itertools.product(BUDGETS, labels)
    ]
    write_page(
        "engine",
        "# Updates of the student\n\n"
        f"`python scripts/engine.py`: the micro pair, tokens in equal parts to all capabilities. Gains are in exact match, the mean "
        f"over the capabilities, with 95 % t intervals over seeds. *Before* is the engine without schedules: rate 3e-4, one pass, "
        f"optimizer steps of one length. The others have a peak rate of 1e-3 unless they name one. *{DEFAULT}* is the default.\n\n"
        f"On dev, {GRID_BUDGET:,} tokens, seeds {SEEDS[0]} to {SEEDS[-1]}; highest: *{chosen}*.\n\n"
        + markdown_table(["setting", "gain on dev", *columns, "s per step, student and probes"], rows)
        + f"\n\nOn the exam, seeds {EXAM_SEEDS[0]} to {EXAM_SEEDS[-1]}:\n\n"
        + markdown_table(["setting", "tokens", "gain on the exam", *columns], exams, 2)
        + "\n",
    )


if __name__ == "__main__":
    main()
