"""Training an allocation policy over many episodes and tasks.

Agents that learn by ``observe`` are driven step by step here and resumed to the same bits. Agents
with a ``learn`` of their own (SB3's algorithms, a search) keep their loop; they are saved whenever an
episode ends, and go on from there with new episodes after an interruption.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsFloat

import gymnasium as gym
import numpy as np

from read_env import files
from read_env.digests import content_digest
from read_env.errors import ReadEnvError
from read_env.running.agents import TRAINING_RECORD, AgentDriver, AgentSpec, build_agent
from read_env.running.directory import RecordDirectory
from read_env.running.display import Eta, duration
from read_env.running.identity import RunIdentity, card_fingerprint, settings_of
from read_env.running.records import plain
from read_env.running.runner import CHECKPOINT_SHARE, make_env
from read_env.running.tensorboard import open_writer, profile_scalars, reward_scalars
from read_env.running.tensors import from_tensors, to_tensors

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console
    from torch.utils.tensorboard import SummaryWriter

    from read_env.agents import Agent, Transition
    from read_env.config import Config
    from read_env.envs.distillation import DistillationEnv

#: Training draws its episodes from other seeds than the runs that will judge the agent.
SEED_OFFSET = 1_000_000

#: Episodes in the means of ``rollout/*``, as in SB3.
_WINDOW = 100


@dataclass(frozen=True)
class TrainingRequest:
    """What to train, on what.

    Attributes:
        config: of the environment; its ``seed`` is that of the training.
        agent: a fresh agent, or a saved one to train further.
        tasks: one is drawn for each episode.
        steps: environment steps.
        directory: gets ``agent.zip`` and the records.
        overwrite: delete an earlier training first.
    """

    config: Config
    agent: AgentSpec
    tasks: tuple[str, ...]
    steps: int
    directory: Path
    overwrite: bool = False

    @property
    def identity(self) -> RunIdentity:
        """What a resumed training must agree with."""
        cards = {f"task {name}": card_fingerprint(name, self.config.suite) for name in self.tasks}
        shared = RunIdentity.of_many("training", self.config)
        settings = {**shared.settings, **settings_of(self.config, without={"task"}), "steps": self.steps}
        contents = {**shared.contents, **cards}
        if self.agent.path is not None:
            contents["agent"] = content_digest(self.agent.path)
        return RunIdentity("training", settings, contents)


@dataclass(frozen=True)
class TrainingResult:
    """A finished training.

    Attributes:
        agent: the saved agent.
        episodes: finished episodes.
        tokens_before_run: completion tokens that a run with this agent has to report.
        already_finished: nothing was run, the agent was there.
    """

    agent: Path
    episodes: int
    tokens_before_run: int
    already_finished: bool = False


def train(
    request: TrainingRequest, console: Console, *, env: DistillationEnv | None = None,
    checkpoint_share: float = CHECKPOINT_SHARE,
) -> TrainingResult:  # fmt: skip
    """Trains the agent, or goes on where an earlier call was interrupted.

    Args:
        request: what to train.
        console: where progress is shown.
        env: an environment to use; made from the request otherwise.
        checkpoint_share: share of the time that checkpoints may take.

    Raises:
        ReadEnvError: the directory can't be used, a checkpoint is damaged, or a step fails.
    """
    if request.steps <= 0:
        raise ReadEnvError(f"steps must be above 0, got {request.steps}")
    if not request.tasks:
        raise ReadEnvError("tasks: name at least one")
    directory = RecordDirectory(request.directory)
    settings = {**request.config.model_dump(mode="json"), "tasks": list(request.tasks), "steps": request.steps}
    with directory.claim(request.identity, settings, overwrite=request.overwrite):
        record = directory.path / TRAINING_RECORD
        saved_agent = directory.path / "agent.zip"
        if record.exists():
            done = files.read_json(record)
            return TrainingResult(saved_agent, done["episodes"], done["tokens_before_run"], already_finished=True)
        training = _Training(request, directory, env or make_env(request.config, tasks=request.tasks), console)
        try:
            training.run(checkpoint_share)
        finally:
            training.close()
        training.agent.save(saved_agent)
        done = {
            "label": f"{request.agent.label}-trained",
            "agent": request.agent.name,
            "options": dict(request.agent.options),
            "tasks": list(request.tasks),
            "steps": training.meter.total_steps,
            "episodes": training.meter.episodes,
            "tokens_before_run": request.agent.tokens_before_run + training.meter.total_tokens,
        }
        files.write_json(record, done)
        files.remove(directory.checkpoint.parent)
    return TrainingResult(saved_agent, done["episodes"], done["tokens_before_run"])


class Meter(gym.Wrapper):
    """Counts steps, tokens and returns on the environment's side, whoever drives it.

    Args:
        env: the environment.
        on_episode: called with the record of every finished episode.
    """

    def __init__(self, env: DistillationEnv, on_episode: Callable[[dict[str, Any]], None]) -> None:
        super().__init__(env)
        self._on_episode = on_episode
        self.total_steps = 0
        self.total_tokens = 0
        self.episodes = 0
        self.scalars: dict[str, float] = {}
        self._current: dict[str, Any] = {}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begins an episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._current = {
            "task": info["task"], "return": 0.0, "steps": 0, "completion_tokens": 0, "utility_start": info["utility"],
        }  # fmt: skip
        return observation, info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """A step, booked."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.total_steps += 1
        self.total_tokens += info["completion_tokens"]
        self._current["return"] += float(reward)
        self._current["steps"] += 1
        self._current["completion_tokens"] += info["completion_tokens"]
        names = self.env.get_wrapper_attr("suite").names
        self.scalars = {
            **profile_scalars(names, info["profile"], info["utility"]),
            **reward_scalars(names, info, float(reward)),
        }
        if terminated or truncated:
            self.episodes += 1
            self._on_episode({"episode": self.episodes, **self._current, "utility": info["utility"]})
        return observation, reward, terminated, truncated, info

    def snapshot(self) -> dict[str, Any]:
        """The counts, as plain values."""
        names = ("total_steps", "total_tokens", "episodes")
        return {**{name: getattr(self, name) for name in names}, "current": dict(self._current)}

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Goes back to a snapshot."""
        self.total_steps, self.total_tokens, self.episodes = (
            int(saved[name]) for name in ("total_steps", "total_tokens", "episodes")
        )
        self._current = dict(saved["current"])


class _Training:
    """The state of one training between its steps."""

    def __init__(
        self, request: TrainingRequest, directory: RecordDirectory, env: DistillationEnv, console: Console
    ) -> None:
        self.request = request
        self.directory = directory
        self.console = console
        self.env = env
        self.meter = Meter(env, self._episode)
        self.agent: Agent = build_agent(request.agent, env.suite, request.config.seed)
        self.agent.check_saving()
        self._episodes = directory.path / "episodes.jsonl"
        self._recent: deque[dict[str, Any]] = deque(maxlen=_WINDOW)
        self._writer: SummaryWriter | None = None
        self._eta = Eta(request.steps)

    def run(self, checkpoint_share: float) -> None:
        """All steps that are still to make."""
        begun = self._episodes.exists() and self._episodes.stat().st_size > 0
        saved = self.directory.load_checkpoint(expected=begun)
        if saved is not None:
            with self.directory.fitting_checkpoint():
                self.meter.restore(saved["meter"])
            how = "" if _learns_by_observing(self.agent) else ", where an episode had ended, with new episodes"
            self.console.print(f"training goes on after step {self.meter.total_steps}{how}", highlight=False)
        self._recent.extend(files.keep_lines(self._episodes, self.meter.episodes))
        self._episodes.touch()
        self._writer = open_writer(self.directory.tensorboard, self.meter.total_steps + 1 if saved else 0)
        self._eta = Eta(self.request.steps, self.meter.total_steps)
        if _learns_by_observing(self.agent):
            self._drive(saved, checkpoint_share)
        else:
            self._let_learn(saved)

    def close(self) -> None:
        """Closes the curves."""
        if self._writer is not None:
            self._writer.close()

    def _drive(self, saved: Mapping[str, Any] | None, checkpoint_share: float) -> None:
        driver = AgentDriver(self.agent, self.request.agent.label)
        observation, first = None, True
        if saved is None:  # so that a kill at any time finds something to go on from
            self._save()
        elif self.meter.total_steps:
            # A reset loads the models; what it drew is overwritten.
            self.env.reset(seed=self._seed)
            with self.directory.fitting_checkpoint():
                self.env.restore(saved["env"])
                driver.restore(saved["agent"])
                observation, first = from_tensors(saved["observation"]), bool(saved["first"])
        saved_at, cost = time.monotonic(), 0.0
        while self.meter.total_steps < self.request.steps:
            if observation is None or first:
                seed = self._seed if observation is None else None
                observation, _ = self.meter.reset(seed=seed)
                first = True
            action = driver.predict(observation, first=first, deterministic=False)
            following, reward, terminated, truncated, info = self.meter.step(action)
            driver.observe(observation, action, float(reward), following, terminated, truncated, info)
            observation, first = following, terminated or truncated
            self._curves(driver.scalars())
            if time.monotonic() - saved_at >= cost / checkpoint_share:
                started = time.monotonic()
                self._save(
                    agent=driver.snapshot(), env=self.env.snapshot(), observation=to_tensors(observation), first=first
                )
                saved_at = time.monotonic()
                cost = saved_at - started

    def _let_learn(self, saved: Mapping[str, Any] | None) -> None:
        if saved is not None:
            with self.directory.fitting_checkpoint():
                self.agent.load_state_dict(from_tensors(saved["agent"]))

        def after_step(transition: Transition) -> bool:
            self._curves(self.agent.scalars())
            if transition.terminated or transition.truncated:
                self._save(agent=to_tensors(self.agent.state_dict(), f"the state of {self.request.agent.label!r}"))
            return True

        if saved is None:  # so that a kill at any time finds something to go on from
            self._save(agent=to_tensors(self.agent.state_dict(), f"the state of {self.request.agent.label!r}"))
        # After an interruption, episodes that this training has not seen: those from before are learnt from.
        seed = self._seed + self.meter.episodes
        self.agent.learn(self.meter, self.request.steps - self.meter.total_steps, after_step, seed)

    @property
    def _seed(self) -> int:
        return SEED_OFFSET + self.request.config.seed

    def _save(self, **state: Any) -> None:
        self.directory.save_checkpoint({"step": self.meter.total_steps, "meter": self.meter.snapshot(), **state})

    def _episode(self, record: dict[str, Any]) -> None:
        record = {**plain(record), "seed": self.request.config.seed}
        files.append_line(self._episodes, record)
        self._recent.append(record)
        left = duration(self._eta.left(self.meter.total_steps))
        self.console.print(
            f"step {self.meter.total_steps:>5} of {self.request.steps}  episode {record['episode']:>4}  {record['task']:<20} "
            f"return {record['return']:+.4f}  utility {record['utility']:.4f}  left {left}",
            highlight=False, soft_wrap=True,
        )  # fmt: skip

    def _curves(self, scalars: Mapping[str, float]) -> None:
        if self._writer is None:
            return
        step = self.meter.total_steps
        values = {(name if "/" in name else f"bandit/{name}"): value for name, value in scalars.items()}
        values |= self.meter.scalars
        values["budget/training_tokens"] = self.meter.total_tokens
        if self._recent:
            values["rollout/ep_rew_mean"] = float(np.mean([episode["return"] for episode in self._recent]))
            values["rollout/ep_len_mean"] = float(np.mean([episode["steps"] for episode in self._recent]))
            values["time/episodes"] = self.meter.episodes
        for tag, value in values.items():
            self._writer.add_scalar(tag, value, step)
        self._writer.flush()


def _learns_by_observing(agent: Agent) -> bool:
    """Whether ``learn`` is nothing but the loop of predict and observe."""
    from read_env.agents import Agent as Base
    from read_env.agents.custom import CustomAgent

    if isinstance(agent, CustomAgent):
        return not hasattr(agent.inner, "learn")
    return type(agent).learn is Base.learn
