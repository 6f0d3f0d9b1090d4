"""Task cards: what a task looks like, which abilities it needs, and how useful a student is for it.

A card is a TOML file. Those that ship lie in ``read_env/tasks/cards`` and go by their name; any
other is loaded by its path. The name of a capability, one of the user's own included, is a task
too: the one that needs nothing else::

    card = load_task("math", suite)
    card = load_task("my_tasks/chess.toml", suite)
    card = load_task("tool_use", suite)
    card.utility(profile, suite)          # U_τ(S) in [0, 1]
"""

from __future__ import annotations

import math
import os
import random
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from read_env.capabilities.base import Capability, Suite, split_of
from read_env.errors import ReadEnvError, unknown

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

UtilityForm = Literal["weighted_mean", "geometric_mean"]

#: Scores below this count as this in the geometric mean, so that one missing ability does not hide the others.
SCORE_FLOOR = 1e-6

_CARDS = Path(__file__).parent / "cards"

_Text = Annotated[str, Field(min_length=1)]


class Exemplar(BaseModel):
    """One worked example of the task, never taken from a held-out split."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: _Text
    completion: _Text


class TaskCard(BaseModel):
    """A task: its description for people and identifiers, its needs, its utility.

    Attributes:
        name: what ``task=`` and ``--task`` call it, and folders of records: words of letters, digits and
            dots, joined by single ``-`` or ``_``.
        description: one or two sentences.
        input_format: what a prompt of this task looks like.
        output_format: what a good completion looks like.
        metric: how a completion is graded.
        exemplars: a few prompts with correct completions.
        requirement: capability name -> weight r_c; non-negative, scaled to sum to 1.
        utility_form: ``weighted_mean``: U = Σ r_c·s_c; ``geometric_mean``: U = Π s_c^{r_c}, for
            abilities that are needed jointly.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9.]+([_-][A-Za-z0-9.]+)*$")]
    description: _Text
    input_format: _Text
    output_format: _Text
    metric: _Text
    exemplars: Annotated[tuple[Exemplar, ...], Field(min_length=1)]
    requirement: dict[str, Annotated[float, Field(strict=True)]]
    utility_form: UtilityForm = "weighted_mean"

    @field_validator("requirement")
    @classmethod
    def _normalise(cls, requirement: dict[str, float]) -> dict[str, float]:
        for capability, weight in requirement.items():
            if not (math.isfinite(weight) and weight >= 0):
                raise ReadEnvError(f"the weight of {capability!r} is {weight}: weights are finite and not negative")
        total = math.fsum(requirement.values())
        if total <= 0:
            raise ReadEnvError(f"{requirement} has no positive weight: name at least one needed capability")
        # What already sums to 1 stays as it is, or normalising twice (card -> snapshot -> card) would move bits.
        return requirement if abs(total - 1) < 1e-12 else {c: w / total for c, w in requirement.items()}

    @field_validator("utility_form", mode="before")
    @classmethod
    def _known_form(cls, form: object) -> object:
        if form not in get_args(UtilityForm):
            raise unknown("utility form", str(form), get_args(UtilityForm))
        return form

    def requirement_vector(self, suite: Suite) -> np.ndarray:
        """The requirement r_τ in the suite's index order.

        Returns:
            (|C|,) float64 on the simplex.

        Raises:
            ReadEnvError: if the card needs a capability that the suite lacks.
        """
        for capability in self.requirement:
            if capability not in suite.names:
                raise unknown("capability", capability, suite.names)
        return np.array([self.requirement.get(name, 0.0) for name in suite.names])

    def utility(self, profile: np.ndarray, suite: Suite) -> float:
        """How useful a student with this capability profile is for the task: U_τ = F_τ(s), in [0, 1].

        Args:
            profile: scores s, (|C|,), each in [0, 1].
            suite: fixes the index order of ``profile``.

        Raises:
            ReadEnvError: if ``profile`` has another length than the suite.
        """
        scores = np.asarray(profile, dtype=np.float64)
        if scores.shape != (len(suite),):
            raise ReadEnvError(f"profile must have shape ({len(suite)},), one score a capability, got {scores.shape}")
        requirement = self.requirement_vector(suite)
        if self.utility_form == "geometric_mean":
            return float(np.exp(requirement @ np.log(np.maximum(scores, SCORE_FLOOR))))
        return float(requirement @ scores)


def task_names() -> tuple[str, ...]:
    """Names of the cards that ship with the package, sorted."""
    return tuple(sorted(path.stem for path in _CARDS.glob("*.toml")))


def load_task(name_or_path: str | os.PathLike[str], suite: Suite) -> TaskCard:
    """The card of this name, or in this ``.toml`` file, or of the capability of this name alone.

    Raises:
        ReadEnvError: for an unknown name, a missing file, invalid TOML, or a field that is missing,
            unknown or wrong, naming file and field; for a capability that ``suite`` lacks.
    """
    if name_or_path in suite.names and name_or_path not in task_names():
        return _of_capability(suite[str(name_or_path)])
    path = _locate(name_or_path, suite)
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        card = TaskCard.model_validate(data)
        card.requirement_vector(suite)
    except OSError as error:
        raise ReadEnvError(f"task card {path} can't be read: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ReadEnvError(f"task card {path} is not valid TOML: {error}") from None
    except ValidationError as error:
        raise ReadEnvError(f"task card {path}: {describe(error)}") from None
    except ReadEnvError as error:
        raise ReadEnvError(f"task card {path}: field 'requirement': {error}") from None
    return card


def essential(requirement: np.ndarray, k: int) -> np.ndarray:
    """C_ess: the k capabilities with the largest weights (arXiv 2605.11290), the earlier of equal ones first.

    Args:
        requirement: (|C|,) weights.
        k: how many at most; capabilities without any weight are never essential.

    Returns:
        (|C|,) boolean mask.
    """
    requirement = np.asarray(requirement)
    mask = np.zeros(requirement.shape, dtype=bool)
    mask[np.argsort(-requirement, kind="stable")[:k]] = True
    return mask & (requirement > 0)


def describe(error: ValidationError) -> str:
    """What is wrong, field by field, in the words of somebody who edits the file."""
    return "; ".join(_describe_one(details, TaskCard.model_fields) for details in error.errors())


def _describe_one(details: Any, fields: Iterable[str]) -> str:
    field = ".".join(map(str, details["loc"]))
    if details["type"] == "missing":
        return f"field '{field}' is missing"
    if details["type"] == "extra_forbidden":
        known = Exemplar.model_fields if details["loc"][0] == "exemplars" else fields
        return str(unknown("field", str(details["loc"][-1]), known))
    message = details["msg"].removeprefix("Value error, ")
    return f"field '{field}': {message[:1].lower() + message[1:]} (got {_short(details['input'])})"


def _short(value: object, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _of_capability(capability: Capability) -> TaskCard:
    """The task that needs this capability and no other; its exemplar is a training prompt."""
    draws = capability.draws(random.Random(f"exemplar/{capability.name}"))
    shown = next(prompt for prompt in draws if split_of(prompt.text) == "stream")
    name = re.sub(r"[^A-Za-z0-9._-]+|(?<=[_-])[_-]+", "-", capability.name).strip("-_") or "own"
    return TaskCard(
        name=name,
        description=f"One need: {capability.name}.",
        input_format=f"Prompts of {capability.name}.",
        output_format="Answers that its verifier accepts.",
        metric="share of answers that the verifier accepts",
        exemplars=(Exemplar(prompt=shown.text, completion=shown.reference),),
        requirement={capability.name: 1.0},
    )


def _locate(name_or_path: str | os.PathLike[str], suite: Suite) -> Path:
    text = os.fspath(name_or_path)
    if text.endswith(".toml") or os.sep in text:
        return Path(text)
    if text not in task_names():
        raise unknown("task", text, dict.fromkeys([*task_names(), *suite.names]))
    return _CARDS / f"{text}.toml"
