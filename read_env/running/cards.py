"""Cards of measured tasks in the directory of what was begun with them: a run, a comparison or a training.

The requirement on such a card is often inferred before the first run, by a command that names a file of prompts. What has begun goes
on with the requirement that it began with, even if the inference, with an intervention more, would end with another one by now.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from read_env import files
from read_env.capabilities import get_suite
from read_env.errors import ReadEnvError
from read_env.running.identity import fingerprint
from read_env.tasks import TaskCard, load_task
from read_env.tasks.card import card_toml

if TYPE_CHECKING:
    from read_env.capabilities.base import Suite
    from read_env.running.directory import RecordDirectory


def keep_cards(directory: RecordDirectory, suite: str, tasks: Iterable[str]) -> None:
    """Write the cards of the measured tasks among ``tasks`` into a claimed directory; those that its records began with stay.

    Args:
        directory: the directory.
        suite: name of the capabilities.
        tasks: names or paths, as in ``config.task``.
    """
    begun = directory.holds_results()
    for card in (load_task(task, get_suite(suite)) for task in tasks):
        path = directory.cards / _name(card)
        if card.measured and not (begun and path.exists()):
            path.parent.mkdir(exist_ok=True)
            files.write_text(path, card_toml(card))


def kept_card(directory: RecordDirectory, card: TaskCard) -> Path | None:
    """File of the card that the records in a directory began with; None if there are none, or none of this task.

    Args:
        directory: the directory; need not exist.
        card: the task, with or without a requirement.

    Raises:
        ReadEnvError: they began with another task of the same name, so that nothing needs to be inferred for this one.
    """
    there = sorted(directory.cards.glob(f"{card.name}-{'[0-9a-f]' * 16}.toml"))
    if not there or not directory.holds_results():
        return None
    path = directory.cards / _name(card)
    if path not in there:
        raise ReadEnvError(
            f"{directory.path} began with another task {card.name!r}: its prompts, description or grader differ; choose another "
            "directory (--out), or delete what is there with --overwrite"
        )
    return path


def at_prompts_of(path: Path, card: TaskCard, suite: Suite) -> Path:
    """Let the card in a file read its prompts from where another card of the same content has them.

    A card is found again by the content of its prompts, and the file that it was inferred from may be another one by now.

    Args:
        path: file of a card with its requirement; also what is returned.
        card: the card of the present command.
        suite: capabilities of both.
    """
    there = load_task(path, suite)
    text = card_toml(there.model_copy(update={"prompts": card.prompts}))
    if text != card_toml(there):
        files.write_text(path, text)
    return path


def _name(card: TaskCard) -> str:
    """Name of a card's file: that of the task, and the digest of all but the requirement."""
    return f"{card.name}-{fingerprint(card.model_copy(update={'requirement': {}}))}.toml"
