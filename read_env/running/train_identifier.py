"""Training of an identifier on the interventions of many tasks (:mod:`read_env.tasks.identifier`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from read_env.capabilities import Suite, get_suite
from read_env.errors import ReadEnvError
from read_env.reporting.identification import load_identification
from read_env.running.identify import Interventions, read_interventions
from read_env.tasks import TaskCard, load_task, task_names
from read_env.tasks.identifier import ENCODER, Encoder, Identifier, Intervened, card_text, load_encoder
from read_env.tasks.regression import within_blocks


def train_identifier(
    directories: Sequence[Path], suite_name: str, out: Path, reference: str = ENCODER, encoder: Encoder | None = None
) -> tuple[Identifier, tuple[str, ...]]:
    """Train an identifier and save it.

    The tasks are those of the directories and, with the same interventions, every card that ships and
    whose utility is a function of the scores.

    Args:
        directories: directories of finished identifications (``read-env identify``).
        suite_name: suite of the tasks.
        out: folder for the identifier.
        reference: reference of the encoder.
        encoder: the encoder, if it is loaded already.

    Returns:
        The identifier, and the names of the tasks that it was trained on.

    Raises:
        ReadEnvError: no directory, one that holds no finished identification, or one of another suite.
    """
    if not directories:
        raise ReadEnvError("directories: name at least one, of `read-env identify`")
    suite = get_suite(suite_name)
    tasks: dict[str, Intervened] = {}
    found: list[Interventions] = []
    explaining: set[str] = set()
    for directory in directories:
        record = load_identification(directory)
        if record.suite != suite.names:
            raise ReadEnvError(
                f"{directory} has the capabilities {list(record.suite)}, suite {suite_name!r} {list(suite.names)}"
            )
        explaining.add(record.regress_on)
        if len(explaining) > 1:
            raise ReadEnvError(
                f"{directory} explains the utility by {record.regress_on!r} (identify.regress_on), the directories before it by "
                f"{(explaining - {record.regress_on}).pop()!r}; right would be one of them for all"
            )
        card = load_task(str(directory / "task.toml"), suite)
        by_student = list(read_interventions(sorted((directory / "runs").iterdir())).values())
        if not by_student:
            raise ReadEnvError(f"{directory} holds no finished intervention")
        tasks[card.name] = intervened(card, by_student, [one.gains for one in by_student], record.regress_on)
        found += by_student
    tasks |= of_profiles(suite, found, explaining.pop())
    identifier = Identifier(suite.names, encoder or load_encoder(reference), reference)
    identifier.train(list(tasks.values()))
    identifier.save(out)
    return identifier, tuple(tasks)


def intervened(
    card: TaskCard, found: Sequence[Interventions], gains: Sequence[np.ndarray], regress_on: str
) -> Intervened:
    """Interventions of a task, of all starting students together.

    Args:
        card: the task.
        found: interventions by starting student.
        gains: changes of the task's utility in them.
        regress_on: ``scores`` or ``tokens``.
    """
    if regress_on == "scores":
        return Intervened(card_text(card), np.vstack([one.changes for one in found]), np.concatenate(gains))
    compared = [within_blocks(one.shares, own, one.seeds) for one, own in zip(found, gains, strict=True)]
    shares, own_gains = zip(*compared, strict=True)
    return Intervened.of_shares(card_text(card), np.vstack(shares), np.concatenate(own_gains))


def of_profiles(suite: Suite, found: Sequence[Interventions], regress_on: str) -> dict[str, Intervened]:
    """Interventions for the cards that ship and whose utility is a function of the scores, by name of the card."""
    tasks = {}
    for name in task_names(suite):
        card = load_task(name, suite)
        if not card.measured:
            gains = []
            for one in found:
                before = card.utility(one.profile, suite)
                after = [card.utility(np.clip(one.profile + changes, 0, 1), suite) for changes in one.changes]
                gains.append(np.array(after) - before)
            tasks[name] = intervened(card, found, gains, regress_on)
    return tasks
