"""Task cards: description of a downstream task, its requirement vector and its utility.

A card is a TOML file. The cards in ``read_env/tasks/cards`` are loaded by name, others by path. The name of a
capability, the user's own included, is also a task: one that requires this capability alone::

    card = load_task("math", suite)
    card = load_task("my_tasks/chess.toml", suite)
    card = load_task("tool_use", suite)
    card.utility(profile, suite)          # U_τ(S) in [0, 1]
"""

from __future__ import annotations

import json
import math
import os
import random
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from read_env.capabilities import get_suite
from read_env.capabilities.base import Capability, Suite, split_of
from read_env.capabilities.sources import is_there, parse_source
from read_env.config import HUB, moved_source
from read_env.errors import ReadEnvError, unknown
from read_env.imports import search
from read_env.tasks.prompts import EMBEDDED, exemplars_of, prompts_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

UtilityForm = Literal["weighted_mean", "geometric_mean", "product", "measured"]
#: Form of tasks with prompts of their own: the utility is the score on them.
MEASURED = "measured"
#: Requirement of a card that is to be found by interventions.
IDENTIFY = "identify"

#: Lower limit of scores in the geometric mean, so that one missing ability does not hide the others.
SCORE_FLOOR = 1e-6
#: Lower limit of a teacher's score that a product is divided by: below it, noise of the student's scores would be magnified.
CEILING_FLOOR = 0.1

_CARDS = Path(__file__).parent / "cards"
#: Suffixes of files of prompts.
_DATA = (".jsonl", ".json", ".csv", ".tsv", ".parquet")

_Text = Annotated[str, Field(min_length=1)]


class Exemplar(BaseModel):
    """Worked example of a task; never taken from a held-out split."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: _Text
    completion: _Text


class TaskCard(BaseModel):
    """Downstream task: description, requirement and utility.

    Attributes:
        name: name in ``task=``, ``--task`` and folders of records: words of letters, digits and dots, joined by
            single ``-`` or ``_``.
        description: one or two sentences.
        input_format: format of a prompt.
        output_format: format of a correct completion.
        metric: metric by which completions are graded.
        exemplars: a few prompts with correct completions.
        requirement: capability name -> weight r_c; non-negative, scaled to sum to 1. Of a measured task it may be
            ``"identify"`` (kept as an empty mapping): ``read-env identify`` is to find it.
        utility_form: ``weighted_mean``: U = Σ r_c·s_c; ``geometric_mean``: U = Π s_c^{r_c}, for abilities that
            are needed jointly; ``product``: U = Π s_c over the needs (r_c > 0), divided by the teacher's own product and at
            most 1, for tasks that succeed when every part does; ``measured``: score on the task's own prompts, whatever
            the profile is.
        prompts: source of the task's own prompts (:mod:`read_env.tasks.prompts`); makes the utility ``measured``.
        grader: grader of completions of these prompts (:mod:`read_env.tasks.graders`).
        score: score of these prompts in probes and dev, as in ``eval.score``, which is taken if it is empty. The score per
            token also moves while no completion is right as a whole.
        tokens_before_run: completion tokens of the interventions that the requirement was inferred from; runs report them.

    >>> from read_env.capabilities import get_suite
    >>> card = load_task("bookkeeper", get_suite("micro"))
    >>> round(card.utility(np.full(10, 0.5), get_suite("micro")), 3)
    0.5
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
    prompts: str = ""
    grader: str = "answer"
    score: Literal["", "likelihood", "token-likelihood", "exact-match"] = ""
    tokens_before_run: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: Any) -> Any:
        """Defaults of a card with prompts of its own: their form, and exemplars from the prompts that are in no split."""
        source = values.get("prompts") if isinstance(values, Mapping) else None
        if not isinstance(source, str) or not source:
            return values
        if values.get("requirement", IDENTIFY) == IDENTIFY:
            values = {**values, "requirement": {}}
        form = values.get("utility_form", MEASURED)
        if form != MEASURED:
            raise ReadEnvError(f"a card with prompts of its own has utility_form 'measured', got {form!r}")
        filled = {
            "input_format": "Prompts of the task.", "output_format": "Completions that the grader accepts.",
            "metric": "share of completions that the grader accepts", "utility_form": MEASURED, **values,
        }  # fmt: skip
        if not filled.get("exemplars"):
            prompts = prompts_of(str(filled.get("name", "task")), source, str(filled.get("grader", "answer")))
            shown = exemplars_of(prompts)
            filled["exemplars"] = [{"prompt": prompt.text, "completion": prompt.reference} for prompt in shown]
        return filled

    @model_validator(mode="after")
    def _has_prompts(self) -> TaskCard:
        if self.utility_form == MEASURED and not self.prompts:
            raise ReadEnvError(
                "field 'prompts' is missing: utility_form 'measured' needs the source of the prompts that it is measured on"
            )
        if not self.measured and not self.requirement:
            raise ReadEnvError("field 'requirement': {} has no positive weight: name at least one needed capability")
        return self

    @field_validator("requirement")
    @classmethod
    def _normalise(cls, requirement: dict[str, float]) -> dict[str, float]:
        if not requirement:
            return requirement
        for capability, weight in requirement.items():
            if not (math.isfinite(weight) and weight >= 0):
                raise ReadEnvError(f"the weight of {capability!r} is {weight}: weights are finite and not negative")
        total = math.fsum(requirement.values())
        if total <= 0:
            raise ReadEnvError(f"{requirement} has no positive weight: name at least one needed capability")
        # Weights that already sum to 1 are kept, so that normalising twice (card -> snapshot -> card) changes no bit.
        return requirement if abs(total - 1) < 1e-12 else {c: w / total for c, w in requirement.items()}

    @field_validator("utility_form", mode="before")
    @classmethod
    def _known_form(cls, form: object) -> object:
        if form not in get_args(UtilityForm):
            raise unknown("utility form", str(form), get_args(UtilityForm))
        return form

    def requirement_vector(self, suite: Suite) -> np.ndarray:
        """Requirement r_τ in the suite's index order.

        Returns:
            (|C|,) float64 on the simplex.

        Raises:
            ReadEnvError: if the card needs a capability that the suite lacks.
        """
        if not self.identified:
            raise ReadEnvError(
                f"the requirement of task {self.name!r} is not known yet; `read-env identify` finds it and writes a card with it"
            )
        for capability in self.requirement:
            if capability not in suite.names:
                raise unknown("capability", capability, suite.names)
        return np.array([self.requirement.get(name, 0.0) for name in suite.names])

    @property
    def identified(self) -> bool:
        """False if the requirement is still to be found."""
        return bool(self.requirement)

    @property
    def measured(self) -> bool:
        """True if the utility is the score on the task's own prompts."""
        return self.utility_form == MEASURED

    def task_prompts(self) -> Capability | None:
        """Prompts of the task itself; None for a utility that is a function of the profile."""
        return prompts_of(self.name, self.prompts, self.grader) if self.prompts else None

    def utility(
        self,
        profile: Sequence[float] | np.ndarray,
        suite: Suite,
        teacher: Sequence[float] | np.ndarray | None = None,
        score: float | None = None,
    ) -> float:
        """Utility of a student for the task: U_τ = F_τ(s), in [0, 1].

        Args:
            profile: scores s, (|C|,), each in [0, 1].
            suite: fixes the index order of ``profile``.
            teacher: the teacher's scores on the same split, (|C|,), or on the probes for the dev split. ``product`` is
                divided by their product; scores below :data:`CEILING_FLOOR` count as this. None: divided by 1.
            score: of a measured task: the score on its own prompts of the same split, which is the utility.

        Raises:
            ReadEnvError: if ``profile`` has another length than the suite.
            ValueError: a measured task without ``score``.
        """
        if self.measured:
            if score is None:
                raise ValueError(
                    f"the utility of task {self.name!r} is measured on its own prompts: score must be given"
                )
            return float(score)
        scores = np.asarray(profile, dtype=np.float64)
        if scores.shape != (len(suite),):
            raise ReadEnvError(f"profile must have shape ({len(suite)},), one score per capability, got {scores.shape}")
        requirement = self.requirement_vector(suite)
        if self.utility_form == "product":
            needed = requirement > 0
            ceiling = 1.0 if teacher is None else np.maximum(np.asarray(teacher)[needed], CEILING_FLOOR).prod()
            return float(min(1.0, scores[needed].prod() / ceiling))
        if self.utility_form == "geometric_mean":
            return float(np.exp(requirement @ np.log(np.maximum(scores, SCORE_FLOOR))))
        return float(requirement @ scores)


def card_toml(card: TaskCard) -> str:
    """TOML of a card, which :func:`load_task` reads back as an equal one; a relative source of prompts is made absolute.

    >>> from read_env.capabilities import get_suite
    >>> print(card_toml(load_task("math", get_suite("micro"))).splitlines()[0])
    name = "math"
    """
    values = card.model_dump(mode="json")
    exemplars, requirement = values.pop("exemplars"), values.pop("requirement")
    values["prompts"] = _beside(Path.cwd() / "card", card.prompts) if card.prompts else ""
    lines = [f"{name} = {_toml(value)}" for name, value in values.items() if value]
    lines += ["", "[requirement]", *(f"{_toml(name)} = {weight!r}" for name, weight in requirement.items())]
    for one in exemplars:
        lines += ["", "[[exemplars]]", *(f"{name} = {_toml(text)}" for name, text in one.items())]
    return "\n".join(lines) + "\n"


def _toml(text: str) -> str:
    """Basic string of TOML, whose escapes are those of JSON, but for one more control character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def utility_name(form: str, score: str) -> str:
    """Definition of a utility in words.

    Args:
        form: ``utility_form`` of the task.
        score: score that is averaged, as in ``eval.score``, or ``mixed`` for exact match and, where a capability has no
            answers, the likelihood per token.

    >>> utility_name("geometric_mean", "exact-match")
    'weighted geometric mean of exact match, floor 1e-6'
    >>> utility_name("product", "exact-match")
    "product over the needs of exact match, divided by the teacher's where measured, at most 1"
    """
    floor = f", floor {SCORE_FLOOR:.0e}".replace("e-0", "e-") if form == "geometric_mean" else ""
    likelihood = {
        "likelihood": "the likelihood of the reference",
        "token-likelihood": "the likelihood of the reference's tokens",
        "mixed": "exact match or, without answers, the likelihood of the reference's tokens",
    }
    scores = likelihood.get(score, "exact match")
    if form == MEASURED:
        return f"mean over the task's own prompts of {scores}"
    if form == "product":
        return f"product over the needs of {scores}, divided by the teacher's where measured, at most 1"
    return f"weighted {form.removeprefix('weighted_').replace('_', ' ')} of {scores}{floor}"


def task_names(suite: Suite | None = None) -> tuple[str, ...]:
    """Names of the cards that ship with the package, sorted; with a suite, of those whose needs it has.

    >>> task_names()[:3]
    ('agent', 'auditor', 'bill-abroad')
    """
    names = sorted(path.stem for path in _CARDS.glob("*.toml"))
    return tuple(name for name in names if suite is None or not _lacking(name, suite))


def load_task(name_or_path: str | os.PathLike[str], suite: Suite) -> TaskCard:
    """Load a task by name, by path of a ``.toml`` card or of a file of prompts, or by the name of a capability.

    A file of prompts with answers (:mod:`read_env.capabilities.sources`) is a measured task of unknown requirement. A card
    that ships comes before a capability of its name, unless the capability is the user's own.

    Raises:
        ReadEnvError: for an unknown name, a missing file, invalid TOML, or a field that is missing,
            unknown or wrong, naming file and field; for a capability that ``suite`` lacks.

    >>> from read_env.capabilities import get_suite
    >>> load_task("math", get_suite("micro")).requirement
    {'math': 1.0}
    """
    shipped = name_or_path in task_names()
    if name_or_path in suite.names and not (shipped and not suite[str(name_or_path)].finite):
        return _of_capability(suite[str(name_or_path)])
    if shipped and (lacking := _lacking(str(name_or_path), suite)):
        raise ReadEnvError(
            f"task {str(name_or_path)!r} needs {', '.join(lacking)}, which suite {suite.name!r} lacks; right would be a task of "
            f"its own capabilities: {', '.join(suite.names)}, or a .toml card"
        )
    if _is_data(name_or_path):
        return _of_data(os.fspath(name_or_path))
    path = _locate(name_or_path, suite)
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        if isinstance(source := data.get("prompts"), str) and source:
            data["prompts"] = _beside(path, source)
        if ":" in str(data.get("grader", "")):
            search(path.parent)
        card = TaskCard.model_validate(data)
        if card.identified:
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
    """Essential capabilities C_ess: the k with the largest weights; ties go to the earlier one (arXiv 2605.11290).

    Args:
        requirement: (|C|,) weights.
        k: maximum number; capabilities with weight 0 are never essential.

    Returns:
        (|C|,) boolean mask.

    >>> essential(np.array([0.5, 0.0, 0.3, 0.2]), k=2).tolist()
    [True, False, True, False]
    """
    requirement = np.asarray(requirement)
    mask = np.zeros(requirement.shape, dtype=bool)
    mask[np.argsort(-requirement, kind="stable")[:k]] = True
    return mask & (requirement > 0)


def describe(error: ValidationError) -> str:
    """Text of a validation error: one entry per field of the card."""
    return "; ".join(_describe_one(details, TaskCard.model_fields) for details in error.errors())


def _describe_one(details: Any, fields: Iterable[str]) -> str:
    field = ".".join(map(str, details["loc"]))
    if details["type"] == "missing":
        return f"field '{field}' is missing"
    if details["type"] == "extra_forbidden":
        known = Exemplar.model_fields if details["loc"][0] == "exemplars" else fields
        return str(unknown("field", str(details["loc"][-1]), known))
    message = details["msg"].removeprefix("Value error, ")
    if not field:  # of several fields, which the message names
        return str(message)
    return f"field '{field}': {message[:1].lower() + message[1:]} (got {_short(details['input'])})"


def _short(value: object, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _lacking(name: str, suite: Suite) -> list[str]:
    """Capabilities that a shipped card needs and the suite lacks; prompts of the micro world need all of that suite."""
    card = tomllib.loads((_CARDS / f"{name}.toml").read_text(encoding="utf-8"))
    needs = list(card["requirement"])
    if card.get("prompts", "").startswith(f"{EMBEDDED}micro/"):
        needs += [capability for capability in get_suite("micro").names if capability not in needs]
    return [capability for capability in needs if capability not in suite.names]


def _of_capability(capability: Capability) -> TaskCard:
    """Task that requires one capability alone; its exemplar is a training prompt."""
    draws = capability.draws(random.Random(f"exemplar/{capability.name}"))
    shown = next(prompt for prompt in draws if split_of(prompt.text) == "stream")
    measured = "share of answers that the verifier accepts" if capability.graded else "likelihood of the reference"
    return TaskCard(
        name=_name_of(capability.name),
        description=f"One need: {capability.name}.",
        input_format=f"Prompts of {capability.name}.",
        output_format="Answers that its verifier accepts." if capability.graded else "Completions like the teacher's.",
        metric=measured,
        exemplars=(Exemplar(prompt=shown.text, completion=shown.reference or "(the teacher's completion)"),),
        requirement={capability.name: 1.0},
    )


def _is_data(name_or_path: str | os.PathLike[str]) -> bool:
    text = os.fspath(name_or_path)
    return text.startswith(HUB) or Path(parse_source(text).path).suffix.lower() in _DATA if "." in text else False


def _of_data(source: str) -> TaskCard:
    """Measured task of a file or data set; its requirement is to be identified."""
    if not is_there(source):
        raise ReadEnvError(
            f"task {source!r}: no such file; right would be a file of prompts with answers, or a .toml card"
        )
    name = _name_of(Path(parse_source(source).path).stem)
    prompts_of(name, source)  # its errors are not those of a card's field
    described = f"Prompts of {Path(parse_source(source).path).name}, to be completed as its answers are."
    return TaskCard.model_validate({"name": name, "description": described, "prompts": source})


def _beside(card: Path, source: str) -> str:
    """Source of a card's prompts; a relative path is relative to the card's folder."""
    if source.startswith(EMBEDDED):
        return source
    return moved_source(source, lambda path: str(card.parent / os.path.expanduser(path)))


def _name_of(text: str) -> str:
    """Name of a task that a text may have."""
    return re.sub(r"[^A-Za-z0-9.]+", lambda found: found[0] if found[0] in "-_" else "-", text).strip("-_") or "own"


def _locate(name_or_path: str | os.PathLike[str], suite: Suite) -> Path:
    text = os.fspath(name_or_path)
    if text.endswith(".toml") or os.sep in text:
        return Path(os.path.expanduser(text))
    if text not in task_names():
        raise unknown("task", text, dict.fromkeys([*task_names(), *suite.names]))
    return _CARDS / f"{text}.toml"
