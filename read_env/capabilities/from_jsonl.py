"""Capability from a user's own prompts: JSON lines with ``prompt``, ``answer`` and optionally ``difficulty``.

The normalised hash of a prompt assigns it to a split. The training stream repeats the prompts of its split, each
pass in another seeded order; a held-out set consists of prompts of its split.
"""

from __future__ import annotations

import json
import math
import random
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from read_env.capabilities.base import (
    Capability,
    Filling,
    Prompt,
    Template,
    is_writable,
    normalised_hash,
    split_of,
)
from read_env.capabilities.extension import extend
from read_env.capabilities.instruct.answers import is_answer, words
from read_env.errors import ReadEnvError

_FIELDS = ("prompt", "answer", "difficulty")


@dataclass(frozen=True)
class FileCapability(Capability):
    """Capability with a fixed set of prompts.

    Attributes:
        prompts: all prompts of all splits, by rising difficulty. A prompt's difficulty is its rank scaled to [0, 1],
            so that each tertile has a third of the stream.
    """

    prompts: tuple[Prompt, ...] = ()
    finite: ClassVar[bool] = True

    def draws(self, rng: random.Random) -> Iterator[Prompt]:
        """Iterate over every prompt once, in a seeded order."""
        return iter(rng.sample(self.prompts, len(self.prompts)))

    def draw(self, template: Template, rng: random.Random) -> Prompt:
        """One of the prompts, drawn uniformly."""
        return rng.choice(self.prompts)

    def tertile(self, difficulty: float) -> int:
        """0 (easy), 1 (medium) or 2 (hard), by the tertiles of the stream prompts."""
        below = bisect_right(self._stream, difficulty) - 1
        return min(max(3 * below // len(self._stream), 0), 2)

    @cached_property
    def _stream(self) -> list[float]:
        return [p.difficulty for p in self.prompts if split_of(p.text) == "stream"]


def capability_from_jsonl(path: str | Path, name: str) -> FileCapability:
    """Read a capability from a JSON-lines file.

    Each line is an object with ``prompt`` (text), ``answer`` (the accepted text, or a list of
    accepted texts, the usual one first) and optionally ``difficulty`` (a number in [0, 1]; by default
    it is estimated from the length). Blank lines are skipped. The line after the last
    ``Answer:`` is graded, or a whole short reply that mentions the answer. An answer that is a
    number is compared as one, with the last number of a reply without a marker. One letter, and an
    answer with signs in it (``x < 3``, ``C++``), must be the whole reply.

    Args:
        path: UTF-8 file.
        name: name of the capability.

    Raises:
        ReadEnvError: no such file; a line that is malformed (file, line, field and value are
            named); two lines with the same prompt; fewer than three training prompts.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise ReadEnvError(f"{path}: can't be read ({error.strerror}); give the path of a JSON-lines file") from error
    except UnicodeDecodeError as error:
        raise ReadEnvError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from error
    seen: dict[int, int] = {}
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        row = _row(line, f"{path}, line {number}")
        first = seen.setdefault(normalised_hash(row["prompt"]), number)
        if first != number:
            raise ReadEnvError(
                f"{path}, lines {first} and {number}: prompt {_short(row['prompt'])} occurs twice (case and space aside); "
                "keep one of the lines"
            )
        rows.append(row)
    prompts = _ranked(rows, path.stem, name)
    training = sum(split_of(prompt.text) == "stream" for prompt in prompts)
    if training < 3:
        raise ReadEnvError(
            f"{path}: {len(prompts)} prompts, of which {training} fall into the training stream; at least 3 must, "
            "so add lines (about 25 of 32 prompts are for training)"
        )
    # The template is only listed; draws return the prompts themselves.
    template = Template(path.stem, ("{prompt}",), "{answer}", lambda rng: _filling(rng.choice(prompts)))
    return FileCapability(name, (template,), "Answer:", _verify, prompts)


def extended_by_jsonl(own: Capability, path: str | Path) -> Capability:
    """Add the prompts of a file to a capability, as one more template.

    Args:
        own: a capability that generates its prompts.
        path: as in :func:`capability_from_jsonl`, which lists the errors.
    """
    file = capability_from_jsonl(path, own.name)

    def fill(rng: random.Random) -> Filling:
        prompt = rng.choice(file.prompts)
        return replace(_filling(prompt), factors={"level": file.tertile(prompt.difficulty)})

    # The file's suffix keeps its name apart from those of the other templates.
    return extend(own, (Template(Path(path).name, ("{prompt}",), "{answer}", fill),), _verify)


def _row(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ReadEnvError(f"{where}: {_short(line)} is no JSON ({error}); write one object per line") from error
    if not isinstance(row, dict):
        raise ReadEnvError(f'{where}: {_short(row)} is no JSON object; write {{"prompt": ..., "answer": ...}}')
    for key in row:
        if key not in _FIELDS:
            raise ReadEnvError(f"{where}: field {key!r} = {_short(row[key])} is unknown; known: {', '.join(_FIELDS)}")
    for key in ("prompt", "answer"):
        if key not in row:
            raise ReadEnvError(f"{where}: field {key!r} is missing in {_short(row)}; it must be a text")
    if not isinstance(row["prompt"], str) or not row["prompt"].strip():
        raise ReadEnvError(f"{where}: prompt = {_short(row['prompt'])} must be a text that is not empty")
    answers = row["answer"] if isinstance(row["answer"], list) else [row["answer"]]
    if not answers or not all(isinstance(answer, str) and words(answer) for answer in answers):
        raise ReadEnvError(
            f"{where}: answer = {_short(row['answer'])} must be a text with a letter or digit in it, or a list of such texts"
        )
    for key, texts in (("prompt", [row["prompt"]]), ("answer", answers)):
        if not all(map(is_writable, texts)):
            raise ReadEnvError(f"{where}: {key} = {_short(row[key])} has half a character (a lone surrogate); mend it")
    for answer in answers:
        if not _is_right([answer], f"Answer: {answer}"):
            raise ReadEnvError(
                f"{where}: answer = {_short(answer)} must fit on one line without 'Answer:'; give the final answer alone"
            )
    difficulty = row.get("difficulty")
    number = isinstance(difficulty, (int, float)) and not isinstance(difficulty, bool)
    if "difficulty" in row and not (number and 0 <= row["difficulty"] <= 1):
        raise ReadEnvError(f"{where}: difficulty = {_short(difficulty)} must be a number from 0 to 1")
    return {"prompt": row["prompt"], "answers": answers, "difficulty": difficulty}


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _ranked(rows: list[dict[str, Any]], template: str, name: str) -> tuple[Prompt, ...]:
    longest = max((len(row["prompt"]) for row in rows), default=1)

    def key(row: dict[str, Any]) -> tuple[float, int, str]:
        length = len(row["prompt"])
        given = row["difficulty"]
        return (math.sqrt(length / longest) if given is None else given, length, row["prompt"])

    ranked = sorted(rows, key=key)
    return tuple(
        Prompt(name, template, row["prompt"], f"Answer: {row['answers'][0]}", i / max(1, len(ranked) - 1),
               {"answers": row["answers"]})
        for i, row in enumerate(ranked)
    )  # fmt: skip


def _filling(prompt: Prompt) -> Filling:
    slots = {"prompt": prompt.text, "answer": prompt.reference}
    return Filling(slots, {"difficulty": prompt.difficulty}, prompt.check)


def _verify(prompt: Prompt, completion: str) -> bool:
    return _is_right(prompt.check["answers"], completion)


def _is_right(accepted: Sequence[str], completion: str) -> bool:
    return any(is_answer(completion, text) for text in accepted)
