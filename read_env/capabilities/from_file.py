"""Capability from a user's own prompts: rows with a prompt and, where there is one, an answer or a completion.

The normalised hash of a prompt assigns it to a split. The training stream repeats the prompts of its split, each
pass in another seeded order; a held-out set consists of prompts of its split.
"""

from __future__ import annotations

import logging
import math
import random
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from read_env.capabilities.base import Capability, Filling, Prompt, Template, normalised_hash, split_of
from read_env.capabilities.extension import extend
from read_env.capabilities.instruct.answers import is_answer, marked, reply, words
from read_env.capabilities.normal_form import normal_form
from read_env.capabilities.rows import PROMPT_FIELDS, check_writable, prompt_and_completion, short
from read_env.capabilities.sources import parse_source, read_rows
from read_env.errors import ReadEnvError

_LOG = logging.getLogger(__name__)
_FIELDS = (*PROMPT_FIELDS, "completion", "answer", "difficulty")
#: Answer with its steps before it, as in GSM8K.
_WORKED = re.compile(r"(?P<steps>.*?)^\s*####\s*(?P<answer>[^\n#]+)", re.DOTALL | re.MULTILINE)


class _Row(NamedTuple):
    """Row of a source.

    Attributes:
        line: its number, from 1.
        prompt: text.
        answers: accepted answers, the usual one first; empty for none.
        reference: a correct completion; empty for none.
        difficulty: None if it is not given.
        check: further fields for the verifier.
    """

    line: int
    prompt: str
    answers: tuple[str, ...]
    reference: str
    difficulty: float | None
    check: Mapping[str, Any] = {}


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
        if not self._stream:
            return 0
        below = bisect_right(self._stream, difficulty) - 1
        return min(max(3 * below // len(self._stream), 0), 2)

    @cached_property
    def graded(self) -> bool:
        """True if every prompt has an answer to compare with."""
        return all(prompt.check["answers"] for prompt in self.prompts)

    @cached_property
    def has_references(self) -> bool:
        """True if every prompt has a correct completion."""
        return all(prompt.reference for prompt in self.prompts)

    @cached_property
    def _stream(self) -> list[float]:
        return [p.difficulty for p in self.prompts if self.split_of(p.text) == "stream"]


def capability_from_file(source: str | Path, name: str) -> FileCapability:
    """Read a capability from a file or a data set.

    Each row has

    - ``prompt`` or ``question`` (text), or a conversation of one exchange in ``messages`` (``role``, ``content``) or
      ``conversations`` (``from``, ``value``);
    - ``answer``: the accepted text, number or truth value, or a list of them, the usual one first, or steps that end with a
      line ``#### ANSWER``; or ``completion``, a whole completion, whose final answer is graded where it has one; or neither, in all rows;
    - optionally ``difficulty``, a number in [0, 1]; by default it is estimated from the length.

    Blank lines are skipped, other fields are kept aside. A prompt that occurs twice with the same answer is kept once.
    :func:`read_env.capabilities.instruct.answers.is_answer` grades completions.

    Args:
        source: see :mod:`read_env.capabilities.sources`.
        name: name of the capability.

    Raises:
        ReadEnvError: no such source; a row that is malformed (source, row, field and value are named); two rows with
            the same prompt and different answers; answers in some rows only; fewer than three training prompts.
    """
    prompts = prompts_from(source, name)
    training = sum(split_of(prompt.text) == "stream" for prompt in prompts)
    if training < 3:
        raise ReadEnvError(
            f"{source}: {len(prompts)} prompts, of which {training} fall into the training stream; at least 3 must, "
            "so add lines (about 25 of 32 prompts are for training)"
        )
    capability = FileCapability(name, (listed(source, prompts),), "Answer:", is_right, prompts)
    if not capability.has_references:
        _LOG.warning(
            "%s: no answers, so %s has no exact match: probes and exam measure the likelihood of the teacher's own completions, "
            "the student's agreement with the teacher and not whether it is right", source, name,
        )  # fmt: skip
    elif not capability.graded:
        bare = next(prompt for prompt in prompts if not prompt.check["answers"])
        _LOG.warning(
            "%s: completions without a short final answer (such as that of %s), so %s has no exact match: probes and exam "
            "measure the likelihood of the completions", source, short(bare.text), name,
        )  # fmt: skip
    return capability


def prompts_from(source: str | Path, name: str, kept: Collection[str] = ()) -> tuple[Prompt, ...]:
    """Prompts of a source by rising difficulty, as :func:`capability_from_file` describes them; it lists the errors.

    Args:
        source: see :mod:`read_env.capabilities.sources`.
        name: capability of the prompts.
        kept: further fields of a row, which go into ``Prompt.check``.
    """
    rows: dict[int, _Row] = {}
    aside: Counter[str] = Counter()
    repeated = 0
    for where, number, fields in read_rows(source):
        aside.update(key for key in fields if key not in (*_FIELDS, *kept))
        row = _row(fields, number, where)._replace(check={key: fields[key] for key in kept if key in fields})
        first = rows.setdefault(normalised_hash(row.prompt), row)
        repeated += first is not row
        if first is not row and not _agree(first, row):
            raise ReadEnvError(
                f"{source}, lines {first.line} and {number}: prompt {short(row.prompt)} occurs twice (case and space aside), with "
                f"the answers {_shown(first)} and {_shown(row)}; keep one of the lines"
            )
    answered = [row for row in rows.values() if row.reference]
    if answered and len(answered) < len(rows):
        bare = next(row for row in rows.values() if not row.reference)
        raise ReadEnvError(
            f"{source}, line {bare.line}: field 'answer' is missing, and line {answered[0].line} has one; give an answer or a "
            "completion in every line, or in none"
        )
    if aside:
        _LOG.warning("%s: kept aside: %s (used are %s)", source, ", ".join(map(repr, aside)), ", ".join(_FIELDS))
    if repeated:
        _LOG.warning("%s: %d lines repeat a prompt with the same answer and are left out", source, repeated)
    return _ranked(list(rows.values()), _stem(source), name)


def listed(source: str | Path, prompts: tuple[Prompt, ...]) -> Template:
    """Template that stands for the prompts of a source in lists; draws return the prompts themselves."""
    return Template(_stem(source), ("{prompt}",), "{answer}", lambda rng: _filling(rng.choice(prompts)))


def _stem(source: str | Path) -> str:
    return Path(parse_source(source).path).stem


def extended_by_file(own: Capability, path: str | Path) -> Capability:
    """Add the prompts of a file to a capability, as one more template.

    Args:
        own: a capability that generates its prompts.
        path: as in :func:`capability_from_file`, which lists the errors.
    """
    file = capability_from_file(path, own.name)
    if not file.graded:
        raise ReadEnvError(f"{path}: adds to prompts that are graded, so each of its lines needs an answer")

    def fill(rng: random.Random) -> Filling:
        prompt = rng.choice(file.prompts)
        return replace(_filling(prompt), factors={"level": file.tertile(prompt.difficulty)})

    # The file's suffix keeps its name apart from those of the other templates.
    return extend(own, (Template(Path(parse_source(path).path).name, ("{prompt}",), "{answer}", fill),), is_right)


def _row(fields: dict[str, Any], line: int, where: str) -> _Row:
    prompt, completion = prompt_and_completion(fields, where)
    difficulty = fields.get("difficulty")
    number = isinstance(difficulty, (int, float)) and not isinstance(difficulty, bool)
    if "difficulty" in fields and not (number and 0 <= fields["difficulty"] <= 1):
        raise ReadEnvError(f"{where}: difficulty = {short(difficulty)} must be a number from 0 to 1")
    given = fields.get("answer")
    if completion is None and isinstance(given, str) and (worked := _WORKED.fullmatch(given.strip())):
        # Its calculations are marked: 48/2=<<48/2=24>>24.
        given = worked["answer"]
        completion = f"{re.sub(r'<<[^<>]*>>', '', worked['steps']).rstrip()}\nAnswer: {given}".lstrip()
    answers = () if given is None else _answers(given, where)
    if completion is None:
        return _Row(line, prompt, answers, f"Answer: {answers[0]}" if answers else "", difficulty)
    if answers and not _is_right(answers, completion):
        raise ReadEnvError(
            f"{where}: the completion ends with another answer than answer = {short(given)}; let it end with "
            "'Answer: ...', or leave one of the two fields out"
        )
    return _Row(line, prompt, answers or _final_answer(completion), completion, difficulty)


def _answers(given: object, where: str) -> tuple[str, ...]:
    answers: list[str] = []
    for value in given if isinstance(given, list) else [given]:
        if isinstance(value, bool):
            answers += ("true", "yes") if value else ("false", "no")
        elif isinstance(value, str) or (isinstance(value, (int, float)) and math.isfinite(value)):
            answers.append(str(value))
        else:
            answers.append("")
    if not answers or not all(map(words, answers)):
        raise ReadEnvError(
            f"{where}: answer = {short(given)} must be a text with a letter or digit in it, a number, true or false, or a list "
            "of such values"
        )
    for answer in answers:
        check_writable(answer, "answer", where)
        if not _is_right([answer], f"Answer: {answer}"):
            raise ReadEnvError(
                f"{where}: answer = {short(answer)} must fit on one line without 'Answer:'; give the final answer alone"
            )
    return tuple(answers)


def _final_answer(completion: str) -> tuple[str, ...]:
    """Answer that a completion gives, if it has one that can be compared with."""
    final = marked(completion)
    answer = completion.strip() if final is None else final
    short_enough = "\n" not in answer and words(answer) and reply(answer)
    return (answer,) if short_enough and _is_right([answer], completion) else ()


def _agree(a: _Row, b: _Row) -> bool:
    """True if two rows accept the same answers, or have the same completion where nothing is graded."""
    if not (a.answers and b.answers):
        return normal_form(a.reference) == normal_form(b.reference)
    return all(
        _is_right(mine.answers, f"Answer: {answer}") for mine, other in ((a, b), (b, a)) for answer in other.answers
    )


def _shown(row: _Row) -> str:
    return short(row.answers[0] if row.answers else row.reference)


def _ranked(rows: list[_Row], template: str, name: str) -> tuple[Prompt, ...]:
    longest = max((len(row.prompt) for row in rows), default=1)

    def key(row: _Row) -> tuple[float, int, str]:
        length = len(row.prompt)
        return (math.sqrt(length / longest) if row.difficulty is None else row.difficulty, length, row.prompt)

    return tuple(
        Prompt(
            name,
            template,
            row.prompt,
            row.reference,
            i / max(1, len(rows) - 1),
            {"answers": list(row.answers), **row.check},
        )
        for i, row in enumerate(sorted(rows, key=key))
    )


def _filling(prompt: Prompt) -> Filling:
    slots = {"prompt": prompt.text, "answer": prompt.reference}
    return Filling(slots, {"difficulty": prompt.difficulty}, prompt.check)


def is_right(prompt: Prompt, completion: str) -> bool:
    """Verifier of prompts from a source: True if the final answer is one of those that the prompt's row accepts."""
    return _is_right(prompt.check["answers"], completion)


def _is_right(accepted: Sequence[str], completion: str) -> bool:
    return any(is_answer(completion, text) for text in accepted)
