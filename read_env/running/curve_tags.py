"""Tags and values of the curves: one function for each source, in the vocabulary of Stable-Baselines3 where it has a tag."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def agent_scalars(scalars: Mapping[str, float]) -> dict[str, float]:
    """Tags of an agent's metrics: a name with a slash is the whole tag.

    >>> agent_scalars({"kappa": 0.5, "train/loss": 0.1})
    {'bandit/kappa': 0.5, 'train/loss': 0.1}
    """
    return {(name if "/" in name else f"bandit/{name}"): value for name, value in scalars.items()}


def profile_scalars(names: Sequence[str], profile: Sequence[float], utility: float) -> dict[str, float]:
    """Values of ``profile/<capability>`` and ``utility/probes``.

    >>> profile_scalars(["math"], [0.5], utility=0.5)
    {'utility/probes': 0.5, 'profile/math': 0.5}
    """
    return {"utility/probes": utility, **{f"profile/{name}": score for name, score in zip(names, profile, strict=True)}}


def reward_scalars(names: Sequence[str], step: Mapping[str, Any], reward: float) -> dict[str, float]:
    """Values of ``allocation/<capability>`` and ``reward/*`` of a step, from its record or its ``info``."""
    return {
        **{f"allocation/{name}": share for name, share in zip(names, step["allocation"], strict=True)},
        **{f"reward/{part}": step[part] for part in ("gain", "spillover", "cost", "forgetting")},
        "reward/total": reward,
    }


def cache_scalars(counts: Mapping[str, int]) -> dict[str, float]:
    """Values of ``cache/*`` of a step: hit rates in blocks and tokens, evictions, and bytes per token on disk.

    Args:
        counts: counts of ``CacheUse``; empty in records of early versions.

    >>> counts = dict(blocks_asked=4, blocks_served=1, tokens_asked=90, tokens_served=45, evictions=0, disk_tokens=0)
    >>> cache_scalars(counts)
    {'cache/block_hit_rate': 0.25, 'cache/token_hit_rate': 0.5, 'cache/evictions': 0.0}
    """
    if not counts.get("blocks_asked"):
        return {}  # on-policy losses ask for no answers
    scalars = {
        "cache/block_hit_rate": counts["blocks_served"] / counts["blocks_asked"],
        "cache/token_hit_rate": counts["tokens_served"] / max(1, counts["tokens_asked"]),
        "cache/evictions": float(counts["evictions"]),
    }
    if counts["disk_tokens"]:
        scalars["cache/bytes_per_token"] = counts["disk_bytes"] / counts["disk_tokens"]
    return scalars


def step_scalars(names: Sequence[str], record: Mapping[str, Any], budget: int) -> dict[str, float]:
    """Tags and values of one step.

    Args:
        names: |C| capability names.
        record: record of the step.
        budget: B, completion tokens.
    """
    seconds = sum(record["seconds"].values())
    scalars = {
        **profile_scalars(names, record["profile"], record["utility"]),
        **reward_scalars(names, record, record["reward"]),
        "budget/spent_tokens": record["budget_spent"],
        "budget/spent_share": record["budget_spent"] / budget,
        "distill/loss": record["loss"],
        **{f"distill/{name}": value for name, value in record["metrics"].items()},
        **agent_scalars(record["agent"]),
        **{f"time/{stage}_seconds": value for stage, value in record["seconds"].items()},
        **cache_scalars(record.get("cache", {})),
    }
    if seconds > 0:
        scalars["distill/tokens_per_second"] = record["trained_tokens"] / seconds
    if sum(record.get("examples_by_capability") or ()):
        scalars["distill/cut_share"] = sum(record["cut_by_capability"]) / sum(record["examples_by_capability"])
    if "dev_utility" in record:
        scalars["utility/dev"] = record["dev_utility"]
    return scalars
