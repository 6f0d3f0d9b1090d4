"""The records of a run as JSON values: the student before it, each step, and the end.

Floats are written in their shortest form that reads back to the same bits, so a record compares
equal to the number it came from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from read_env.tasks import essential

if TYPE_CHECKING:
    from read_env.capabilities.base import Suite
    from read_env.config import Config
    from read_env.distillation.budget import TokenBudget
    from read_env.distillation.process import ChunkReport
    from read_env.tasks import TaskCard

#: Fields of ``info`` that a step's record takes over as they are.
_FROM_INFO = (
    "allocation", "tokens_by_capability", "completion_tokens", "prompt_tokens", "trained_tokens",
    "budget_spent", "profile", "utility", "gain", "spillover", "cost", "forgetting", "loss",
)  # fmt: skip
_SOMETIMES = ("dev_profile", "dev_utility")


def start_record(
    card: TaskCard, suite: Suite, profile: np.ndarray, exam: np.ndarray | None, dev_profile: np.ndarray | None
) -> dict[str, Any]:
    """``start.json``: the student before the run."""
    return {
        "suite": list(suite.names),
        "task": card.name,
        "requirement": plain(card.requirement_vector(suite)),
        "utility_form": card.utility_form,
        "profile": plain(profile),
        "utility": card.utility(profile, suite),
        "exam": plain(exam),
        "dev_profile": plain(dev_profile),
        "dev_utility": None if dev_profile is None else card.utility(dev_profile, suite),
    }


def step_record(
    info: Mapping[str, Any], reward: float, report: ChunkReport, scalars: Mapping[str, float], exam: np.ndarray | None
) -> dict[str, Any]:
    """A line of ``steps.jsonl``: a finished step."""
    record: dict[str, Any] = {"step": int(info["step"]), "reward": float(reward)}
    record |= {name: plain(info[name]) for name in _FROM_INFO}
    record |= {name: plain(info[name]) for name in _SOMETIMES if name in info}
    if exam is not None:
        record["exam"] = plain(exam)
    record["metrics"] = plain(report.metrics)
    record["agent"] = plain(scalars)
    # What follows tells two runs of the same bits apart.
    record["seconds"] = plain(report.seconds)
    record["cache"] = report.cache.counts()
    return record


def summary_record(
    config: Config, card: TaskCard, suite: Suite, *, label: str, tokens_before_run: int, budget: TokenBudget,
    start: Mapping[str, Any], steps: Sequence[Mapping[str, Any]], exam: np.ndarray | None,
) -> dict[str, Any]:  # fmt: skip
    """``summary.json``: the end of a finished run.

    Args:
        config: the resolved configuration.
        card: the task.
        suite: the index order of the vectors.
        label: what reports call the agent.
        tokens_before_run: completion tokens that the agent's training or search had spent.
        budget: the ledger at the end.
        start: the start record.
        steps: the step records.
        exam: (|C|,) exact match at the end, or None if no exam was held.
    """
    profile = steps[-1]["profile"] if steps else start["profile"]
    return {
        "agent": label,
        "task": card.name,
        "seed": config.seed,
        "budget": budget.total,
        "spent": budget.spent,
        "residue": budget.left,
        "prompt_tokens": budget.prompt_tokens,
        "generated_tokens": budget.generated_tokens,
        "probe_tokens": budget.probe_tokens,
        "dev_tokens": budget.dev_tokens,
        "tokens_before_run": tokens_before_run,
        "steps": len(steps),
        "profile_start": start["profile"],
        "profile": profile,
        **judgement(card, suite, config.reward.essential_k, start, steps, plain(exam)),
    }


def judgement(
    card: TaskCard, suite: Suite, essential_k: int, start: Mapping[str, Any], steps: Sequence[Mapping[str, Any]],
    exam: Sequence[float] | None,
) -> dict[str, Any]:  # fmt: skip
    """The part of a summary that depends on the task."""
    profile = steps[-1]["profile"] if steps else start["profile"]
    exams = exam is not None and start["exam"] is not None
    return {
        "utility_start": start["utility"],
        "utility": card.utility(np.array(profile), suite),
        "exam_start": start["exam"],
        "exam": exam,
        "exam_utility_start": card.utility(np.array(start["exam"]), suite) if exams else None,
        "exam_utility": card.utility(np.array(exam), suite) if exams else None,
        "spillover": float(sum(record["spillover"] for record in steps)),
        "forgetting": _mean_drop(card, suite, essential_k, start["profile"], profile),
        "exam_forgetting": _mean_drop(card, suite, essential_k, start["exam"], exam) if exams else None,
    }


def plain(value: Any) -> Any:
    """JSON values of arrays, numpy numbers and mappings of them."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    return value


def _mean_drop(card: TaskCard, suite: Suite, essential_k: int, before: Any, after: Any) -> float:
    others = ~essential(card.requirement_vector(suite), essential_k)
    drops = np.maximum(np.asarray(before) - np.asarray(after), 0.0)[others]
    return float(drops.mean()) if drops.size else 0.0
