"""Problems that the records of a run show: cut completions, a teacher that can't do the task, and nothing that is learned.

The same function serves the run, which warns once of each problem, and its report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

#: Steps without progress after which a run counts as one that learns nothing.
_ENOUGH = 3
#: Share of a step's completions that may be cut.
_MOST_CUT = 0.05
#: Exact match below which a teacher counts as unable to do a capability.
_POOR = 0.05
#: Margin of exact match by which the student has to start above its teacher.
_MARGIN = 0.05
#: Change of a probe score, and likelihood of a reference, that count as zero.
_UNMOVED, _UNLIKELY = 1e-6, 1e-4


def diagnose(
    start: Mapping[str, Any], steps: Sequence[Mapping[str, Any]], config: Mapping[str, Any], *, finished: bool = False
) -> dict[str, str]:
    """Problems of a run with their likely reason.

    Args:
        start: content of ``start.json``.
        steps: lines of ``steps.jsonl`` so far.
        config: content of ``config.json``.
        finished: True if no step will follow, so that fewer of them are enough to judge.

    Returns:
        Kind of the problem (``teacher``, ``cut``, ``learning``) -> text; empty for none.
    """
    distill = config.get("distill") or {}
    found = {"teacher": _teacher(start), "cut": _cut(start, steps, distill)}
    if len(steps) >= _ENOUGH or (finished and steps):
        found["learning"] = _rewards(steps, distill) or _profile(start, steps, config)
    return {kind: text for kind, text in found.items() if text}


def _teacher(start: Mapping[str, Any]) -> str:
    teacher, student = start.get("teacher_exam"), start.get("exam")
    if teacher is None:
        return ""
    needs = list(zip(start["suite"], start["requirement"], teacher, strict=True))
    if poor := [name for name, need, score in needs if need > 0 and score < _POOR]:
        return (
            f"the teacher answers less than {_POOR:.0%} of the exam's prompts of {', '.join(poor)} right, so it can't teach "
            "them: right would be another teacher, or its own chat template and a larger distill.max_completion_tokens"
        )
    if student is None:
        return ""
    of_teacher, of_student = (float(np.dot(start["requirement"], scores)) for scores in (teacher, student))
    if of_student <= of_teacher + _MARGIN:
        return ""
    return (
        f"the student starts above its teacher: exact match on the exam, weighted by need, is {of_student:.3f} against "
        f"{of_teacher:.3f}; right would be another teacher"
    )


def _cut(start: Mapping[str, Any], steps: Sequence[Mapping[str, Any]], distill: Mapping[str, Any]) -> str:
    counted = [step for step in steps if step.get("cut_by_capability") is not None]
    shares = [sum(s["cut_by_capability"]) / max(1, sum(s["examples_by_capability"])) for s in counted]
    if not shares or max(shares) <= _MOST_CUT:
        return ""
    by_capability = np.sum([step["cut_by_capability"] for step in counted], axis=0)
    of = int(np.sum([step["examples_by_capability"] for step in counted]))
    worst, most = counted[int(np.argmax(shares))]["step"], start["suite"][int(np.argmax(by_capability))]
    return (
        f"{max(shares):.0%} of the completions of step {worst} were cut at distill.max_completion_tokens "
        f"({distill.get('max_completion_tokens')}), {by_capability.sum():,} of {of:,} so far, most of them of {most}: their "
        "ends are not learned; right would be a larger value"
    )


def _rewards(steps: Sequence[Mapping[str, Any]], distill: Mapping[str, Any]) -> str:
    """Objectives without a gradient."""
    loss, metrics = distill.get("loss"), [step["metrics"] for step in steps if step["metrics"]]
    if loss in ("grpo", "rlad") and metrics and all(values.get("reward") == 0 for values in metrics):
        return (
            f"no sample of {loss} earned a reward in {len(steps)} steps, so there is nothing to learn from: the prompts are "
            "too hard for this student; right would be a start with fkl or gkd, or more distill.num_generations"
        )
    if metrics and all(values.get("grad_norm") == 0 for values in metrics):
        why = (
            "all samples of a prompt earned the same" if loss in ("grpo", "rlad") else "the student equals the teacher"
        )
        return f"no update of {len(steps)} steps had a gradient, so nothing is learned: with {loss}, most likely {why}"
    return ""


def _profile(start: Mapping[str, Any], steps: Sequence[Mapping[str, Any]], config: Mapping[str, Any]) -> str:
    """Probe scores of the needed capabilities that don't move."""
    needed = np.asarray(start["requirement"]) > 0
    before = np.asarray(start["profile"])[needed]
    after = np.array([step["profile"] for step in steps])[:, needed]
    score = start.get("score") or (config.get("eval") or {}).get("score", "likelihood")
    highest = max(before.max(), after.max())
    if score == "exact-match":  # it may well stay at a level for a few steps, but zero says nothing at all
        return (
            ""
            if highest > 0
            else (
                f"no probe of a needed capability is answered right, at the start or in {len(steps)} steps: exact match doesn't "
                "show progress below that; right would be eval.score token-likelihood, or a longer run"
            )
        )
    if score == "likelihood" and highest < _UNLIKELY:
        return (
            f"the likelihood of the needed references is below {_UNLIKELY:g}, so the probes show no progress: a product over "
            "so many tokens is next to zero; right would be eval.score token-likelihood"
        )
    if np.abs(after - before).max() > _UNMOVED:
        return ""
    adapters = ", or adapters that are not where they help (models.lora_target_modules)"
    return (
        f"no probe of a needed capability moved in {len(steps)} steps: most likely distill.learning_rate "
        f"({(config.get('distill') or {}).get('learning_rate')}) is too small"
        + (adapters if (config.get("models") or {}).get("lora_r") else "")
    )
