"""Base class of the rules of the literature: objective, losses and what belongs to an episode.

Most of these rules minimise the unweighted mean of the losses of their domains. Here each has the option ``objective``:
``mean`` is the published form, and ``requirement`` weights capability c by m·r_c, where m is the number of capabilities
with r_c > 0. A task with equal needs then has weight 1 for each of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from read_env.agents.observation import Array, Observation, View, parse, to_simplex
from read_env.agents.static import Rule, RuleSettings
from read_env.errors import ReadEnvError

#: Scores below this count as this much in a surprisal, whose largest value is then 4.6 nats.
LEAST_SCORE = 0.01


class LiteratureSettings(RuleSettings):
    """Options: ``objective`` weights the losses by the task's ``requirement``, or takes their ``mean``."""

    objective: Literal["requirement", "mean"] = "requirement"


class LiteratureRule(Rule):
    """Rule of the literature, whose state lasts for an episode."""

    settings_type: ClassVar[type[RuleSettings]] = LiteratureSettings

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.start_episode()

    def importance(self, view: View) -> Array:
        """Weight of each capability's loss in the objective, (|C|,): m·r_c, or 1 for the mean."""
        if self.settings.objective == "mean":
            return np.ones(self.size)
        needs = to_simplex(view.requirement)
        return needs * np.count_nonzero(needs)

    def prior(self, view: View) -> Array:
        """Allocation that the objective begins with, (|C|,): r, or the uniform allocation for the mean."""
        return to_simplex(view.requirement if self.settings.objective == "requirement" else np.ones(self.size))

    def start_episode(self) -> None:
        """Reset what belongs to an episode, the attributes of ``episode_state``. Nothing unless overridden."""

    def observe(
        self, observation: Observation, action: npt.ArrayLike, reward: float, next_observation: Observation,
        terminated: bool, truncated: bool, info: Mapping[str, Any],
    ) -> None:  # fmt: skip
        """Start an episode at its first step, and update the rule with a step that was not a stop."""
        view, after = (parse(one, self.size)[0][0] for one in (observation, next_observation))
        if view.first:
            self.start_episode()
        if not info.get("stopped"):
            self.update(view, to_simplex(np.asarray(action)[: self.size]), after, info)

    def update(self, view: View, allocation: Array, after: View, info: Mapping[str, Any]) -> None:
        """Update with a step: the observation before it, its allocation, the observation after it and its info."""

    def state_dict(self) -> dict[str, Any]:
        # Lists are copied, so that a kept state doesn't change with the agent.
        kept = {name: getattr(self, name) for name in self.episode_state}
        own = {name: list(value) if isinstance(value, list) else value for name, value in kept.items()}
        return {**super().state_dict(), **own}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        for name in self.episode_state:
            like, value = getattr(self, name), state[name]
            if isinstance(like, np.ndarray):
                array = np.array(value, dtype=np.float64)
                if array.shape != like.shape:
                    raise ReadEnvError(
                        f"this is no state of agent {self.name!r}: {name} has shape {array.shape}, not {like.shape}"
                    )
                setattr(self, name, array)
            elif isinstance(like, list):
                setattr(self, name, [np.array(row, dtype=np.float64) for row in value])
            else:
                setattr(self, name, type(like)(value))


def surprisal(profile: Array) -> Array:
    """Probe surprisal −log max(s, ``LEAST_SCORE``) of scores s, same shape, in nats.

    >>> surprisal(np.array([1.0, 0.5, 0.0])).round(3).tolist()
    [-0.0, 0.693, 4.605]
    """
    return -np.log(np.maximum(profile, LEAST_SCORE))


def reported(info: Mapping[str, Any], name: str, size: int) -> Array:
    """Losses that a step reports, (|C|,): NaN for capabilities without tokens, and for all of them if it reports none.

    Args:
        info: info of the step.
        name: ``loss_by_capability`` or ``divergence_by_capability``.
        size: |C|.

    >>> info = {"loss_by_capability": np.array([0.7, 0.0]), "tokens_by_capability": np.array([90, 0])}
    >>> reported(info, "loss_by_capability", size=2)
    array([0.7, nan])
    """
    if name not in info or "tokens_by_capability" not in info:
        return np.full(size, np.nan)
    losses = np.asarray(info[name], dtype=np.float64)
    measured = (np.asarray(info["tokens_by_capability"]) > 0) & np.isfinite(losses)
    # A teacher of text alone gives no divergence, which is reported as 0 for every capability.
    return np.where(measured, losses, np.nan) if losses.any() else np.full(size, np.nan)


def softmax(logits: Array) -> Array:
    """Softmax of finite or −∞ logits, at least one of them finite, (n,) on the simplex.

    >>> softmax(np.array([0.0, -np.inf, np.log(3.0)])).round(6).tolist()
    [0.25, 0.0, 0.75]
    """
    weights = np.exp(logits - logits.max())
    shares: Array = weights / weights.sum()
    return shares


class ReferenceSettings(LiteratureSettings):
    """Options of the rules that compare the student with a reference, here the teacher.

    ``loss`` is ``divergence``, KL(teacher ‖ student) as the steps report it, or ``probe``, the probe surprisal.
    ``reference`` is the teacher's probe scores, such as ``"math=0.9 code=0.8"``, 1 for the others.
    """

    loss: Literal["divergence", "probe"] = "divergence"
    reference: str = ""


class ReferenceRule(LiteratureRule):
    """Rule on the excess of the student's loss over that of the teacher, ℓ − ℓ_ref.

    The student's cross-entropy on the teacher's completions, less the teacher's own, is KL(teacher ‖ student): the
    excess is the ``divergence_by_capability`` of the latest step that trained the capability. A capability that no step
    has trained yet, and every capability where steps report no divergence (a teacher of text), has the excess of the
    probe surprisal, −log s + log s_ref.

    Raises:
        ReadEnvError: ``reference`` names an unknown capability or a score outside (0, 1].
    """

    settings_type = ReferenceSettings
    episode_state: ClassVar[tuple[str, ...]] = ("_measured",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        scores = np.ones(self.size)
        for part in self.settings.reference.split():
            index, score = self._parse(part)
            scores[index] = score
        self._reference = surprisal(scores)

    def _parse(self, part: str) -> tuple[int, float]:
        capability, _, value = part.partition("=")
        if capability not in self.capabilities:
            raise ReadEnvError(
                f"agent {self.name!r}, option 'reference': {part!r} names no capability; "
                f"known: {', '.join(self.capabilities)}"
            )
        try:
            score = float(value)
        except ValueError:
            score = np.nan
        if not 0 < score <= 1:
            raise ReadEnvError(
                f"agent {self.name!r}, option 'reference': {part!r} should read capability=score, "
                "the score above 0 and at most 1"
            )
        return self.capabilities.index(capability), score

    def start_episode(self) -> None:
        self._measured = np.full(self.size, np.nan)

    def excess(self, view: View) -> Array:
        """ℓ − ℓ_ref of every capability, (|C|,), in nats; NaN nowhere."""
        probe = surprisal(view.profile) - self._reference
        if self.settings.loss == "probe" or view.first:
            return probe
        return np.where(np.isnan(self._measured), probe, self._measured)

    def update(self, view: View, allocation: Array, after: View, info: Mapping[str, Any]) -> None:
        found = reported(info, "divergence_by_capability", self.size)
        self._measured = np.where(np.isnan(found), self._measured, found)
