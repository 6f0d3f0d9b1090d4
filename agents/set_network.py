"""Network of the set policy: one row for each capability, the same weights for all, so that number and order don't matter.

A row holds what is known of its capability; rows see each other through their mean and their mean weighted by the requirement
(Zaheer et al., "Deep Sets", 2017). A gated memory by row keeps what earlier steps of the episode showed. The functions take
numpy arrays or torch tensors, so that one text serves training and use.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

#: Features of a row, and of the whole.
ROW, WHOLE = 11, 5
#: Share of B that a step is taken to have before the first one has shown it.
FIRST_SHARE = 0.1
Weights = Mapping[str, Any]


def initial_weights(hidden: int, names: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Weights before training, with which the policy is close to w ∝ r·√(1 − s).

    Args:
        hidden: width of the layers and of the memory.
        names: |C| of a policy for one suite, which learns a vector for each capability; 0 for any suite.
        rng: generator.
    """

    def layer(rows: int, columns: int, scale: float = 1.0) -> np.ndarray:
        return (scale * rng.standard_normal((rows, columns)) / np.sqrt(rows)).astype(np.float32)

    weights = {
        "row": layer(ROW, hidden), "whole": layer(WHOLE, hidden), "row_bias": np.zeros(hidden, np.float32),
        "mix": layer(3 * hidden, hidden), "mix_bias": np.zeros(hidden, np.float32),
        "gate": layer(2 * hidden, hidden), "gate_bias": np.full(hidden, -1.0, np.float32),
        "new": layer(2 * hidden, hidden), "new_bias": np.zeros(hidden, np.float32),
        "out": layer(4 * hidden, hidden), "out_bias": np.zeros(hidden, np.float32),
        "logit": layer(hidden, 1, 0.01), "rule": np.array([1.0, 0.5, 0.03], np.float32),
    }  # fmt: skip
    if names:
        weights["name"] = layer(names, hidden, 0.1)
    return weights


def allocate(weights: Weights, row: Any, whole: Any, memory: Any) -> tuple[Any, Any]:
    """Allocations and the next memory.

    Args:
        weights: of :func:`initial_weights`, arrays or tensors.
        row: (n, |C|, ROW) features of the capabilities, see :func:`features`.
        whole: (n, WHOLE) features of the whole.
        memory: (n, |C|, hidden), zeros at the start of an episode.

    Returns:
        (n, |C|) shares that sum to 1, and (n, |C|, hidden).
    """
    requirement = row[..., :1]
    x = row @ weights["row"] + (whole @ weights["whole"])[:, None] + weights["row_bias"]
    if "name" in weights:
        x = x + weights["name"]
    x = _tanh(x)
    x = x + _tanh(_joined(x, *_means(x, requirement)) @ weights["mix"] + weights["mix_bias"])
    both = _joined(x, memory)
    gate = _sigmoid(both @ weights["gate"] + weights["gate_bias"])
    memory = (1 - gate) * memory + gate * _tanh(both @ weights["new"] + weights["new_bias"])
    y = _tanh(_joined(memory, x, *_means(memory, requirement)) @ weights["out"] + weights["out_bias"])
    need, missing, floor = weights["rule"][0], weights["rule"][1], weights["rule"][2]
    known = need * _log(requirement[..., 0] + floor.clip(0.001)) + missing * _log(1.05 - row[..., 1])
    logits = (y @ weights["logit"])[..., 0] + known
    shares = _exp(logits - _highest(logits))
    return shares / shares.sum(-1)[..., None], memory


def empty_trace(zeros: Any) -> dict[str, Any]:
    """Trace of an episode before its first step, from zeros (n, |C|)."""
    return {name: zeros for name in ("spent", "w", "ww", "gained", "others", "w_others", "steps")}


def noted(trace: Mapping[str, Any], requirement: Any, last: Any, gain: Any, taken: Any) -> dict[str, Any]:
    """Trace with one more step, whose sums tell how a capability's tokens went with its own gain and with those of the others.

    Args:
        trace: sums so far, (n, |C|) each.
        requirement: (n, |C|).
        last: (n, |C|) allocation of the step; zeros where there was none.
        gain: (n, |C|) change of the scores.
        taken: (n,) share of B that the step took.
    """
    useful = requirement * gain
    others = useful.sum(-1)[:, None] - useful
    added = {
        "spent": last * taken[:, None], "w": last, "ww": last * last, "gained": last * gain, "others": others,
        "w_others": last * others, "steps": last.sum(-1)[:, None] + 0 * last,
    }  # fmt: skip
    return {name: trace[name] + value for name, value in added.items()}


def features(
    requirement: Any, profile: Any, start: Any, last: Any, gain: Any, trace: Mapping[str, Any], budget: Any, share: Any,
    product: Any,
) -> tuple[Any, Any]:  # fmt: skip
    """Features of rows and whole.

    Args:
        requirement: (n, |C|) r.
        profile: (n, |C|) measured scores s.
        start: (n, |C|) scores at the start of the episode.
        last: (n, |C|) last allocation; zeros at the start.
        gain: (n, |C|) change of the scores in the last step.
        trace: of :func:`noted`, with that step.
        budget: (n,) share of B that is left.
        share: (n,) share of B that a step takes.
        product: (n,) 1 for a utility that multiplies the needs, −1 for a mean, 0 where it isn't known yet.
    """
    size = requirement.shape[-1]
    missing = requirement * (1 - profile)
    spent = trace["spent"]
    steps = trace["steps"] + 1e-6
    # Slopes of least squares, shrunk: of the own gain through the origin, of the others' useful gains around their mean.
    own = trace["gained"] / (0.05 + trace["ww"])
    spread = trace["ww"] - trace["w"] * trace["w"] / steps
    other = (trace["w_others"] - trace["w"] * trace["others"] / steps) / (0.02 + spread)
    row = _stacked(
        requirement, profile, profile - start, last, 10 * gain, spent, missing,
        (requirement > 0) * (1.0 - 0.0 * requirement), 10 * (profile - start) / (0.1 + 10 * spent), 10 * own, 30 * other,
    )  # fmt: skip
    whole = _stacked(budget, 10 * share, product, 0.0 * budget + 4.0 / size, missing.sum(-1))
    return row, whole


def _means(x: Any, requirement: Any) -> tuple[Any, Any]:
    """Mean of the rows, and mean weighted by the requirement, each repeated for every row."""
    mean = x.mean(-2)[:, None] + 0 * x
    weighted = (x * requirement).sum(-2)[:, None] + 0 * x
    return mean, weighted


def _joined(*parts: Any) -> Any:
    return np.concatenate(parts, axis=-1) if isinstance(parts[0], np.ndarray) else _torch().cat(parts, dim=-1)


def _stacked(*parts: Any) -> Any:
    return np.stack(parts, axis=-1) if isinstance(parts[0], np.ndarray) else _torch().stack(parts, dim=-1)


def _highest(logits: Any) -> Any:
    return logits.max(-1, keepdims=True) if isinstance(logits, np.ndarray) else logits.amax(-1, keepdim=True)


def _exp(x: Any) -> Any:
    return np.exp(x) if isinstance(x, np.ndarray) else x.exp()


def _log(x: Any) -> Any:
    return np.log(x) if isinstance(x, np.ndarray) else x.log()


def _tanh(x: Any) -> Any:
    return np.tanh(x) if isinstance(x, np.ndarray) else x.tanh()


def _sigmoid(x: Any) -> Any:
    return 0.5 * (1 + _tanh(0.5 * x))


def _torch() -> Any:
    import torch

    return torch
