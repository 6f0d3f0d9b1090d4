"""``skill-it``: tokens where they lower the losses of the needed capabilities, by a graph between skills."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from read_env.agents.observation import Array, View
from read_env.agents.rules.base import LiteratureSettings, softmax, surprisal
from read_env.agents.rules.recorded import RecordedRule, RecordedRun
from read_env.errors import ReadEnvError

# Losses below this have no relative fall, since the score was 1 from the start.
_NO_LOSS = 1e-9


class SkillItSettings(LiteratureSettings):
    """Options: ``transfer`` is the directory of a transfer matrix, whose ``negative`` edges are clipped or kept.

    ``eta`` is the step size, ``window`` the number of evaluations m.
    """

    transfer: str = ""
    negative: Literal["clip", "keep"] = "clip"
    eta: float = Field(default=0.5, ge=0)
    window: int = Field(default=3, ge=1)


class SkillIt(RecordedRule):
    """Skill-It: multiplicative weights over a graph of skills, w_i ∝ exp(η Σ_j A_ij ν_j L_j).

    A_ij = (ℓ_j^start − ℓ_j^end)/ℓ_j^start in the one-hot run of capability i, mean over its seeds, from the records of
    ``read-env transfer-matrix``, whose tokens count as spent before the run. L_j sums ℓ_j over the last m evaluations,
    the start included; with ``objective="requirement"`` it is their mean and ν = m_τ·r (m_τ needs), as the release does
    with targets, else ν = 1. Every step starts again from equal weights. ℓ is the probe surprisal, in A and in L.

    Degenerate cases: many edges are negative here; clipped ones leave a harmful source the weight of a useless one,
    e^0, which is no zero: with small η L the rule is nearly uniform, over all capabilities, needed or not. A is of the
    matrix's budget and starting student and does not change as the student saturates.

    Source: arXiv 2307.14430 and its release. Defaults: η .5 (the paper: .2 to .8), m 3, edges clipped.

    Example:
        >>> agent = SkillIt(["math", "code"])
        >>> agent.load_state_dict({**agent.state_dict(), "fitted": {"adjacency": np.array([[0.5, 0.0], [0.5, 0.5]])}})
        >>> obs = dict(requirement=[1, 0], profile=[0.1, 0.1], budget=[1], last_allocation=[0, 0], last_gain=[0, 0])
        >>> agent.predict(obs)[0].tolist()  # code helps math as much as math itself
        [0.5, 0.5]
    """

    name = "skill-it"
    settings_type = SkillItSettings
    source = "transfer"
    wanted = "the directory of a transfer matrix of this suite, as read-env transfer-matrix makes it"
    episode_state: ClassVar[tuple[str, ...]] = ("_past",)

    def start_episode(self) -> None:
        self._past: list[Array] = []  # losses before the latest steps, window − 1 of them

    def fit(self, runs: list[RecordedRun]) -> dict[str, Array]:
        falls: list[list[Array]] = [[] for _ in range(self.size)]
        for run in runs:
            source = int(np.argmax(run.allocation))
            if run.allocation[source] > 1 - 1e-6:
                start, end = run.losses
                falls[source].append(np.where(start > _NO_LOSS, (start - end) / np.maximum(start, _NO_LOSS), 0.0))
        absent = [name for name, rows in zip(self.capabilities, falls, strict=True) if not rows]
        if absent:
            raise ReadEnvError(f"it has no finished run with all tokens on {', '.join(absent)}")
        return {"adjacency": np.array([np.mean(rows, axis=0) for rows in falls])}

    def shares(self, view: View) -> Array:
        adjacency = self.fitted()["adjacency"]
        if self.settings.negative == "clip":
            adjacency = np.maximum(adjacency, 0.0)
        past = [] if view.first else self._past
        losses = np.array([*past, surprisal(view.profile)])
        total = losses.sum(axis=0) if self.settings.objective == "mean" else losses.mean(axis=0)
        return softmax(self.settings.eta * adjacency @ (self.importance(view) * total))

    def update(self, view: View, allocation: Array, after: View, info: Mapping[str, Any]) -> None:
        kept = [*self._past, surprisal(view.profile)]
        self._past = kept[len(kept) - min(len(kept), self.settings.window - 1) :]
