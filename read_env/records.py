"""Records of runs and trainings: one pydantic model for each kind of JSON object, for writing and for reading.

====================  ======================================  =============================
file                  content                                 model
====================  ======================================  =============================
``start.json``        the student before the run              :class:`RunStart`
``steps.jsonl``       one line per finished step              :class:`StepRecord`
``summary.json``      the end of a finished run               :class:`RunSummary`
``episodes.jsonl``    one line per finished training episode  :class:`Episode`
``training.json``     the end of a finished training          :class:`TrainingSummary`
``requirement.json``  the end of an identification            :class:`IdentificationRecord`
``external.json``     results on tasks of lm-eval             :class:`ExternalRecord`
====================  ======================================  =============================

Vectors are (|C|,) in the order of the suite; scores and utilities lie in [0, 1]; token fields are
counts. Floats are written in their shortest form that reads back to the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
)

#: Metrics of a step by their name in the records and in TensorBoard (``distill/NAME``).
METRICS = {
    "loss": "mean of the objective, nats a completion token",
    "fkl": "KL(teacher ‖ student), nats a token",
    "rkl": "KL(student ‖ teacher), nats a token",
    "topk_mass": "teacher's probability on the tokens that are kept",
    "overlap": "share of those among as many of the student's likeliest",
    "alpha": "share of forward KL in the mixture",
    "clip_fraction": "share of tokens without gradient, their ratio clipped",
    "ratio": "mean of that ratio",
    "matched_loss": "divergence on shared tokens and merged spans, nats a token",
    "unmatched_loss": "distance by rank of the tokens that are not shared",
    "aligned": "share of the student's tokens with a distribution of the teacher",
    "merged": "share of the student's tokens in merged spans",
    "reward": "share of sampled tokens whose answer the verifier accepts",
    "grad_norm": "of the gradient, before it is clipped",
    "learning_rate": "after warm-up and schedule",
}


def plain(value: Any) -> Any:
    """JSON values of arrays, numpy numbers and mappings of them.

    Example:
        >>> plain({"profile": np.array([0.5, 0.25]), "step": np.int64(3)})
        {'profile': [0.5, 0.25], 'step': 3}
    """
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    return value


def _vector(value: Any, info: ValidationInfo) -> np.ndarray:
    size = len(info.data["suite"]) if "suite" in info.data else (info.context or {}).get("size")
    try:
        array = np.asarray(value)
        fits = array.ndim == 1 and array.dtype.kind in "iuf" and bool(np.isfinite(array).all())
    except (TypeError, ValueError):
        fits = False
    if not fits or size not in (None, len(array)):
        length = "" if size is None else f"{size} "
        raise ValueError(f"a list of {length}finite numbers, one per capability")
    return array


def _gaps(value: Any, info: ValidationInfo) -> np.ndarray:
    array = np.asarray([np.nan if entry is None else entry for entry in plain(value)], np.float64)
    _vector(np.nan_to_num(array, nan=0.0), info)
    return array


def _written(value: np.ndarray) -> list[float | None]:
    return [None if np.isnan(entry) else entry for entry in value.tolist()]


def _numbers(value: Any) -> dict[str, float]:
    value = plain(value or {})
    if not isinstance(value, dict) or not all(isinstance(entry, int | float) for entry in value.values()):
        raise ValueError("an object whose values are numbers")
    return value


Names = Annotated[tuple[str, ...], PlainSerializer(list)]
Vector = Annotated[np.ndarray, PlainValidator(_vector), PlainSerializer(plain)]
#: Vector with null, NaN when read, for capabilities without a value.
VectorWithGaps = Annotated[np.ndarray, PlainValidator(_gaps), PlainSerializer(_written)]
Numbers = Annotated[dict[str, float], PlainValidator(_numbers)]
Skipped = tuple[dict[str, str], ...]
Count = Annotated[int, BeforeValidator(plain), Field(strict=True, ge=0)]
Number = Annotated[float, BeforeValidator(plain), Field(strict=True, allow_inf_nan=False)]


class Record(BaseModel):
    """One JSON object of a record. Fields that a model does not know are ignored when it is read."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True, populate_by_name=True)

    #: Fields that are left out of the JSON object where they are None; all others are written as null.
    optional: ClassVar[tuple[str, ...]] = ()

    def to_json(self) -> dict[str, Any]:
        """The JSON object, fields in the order of the model."""
        absent = {name for name in self.optional if getattr(self, name) is None}
        return self.model_dump(by_alias=True, exclude=absent)


class RunStart(Record):
    """The student before a run. ``requirement`` is the task's requirement vector; ``exam`` is exact match.

    ``score`` names the score of probes and dev (``eval.score``). ``auto`` is value and reason of each setting that was
    chosen by size and kind of the model. ``teacher_exam`` and ``teacher_profile`` are the teacher's exact match on the exam
    and its score on the probes, for which it generated ``teacher_tokens``, outside B. ``samples`` are the first exam prompts
    of each capability, with the answers of teacher and student. ``overlong`` counts by capability the lines of files that
    were left out because they are too long for a model. ``ungraded`` are the capabilities without answers to compare with,
    whose exam is the likelihood of the reference's tokens.

    Of a measured task, ``utility`` and ``dev_utility`` are the score on its own prompts, ``task_exam`` the exact match on its
    exam and ``teacher_task_exam`` the teacher's; ``task_measure`` names the score, and ``task_graded`` is false where its prompts have no
    answers to compare with. ``description`` is the task's, as on its card.
    """

    optional = (
        "score", "auto", "teacher_exam", "teacher_profile", "teacher_tokens", "samples", "overlong", "ungraded", "task_exam",
        "task_measure", "task_graded", "teacher_task_exam", "description",
    )  # fmt: skip

    suite: Names = Field(min_length=1)
    task: str
    requirement: Vector
    utility_form: str
    profile: Vector
    utility: Number
    exam: Vector | None = None
    dev_profile: Vector | None = None
    dev_utility: Number | None = None
    student: str | None = None
    score: str | None = None
    auto: dict[str, str] | None = None
    teacher_exam: Vector | None = None
    teacher_profile: Vector | None = None
    teacher_tokens: Count | None = None
    samples: tuple[dict[str, str], ...] | None = None
    overlong: dict[str, Count] | None = None
    ungraded: Names | None = None
    task_exam: Number | None = None
    task_measure: str | None = None
    task_graded: bool | None = None
    teacher_task_exam: Number | None = None
    description: str | None = None

    @property
    def utility_score(self) -> str:
        """Score of probes and dev that the utility is made of, as :func:`read_env.tasks.card.utility_name` takes it."""
        return self.task_measure or self.score or "likelihood"

    @property
    def exam_score(self) -> str:
        """Score of the exam of the needed capabilities, as :func:`read_env.tasks.card.utility_name` takes it."""
        if self.task_graded is not None:
            return "exact-match" if self.task_graded else "token-likelihood"
        needed = [name for name, need in zip(self.suite, self.requirement, strict=True) if need > 0]
        kinds = {"token-likelihood" if name in (self.ungraded or ()) else "exact-match" for name in needed}
        return kinds.pop() if len(kinds) == 1 else "mixed"


class StepRecord(Record):
    """One finished step. ``allocation`` is shares of the step's tokens, ``loss`` nats per token.

    ``metrics`` is what the objective reported, ``agent`` what the agent did, ``seconds`` the time by stage
    and ``cache`` what was asked of the teacher's cache. The last two tell two runs of the same bits apart.
    ``skipped`` is ``capability``, ``prompt`` and ``reason`` of each prompt to which the teacher gave no answer. Of the
    completions (``examples_by_capability``), those in ``cut_by_capability`` were cut at the maximum length.
    ``loss_by_capability`` and ``divergence_by_capability`` (KL(teacher ‖ student)) are nats per token before an example was
    trained on, null for a capability without tokens. ``task_exam`` is the exact match on a measured task's exam.
    ``updates`` is the number of optimizer steps; records of earlier versions lack it.
    """

    optional = (
        "dev_profile", "dev_utility", "exam", "task_exam", "skipped", "examples_by_capability", "cut_by_capability", "loss_by_capability",
        "divergence_by_capability", "updates",
    )  # fmt: skip

    step: Count
    reward: Number
    allocation: Vector
    tokens_by_capability: Vector
    completion_tokens: Count
    prompt_tokens: Count
    trained_tokens: Count
    budget_spent: Count
    profile: Vector
    utility: Number
    gain: Number
    spillover: Number
    cost: Number
    forgetting: Number
    loss: Number
    dev_profile: Vector | None = None
    dev_utility: Number | None = None
    exam: Vector | None = None
    task_exam: Number | None = None
    metrics: Numbers = Field(default_factory=dict)
    agent: Numbers = Field(default_factory=dict)
    seconds: Numbers = Field(default_factory=dict)
    cache: Numbers = Field(default_factory=dict)
    skipped: Skipped | None = None
    examples_by_capability: Vector | None = None
    cut_by_capability: Vector | None = None
    loss_by_capability: VectorWithGaps | None = None
    divergence_by_capability: VectorWithGaps | None = None
    updates: Count | None = None


class Judgement(Record):
    """The part of a summary that depends on the task; ``exam`` fields are None where no exam was held."""

    utility_start: Number
    utility: Number
    exam_start: Vector | None
    exam: Vector | None
    exam_utility_start: Number | None
    exam_utility: Number | None
    spillover: Number
    forgetting: Number
    exam_forgetting: Number | None


class RunSummary(Judgement):
    """The end of a finished run.

    ``agent`` is the label that reports use; ``derived_from`` names the run it was copied from. ``samples`` are the distilled
    student's answers to the samples of the start. With ``budget.may_stop``, ``left_tokens`` is how much of B the agent left
    by stopping, 0 if it did not; ``left_utility`` and ``left_exam_utility`` are the utility of a student that is trained on
    with the rest, allocated as the requirement, and ``dev_profile`` and ``dev_utility`` are scores and utility of the
    stopped student.
    """

    optional = (
        "generated_tokens", "derived_from", "samples", "left_tokens", "left_utility", "left_exam_utility",
        "dev_profile", "dev_utility",
    )  # fmt: skip

    agent: str
    task: str
    seed: Count
    budget: Count
    spent: Count
    residue: Count
    prompt_tokens: Count
    generated_tokens: Count | None = None
    probe_tokens: Count
    dev_tokens: Count
    tokens_before_run: Count
    steps: Count
    profile_start: Vector
    profile: Vector
    derived_from: str | None = None
    left_tokens: Count | None = None
    left_utility: Number | None = None
    left_exam_utility: Number | None = None
    dev_profile: Vector | None = None
    dev_utility: Number | None = None
    samples: tuple[str, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """The JSON object: the run, then its judgement, then ``derived_from``."""
        value = super().to_json()
        judged = {name: value.pop(name) for name in Judgement.model_fields}
        derived = {name: value.pop(name) for name in ("derived_from",) if name in value}
        return {**value, **judged, **derived}


class Episode(Record):
    """One finished training episode. ``completion_tokens`` is what this episode spent.

    Example:
        >>> episode = Episode(episode=1, task="math", episode_return=0.5, steps=20, completion_tokens=900, seed=0)
        >>> episode.to_json()["return"]
        0.5
    """

    episode: Count
    task: str
    episode_return: Number = Field(alias="return")
    steps: Count
    completion_tokens: Count
    utility_start: Number | None = None
    utility: Number | None = None
    seed: Count


class TrainingSummary(Record):
    """The end of a finished training. ``tokens_before_run`` is what a run with this agent has to report."""

    label: str
    agent: str
    options: dict[str, Any]
    tasks: Names
    steps: Count
    episodes: Count
    tokens_before_run: Count


class StudentRequirement(Record):
    """Requirement that a regression found for one starting student, see :class:`read_env.tasks.regression.Requirement`."""

    mean: Vector
    low: Vector
    high: Vector
    level: Number
    scale: Number
    entropy_weight: Number
    prior_weight: Number = 0.0
    explained: Number
    sure: Number
    needed: Count | None


class IdentificationRecord(Record):
    """The end of an identification. ``tokens`` is what a run with this requirement has to report as spent before it.

    ``students`` holds the requirement by starting student, and of all of them together under ``all``; ``prior`` is that of an
    identifier, from the text of the card. ``failed`` has the errors of the interventions that failed, which are left out, by
    their names.
    """

    optional = ("prior", "failed")

    suite: Names
    task: str
    design: str
    regress_on: str
    interventions: Count
    tokens: Count
    requirement: Vector
    students: dict[str, StudentRequirement]
    prior: Vector | None = None
    failed: dict[str, str] | None = None


class ExternalScore(Record):
    """Value of a metric, with its standard error where lm-eval gives one."""

    value: Number | None
    stderr: Number | None


class ExternalResult(Record):
    """Result of one task, or of a group of them. ``version`` is the task's; ``num_fewshot`` counts the examples in a prompt.

    ``samples`` of ``samples_in_all`` prompts were evaluated; both are null for a group. ``metrics`` holds the scores under
    lm-eval's names, ``METRIC``, or ``METRIC,FILTER`` where a task filters answers.
    """

    version: str
    num_fewshot: Count | None
    samples: Count | None
    samples_in_all: Count | None
    metrics: dict[str, ExternalScore]


class ExternalEvaluation(Record):
    """Evaluation of one student by lm-eval, on what was ``asked`` for: a task, a group or a tag.

    ``student`` is its folder in the run, ``step`` the steps that it had made. ``num_fewshot`` and ``limit`` are null where the
    tasks' own settings hold; ``chat_template`` is true where prompts were rendered by the model's template. ``lm_eval`` is the
    package's version.
    """

    student: str
    step: Count
    asked: str
    num_fewshot: Count | None
    limit: Count | None
    chat_template: bool
    lm_eval: str
    results: dict[str, ExternalResult]

    @property
    def key(self) -> tuple[str, str, int | None, int | None, bool]:
        """Student, task and settings: an evaluation replaces an earlier one with the same."""
        return self.student, self.asked, self.num_fewshot, self.limit, self.chat_template


class ExternalRecord(Record):
    """Evaluations of a run's students on tasks of lm-eval, in the order in which they were made."""

    evaluations: tuple[ExternalEvaluation, ...] = ()


class _Budget(Record):
    total_tokens: Count | None = None
    step_tokens: Count | None = None


class _Reward(Record):
    essential_k: Count = 3


class ConfigRecord(Record):
    """The fields of a ``config.json`` that reports read; other fields may hold anything."""

    agent: str = ""
    agent_options: dict[str, Any] = {}
    task: str = ""
    seed: Count = 0
    models: dict[str, Any] = {}
    budget: _Budget = _Budget()
    distill: dict[str, Any] = {}
    reward: _Reward = _Reward()
    agents: Names = ()
    tasks: Names = ()
    seeds: tuple[Count, ...] = ()
    budgets: tuple[Count, ...] = ()
    steps: Count = 0
