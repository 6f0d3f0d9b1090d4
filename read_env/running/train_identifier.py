"""Training of an identifier on the interventions of many tasks (:mod:`read_env.tasks.identifier`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from read_env.capabilities import Suite, get_suite
from read_env.errors import ReadEnvError
from read_env.reporting.identification import load_identification
from read_env.running.identify import Interventions, read_interventions
from read_env.tasks import load_task, task_names
from read_env.tasks.identifier import ENCODER, Encoder, Identifier, Intervened, card_text, load_encoder


def train_identifier(
    directories: Sequence[Path], suite_name: str, out: Path, reference: str = ENCODER, encoder: Encoder | None = None
) -> tuple[Identifier, tuple[str, ...]]:
    """Train an identifier and save it.

    The tasks are those of the directories and, with the score changes of the same interventions, every card that ships and
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
    for directory in directories:
        record = load_identification(directory)
        if record.suite != suite.names:
            raise ReadEnvError(
                f"{directory} has the capabilities {list(record.suite)}, suite {suite_name!r} {list(suite.names)}"
            )
        card = load_task(str(directory / "task.toml"), suite)
        by_student = read_interventions(sorted((directory / "runs").iterdir())).values()
        if not by_student:
            raise ReadEnvError(f"{directory} holds no finished intervention")
        tasks[card.name] = Intervened(
            card_text(card), np.vstack([one.changes for one in by_student]), np.concatenate([one.gains for one in by_student])
        )  # fmt: skip
        found += by_student
    tasks |= of_profiles(suite, found)
    identifier = Identifier(suite.names, encoder or load_encoder(reference), reference)
    identifier.train(list(tasks.values()))
    identifier.save(out)
    return identifier, tuple(tasks)


def of_profiles(suite: Suite, found: Sequence[Interventions]) -> dict[str, Intervened]:
    """Interventions for the cards that ship and whose utility is a function of the scores, by name of the card."""
    changes = np.vstack([one.changes for one in found])
    starts = np.vstack([np.broadcast_to(one.profile, one.changes.shape) for one in found])
    tasks = {}
    for name in task_names(suite):
        card = load_task(name, suite)
        if not card.measured:
            before = np.array([card.utility(one, suite) for one in starts])
            after = np.array([card.utility(np.clip(one, 0, 1), suite) for one in starts + changes])
            tasks[name] = Intervened(card_text(card), changes, after - before)
    return tasks
