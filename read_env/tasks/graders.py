"""Graders of a task's own prompts: a completion is right or wrong.

============  =================================================================================================
name          a completion is right if
============  =================================================================================================
``answer``    its final answer is an accepted one, compared by kind: number, text with signs, or words (default)
``exact``     its final answer has the same normal form as an accepted one
``number``    its final answer is the number, whatever stands around it
``choice``    the one option that it names is the letter of the answer
``contains``  an accepted answer occurs in it as whole words
``code``      its Python passes the row's ``cases``: pairs of a call and the text of the expected value
============  =================================================================================================

Or ``module:function`` with the arguments ``prompt``, ``completion`` and ``answers`` (texts, and a list of texts), which returns
True or False. The module may be in the working directory, or beside the card. One that raises on a row's reference is refused
before a run; a completion on which it raises counts as wrong, with a warning, so that a strange completion ends no run.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from read_env.capabilities.base import Prompt, Verifier
from read_env.capabilities.from_file import is_right
from read_env.capabilities.instruct.answers import is_number, marked, words
from read_env.capabilities.instruct.code import passes
from read_env.capabilities.instruct.numbers import as_number
from read_env.capabilities.normal_form import normal_form
from read_env.errors import ReadEnvError, unknown
from read_env.imports import import_attribute

_LOG = logging.getLogger(__name__)

#: Field of a row with the cases of ``code``.
CASES = "cases"
#: An option's letter that stands alone, as in "B", "(B)", "B." or "**B**: the Nile"; "A" and "I" before a word are words.
_OPTION = re.compile(r"(?<![\w'’])(?![AI] (?!and\b|or\b)[a-z])([A-Z])(?![\w'’])")


def grader_names() -> tuple[str, ...]:
    """Names of the graders.

    >>> grader_names()
    ('answer', 'exact', 'number', 'choice', 'contains', 'code')
    """
    return tuple(_GRADERS)


def get_grader(name: str) -> Verifier:
    """Grader of that name.

    Raises:
        ReadEnvError: an unknown name, or a ``module:function`` that can't be imported or called.
    """
    if ":" in name:
        return _forgiving(name)
    if name not in _GRADERS:
        raise unknown("grader", name, [*_GRADERS, "module:function"])
    return _GRADERS[name]


def check_grader(name: str, prompt: Prompt) -> None:
    """Raise if a grader can't grade a prompt, or refuses its reference.

    Args:
        name: as in :func:`get_grader`.
        prompt: with its reference.
    """
    answers, grade = prompt.check.get("answers", ()), _own(name) if ":" in name else get_grader(name)
    shown = f"prompt {prompt.text[:60]!r}, answer {str(answers[0] if answers else prompt.reference)[:60]!r}"
    if name == "number" and (strange := [answer for answer in answers if as_number(answer) is None]):
        raise ReadEnvError(
            f"grader 'number': {shown}: {strange[0]!r} is no number; right would be one, or another grader"
        )
    if name == "choice" and (strange := [answer for answer in answers if not _OPTION.fullmatch(answer.strip("(). "))]):
        raise ReadEnvError(f"grader 'choice': {shown}: {strange[0]!r} is no option; right would be a capital letter")
    if name == "code" and not prompt.check.get(CASES):
        raise ReadEnvError(
            f"grader 'code': {shown}: field '{CASES}' is missing; right would be pairs of a call and its value, such as "
            '[["f(2)", "4"]]'
        )
    if name != "code" and not answers:
        raise ReadEnvError(f"grader {name!r}: {shown}: there is no answer to compare with; give each row an 'answer'")
    if not grade(prompt, prompt.reference):
        raise ReadEnvError(
            f"grader {name!r} refuses the reference of a row: {shown}; right would be a reference that it accepts, or another "
            "grader"
        )


def _exact(prompt: Prompt, completion: str) -> bool:
    final = marked(completion)
    given = normal_form(completion if final is None else final).strip()
    return any(given == normal_form(answer).strip() for answer in prompt.check["answers"])


def _number(prompt: Prompt, completion: str) -> bool:
    return any(is_number(completion, answer) for answer in prompt.check["answers"])


def _choice(prompt: Prompt, completion: str) -> bool:
    """One option, named once or several times; of a whole reply without a marker, the last line that names one."""
    final = marked(completion)
    lines = [final] if final is not None else completion.strip().splitlines()[::-1]
    named = next((found for line in lines if (found := set(_OPTION.findall(line)))), set())
    return len(named) == 1 and named <= {answer.strip("(). ") for answer in prompt.check["answers"]}


def _contains(prompt: Prompt, completion: str) -> bool:
    given = f" {' '.join(words(completion))} "
    return any(f" {' '.join(words(answer))} " in given for answer in prompt.check["answers"])


def _code(prompt: Prompt, completion: str) -> bool:
    return passes(completion, prompt.check[CASES])


_GRADERS: Mapping[str, Verifier] = {
    "answer": is_right, "exact": _exact, "number": _number, "choice": _choice, "contains": _contains, "code": _code,
}  # fmt: skip


def _own(name: str) -> Verifier:
    """Grader ``module:function``, whose errors are raised."""
    grade: Callable[..., Any] = import_attribute(name, "grader", "module:function")

    def verify(prompt: Prompt, completion: str) -> bool:
        try:
            verdict = grade(prompt=prompt.text, completion=completion, answers=list(prompt.check.get("answers", ())))
        except Exception as error:
            raise ReadEnvError(
                f"grader {name!r} raised {type(error).__name__}: {error}; prompt {prompt.text[:60]!r}, completion "
                f"{completion[:60]!r}"
            ) from error
        if not isinstance(verdict, (bool, np.bool_)):
            raise ReadEnvError(
                f"grader {name!r} returned {verdict!r:.60} for prompt {prompt.text[:60]!r}; right would be True or False"
            )
        return bool(verdict)

    return verify


def _forgiving(name: str) -> Verifier:
    """Grader ``module:function``; a completion that it can't grade is wrong, and the first is in the log."""
    strict, warned = _own(name), False

    def verify(prompt: Prompt, completion: str) -> bool:
        nonlocal warned
        try:
            return strict(prompt, completion)
        except ReadEnvError as error:
            if not warned:
                _LOG.warning("%s. Such completions count as wrong", error)
            warned = True
            return False

    return verify
