"""The surrogate of the micro world that ships, fitted to the episodes of ``scripts/record_transitions.py``, and its validation.

    python scripts/fit_surrogate.py              # assets/micro/transitions.npz and surrogate.json, then docs/surrogate.md
    python scripts/fit_surrogate.py --page-only  # the page, from the files that are there

For the page, the fit is made again without one policy, or without a quarter of the students, and predicts the episodes that were
left out, from their profile at the start and their allocations alone.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import ranks
import torch
from common import parser_of, write_page
from record_transitions import PRESET, RULED, TASKS, distillation

from read_env import files
from read_env.capabilities import get_suite
from read_env.config import load_preset
from read_env.reporting.markdown import markdown_table, number
from read_env.surrogate.chance import simulated
from read_env.surrogate.fit import as_tensors, fit, predictions, tensors
from read_env.surrogate.model import Surrogate
from read_env.surrogate.record import Episodes, Record
from read_env.tasks import load_task

ASSETS = Path(str(resources.files("read_env") / "assets" / "micro"))
SUITE = get_suite("micro")
WORLDS, ITERATIONS, SEED = 8, 600, 0
#: Fits of the validation, and draws of an episode's noise in each of their worlds.
FOLDS, DRAWS = 4, 16
#: Least number of episodes of a policy that is left out alone.
LEAST = 10
#: Part of the outcomes that an interval should hold.
COVERAGE = 0.9


@dataclass(frozen=True, eq=False)
class LeftOut:
    """Episodes that a fit did not see, and what it predicts of them.

    Attributes:
        record: the episodes.
        played: (draws, E, T, |C|) simulated profiles after each step.
        steps: (E, T, |C|) expected profile after each step, from the one before it.
    """

    record: Record
    played: np.ndarray
    steps: np.ndarray

    @property
    def final(self) -> np.ndarray:
        """(draws, E, |C|) simulated profiles at the end."""
        return self.played[:, np.arange(len(self.record.episodes)), self.record.episodes.played.sum(1) - 1]


def recorded_episodes(path: Path) -> Record:
    """Record of the episodes in a JSON-lines file."""
    config = load_preset(PRESET)
    _, *lines = files.read_lines(path)
    scores = distillation().measurement.teacher_scores
    assert scores is not None and scores.profile is not None
    return Record(
        capabilities=SUITE.names, total_tokens=config.budget.total_tokens, step_tokens=int(config.budget.step_tokens),
        lr_scheduler_type=config.distill.lr_scheduler_type, warmup_ratio=config.distill.warmup_ratio,
        teacher=scores.profile, episodes=Episodes.of([{**line["result"], "policy": label(line["result"])} for line in lines]),
    )  # fmt: skip


def label(episode: Mapping[str, Any]) -> str:
    """Name of a policy, with the task that it follows."""
    return f"{episode['policy']} {episode['task']}" if episode["policy"] in RULED else str(episode["policy"])


def left_out(record: Record, out: np.ndarray) -> LeftOut:
    """Fit to the other episodes, and predictions of those at which ``out`` is true."""
    surrogate = fit(record[~out], WORLDS // 2, iterations=ITERATIONS, seed=SEED)
    kept = record[out]
    data, worlds = tensors(kept), as_tensors(surrogate.worlds)
    expected, _ = predictions(worlds, data)
    generator, shape = torch.Generator().manual_seed(SEED), (2, surrogate.count, *data["tokens"].shape)
    played = torch.cat(
        [simulated(worlds, data, torch.randn(shape, generator=generator), surrogate.factors) for _ in range(DRAWS)]
    ).numpy()
    return LeftOut(kept, played, expected.mean(0).numpy())


def utilities(profiles: np.ndarray) -> np.ndarray:
    """(…, tasks) utility of the training tasks."""
    cards = [load_task(task, SUITE) for task in TASKS]
    return np.stack([np.apply_along_axis(lambda p, c=card: c.utility(p, SUITE), -1, profiles) for card in cards], -1)


def gains_of(record: Record) -> np.ndarray:
    """(E, tasks) gain of utility of every episode, for every training task."""
    return utilities(record.episodes.final) - utilities(record.episodes.start)


def row(kind: str, parts: Sequence[LeftOut]) -> list[str]:
    """Errors over the parts that were left out."""
    gains = np.concatenate([gains_of(part.record) for part in parts])
    drawn = [utilities(part.final) - utilities(part.record.episodes.start) for part in parts]
    expected = np.concatenate([one.mean(0) for one in drawn])
    tails = (1 - COVERAGE) / 2, (1 + COVERAGE) / 2
    # Weibull: a new draw falls below the quantile with just this probability, however few draws there are.
    low, high = (np.concatenate([np.quantile(one, tail, axis=0, method="weibull") for one in drawn]) for tail in tails)
    error, constant = (float(np.sqrt(np.mean((gains - value) ** 2))) for value in (expected, gains.mean(0)))
    inside = float(((gains >= low) & (gains <= high)).mean())
    cells = [
        number(error),
        number(constant),
        number(error / constant, 2),
        number(inside, 2),
    ]
    return [kind, str(len(gains)), *cells]


def scores_table(parts: Sequence[LeftOut]) -> str:
    """Errors by capability, over the students that were left out."""
    rows = []
    episodes = [part.record.episodes for part in parts]
    ended = np.concatenate([one.final - one.start for one in episodes])
    missed = np.concatenate([part.final.mean(0) - one.final for part, one in zip(parts, episodes, strict=True)])
    changed = np.concatenate([(one.profiles - one.before)[one.played] for one in episodes])
    off = np.concatenate([(part.steps - one.profiles)[one.played] for part, one in zip(parts, episodes, strict=True)])
    for index, name in enumerate(SUITE.names):
        values = (changed.std(0), np.sqrt((off**2).mean(0)), ended.std(0), np.sqrt((missed**2).mean(0)))
        rows.append(
            [name, *(number(float(value[index]), digits) for value, digits in zip(values, (4, 4, 3, 3), strict=True))]
        )
    header = ["capability", "s.d. of a step's change", "error of a step", "s.d. of the gain", "error of the gain"]
    return markdown_table(header, rows)


def spread_table(parts: Sequence[LeftOut]) -> str:
    """Distances from the expected profile by step, recorded and simulated, over the students that were left out."""
    recorded = np.concatenate([one.record.episodes.profiles - one.played.mean(0) for one in parts])
    simulated_ = np.concatenate([(one.played - one.played.mean(0)).reshape(-1, *recorded.shape[1:]) for one in parts])
    rows = []
    for step in range(recorded.shape[1]):
        spreads = [np.sqrt((off[:, step] ** 2).mean(0)) for off in (recorded, simulated_)]
        with_end = [
            np.mean([np.corrcoef(off[:, step, c], off[:, -1, c])[0, 1] for c in range(off.shape[2])])
            for off in (recorded, simulated_)
        ]
        values = (*(spread.mean() for spread in spreads), (spreads[1] / spreads[0]).mean(), *with_end)
        cells = [number(float(value), digits) for value, digits in zip(values, (3, 3, 2, 2, 2), strict=True)]
        rows.append([str(step + 1), *cells])
    header = ["after step", "recorded", "simulated", "ratio", "correlation with the end, recorded", "simulated"]
    return markdown_table(header, rows)


def page(record: Record, surrogate: Surrogate) -> str:
    """Text of docs/surrogate.md."""
    episodes = record.episodes
    kinds, students = np.array([name.partition(" ")[0] for name in episodes.policies]), np.unique(episodes.students)
    rows, by_student = [], []
    for kind in (one for one in np.unique(kinds) if (kinds == one).sum() >= LEAST):
        rows.append(row(f"policy {kind}", [left_out(record, kinds == kind)]))
    for fold in range(FOLDS):
        by_student.append(left_out(record, np.isin(episodes.students, students[fold::FOLDS])))
    rows.append(row(f"a quarter of the students, {FOLDS} times", by_student))
    header = ["left out", "episodes", "error", "error of the mean", "ratio", f"inside {COVERAGE:.0%}"]
    return (
        "# Surrogate of the micro world\n\nMade by `python scripts/fit_surrogate.py` from the episodes of "
        f"`scripts/record_transitions.py`: {len(episodes)} real episodes of {record.total_tokens:,} tokens from {len(students)} "
        f"starting students, {int(episodes.played.sum()):,} steps. The fit of the {WORLDS} worlds that ship took {surrogate.made_from['seconds']} s on "
        "one core. The equations are in `read_env.surrogate.world`.\n\n"
        "## Episodes that the fit did not see\n\n"
        "Gain of utility after a whole episode, predicted from the profile at its start and its allocations, for each of the tasks "
        f"{', '.join(TASKS)}. *error*: root of the mean square. *error of the mean*: that of the best constant for each "
        f"task, the mean gain of the same episodes; another constant, such as the mean gain of w = r, is worse. *inside*: share of the gains within the {COVERAGE:.0%} interval of {WORLDS // 2 * DRAWS} simulated "
        f"episodes.\n\n{markdown_table(header, rows)}\n\n"
        "## By capability\n\nStudents that the fit did not see; changes of the probe scores. The error of a step includes the noise "
        f"of the probes.\n\n{scores_table(by_student)}\n\n"
        "## Random changes\n\nRoot of the mean square of the distance between a profile and the expected one, mean over the "
        "capabilities, for recorded and for simulated episodes of students that the fit did not see. The random changes of two successive "
        f"steps have a correlation of {surrogate.persistence:.2f} in the surrogate that ships; with independent ones, the simulated "
        f"episodes end too near to the expected profile.\n\n{spread_table(by_student)}\n"
    )


def main() -> None:
    parser = parser_of(__doc__, "docs/measured", processes=False)
    parser.add_argument("--page-only", action="store_true", help="leave the files that ship as they are")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if not args.page_only:
        made = recorded_episodes(args.out / "transitions.jsonl")
        made.save(ASSETS / "transitions.npz")
        begun = time.monotonic()
        surrogate = fit(Record.load(ASSETS / "transitions.npz"), WORLDS, iterations=ITERATIONS, seed=SEED)
        surrogate.made_from["seconds"] = round(time.monotonic() - begun)
        surrogate.save(ASSETS / "surrogate.json")
    surrogate = Surrogate.load(str(ASSETS / "surrogate.json"))
    write_page("surrogate", page(Record.load(ASSETS / "transitions.npz"), surrogate) + "\n" + ranks.section())


if __name__ == "__main__":
    main()
