"""``ReadEnv/Surrogate-v0``: the distillation environment on a fitted surrogate, without models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded

from read_env.envs.episode import Point, stop_info
from read_env.envs.spaces import parse_action, spaces_of
from read_env.envs.surrogate_setting import Goal, Setting
from read_env.errors import ReadEnvError, unknown
from read_env.surrogate.world import World
from read_env.tasks import TaskCard, load_task

Observation = dict[str, np.ndarray]


class SurrogateEnv(gym.Env):
    """Allocation of a token budget to capabilities, on a surrogate fitted to recorded runs.

    ## Description

    A stand-in for `ReadEnv/Distillation-v0` that loads no models: the change of the profile in a step comes from equations
    (`read_env.surrogate.world`) whose parameters were fitted to recorded runs. A step takes microseconds, so a policy can be trained
    for millions of them, and then be judged in the real environment.

    ## Action Space

    `Box(0, 1, (|C|,), float32)`, weights of the capabilities; with `may_stop`, `Box(0, 1, (|C| + 1,), float32)`: as in
    `ReadEnv/Distillation-v0`.

    ## Observation Space

    The `Dict` of `ReadEnv/Distillation-v0`: `requirement`, `profile`, `last_allocation`, `last_gain` (|C|,), `budget` (1,), and with
    `observe_utility` also `utility` (1,).

    ## Rewards

    *gain − β · spillover − φ · forgetting − λ · cost*, from the same settings as in `ReadEnv/Distillation-v0`. The utility is a
    function of the profile; a `measured` one is approximated by the geometric mean of the needs.

    ## Starting State

    Every reset draws a task, a starting student and one of the surrogate's worlds from `np_random`. The profile at the start is
    the recorded one of the student.

    ## Episode End

    `terminated` after the last step of the budget, or at a stop. `truncated` is never true.

    ## Information

    The keys of `ReadEnv/Distillation-v0`: `task`, `student`, `step`, `utility`, `utility_form`, `profile`, `budget_left` and
    `budget_spent`; of a step also `gain`, `spillover`, `forgetting`, `cost`, `profile_gain`, `allocation`, `tokens_by_capability`, `completion_tokens`,
    `trained_tokens`, `loss`, `loss_by_capability`, `divergence_by_capability` (equal to the loss), and with `may_stop`
    `stopped`; `dev_profile` and `dev_utility` every `dev_every` steps and at the end. `prompt_tokens` and `updates` are 0.

    One key more: `confidence`, the share of the capabilities whose score lies within the range of the recorded ones. Below
    1 the episode has left what the surrogate was fitted to.

    ## Arguments

    - `surrogate="micro"`: name of a surrogate that ships, or a file of `read-env surrogate fit`.
    - `preset="micro"`: configuration of suite, reward and dev measurements; its budget and models are not used.
    - `task=None`, `tasks=None`, `overrides=None`, `may_stop=None`, `observe_utility=None`, `render_mode=None`: as in
      `ReadEnv/Distillation-v0`.
    - `students=None`: starting students of the surrogate, one drawn at every reset; all if not given.

    `reset(options={"task": ..., "student": ..., "world": ...})` sets them for one episode; `world` is the number of a world.
    `env.unwrapped.snapshot()` returns the whole state, and `restore()` restores it.

    ## References

    The problem and the reward follow "ReAD: reinforcement-guided capability distillation", arXiv:2605.11290.

    ## Version History

    * v0: Initial version
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 2}

    def __init__(
        self,
        surrogate: str = "micro",
        preset: str = "micro",
        task: str | None = None,
        tasks: Sequence[str] | None = None,
        students: Sequence[str] | None = None,
        overrides: Mapping[str, Any] | None = None,
        render_mode: str | None = None,
        may_stop: bool | None = None,
        observe_utility: bool | None = None,
    ) -> None:
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise unknown("render mode", str(render_mode), self.metadata["render_modes"])
        self.setting = Setting.of(surrogate, preset, task, tasks, students, overrides, may_stop, observe_utility)
        self.render_mode = render_mode
        self.config, self.suite, self.surrogate = self.setting.config, self.setting.suite, self.setting.surrogate
        self.cards, self.students = self.setting.cards, self.setting.students
        self.card: TaskCard = self.cards[0]
        self.student = self.students[0]
        self.may_stop = self.config.budget.may_stop
        size = self.surrogate.size
        self.action_space, self.observation_space = spaces_of(size, self.may_stop, self.config.eval.observe_utility)
        self._zeros, self._zeros32 = np.zeros(size), np.zeros(size, np.float32)
        self._dynamics = [
            _Dynamics(self.surrogate.worlds[index], self.surrogate.rates) for index in range(self.surrogate.count)
        ]
        self._tokens = self.surrogate.tokens.tolist()
        self._ends = np.cumsum(self.surrogate.tokens).tolist()
        self._low, self._high = self.surrogate.seen
        self._ended = False
        self._goal = self.setting.goal(self.card)
        self._goals: dict[str, tuple[TaskCard, Goal]] = {}
        self._noise = np.zeros((len(self._tokens), 3, size))  # of the episode: for drift, probes and dev split
        self._trace: list[tuple[int, np.ndarray, np.ndarray, float]] = []
        self._begin(self.card, 0)

    # -- state that wrappers and agents read -----------------------------------------------------

    @property
    def requirement(self) -> np.ndarray:
        """Requirement r_τ of the current task, (|C|,) float64."""
        return self.card.requirement_vector(self.suite)

    @property
    def profile(self) -> np.ndarray:
        """Measured capability profile s, (|C|,) float64."""
        return self._now[2].copy()

    @property
    def last_allocation(self) -> np.ndarray:
        """Normalised allocation of the last step, zeros at the start, (|C|,) float64."""
        return self._now[1].copy()

    @property
    def last_gain(self) -> np.ndarray:
        """Δs of the last step, zeros at the start, (|C|,) float64."""
        return self._now[2] - self._trace[-2][2] if len(self._trace) > 1 else self._zeros.copy()

    # -- Gymnasium's interface ------------------------------------------------------------------

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode; ``options={"task": name, "student": name, "world": number}`` sets them for this one."""
        options = options or {}
        for key in options:
            if key not in ("task", "student", "world"):
                raise unknown("reset option", str(key), ["student", "task", "world"])
        card = load_task(options["task"], self.suite) if "task" in options else None
        student = self.setting.student(str(options["student"])) if "student" in options else ""
        world = options.get("world", -1)
        if "world" in options and not (isinstance(world, int | np.integer) and 0 <= world < self.surrogate.count):
            raise ReadEnvError(f"reset option world must be 0 to {self.surrogate.count - 1}, got {world!r}")
        super().reset(seed=seed)
        # Always the same draws in this order, used or not: options and steps don't change later episodes.
        self._noise = self.np_random.standard_normal(self._noise.shape)
        drawn = self.np_random.random(3)
        card = card or self.cards[int(drawn[0] * len(self.cards))]
        self.student = student or self.students[int(drawn[1] * len(self.students))]
        self._begin(card, int(world) if "world" in options else int(drawn[2] * self.surrogate.count))
        self._latent = np.array(self.surrogate.starts[self.student], dtype=np.float64)
        self._append(0, self._zeros, self._latent.copy())
        return self._observation(self._zeros32.copy()), self._info()

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Advance the student by one step's tokens with this allocation."""
        _, _, before, utility_before = self._now
        if self._ended:
            raise ResetNeeded(f"the episode ended after step {self._step}, its budget is spent: call reset() first")
        shares, stop = parse_action(action, len(self._zeros), self.may_stop)
        if stop:
            return self._stop()
        index, goal, dynamics = self._step, self._goal, self._dynamics[self.world]
        tokens = self._tokens[index]
        latent = dynamics.expected(self._latent, shares * (tokens / 1000), index)
        self._latent = latent = within(latent + dynamics.drift[index] * self._noise[index, 0])
        profile = within(latent + dynamics.noise * self._noise[index, 1])
        self._append(self._ends[index], shares, profile)
        gain = profile - before
        spillover, forgetting = np.fmax(-gain, 0.0) @ goal.losses
        reward = self.config.reward
        useful = float(goal.requirement @ gain) if reward.form == "linear" else self._now[3] - utility_before
        cost = tokens / self._ends[-1]
        value = (
            useful - reward.spillover_beta * spillover - reward.forgetting_beta * forgetting - reward.cost_lambda * cost
        )
        self._ended = index + 1 == len(self._tokens)
        # In whole tokens. Lists: for a few numbers, they are faster than arrays.
        counts = [int(part) for part in (shares * tokens).tolist()]
        counts[shares.argmax()] += tokens - sum(counts)
        given = np.array(counts)
        losses = (dynamics.most_loss - dynamics.loss_slope * before) * (given > 0)
        info = self._info()
        info.update(
            gain=useful, spillover=float(spillover), forgetting=float(forgetting), cost=cost, profile_gain=gain,
            allocation=shares, tokens_by_capability=given, completion_tokens=tokens, prompt_tokens=0,
            trained_tokens=tokens * self.config.distill.epochs,
            updates=0, loss=float(losses @ shares), loss_by_capability=losses, divergence_by_capability=losses.copy(),
        )  # fmt: skip
        if self.may_stop:
            info["stopped"] = False
        if self._ended or self._step % self.config.eval.dev_every == 0:
            info.update(self._dev_info())
        return self._observation(gain.astype(np.float32)), float(value), self._ended, False, info

    def render(self) -> np.ndarray | None:
        """Picture of the episode so far, (H, W, 3) uint8; None without ``render_mode``."""
        if self.render_mode is None:
            gym.logger.warn(
                'render() was called without a render mode; make the environment with render_mode="rgb_array"'
            )
            return None
        from read_env.envs.rendering import render_episode  # imports matplotlib

        self._now  # noqa: B018  (an error before the first reset)
        points = [Point(spent, tuple(w.tolist()), tuple(s.tolist()), u) for spent, w, s, u in self._trace]
        return render_episode(self.suite.names, self.card, self.requirement, points, self._ends[-1])

    # -- the whole state -------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """State of a running episode, as numbers, text and lists."""
        self._now  # noqa: B018  (an error before the first reset)
        return {
            "suite": list(self.suite.names),
            "card": self.card.model_dump(mode="json"),
            "trace": [[spent, w.tolist(), s.tolist(), u] for spent, w, s, u in self._trace],
            "latent": self._latent.tolist(),
            "world": self.world,
            "ended": self._ended,
            "student": self.student,
            "noise": self._noise.tolist(),
            "np_random": self.np_random.bit_generator.state,
            "np_random_seed": self._np_random_seed,
        }

    def restore(self, state: Mapping[str, Any]) -> tuple[Observation, dict[str, Any]]:
        """Restore a snapshot of an environment with the same surrogate; returns what ``reset()`` does.

        Raises:
            ReadEnvError: no snapshot of this environment; it stays as it was.
        """
        try:
            suite, card, world = list(state["suite"]), TaskCard.model_validate(state["card"]), int(state["world"])
            trace = [
                (int(spent), np.array(w, float), np.array(s, float), float(u)) for spent, w, s, u in state["trace"]
            ]
            latent, ended, student = np.array(state["latent"], float), bool(state["ended"]), str(state["student"])
            seed = state["np_random_seed"]
            generator, noise = np.random.Generator(np.random.PCG64()), np.array(state["noise"], float)
            generator.bit_generator.state = state["np_random"]
        except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
            reason = repr(error).replace("\n", " ")
            raise ReadEnvError(f"this is no snapshot of a SurrogateEnv: {reason}") from None
        if suite != list(self.suite.names):
            raise ReadEnvError(f"the snapshot's capabilities are {suite}, the environment's {list(self.suite.names)}")
        fits = all(len(vector) == len(suite) for _, w, s, _ in trace for vector in (w, s)) and len(latent) == len(suite)
        fits = fits and noise.shape == self._noise.shape and len(trace) <= len(self._tokens) + 1
        if not (trace and fits and 0 <= world < self.surrogate.count):
            raise ReadEnvError("the snapshot's arrays or world don't fit this environment's surrogate")
        self._begin(card, world)
        self._trace, self._latent, self._ended, self.student = trace, latent, ended, student
        self._np_random, self._np_random_seed, self._noise = generator, seed, noise
        return self._observation(self.last_gain.astype(np.float32)), self._info()

    # -- inside ------------------------------------------------------------------------------------

    @property
    def _now(self) -> tuple[int, np.ndarray, np.ndarray, float]:
        if not self._trace:
            raise ResetNeeded("the environment has no state yet: call reset() first")
        return self._trace[-1]

    @property
    def _step(self) -> int:
        return len(self._trace) - 1

    def _begin(self, card: TaskCard, world: int) -> None:
        self.card, self.world, self._ended = card, world, False
        self._trace = []
        self._latent = self._zeros
        if card.name not in self._goals or self._goals[card.name][0] is not card:
            self._goals[card.name] = card, self.setting.goal(card)
        self._goal = self._goals[card.name][1]
        self._requirement32 = self._goal.requirement.astype(np.float32)

    def _append(self, spent: int, shares: np.ndarray, profile: np.ndarray) -> None:
        self._trace.append((spent, shares, profile, self._goal.utility(profile)))

    def _stop(self) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        self._ended = True
        info = {**self._info(), **stop_info(len(self._zeros)), **self._dev_info()}
        return self._observation(self.last_gain.astype(np.float32)), 0.0, True, False, info

    def _dev_info(self) -> dict[str, Any]:
        noise = self._noise[min(self._step, len(self._noise) - 1), 2]
        profile = within(self._latent + self._dynamics[self.world].noise * noise)
        return {"dev_profile": profile, "dev_utility": self._goal.utility(profile)}

    def _observation(self, gain: np.ndarray) -> Observation:
        spent, shares, profile, utility = self._trace[-1]
        found = {
            "requirement": self._requirement32.copy(),
            "profile": profile.astype(np.float32),
            "budget": np.array([1 - spent / self._ends[-1]], np.float32),
            "last_allocation": shares.astype(np.float32),
            "last_gain": gain,
        }
        if self.config.eval.observe_utility:
            found["utility"] = np.array([utility], np.float32)
        return found

    def _info(self) -> dict[str, Any]:
        spent, _, profile, utility = self._trace[-1]
        inside = np.count_nonzero((profile >= self._low) & (profile <= self._high))
        return {
            "task": self.card.name, "student": self.student, "step": len(self._trace) - 1, "utility": utility,
            "utility_form": self.card.utility_form, "profile": profile.copy(), "budget_left": self._ends[-1] - spent, "budget_spent": spent,
            "confidence": inside / len(profile),
        }  # fmt: skip


class _Dynamics:
    """Dynamics of one world for single vectors: :func:`read_env.surrogate.world.expected` with fewer operations.

    Args:
        world: the world.
        rates: (steps,) learning-rate factors.
    """

    def __init__(self, world: World, rates: np.ndarray) -> None:
        values = {name: np.asarray(value, np.float64) for name, value in world.to_dict().items()}
        self._matrices = np.hstack([values["transfer"], values["interference"]])
        self._helpers = values["speed"][:, None] * (values["helpers"] * values["dependence"]).T
        self._slow = values["speed"] * (1 - values["dependence"])
        self._per_half, self._decay = 1 / values["half"], -1 / values["rehearsal"]
        # Rows: what is learnt, what is lost.
        self._bounds = np.stack([values["ceiling"], -values["bottom"]])
        rates = rates[:, None]
        self._rates = -np.stack([rates ** values["learning"], rates ** values["wearing"]], axis=1)
        self.drift = rates * values["drift"]  # by step
        self.noise, self.loss_slope = values["noise"], values["loss_slope"]
        self.most_loss = values["loss"] + values["loss_slope"]  # of a score of 0

    def expected(self, profile: np.ndarray, tokens: np.ndarray, step: int) -> np.ndarray:
        """Profile after a step of this number, (|C|,)."""
        forces = (tokens @ self._matrices).reshape(2, -1)
        forces[0] += (self._slow + self._helpers @ profile) * tokens / (1 + tokens * self._per_half)
        forces[1] *= np.exp(tokens * self._decay)
        rooms = np.fmax(self._bounds + _SIGNS * profile, 0.0)
        gain, lost = rooms * np.expm1(self._rates[step] * forces)  # both negative
        return profile - gain + lost


#: Signs of a score in the room above and below it.
_SIGNS = np.array([[-1.0], [1.0]])


def within(scores: np.ndarray) -> np.ndarray:
    """Scores cut to [0, 1], in place."""
    np.fmax(scores, 0.0, scores)
    return np.fmin(scores, 1.0, scores)
