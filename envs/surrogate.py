"""``ReadEnv/Surrogate-v0``: the distillation environment on a fitted surrogate, without models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded

from read_env.envs.episode import Point, stop_info
from read_env.envs.spaces import parse_action, spaces_of
from read_env.envs.surrogate_dynamics import ONE, ZERO, Dynamics, within
from read_env.envs.surrogate_setting import Goal, Setting
from read_env.errors import ReadEnvError, unknown
from read_env.tasks import TaskCard, load_task

Observation = dict[str, np.ndarray]


class SurrogateEnv(gym.Env):
    """Allocation of a token budget to capabilities, on a surrogate fitted to recorded runs.

    ## Description

    A stand-in for `ReadEnv/Distillation-v0` that loads no models: the change of the profile in a step comes from equations
    (`read_env.surrogate.world`) whose parameters were fitted to recorded runs. A step takes microseconds, so a policy can be trained
    for millions of them, and then be judged in the real environment.

    Random changes of the student are correlated over the steps of an episode and over the capabilities, so that whole episodes differ
    as much as real ones do.

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
            Dynamics(self.surrogate.worlds[index], self.surrogate.rates) for index in range(self.surrogate.count)
        ]
        self._steps, self._total = _Step.of(self.surrogate.tokens), int(self.surrogate.tokens.sum())
        spent = np.cumsum([0, *self.surrogate.tokens])
        self._left = list((1 - spent / self._total).astype(np.float32)[:, None])  # budget by step
        self._starts = {name: np.array(start, np.float64) for name, start in self.surrogate.starts.items()}
        self._low, self._high = (np.full(size, limit) for limit in self.surrogate.seen)
        self._ended = False
        self._goal = self.setting.goal(self.card)
        self._goals: dict[str, tuple[TaskCard, Goal]] = {}
        self._noise = np.zeros((len(self._steps), 3, size))  # of the episode: for drift, probes and dev split
        self._trace: list[tuple[int, np.ndarray, np.ndarray, float]] = []
        self._begin(self.card, 0, self._noise)

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
        noise = self.np_random.standard_normal(self._noise.shape)
        drawn = self.np_random.random(3)
        card = card or self.cards[int(drawn[0] * len(self.cards))]
        self.student = student or self.students[int(drawn[1] * len(self.students))]
        self._begin(card, int(world) if "world" in options else int(drawn[2] * self.surrogate.count), noise)
        self._latent = self._starts[self.student]
        self._append(0, self._zeros, self._latent)
        return self._observation(self._zeros32.copy()), self._info()

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Advance the student by one step's tokens with this allocation."""
        _, _, before, utility_before = self._now
        if self._ended:
            raise ResetNeeded(f"the episode ended after step {self._step}, its budget is spent: call reset() first")
        shares, stop = parse_action(action, len(self._zeros), self.may_stop)
        if stop:
            return self._stop()
        number, goal, dynamics = self._step, self._goal, self._dynamics[self.world]
        step = self._steps[number]
        self._latent = within(dynamics.expected(self._latent, shares * step.thousands, number) + self._changes[number])
        profile = within(self._latent + self._errors[number, 0])
        self._append(step.end, shares, profile)
        gain = profile - before
        spillover, forgetting = np.fmax(-gain, ZERO).dot(goal.losses).tolist()
        reward = self.config.reward
        useful = float(goal.requirement.dot(gain)) if reward.form == "linear" else self._now[3] - utility_before
        value = (
            useful
            - reward.spillover_beta * spillover
            - reward.forgetting_beta * forgetting
            - reward.cost_lambda * step.cost
        )
        self._ended = number + 1 == len(self._steps)
        given = np.floor(shares * step.tokens)
        given[shares.argmax()] += step.whole - sum(given.tolist())
        losses = (dynamics.most_loss - dynamics.loss_slope * before) * np.fmin(given, ONE)
        info = self._info()
        info.update(
            gain=useful, spillover=spillover, forgetting=forgetting, cost=step.cost, profile_gain=gain,
            allocation=shares.copy(), tokens_by_capability=given.astype(np.int64), completion_tokens=step.whole, prompt_tokens=0,
            trained_tokens=step.whole * self.config.distill.epochs, updates=0, loss=float(losses.dot(shares)),
            loss_by_capability=losses, divergence_by_capability=losses.copy(),
        )  # fmt: skip
        if self.may_stop:
            info["stopped"] = False
        if self._ended or self._step % self.config.eval.dev_every == 0:
            info.update(self._dev_info())
        return self._observation(gain.astype(np.float32)), value, self._ended, False, info

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
        return render_episode(self.suite.names, self.card, self.requirement, points, self._total)

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
        fits = fits and noise.shape == self._noise.shape and len(trace) <= len(self._steps) + 1
        if not (trace and fits and 0 <= world < self.surrogate.count):
            raise ReadEnvError("the snapshot's arrays or world don't fit this environment's surrogate")
        self._begin(card, world, noise)
        self._trace, self._latent, self._ended, self.student = trace, latent, ended, student
        self._np_random, self._np_random_seed = generator, seed
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

    def _begin(self, card: TaskCard, world: int, noise: np.ndarray) -> None:
        self.card, self.world, self._ended = card, world, False
        dynamics, (over_steps, over_capabilities) = self._dynamics[world], self.surrogate.factors
        self._noise = noise
        self._changes = over_steps.dot(noise[:, 0]).dot(over_capabilities) * dynamics.drift
        self._errors = noise[:, 1:] * dynamics.noise
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
        profile = within(self._latent + self._errors[min(self._step, len(self._steps) - 1), 1])
        return {"dev_profile": profile, "dev_utility": self._goal.utility(profile)}

    def _observation(self, gain: np.ndarray) -> Observation:
        _, shares, profile, utility = self._trace[-1]
        found = {
            "requirement": self._requirement32.copy(),
            "profile": profile.astype(np.float32),
            "budget": self._left[self._step].copy(),
            "last_allocation": shares.astype(np.float32),
            "last_gain": gain,
        }
        if self.config.eval.observe_utility:
            found["utility"] = np.array([utility], np.float32)
        return found

    def _info(self) -> dict[str, Any]:
        spent, _, profile, utility = self._trace[-1]
        outside = sum(((profile < self._low) | (profile > self._high)).tolist())
        return {
            "task": self.card.name, "student": self.student, "step": len(self._trace) - 1, "utility": utility,
            "utility_form": self.card.utility_form, "profile": profile.copy(), "budget_left": self._total - spent, "budget_spent": spent,
            "confidence": (len(profile) - outside) / len(profile),
        }  # fmt: skip


class _Step(NamedTuple):
    """Tokens of one step, as numbers and as 0-d arrays.

    Attributes:
        whole: tokens, a whole number.
        end: tokens of this step and those before it.
        cost: share of the budget.
        tokens: ``whole`` as a float.
        thousands: the same in thousands.
    """

    whole: int
    end: int
    cost: float
    tokens: np.ndarray
    thousands: np.ndarray

    @classmethod
    def of(cls, tokens: np.ndarray) -> list[_Step]:
        """Steps of their tokens, (steps,)."""
        ends = np.cumsum(tokens).tolist()
        return [
            cls(count, end, count / ends[-1], np.array(float(count)), np.array(count / 1000))
            for count, end in zip(tokens.tolist(), ends, strict=True)
        ]
