"""Vector environment of a surrogate: many episodes at once in numpy.

gym.make_vec("ReadEnv/Surrogate-v0", num_envs=4096, vectorization_mode="vector_entry_point")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from read_env.envs.spaces import STOP, spaces_of
from read_env.envs.surrogate_setting import Goals, Setting, utilities
from read_env.errors import ReadEnvError, unknown

Observations = dict[str, np.ndarray]

#: Parameters of a world that are needed row by row.
_BY_ROW = ("speed", "half", "ceiling", "bottom", "rehearsal", "noise", "loss", "loss_slope")


class SurrogateVectorEnv(gym.vector.VectorEnv):
    """Vector of surrogate environments, which all begin together and each draw a task, a student and a world.

    Spaces, dynamics and rewards are those of :class:`read_env.envs.surrogate.SurrogateEnv` in float32. There are no dev
    measurements.

    Args:
        num_envs: number of environments, n.
        autoreset_mode: ``NEXT_STEP``: the step after the end begins the next episode; ``SAME_STEP``: the last step of an
            episode returns the first observation of the next one, and the last one in ``infos["final_obs"]``.
        infos: ``none``; ``episode``: task, student and, at the end, return and length of the episode; ``all``: also every
            value of the single environment but the dev measurements.
        surrogate, preset, task, tasks, students, overrides, may_stop, observe_utility: as in the single environment.

    Raises:
        ReadEnvError: arguments as for the single environment, or an unknown mode.
    """

    def __init__(
        self,
        num_envs: int = 1,
        surrogate: str = "micro",
        preset: str = "micro",
        task: str | None = None,
        tasks: Sequence[str] | None = None,
        students: Sequence[str] | None = None,
        overrides: Mapping[str, Any] | None = None,
        render_mode: str | None = None,
        may_stop: bool | None = None,
        observe_utility: bool | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        infos: Literal["none", "episode", "all"] = "episode",
    ) -> None:
        if num_envs < 1:
            raise ReadEnvError(f"num_envs must be above 0, got {num_envs}")
        if infos not in ("none", "episode", "all"):
            raise unknown("infos", str(infos), ["none", "episode", "all"])
        if render_mode is not None:
            raise ReadEnvError("a vector of surrogates draws no pictures; right would be render_mode=None")
        modes = {mode.value: mode for mode in (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP)}
        mode = autoreset_mode if isinstance(autoreset_mode, AutoresetMode) else modes.get(str(autoreset_mode))
        if mode not in modes.values():
            raise unknown("autoreset mode", str(getattr(autoreset_mode, "value", autoreset_mode)), list(modes))
        self.metadata = {"render_modes": [], "autoreset_mode": mode}
        self.setting = Setting.of(surrogate, preset, task, tasks, students, overrides, may_stop, observe_utility)
        self.surrogate, self.config, self.suite = self.setting.surrogate, self.setting.config, self.setting.suite
        self.num_envs, self.may_stop, self._infos = num_envs, self.config.budget.may_stop, infos
        size = self.surrogate.size
        spaces = spaces_of(size, self.may_stop, self.config.eval.observe_utility)
        self.single_action_space, self.single_observation_space = spaces
        self.action_space, self.observation_space = (batch_space(space, num_envs) for space in spaces)
        self._same_step = mode == AutoresetMode.SAME_STEP
        self._names = [card.name for card in self.setting.cards]
        self._goals = Goals.of([self.setting.goal(card) for card in self.setting.cards])
        self._starts = np.array([self.surrogate.starts[name] for name in self.setting.students], np.float32)
        ends = np.cumsum(self.surrogate.tokens)
        self._left = np.concatenate([[1.0], 1 - ends / ends[-1]]).astype(np.float32)
        self._shares = (self.surrogate.tokens / ends[-1]).astype(np.float32)
        self._tokens = (self.surrogate.tokens / 1000).astype(np.float32)
        worlds = self.surrogate.worlds
        # (M, steps, |C|): powers of the learning-rate factor, and the s.d. of the drift.
        rates = self.surrogate.rates.astype(np.float32)[:, None]
        self._learning, self._wearing = rates ** worlds.learning[:, None], rates ** worlds.wearing[:, None]
        self._drift = rates * worlds.drift[:, None]
        self._correlate, self._persistence = self.surrogate.factors[1].astype(np.float32), self.surrogate.persistence
        self._sums = np.concatenate([worlds.transfer, worlds.interference], axis=2)
        self._helpers = worlds.helpers * worlds.dependence[:, None, :]
        self._slow = 1 - worlds.dependence
        self._parameters = {name: getattr(worlds, name) for name in _BY_ROW}
        self._begun = False

    def reset(
        self, *, seed: int | list[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Begin an episode in every environment.

        Args:
            seed: one seed for all of them, or a list, whose entries together make one.
            options: ``task``, ``student`` and ``world`` of the episodes that begin now.
        """
        entropy = (
            seed
            if isinstance(seed, int) or seed is None
            else int(np.random.SeedSequence(list(seed)).generate_state(1)[0])
        )
        super().reset(seed=entropy)
        count, size = self.num_envs, self.surrogate.size
        self._step = np.zeros(count, np.int64)
        self._task, self._student, self._world = (np.zeros(count, np.int64) for _ in range(3))
        self._profile, self._last, self._gain = (np.zeros((count, size), np.float32) for _ in range(3))
        self._latent, self._change = self._profile, np.zeros((count, size), np.float32)
        self._utility, self._return = np.zeros(count, np.float32), np.zeros(count)
        self._done = np.zeros(count, bool)
        self._goal = self._goals[np.zeros(count, np.int64)]
        self._row = {name: np.zeros((count, size), np.float32) for name in (*_BY_ROW, "slow")}
        self._begun = True
        self._begin(np.ones(count, bool), options or {})
        return self._observations(), self._all_infos() if self._infos != "none" else {}

    def step(self, actions: np.ndarray) -> tuple[Observations, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step in every environment.

        Args:
            actions: (n, |C|) weights, with a stop entry each where the space has one.

        Raises:
            ReadEnvError: another shape, or entries that are negative or not finite; nothing is changed then.
        """
        if not self._begun:
            raise ReadEnvError("the environments have no state yet: call reset() first")
        shares, stop = self._shares_of(actions)
        fresh = self._done.copy()  # NEXT_STEP: their episode ended with the last step, and this one begins the next
        if fresh.any():
            self._begin(fresh, {})
        moved = ~fresh & ~stop
        values, infos = self._advance(shares, moved)
        ended = (stop & ~fresh) | ((self._step == len(self._tokens)) & moved)
        self._return += values
        found = self._observations()
        if self._infos == "all":
            infos |= self._all_infos()
        elif self._infos == "none":
            infos = {}
        if ended.any() and self._infos != "none":
            infos |= {
                "task": np.array(self._names, dtype=object)[self._task],
                "_task": ended,
                "final_utility": self._utility.copy(),
                "_final_utility": ended,
                "episode": {"r": np.where(ended, self._return, 0.0), "l": np.where(ended, self._step, 0)},
                "_episode": ended,
            }
        self._done = ended
        if self._same_step and ended.any():
            last = np.empty(self.num_envs, dtype=object)
            for index in np.flatnonzero(ended):
                last[index] = {key: value[index].copy() for key, value in found.items()}
            self._begin(ended, {})
            self._done = np.zeros(self.num_envs, bool)
            infos |= {
                "final_obs": last,
                "_final_obs": ended,
                "final_info": self._final(infos, ended),
                "_final_info": ended,
            }
            found = self._observations()
        return found, values, ended, np.zeros(self.num_envs, bool), infos

    # -- inside ------------------------------------------------------------------------------------

    def _shares_of(self, actions: Any) -> tuple[np.ndarray, np.ndarray]:
        """Shares (n, |C|) and stops (n,)."""
        try:
            entries = np.asarray(actions, np.float32)
        except (TypeError, ValueError):
            raise ReadEnvError(
                f"actions must be numbers of shape {self.action_space.shape}, got {actions!r:.80}"
            ) from None
        if entries.shape != self.action_space.shape:
            raise ReadEnvError(f"actions must have shape {self.action_space.shape}, got {entries.shape}")
        # NaN compares as false.
        if not (entries.min(initial=0.0) >= 0 and entries.max(initial=0.0) < np.inf):
            bad = int(np.flatnonzero(~((entries >= 0) & (entries < np.inf)).all(1))[0])
            raise ReadEnvError(
                f"allocation weights must be finite and not negative, got {entries[bad]} in environment {bad}"
            )
        stop = entries[:, -1] >= STOP if self.may_stop else np.zeros(self.num_envs, bool)
        weights = entries[:, : self.surrogate.size]
        sums = weights.sum(1, keepdims=True)
        if not (sums.min() > 1e-30 and sums.max() < np.inf):  # none at all, or too large or small to sum
            largest = weights.max(1, keepdims=True)
            weights = np.where(largest > 0, weights / np.where(largest > 0, largest, 1), 1.0).astype(np.float32)
            sums = weights.sum(1, keepdims=True)
        return weights / sums, stop

    def _begin(self, rows: np.ndarray, options: Mapping[str, Any]) -> None:
        """Begin an episode in the environments of a mask."""
        count, setting = int(rows.sum()), self.setting
        tasks, students, worlds = (
            self.np_random.integers(n, size=count)
            for n in (len(self._names), len(setting.students), self.surrogate.count)
        )
        for key in options:
            if key not in ("task", "student", "world"):
                raise unknown("reset option", str(key), ["student", "task", "world"])
        if "task" in options:
            if options["task"] not in self._names:
                raise unknown("task of the environment", str(options["task"]), self._names)
            tasks[:] = self._names.index(options["task"])
        if "student" in options:
            if options["student"] not in setting.students:
                raise unknown("starting student of the environment", str(options["student"]), list(setting.students))
            students[:] = setting.students.index(options["student"])
        if "world" in options:
            if not 0 <= options["world"] < self.surrogate.count:
                raise ReadEnvError(
                    f"reset option world must be 0 to {self.surrogate.count - 1}, got {options['world']!r}"
                )
            worlds[:] = options["world"]
        self._task[rows], self._student[rows], self._world[rows] = tasks, students, worlds
        self._goal.replace(rows, self._goals[tasks])
        for name, values in self._parameters.items():
            self._row[name][rows] = values[worlds]
        self._row["slow"][rows] = self._slow[worlds]
        self._members = [np.flatnonzero(self._world == world) for world in range(self.surrogate.count)]
        if self._latent is self._profile:
            self._latent = self._profile.copy()
        self._latent[rows] = self._profile[rows] = self._starts[students]
        # Of a step before the first one: so the first change has the variance of the others.
        self._change[rows] = self._changes(count)
        self._last[rows], self._gain[rows], self._step[rows], self._return[rows] = 0.0, 0.0, 0, 0.0
        self._utility[rows] = utilities(self._goal, self._profile)[rows]

    def _advance(self, shares: np.ndarray, moved: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
        """Step of the environments of a mask: rewards of all, (n,), and parts for the infos."""
        index = np.minimum(self._step, len(self._tokens) - 1)
        tokens = shares * self._tokens[index][:, None]
        latent = self._expected(tokens, index)
        self._change *= self._persistence
        self._change += (1 - self._persistence**2) ** 0.5 * self._changes(self.num_envs)
        latent += self._drift[self._world, index] * self._change
        np.clip(latent, 0.0, 1.0, out=latent)
        profile = self.np_random.standard_normal(latent.shape, dtype=np.float32)
        profile *= self._row["noise"]
        profile += latent
        np.clip(profile, 0.0, 1.0, out=profile)
        if not moved.all():
            still = ~moved
            latent[still], profile[still] = self._latent[still], self._profile[still]
        gain = profile - self._profile
        utility = utilities(self._goal, profile)
        reward = self.config.reward
        useful = (
            np.einsum("nc,nc->n", self._goal.requirement, gain) if reward.form == "linear" else utility - self._utility
        )
        drop = np.maximum(-gain, 0.0)
        spillover = np.einsum("nc,nc->n", self._goal.spillover, drop)
        forgetting = np.einsum("nc,nc->n", self._goal.forgetting, drop)
        cost = self._shares[index] * moved
        values = (
            useful - reward.spillover_beta * spillover - reward.forgetting_beta * forgetting - reward.cost_lambda * cost
        )
        infos: dict[str, Any] = {}
        if self._infos == "all":
            whole = np.rint(self._tokens[index] * 1000).astype(np.int64)
            given = (tokens * 1000).astype(np.int64)
            given[np.arange(self.num_envs), shares.argmax(1)] += whole - given.sum(1)
            given *= moved[:, None]
            losses = (self._row["loss"] + self._row["loss_slope"] * (1 - self._profile)) * (given > 0)
            infos = {
                "gain": useful, "spillover": spillover, "forgetting": forgetting, "cost": cost, "profile_gain": gain,
                "allocation": shares * moved[:, None], "tokens_by_capability": given,
                "completion_tokens": whole * moved,
                "loss_by_capability": losses, "divergence_by_capability": losses.copy(),
            }  # fmt: skip
            infos |= {f"_{key}": moved.copy() for key in list(infos)}
        kept = moved[:, None]
        self._latent, self._profile = latent, profile
        self._last = shares if moved.all() else np.where(kept, shares, self._last)
        self._gain = gain if moved.all() else np.where(kept, gain, self._gain)
        self._utility = utility
        self._step += moved
        return values.astype(np.float64), infos

    def _changes(self, count: int) -> np.ndarray:
        """Random changes of one step, (count, |C|), of variance 1 and with the surrogate's correlations."""
        return self.np_random.standard_normal((count, self.surrogate.size), dtype=np.float32) @ self._correlate

    def _expected(self, tokens: np.ndarray, step: np.ndarray) -> np.ndarray:
        """:func:`read_env.surrogate.world.expected` for every row, with one matrix product for each world."""
        size, row = self.surrogate.size, self._row
        sums = np.empty((self.num_envs, 2 * size), np.float32)
        ready = np.empty_like(tokens)
        for world, members in enumerate(self._members):
            if len(members):
                sums[members] = tokens[members] @ self._sums[world]
                ready[members] = self._latent[members] @ self._helpers[world]
        ready += row["slow"]
        ready *= row["speed"]
        ready *= tokens
        ready /= 1 + tokens / row["half"]
        ready += sums[:, :size]
        ready *= -self._learning[self._world, step]
        gain = np.expm1(ready, out=ready)
        gain *= np.minimum(self._latent - row["ceiling"], 0.0)  # two negative factors
        wear = np.exp(-tokens / row["rehearsal"])
        wear *= sums[:, size:]
        wear *= -self._wearing[self._world, step]
        lost = np.expm1(wear, out=wear)
        lost *= np.maximum(self._latent - row["bottom"], 0.0)
        return self._latent + gain + lost

    def _observations(self) -> Observations:
        found = {
            "requirement": self._goal.requirement.copy(),
            "profile": self._profile.copy(),
            "budget": self._left[self._step][:, None],
            "last_allocation": self._last.copy(),
            "last_gain": self._gain.copy(),
        }
        if self.config.eval.observe_utility:
            found["utility"] = self._utility[:, None].copy()
        return found

    def _all_infos(self) -> dict[str, Any]:
        """Infos of the state, for every environment."""
        names, students = np.array(self._names, dtype=object), np.array(self.setting.students, dtype=object)
        infos: dict[str, Any] = {"task": names[self._task], "student": students[self._student]}
        if self._infos == "all":
            total = int(self.surrogate.tokens.sum())
            left = np.rint(self._left[self._step] * total).astype(np.int64)
            inside = (self._profile >= self.surrogate.seen[0]) & (self._profile <= self.surrogate.seen[1])
            forms = np.array([card.utility_form for card in self.setting.cards], dtype=object)
            infos |= {
                "step": self._step.copy(), "utility": self._utility.copy(), "utility_form": forms[self._task],
                "profile": self._profile.copy(),
                "budget_left": left, "budget_spent": total - left, "confidence": inside.mean(1),
            }  # fmt: skip
        return infos | {f"_{key}": np.ones(self.num_envs, bool) for key in infos}

    def _final(self, infos: Mapping[str, Any], ended: np.ndarray) -> dict[str, Any]:
        """Infos of the steps that ended an episode."""
        found: dict[str, Any] = {}
        for key, value in infos.items():
            if not key.startswith("_") and not key.startswith("final"):
                found[key] = {k: v.copy() for k, v in value.items()} if isinstance(value, dict) else value.copy()
                found[f"_{key}"] = ended.copy()
        return found
