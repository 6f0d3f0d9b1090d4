"""``ReadEnv/Distillation-v0``: distillation of a student under a token budget, allocated to capabilities per step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from pydantic import Field, TypeAdapter

from read_env.capabilities import get_suite
from read_env.capabilities.splits import fit_splits
from read_env.distillation.starts import parse_past
from read_env.envs.arguments import config_of
from read_env.envs.episode import Point, step_info, stop_info
from read_env.envs.reward import reward_of
from read_env.envs.spaces import parse_action, spaces_of
from read_env.errors import ReadEnvError, unknown
from read_env.tasks import TaskCard, load_task

if TYPE_CHECKING:  # importing it for real loads torch
    from read_env.distillation.process import Distillation
    from read_env.distillation.report import ChunkReport

Observation = dict[str, np.ndarray]


class DistillationEnv(gym.Env):
    r"""Distillation of a student under a token budget, which the agent allocates to capabilities at every step.

    ## Description

    A student model is distilled from a teacher under a budget of B completion tokens. A task needs
    some of the student's capabilities C, each to some degree. At every step the agent allocates the
    next tokens to the capabilities; prompts are drawn, the teacher completes them, the student is
    trained on the completions, and probes measure its capabilities. Training one capability raises
    or lowers the others, so the requirement is rarely the best allocation. The goal is the highest
    utility when the budget is spent.

    The models are real language models. They are loaded at the first `reset`, not by the
    constructor, so that worker processes load their own; use `context="spawn"` for those.

    ## Action Space

    `Box(0, 1, (|C|,), float32)`: the allocation w_t, weights in the suite's order. They are scaled
    to sum to 1, so only their ratios matter. All zeros, which a Gaussian policy clipped to the box
    can give, mean the uniform allocation. Weights above 1 are accepted. Weights that are negative,
    not finite or not |C| in number raise a `ValueError` that shows them, and change nothing.

    | Num | Action | Min | Max |
    |-----|--------|-----|-----|
    | i | weight of capability i | 0 | 1 |
    | \|C\| | only with `may_stop`: stop, from 0.5 on | 0 | 1 |

    With `may_stop=True` the space is `Box(0, 1, (|C| + 1,), float32)`: a last entry of at least 0.5 ends the episode.

    `SoftmaxAllocation` and `CandidateAllocation` (`read_env.envs.wrappers`) take logits and indices
    of a discrete catalogue instead.

    ## Observation Space

    A `Dict` of float32 boxes, in the order in which `FlattenObservation` joins them:

    | Key | Shape | Min | Max | Meaning |
    |-----|-------|-----|-----|---------|
    | `budget` | (1,) | 0 | 1 | remaining share of B |
    | `last_allocation` | (\|C\|,) | 0 | 1 | normalised allocation of the last step; zeros at the start |
    | `last_gain` | (\|C\|,) | -1 | 1 | Δs, change of the profile in the last step; zeros at the start |
    | `profile` | (\|C\|,) | 0 | 1 | s, probe score of each capability |
    | `requirement` | (\|C\|,) | 0 | 1 | r, requirement of the task; sums to 1 |
    | `utility` | (1,) | 0 | 1 | only with `observe_utility`: U_τ |

    ## Rewards

    *reward = gain − β · spillover − φ · forgetting − λ · cost*

    - gain: *U(s') − U(s)*, the change of the task's utility on the probe profile (form `utility`),
      or *Σ r_c · Δs_c* (form `linear`, the paper's). For `weighted_mean` utilities the two are equal.
      A `product` is divided by that of the teacher's scores on the probes, which a reset then measures.
      A `measured` utility is the score on the task's own prompts, measured with the probes; it is no function of
      the profile, and no student is trained on these prompts.
    - spillover: *Σ r_c · max(−Δs_c, 0)* over the essential capabilities, those with the
      `essential_k` largest weights.
    - forgetting: mean of *max(−Δs_c, 0)* over the other capabilities. φ is 0 by default.
    - cost: share of B that the step spent.

    β (`spillover_beta`), φ (`forgetting_beta`), λ (`cost_lambda`), form and `essential_k` are fields of section `reward`.

    ## Starting State

    The starting student S_0 with a new optimizer, the full budget, and prompt streams of this
    episode's seed. Every reset draws that seed from `np_random` and then the task and the starting
    student, if there are several. A starting student with a past (`read_env.distillation.starts`) is
    distilled at its first use, which takes time, and kept on disk. Therefore `reset(seed=s)` starts the same episode again; two environments reset with
    one seed use common random numbers (the same prompts per capability and difficulty tertile in
    the same order, for all agents, tasks and allocations); and `options` don't change later episodes.

    ## Episode End

    `terminated` after `total_tokens / step_tokens` steps (rounded, at least one). The last step ends
    when the next completion of none of its capabilities fits into the remaining budget. With `may_stop`, an action
    ends it earlier: its weights are not used, what is left of B stays unspent, the reward of this transition is 0, `step`
    does not count it, and its info has zeros for what a step does. `truncated`
    is never true, and there is no step limit. A step after the end raises
    `gymnasium.error.ResetNeeded`. An update that diverges raises `read_env.errors.DivergedError` and
    leaves the episode as it was before the step.

    ## Information

    Scores are float64. No value depends on the clock, so that equal runs have equal infos; the
    timings of the last step are in `env.unwrapped.last_report.seconds`.

    | Key | At | Type | Meaning |
    |-----|----|------|---------|
    | `task` | both | str | name of the task card |
    | `student` | both | str | starting student, as in `models.start` |
    | `step` | both | int | number of finished steps |
    | `utility` | both | float | U_τ on the probe profile, or on the task's own probes |
    | `utility_form` | both | str | `utility_form` of the task card |
    | `profile` | both | (\|C\|,) | s |
    | `budget_left`, `budget_spent` | both | int | completion tokens |
    | `gain`, `spillover`, `forgetting`, `cost` | step | float | parts of the reward |
    | `profile_gain` | step | (\|C\|,) | Δs |
    | `allocation` | step | (\|C\|,) | the normalised action |
    | `tokens_by_capability` | step | (\|C\|,) int | completion tokens of each capability |
    | `completion_tokens`, `prompt_tokens` | step | int | of this step |
    | `trained_tokens` | step | int | both together times `distill.epochs`, the tokens that the student was trained on |
    | `updates` | step | int | optimizer steps |
    | `loss` | step | float | mean training loss, nats per token |
    | `loss_by_capability` | step | (\|C\|,) | of each capability before its examples were trained on; 0 without tokens |
    | `divergence_by_capability` | step | (\|C\|,) | KL(teacher ‖ student) of the same tokens; 0 for a teacher of text |
    | `stopped` | step, with `may_stop` | bool | the stop entry ended the episode |
    | `dev_profile`, `dev_utility` | every `dev_every` steps and at the end | (\|C\|,), float | on the dev split |

    ## Arguments

    ```python
    >>> env = gym.make("read_env:ReadEnv/Distillation-v0", task="math", overrides={"budget": {"total_tokens": 60_000}})
    >>> env.action_space
    Box(0.0, 1.0, (10,), float32)

    ```

    The prefix `read_env:` imports the package, which registers the environment; after
    `import read_env` it can be left out.

    - `preset="micro"`: configuration, by name or as a `.toml` file.
    - `task=None`: task card, by name or as a `.toml` file; the preset's task if neither this nor `tasks` is given.
    - `tasks=None`: several tasks, one drawn uniformly at every reset.
    - `students=None`: several starting students, one drawn uniformly at every reset; the preset's `models.start` if not given.
    - `may_stop=None`: the action has a stop entry; sets `budget.may_stop`, which is off by default.
    - `observe_utility=None`: the observation has the key `utility`; sets `eval.observe_utility`, which is off by default.
    - `overrides=None`: nested values that replace the preset's.
    - `render_mode=None`: `"rgb_array"` draws the episode so far.

    All are JSON-able. `reset(options={"task": ..., "student": ...})` sets task and starting student of one episode.

    `env.unwrapped.snapshot()` returns the whole state, and `restore()` restores it to the bit.

    ## References

    The problem and the reward follow "ReAD: reinforcement-guided capability distillation",
    arXiv:2605.11290.

    ## Version History

    * v0: Initial version
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 2}

    def __init__(
        self,
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
        self.config = fit_splits(config_of(preset, task, tasks, students, overrides, may_stop, observe_utility))
        self.suite = get_suite(self.config.suite)
        self.cards = tuple(load_task(name, self.suite) for name in (tasks or [self.config.task]))
        for card in self.cards:
            card.requirement_vector(self.suite)
        self.card: TaskCard = self.cards[0]
        self.students = tuple(students or [self.config.models.start])
        for name in self.students:
            parse_past(name, self.suite.names)
        self.student = self.students[0]
        self.render_mode = render_mode

        size, observed = len(self.suite), self.config.eval.observe_utility
        self.action_space, self.observation_space = spaces_of(size, self.may_stop, observed)
        self._trace: list[Point] = []
        self._ended = False
        self.distillation: Distillation | None = None
        #: Report of the last step, with timings; None before the first step.
        self.last_report: ChunkReport | None = None
        self._begin(self.cards[0])

    # -- state that wrappers and agents read -----------------------------------------------------

    @property
    def may_stop(self) -> bool:
        """True if actions have a stop entry."""
        return self.config.budget.may_stop

    @property
    def requirement(self) -> np.ndarray:
        """Requirement r_τ of the current task (before the first reset: of the first task), (|C|,) float64."""
        return self.card.requirement_vector(self.suite)

    @property
    def profile(self) -> np.ndarray:
        """Current capability profile s of the student, (|C|,) float64."""
        return np.array(self._now.profile)

    @property
    def last_allocation(self) -> np.ndarray:
        """Normalised allocation of the last step, zeros at the start, (|C|,) float64."""
        return np.array(self._now.allocation)

    @property
    def last_gain(self) -> np.ndarray:
        """Δs of the last step, zeros at the start, (|C|,) float64."""
        return self.profile - np.array(self._trace[-2].profile) if self._step else np.zeros(len(self.suite))

    @property
    def devices(self) -> dict[str, str]:
        """Devices of the models, such as ``{"student": "cuda:0", "teacher": "cuda:0"}``; empty before the first reset.

        A remote or vLLM teacher is left out. Vector environments return it by ``envs.call("devices")``.
        """
        if self.distillation is None:
            return {}
        teachers = self.distillation.cache.teachers
        own = {f"teacher of {name}": one for name, one in teachers.by_capability.items()}
        models = {"student": self.distillation.student, "teacher": teachers.default, **own}
        return {name: str(next(one.model.parameters()).device) for name, one in models.items() if hasattr(one, "model")}

    # -- Gymnasium's interface ------------------------------------------------------------------

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode; ``options={"task": name, "student": name}`` sets them for this episode only."""
        asked, student = self._task_of(options), str((options or {}).get("student", ""))
        if student:
            parse_past(student, self.suite.names)
        super().reset(seed=seed)
        # Always two draws in this order, used or not: see "Starting State".
        episode_seed = int(self.np_random.integers(2**31))
        drawn = self.cards[int(self.np_random.random() * len(self.cards))]
        other = self.students[int(self.np_random.random() * len(self.students))] if len(self.students) > 1 else ""
        self.student = student or other or self.students[0]
        card = asked or drawn
        profile = self._process().reset(episode_seed, self.student, card)
        self._begin(card)
        self._append(np.zeros(len(self.suite)), profile)
        return self._observation(), self._info()

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Distil the student on one step's tokens with this allocation."""
        before = self._now
        if self._ended:
            raise ResetNeeded(f"the episode ended after step {self._step}, its budget is spent: call reset() first")
        weights, stop = parse_action(action, len(self.suite), self.may_stop)
        if stop:
            return self._stop()
        process = self._process()
        report = process.step(weights)

        cost = (process.budget.spent - before.spent) / process.budget.total
        self.last_report = report
        self._append(report.allocation, report.profile)
        utilities, profiles = (before.utility, self._now.utility), (np.array(before.profile), report.profile)
        reward = reward_of(self.config.reward, self.requirement, profiles, utilities, cost)
        self._ended = bool(process.exhausted)
        stopped = {"stopped": False} if self.may_stop else {}
        info = {**self._info(), **stopped, **step_info(report, reward, self.last_gain)}
        if self._ended or self._step % self.config.eval.dev_every == 0:
            info |= self._dev_info()
        return self._observation(), reward.value, self._ended, False, info

    def render(self) -> np.ndarray | None:
        """Picture of the episode so far, RGB (height, width, 3) uint8."""
        if self.render_mode is None:
            gym.logger.warn(
                'render() needs a render mode, e.g. gym.make("ReadEnv/Distillation-v0", render_mode="rgb_array")'
            )
            return None
        from read_env.envs.rendering import render_episode  # imports matplotlib

        self._now  # noqa: B018  (an error before the first reset)
        total = self._process().budget.total
        return render_episode(self.suite.names, self.card, self.requirement, self._trace, total)

    def close(self) -> None:
        """Release the models; a later reset loads them again."""
        if self.distillation is not None:
            self.distillation.close()
        self.distillation = None
        self._begin(self.cards[0])

    # -- the whole state -------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """State of a running episode: student, optimizer, token counts, generators, task and history.

        It holds tensors, numbers, text and lists only, so that ``torch.save`` writes it and
        ``torch.load(weights_only=True)`` reads it.
        """
        self._now  # noqa: B018  (an error before the first reset)
        return {
            "suite": list(self.suite.names),
            "card": self.card.model_dump(mode="json"),
            "trace": [asdict(point) for point in self._trace],
            "ended": self._ended,
            "student": self.student,
            "np_random": self.np_random.bit_generator.state,
            "np_random_seed": self._np_random_seed,
            "distillation": self._process().snapshot(),
        }

    def restore(self, state: Mapping[str, Any]) -> tuple[Observation, dict[str, Any]]:
        """Restore a snapshot, exact to the bit; loads the models if necessary.

        The wrappers of ``gym.make`` need one ``reset()`` before the first ``restore()``, or they refuse the next step.

        Args:
            state: :meth:`snapshot` of an environment with the same configuration.

        Returns:
            Observation and info, as from ``reset()``: info without the keys of a step.

        Raises:
            ReadEnvError: the state lacks a part, or belongs to another suite, budget or student; the environment stays
                as it was.
        """
        try:
            suite, card = list(state["suite"]), TaskCard.model_validate(state["card"])
            ended, seed, distillation = bool(state["ended"]), state["np_random_seed"], state["distillation"]
            student = str(state["student"])
            trace = TypeAdapter(Annotated[list[Point], Field(min_length=1)]).validate_python(state["trace"])
            generator = np.random.Generator(np.random.PCG64())
            generator.bit_generator.state = state["np_random"]
        except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
            reason = repr(error).replace("\n", " ")
            raise ReadEnvError(f"this is no snapshot of a DistillationEnv: {reason}") from None
        if suite != list(self.suite.names):
            raise ReadEnvError(f"the snapshot's capabilities are {suite}, the environment's {list(self.suite.names)}")
        card.requirement_vector(self.suite)
        if any(len(vector) != len(suite) for point in trace for vector in (point.allocation, point.profile)):
            raise ReadEnvError(f"the snapshot's trace has vectors of another length than its {len(suite)} capabilities")
        process = self.distillation or self.load_distillation()
        before = process.snapshot()
        try:
            card = self._moved(card)
            process.take_task(card)
            process.restore(distillation)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, RuntimeError) as error:
            process.take_task(self.card)
            process.restore(before)
            if isinstance(error, ReadEnvError):
                raise
            reason = str(error).strip().partition("\n")[0]
            raise ReadEnvError(f"this snapshot fits no student of this environment: {reason}") from None
        self.distillation = process
        self.card, self._trace, self._ended, self.last_report = card, trace, ended, None
        self.student = student
        self._np_random, self._np_random_seed = generator, seed
        return self._observation(), self._info()

    # -- inside ------------------------------------------------------------------------------------

    def load_distillation(self) -> Distillation:
        """Load the models and return the distillation process. Override it to run on something else."""
        from read_env.distillation.process import Distillation

        distillation = Distillation.load(self.config)
        self.config = distillation.config  # without ``auto``
        return distillation

    def _moved(self, card: TaskCard) -> TaskCard:
        """Card of a snapshot, or the environment's own if it is the same but for the place of the prompts."""
        content = card.model_dump(exclude={"prompts"})
        return next((own for own in self.cards if own.model_dump(exclude={"prompts"}) == content), card)

    def _process(self) -> Distillation:
        if self.distillation is None:
            self.distillation = self.load_distillation()
        return self.distillation

    @property
    def _now(self) -> Point:
        if not self._trace:
            raise ResetNeeded("the environment has no state yet: call reset() first")
        return self._trace[-1]

    @property
    def _teacher(self) -> np.ndarray | None:
        """Scores of the teacher on the probes, where the utility is relative to them and they are measured."""
        scores = self._process().measurement.teacher_scores if self.card.utility_form == "product" else None
        return None if scores is None else scores.profile

    @property
    def _step(self) -> int:
        return len(self._trace) - 1

    def _begin(self, card: TaskCard) -> None:
        self.card = card
        self._trace = []
        self._ended = False
        self.last_report = None

    def _append(self, allocation: np.ndarray, profile: np.ndarray) -> None:
        spent = int(self._process().budget.spent)
        utility = self.card.utility(profile, self.suite, self._teacher, self._process().task_score)
        self._trace.append(Point(spent, tuple(allocation.tolist()), tuple(profile.tolist()), utility))

    def _task_of(self, options: Mapping[str, Any] | None) -> TaskCard | None:
        for key in options or {}:
            if key not in ("task", "student"):
                raise unknown("reset option", str(key), ["student", "task"])
        return load_task(options["task"], self.suite) if options and "task" in options else None

    def _stop(self) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """End the episode without a step."""
        self._ended, self.last_report = True, None
        info = {**self._info(), **stop_info(len(self.suite)), **self._dev_info()}
        return self._observation(), 0.0, True, False, info

    def _dev_info(self) -> dict[str, Any]:
        process = self._process()
        profile = np.array(process.dev_profile(), dtype=np.float64)
        score = process.task_dev() if self.card.measured else None
        return {"dev_profile": profile, "dev_utility": self.card.utility(profile, self.suite, self._teacher, score)}

    def _observation(self) -> Observation:
        budget = self._process().budget
        values = {
            "requirement": self.requirement,
            "profile": self.profile,
            "budget": np.array([budget.left / budget.total]),
            "last_allocation": self.last_allocation,
            "last_gain": self.last_gain,
        }
        if self.config.eval.observe_utility:
            values["utility"] = np.array([self._now.utility])
        return {key: value.astype(np.float32) for key, value in values.items()}

    def _info(self) -> dict[str, Any]:
        budget = self._process().budget
        return {
            "task": self.card.name,
            "student": self.student,
            "step": self._step,
            "utility": self._now.utility,
            "utility_form": self.card.utility_form,
            "profile": self.profile,
            "budget_left": int(budget.left),
            "budget_spent": int(budget.spent),
        }
