"""``pretrained:any`` and other set policies: networks shared by all capabilities, trained on surrogates.

The network (:mod:`read_env.agents.set_network`) doesn't know how many capabilities there are, nor their order. It adapts within
an episode: its memory holds, by capability, what the steps so far have shown. ``pretrained:any`` was trained on worlds drawn
widely and takes any suite; a policy that was trained on one suite knows its capabilities by name and is refused elsewhere.
``scripts/train_policies.py`` trains the policies that ship.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from read_env.agents import storage
from read_env.agents.base import Agent, AgentSettings
from read_env.agents.interaction import StepCallback
from read_env.agents.observation import Array, Observation, View, parse
from read_env.agents.planning import form_of
from read_env.agents.set_network import (
    FIRST_SHARE,
    Weights,
    allocate,
    empty_trace,
    features,
    initial_weights,
    noted,
)
from read_env.errors import ReadEnvError, unknown

if TYPE_CHECKING:
    from read_env.surrogate.model import Surrogate

#: Policies that ship, by the name of their file in the assets.
SHIPPED = ("any", "micro")
KIND = "set-policy weights"


def weights_path(name_or_path: str) -> Path:
    """File of a shipped policy, or of a path.

    Raises:
        ReadEnvError: neither a shipped policy nor a ``.zip`` file.
    """
    if name_or_path in SHIPPED:
        return Path(str(resources.files("read_env") / f"assets/policies/{name_or_path}.zip"))
    if not name_or_path.endswith(".zip"):
        raise unknown("weights", name_or_path, [*SHIPPED, "a .zip file"])
    return Path(name_or_path).expanduser()


class SetPolicySettings(AgentSettings):
    """Options: ``weights``, a shipped policy (``any``, ``micro``) or a file of :func:`save_weights`."""

    weights: str = "any"


class SetPolicy(Agent):
    """Recurrent policy with a network that all capabilities share.

    ``predict`` keeps its memory in ``state``, as SB3's recurrent policies do: give back the state that the last call returned.

    Raises:
        ReadEnvError: no such weights, or weights for another suite.
    """

    name = "set-policy"
    settings_type = SetPolicySettings
    episode_state = ("_form",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._form = 0.0
        found, suite, made_from = load_weights(self.settings.weights)
        if suite and suite != self.capabilities:
            raise ReadEnvError(
                f"agent {self.name!r} was trained for the capabilities {', '.join(suite)}; here they are "
                f"{', '.join(self.capabilities)}; right would be pretrained:any, or a policy trained for them"
            )
        self._weights: Weights = found
        self._moments: dict[str, Any] = {}  # of the optimizer of a training in parts
        self._tokens = int(made_from.get("tokens", 0))

    @classmethod
    def files(cls, options: Mapping[str, Any]) -> dict[str, Path]:
        return {"agent_options.weights": weights_path(str(options.get("weights", SetPolicySettings().weights)))}

    @property
    def tokens_before_run(self) -> int:
        """Completion tokens of the recorded runs behind the surrogate that the weights were trained on.

        A policy that was trained by ``read-env train`` has them in the record of the training.
        """
        return self._tokens

    def predict(
        self, observation: Observation, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[np.ndarray, Any]:
        """Allocations for one observation or a batch.

        Args:
            observation: Dict observation; every value (n,), or (b, n) for a batch.
            state: what the last call returned; None at the start. Without it, a step is taken for the first one.
            episode_start: (b,) True where an episode begins.
            deterministic: not used: the policy is deterministic.
        """
        views, batched = parse(observation, self.size)
        begins = np.array([view.first for view in views])
        if episode_start is not None:
            begins |= np.asarray(episode_start, bool).reshape(-1)
        shares, state = self._act(views, state, begins)
        if self.stop_entry:
            shares = np.column_stack([shares, np.zeros(len(shares))])
        actions = shares.astype(np.float32)
        return (actions if batched else actions[0]), state

    def _act(
        self, views: list[View], state: Mapping[str, Any] | None, begins: np.ndarray
    ) -> tuple[Array, dict[str, Any]]:
        requirement, profile, last, gain = (
            np.array([getattr(view, name) for view in views])
            for name in ("requirement", "profile", "last_allocation", "last_gain")
        )
        budget = np.array([view.budget for view in views])
        if state is None:
            state, begins = {}, np.ones(len(views), bool)
        hidden = len(self._weights["new_bias"])

        def kept(name: str, fresh: np.ndarray) -> np.ndarray:
            old = np.asarray(state.get(name, fresh))
            return np.where(begins.reshape(-1, *[1] * (fresh.ndim - 1)), fresh, old)

        memory = kept("memory", np.zeros((len(views), self.size, hidden)))
        start, taken = kept("start", profile), kept("budget", budget) - budget
        trace = {name: kept(name, zeros) for name, zeros in empty_trace(np.zeros_like(profile)).items()}
        trace = noted(trace, requirement, last * ~begins[:, None], gain, taken)
        share = np.where(begins, FIRST_SHARE, taken)
        form = np.where(begins, 0.0, self._form)
        row, whole = features(requirement, profile, start, last, gain, trace, budget, share, form)
        shares, memory = allocate(self._weights, row, whole, memory)
        return shares, {"memory": memory, "start": start, "budget": budget, **trace}

    def observe(
        self, observation: Observation, action: npt.ArrayLike, reward: float, next_observation: Observation,
        terminated: bool, truncated: bool, info: Mapping[str, Any],
    ) -> None:  # fmt: skip
        """Read the form of the utility."""
        if "utility" in info:
            view = parse(next_observation, self.size)[0][0]
            form, _ = form_of(view.requirement, view.profile, info)
            self._form = -1.0 if form == "weighted_mean" else 1.0

    def _learn(self, env: gym.Env[Any, Any], total_steps: int, callback: StepCallback, seed: int | None) -> None:
        raise ReadEnvError(
            f"agent {self.name!r} is trained by gradients through a surrogate; right would be read-env train --on micro, or a file "
            "of read-env surrogate fit"
        )

    def learn_on_surrogate(
        self, surrogate: Surrogate, steps: int, *, envs: int = 1, seed: int = 0, progress: tuple[int, int] | None = None
    ) -> None:
        """Train by gradients through the worlds of a surrogate, from its students and for requirements of all kinds.

        A policy for any suite becomes one for the surrogate's: new weights, with a vector for each capability.

        Args:
            surrogate: the surrogate.
            steps: environment steps.
            envs: episodes of a batch, at least 64.
            seed: seed of the episodes.
            progress: steps before these and steps of the whole training, for the learning rate.
        """
        from read_env.agents.set_training import surrogate_batches, train

        count = max(envs, 64)
        done, whole = progress or (0, steps)
        per_update = count * surrogate.steps
        if "name" not in self._weights:
            self._weights = initial_weights(len(self._weights["new_bias"]), self.size, np.random.default_rng(self.seed))
            self._moments = {}
        self._tokens = 0
        batches = surrogate_batches(surrogate, np.random.default_rng(seed), count)
        self._weights = train(
            batches, iterations=max(1, steps // per_update), seed=seed, weights=self._weights,
            progress=(done // per_update, max(1, whole // per_update)), moments=self._moments,
        )  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        own = {"form": self._form, "tokens": self._tokens, "weights": dict(self._weights), "moments": self._moments}
        return {**super().state_dict(), **own}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._form, self._tokens = float(state["form"]), int(state["tokens"])
        self._weights = {name: np.asarray(value, np.float32) for name, value in state["weights"].items()}
        self._moments = {
            name: {key: np.asarray(value) for key, value in kept.items()}
            for name, kept in state.get("moments", {}).items()
        }


def save_weights(
    path: str | Path, weights: Weights, capabilities: tuple[str, ...], made_from: Mapping[str, Any]
) -> None:
    """Write the weights of a policy.

    Args:
        path: the file.
        weights: of :func:`read_env.agents.set_network.initial_weights`, after training.
        capabilities: the suite that they are for; empty for any.
        made_from: facts about the training, JSON values; ``tokens``: completion tokens of the recorded runs behind it.
    """
    arrays = {name: np.asarray(value, np.float32) for name, value in weights.items()}
    storage.write(
        path, {"kind": KIND, "capabilities": list(capabilities), "made_from": dict(made_from), "weights": arrays}
    )


def load_weights(name_or_path: str) -> tuple[Weights, tuple[str, ...], Mapping[str, Any]]:
    """Weights of a policy, the suite that they are for, empty for any, and the facts about their training.

    Raises:
        ReadEnvError: no such policy or file, or a file of another kind.
    """
    return _read(weights_path(name_or_path))


@lru_cache(maxsize=8)
def _read(path: Path) -> tuple[Weights, tuple[str, ...], Mapping[str, Any]]:
    document = storage.read(path)
    if document.get("kind") != KIND or not isinstance(document.get("weights"), dict):
        raise ReadEnvError(
            f"{path} holds no weights of a set policy; right would be a file of `read_env.agents.set_policy`"
        )
    return document["weights"], tuple(document["capabilities"]), dict(document["made_from"])
