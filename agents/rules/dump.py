"""``dump``: a curriculum on the size of the advantages, with a bonus for what was sampled little."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from read_env.agents.observation import Array, View
from read_env.agents.rules.base import LiteratureRule, LiteratureSettings, softmax


class DumpSettings(LiteratureSettings):
    """Options: ``tau`` is the temperature, ``sample_tokens`` the completion tokens that count as a sample."""

    tau: float = Field(default=0.1, gt=0)
    sample_tokens: float = Field(default=50.0, gt=0)


class Dump(LiteratureRule):
    """DUMP: upper confidence bounds on the mean size of the advantages.

    w = softmax((E|A| + √(2 ln(N + 1)/(n_c + 1)))/τ), with ``objective="requirement"`` w ∝ r·exp(…/τ).
    n_c is the number of samples of capability c in the episode, its completion tokens divided by ``sample_tokens``, and
    N their sum. Steps report no advantages. For answers that are right with probability s, the advantages
    (R − s)/√(s(1 − s)) of GRPO have E|A| = 2√(s(1 − s)), and s is here the probe score.

    Degenerate cases: after a step of 6,000 tokens a capability without tokens has the bonus √(2 ln(N + 1)), about 3,
    and one with half of them .4, so that at τ = .1 the next step is nearly all for the former. Later E|A| decides,
    which is flat around s = ½: nearly uniform there, and next to nothing at s = 0 and s = 1.

    Source: arXiv 2504.09710 and its release, without its window of 300 samples. Default: τ .1; ``sample_tokens`` is
    ours.

    Example:
        >>> obs = dict(requirement=[0.5, 0.5], profile=[0.5, 0.9], budget=[1], last_allocation=[0, 0], last_gain=[0, 0])
        >>> print(Dump(["math", "code"]).predict(obs)[0].round(3))  # E|A| is 1 and .6
        [0.982 0.018]
    """

    name = "dump"
    settings_type = DumpSettings
    episode_state: ClassVar[tuple[str, ...]] = ("_tokens_seen",)

    def start_episode(self) -> None:
        self._tokens_seen = np.zeros(self.size)

    def shares(self, view: View) -> Array:
        samples = (np.zeros(self.size) if view.first else self._tokens_seen) / self.settings.sample_tokens
        score = np.clip(view.profile, 0.0, 1.0)
        advantage = 2.0 * np.sqrt(score * (1.0 - score))
        bonus = np.sqrt(2.0 * np.log(samples.sum() + 1.0) / (samples + 1.0))
        with np.errstate(divide="ignore"):  # what is not needed gets nothing
            return softmax(np.log(self.prior(view)) + (advantage + bonus) / self.settings.tau)

    def update(self, view: View, allocation: Array, after: View, info: Mapping[str, Any]) -> None:
        spread = allocation * float(info.get("completion_tokens", 0))
        self._tokens_seen = self._tokens_seen + np.asarray(info.get("tokens_by_capability", spread), dtype=np.float64)
