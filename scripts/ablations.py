"""Ablations of ReAD on composite tasks: without identifier, without adaptation, without spillover penalty (arXiv 2605.11290).

    python scripts/requirements.py   # first: the requirements that are inferred
    python scripts/ablations.py      # runs/ablations, then docs/ablations.md; after an interruption the same command continues

Named before the first run: the tasks, the seeds and the contrasts.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from common import parser_of, run_all, write_page
from requirements import PRESET, SUITE, TASKS

from read_env import files
from read_env.config import load_preset
from read_env.reporting.markdown import interval, markdown_table, number, p_value, plus_minus
from read_env.reporting.statistics import holm, mean_interval, paired
from read_env.running.requests import RunRequest
from read_env.tasks import load_task
from read_env.tasks.card import card_toml

SEEDS = tuple(range(9501, 9511))
FULL, UNIFORM_R, STATIC, NO_PENALTY = "ReAD", "no identifier", "no adaptation", "no spillover penalty"
#: Label -> requirement and settings. The requirement is inferred by interventions, or uniform.
ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    FULL: ("interventions", {"agent": "read-bandit"}),
    UNIFORM_R: ("uniform", {"agent": "read-bandit"}),
    STATIC: ("interventions", {"agent": "task-static"}),
    NO_PENALTY: ("interventions", {"agent": "read-bandit", "reward": {"spillover_beta": 0.0}}),
}


def cards(inferred: Mapping[str, Any], folder: Path) -> dict[tuple[str, str, str], str]:
    """(task, kind of requirement, seed of the interventions) -> file of the card."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for seed, tasks in inferred.items():
        for task in TASKS:
            for kind in ("interventions", "uniform"):
                shares = dict(zip(SUITE.names, tasks[task][kind], strict=True))
                shares = {name: round(share, 6) for name, share in shares.items() if share >= 0.0005}
                card = load_task(task, SUITE).model_copy(update={"requirement": shares})
                path = (folder / f"{task}-{kind}-{seed}.toml").resolve()
                files.write_text(path, card_toml(card))
                found[task, kind, seed] = str(path)
    return found


def measured(inferred: Mapping[str, Any], out: Path, processes: int) -> dict[tuple[str, str], tuple[np.ndarray, ...]]:
    """(task, arm) -> (seeds,) gains on the task's exam, and spillover of all steps together; the missing runs are made."""
    places, of_seed = cards(inferred, out / "cards"), list(inferred)
    requests = {}
    for i, seed in enumerate(SEEDS):
        for task in TASKS:
            for arm, (kind, settings) in ARMS.items():
                card = places[task, kind, of_seed[i % len(of_seed)]]
                config = load_preset(PRESET, {"task": card, "seed": seed, **settings})
                name = f"{task}-{arm.replace(' ', '-')}-{seed}"
                requests[name] = RunRequest(config, out / "runs" / name)
    runs = run_all("ablations", requests, processes)
    found = {}
    for task in TASKS:
        for arm in ARMS:
            own = [runs[f"{task}-{arm.replace(' ', '-')}-{seed}"] for seed in SEEDS]
            gains = [run.ended.task_exam - run.start.task_exam for run in own]  # type: ignore[operator]
            spilled = [sum(step.spillover for step in run.steps) for run in own]
            found[task, arm] = (np.array(gains), np.array(spilled))
    return found


def page(found: Mapping[tuple[str, str], tuple[np.ndarray, ...]]) -> str:
    """Text of docs/ablations.md."""
    means = {arm: np.mean([found[task, arm][0] for task in TASKS], axis=0) for arm in ARMS}
    spilled = {arm: np.mean([found[task, arm][1] for task in TASKS], axis=0) for arm in ARMS}
    rows = [
        [
            arm,
            plus_minus(mean_interval(means[arm])),
            *(number(float(found[task, arm][0].mean()), 2, True) for task in TASKS),
            number(float(spilled[arm].mean())),
        ]
        for arm in ARMS
    ]
    tests = {arm: paired(means[FULL], means[arm]) for arm in ARMS if arm != FULL}
    adjusted = holm([test.p_t for test in tests.values()])
    contrasts = [
        [f"{FULL} − {arm}", number(t.difference.mean, 3, True), interval(t.difference), p_value(float(p))]
        for (arm, t), p in zip(tests.items(), adjusted, strict=True)
    ]
    return f"""# Ablations of ReAD

Made by `python scripts/ablations.py` (preset `{PRESET}`, {len(TASKS)} composite tasks, {len(SEEDS)} seeds), after
`python scripts/requirements.py`, which infers the requirements.

| arm | requirement | allocation | reward |
|---|---|---|---|
| {FULL} | by interventions | `read-bandit` | as published |
| {UNIFORM_R} | uniform | `read-bandit` | as published |
| {STATIC} | by interventions | w = r̂ (`task-static`) | – |
| {NO_PENALTY} | by interventions | `read-bandit` | `spillover_beta = 0` |

Gain on the task's own exam (exact match) after 24,000 tokens, mean over tasks with its interval over seeds (95 %, t); by task;
spillover of a run, the drops on the essential capabilities weighted by r̂.

{markdown_table(["arm", "gain, mean", *TASKS, "spillover"], rows)}

{markdown_table(["contrast", "difference", "95 % (paired t)", "p (Holm)"], contrasts)}

The paper names these ablations, and reports for Llama 70B → 8B at 20M and 150M tokens +1.0 and +1.2 points over a greedy one-step
allocation and +1.2 and +1.4 over the best fixed allocation of a grid, with a standard deviation over seeds of .3 to .4.
"""


def main() -> None:
    parser = parser_of(__doc__, "runs/ablations")
    parser.add_argument("--requirements", type=Path, default=Path("docs/measured"))
    arguments = parser.parse_args()
    inferred = files.read_json(arguments.requirements / "requirements.json")
    write_page("ablations", page(measured(inferred, arguments.out, arguments.processes)))


if __name__ == "__main__":
    main()
