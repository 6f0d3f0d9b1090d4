"""Training of an allocation policy over many episodes and tasks.

Agents that learn by ``observe`` are driven step by step and resumed to the same bits. Agents with their own ``learn`` (SB3's
algorithms, grid search) keep their loop: they are saved at the end of every episode, and after an interruption they resume
from there with new episodes. Several environments at once: :mod:`read_env.running.vector_training`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsFloat

import numpy as np
from gymnasium.wrappers import RecordEpisodeStatistics

from read_env import files
from read_env.agents.base import Agent
from read_env.agents.custom import CustomAgent
from read_env.agents.interaction import Transition, transitions
from read_env.capabilities import get_suite
from read_env.errors import ReadEnvError
from read_env.records import Episode, TrainingSummary
from read_env.running.agents import TRAINING_RECORD, AgentDriver, build_agent
from read_env.running.callbacks import Onlookers
from read_env.running.cards import keep_cards
from read_env.running.curve_summaries import write_configuration, write_hparams, write_layout
from read_env.running.curve_tags import agent_scalars, profile_scalars, reward_scalars
from read_env.running.directory import RecordDirectory
from read_env.running.display import Pace
from read_env.running.requests import TrainingRequest, resolved
from read_env.running.runner import CHECKPOINT_SHARE, make_env
from read_env.running.tensorboard import Curves
from read_env.running.tensors import from_tensors, to_tensors
from read_env.running.worker import EnvFactory

if TYPE_CHECKING:
    from rich.console import Console

    from read_env.agents.observation import Observation
    from read_env.envs.distillation import DistillationEnv

#: Added to the seed of a training, so that its episodes differ from those of the runs that judge the agent.
SEED_OFFSET = 1_000_000


@dataclass(frozen=True)
class TrainingResult:
    """Result of a training.

    Attributes:
        agent: file of the saved agent.
        episodes: finished episodes.
        tokens_before_run: completion tokens that a run with this agent has to report.
        already_finished: an earlier call had finished the training, so nothing was done.
    """

    agent: Path
    episodes: int
    tokens_before_run: int
    already_finished: bool = False


def train(
    request: TrainingRequest, console: Console, *, env_factory: EnvFactory = make_env,
    checkpoint_share: float = CHECKPOINT_SHARE,
) -> TrainingResult:  # fmt: skip
    """Train the agent, or resume after an interruption.

    With ``then_steps`` it is two trainings, each of which resumes by itself.

    Args:
        request: the training.
        console: console that shows the progress.
        env_factory: makes the environment of a configuration, tasks and starting students; for several environments, a
            function of a module.
        checkpoint_share: largest share of the time that checkpoints may take.

    Raises:
        ReadEnvError: the directory can't be used, a checkpoint is damaged, or a step fails.
    """
    if request.steps <= 0:
        raise ReadEnvError(f"steps must be above 0, got {request.steps}")
    if request.envs <= 0:
        raise ReadEnvError(f"envs must be above 0, got {request.envs}")
    if request.steps % request.envs:
        more = request.steps + request.envs - request.steps % request.envs
        raise ReadEnvError(
            f"steps must be a multiple of envs, which share them: {request.steps} is none of {request.envs}; "
            f"right would be {more}"
        )
    if not request.tasks:
        raise ReadEnvError("tasks: name at least one")
    if request.then_steps:
        _check_then(request)
        first = train(
            replace(request, then_steps=0), console, env_factory=env_factory, checkpoint_share=checkpoint_share
        )
        return train(
            request.then_real(first.agent), console, env_factory=env_factory, checkpoint_share=checkpoint_share
        )
    request = resolved(request)
    if request.cluster:
        from read_env.running.cluster_training import train_on_cluster

        return train_on_cluster(request, console, env_factory, checkpoint_share)
    directory = RecordDirectory(request.directory)
    with directory.claim(request.identity, request.recorded, overwrite=request.overwrite):
        record, saved_agent = directory.path / TRAINING_RECORD, directory.path / "agent.zip"
        if not (already_finished := record.exists()):
            keep_cards(directory, request.config.suite, request.tasks)
            if request.on:
                from read_env.running.surrogate_training import SurrogateTraining, make_surrogate_env

                training: Training = SurrogateTraining(
                    request, directory, partial(make_surrogate_env, request.on), console
                )
            elif request.envs == 1:
                training = Training(request, directory, env_factory, console)
            else:
                from read_env.running.vector_training import VectorTraining

                training = VectorTraining(request, directory, env_factory, console)
            training.run(checkpoint_share)
            training.agent.save(saved_agent)
            files.write_json(record, training.record())
            files.remove(directory.checkpoint.parent)
        done = files.read_json(record)
    return TrainingResult(saved_agent, done["episodes"], done["tokens_before_run"], already_finished)


def _check_then(request: TrainingRequest) -> None:
    """Refuse a training that can't go on with real models after the surrogate."""
    if request.then_steps < 0 or not request.on:
        raise ReadEnvError(
            f"then-steps must not be negative, and needs --on with a surrogate to begin with; got then-steps "
            f"{request.then_steps} and on {request.on!r}"
        )
    agent = build_agent(request.agent, get_suite(request.config.suite), request.config.seed)
    if hasattr(agent, "learn_on_surrogate"):
        raise ReadEnvError(
            f"agent {request.agent.label!r} is trained by gradients through a surrogate alone; right would be then-steps 0"
        )


#: Curves whose last values the HPARAMS tab shows.
METRICS = ("rollout/ep_rew_mean", "utility/probes", "eval/mean_reward")


class TrainingStatistics(RecordEpisodeStatistics):
    """Returns and lengths of the episodes, as Gymnasium counts them, and also steps and tokens over all episodes.

    Args:
        env: the environment.
        on_episode: called with the record of every finished episode.
    """

    def __init__(self, env: DistillationEnv, on_episode: Callable[[dict[str, Any]], None]) -> None:
        super().__init__(env)
        self._on_episode = on_episode
        self.total_steps = self.total_tokens = 0
        #: Metrics of the last step.
        self.scalars: dict[str, float] = {}
        self._episode: dict[str, Any] = {}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        observation, info = super().reset(seed=seed, options=options)
        self._episode = {"task": info["task"], "completion_tokens": 0, "utility_start": info["utility"]}
        return observation, info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Make and count a step."""
        observation, reward, terminated, truncated, info = super().step(action)
        self.total_steps += 1
        self.total_tokens += info["completion_tokens"]
        self._episode["completion_tokens"] += info["completion_tokens"]
        names = self.env.get_wrapper_attr("suite").names
        self.scalars = {
            **profile_scalars(names, info["profile"], info["utility"]),
            **reward_scalars(names, info, float(reward)),
        }
        if terminated or truncated:
            info.pop("episode")  # holds seconds, and nothing in ``info`` may depend on the clock
            counts = {"return": float(self.episode_returns), "steps": self.episode_lengths, "utility": info["utility"]}
            self._on_episode({"episode": self.episode_count, **self._episode, **counts})
        return observation, reward, terminated, truncated, info

    def state_dict(self) -> dict[str, Any]:
        """Counts, as plain values."""
        return {**{name: getattr(self, name) for name in _COUNTS}, "episode": dict(self._episode)}

    def load_state_dict(self, state: Mapping[str, Any], episodes: Sequence[Mapping[str, Any]]) -> None:
        """Restore counts; ``episodes`` are the records of the episodes that were finished by then."""
        for name in _COUNTS:
            setattr(self, name, state[name])
        self._episode = dict(state["episode"])
        self.return_queue.extend(episode["return"] for episode in episodes)
        self.length_queue.extend(episode["steps"] for episode in episodes)


_COUNTS = ("total_steps", "total_tokens", "episode_count", "episode_returns", "episode_lengths")


class Training:
    """State of one training between its steps; in one environment, in this process."""

    _curves: Onlookers
    _pace: Pace

    def __init__(
        self, request: TrainingRequest, directory: RecordDirectory, env_factory: EnvFactory, console: Console
    ) -> None:
        self.request, self.directory, self.env_factory = request, directory, env_factory
        self.env = env_factory(request.config, **request.drawn)
        self._console = Onlookers([console])
        self.statistics: Any = TrainingStatistics(self.env, self._on_episode)
        self.agent: Agent = build_agent(request.agent, self.env.suite, request.config.seed, self.env.may_stop)
        self.agent.check_saving()
        self._episodes = directory.path / "episodes.jsonl"
        self._update: dict[str, float] = {}  # metrics of the last update
        self._seed = SEED_OFFSET + request.config.seed

    def run(self, checkpoint_share: float) -> None:
        """Make all remaining steps."""
        begun = self._episodes.exists() and self._episodes.stat().st_size > 0
        saved = self.directory.load_checkpoint(expected=begun)
        own_loop = has_own_loop(self.agent)
        if saved is None:
            files.keep_lines(self._episodes, 0)
            # From here on there is always a checkpoint.
            self._save(lambda: self._agent_state() if own_loop else {})
        else:
            with self.directory.fitting_checkpoint():
                counts = saved["statistics"]
                self.statistics.load_state_dict(counts, files.keep_lines(self._episodes, counts["episode_count"]))
            after = ", where an episode had ended, with new episodes" if own_loop else ""
            self._console.call(
                "print", f"training resumes after step {self.statistics.total_steps}{after}", highlight=False
            )
        self._episodes.touch()
        self._pace = Pace(self.request.steps, self.statistics.total_steps)
        self._started, self._steps_before = time.monotonic(), self.statistics.total_steps
        first = self.statistics.total_steps + 1 if saved else 0
        self._curves = Onlookers([Curves(self.directory.tensorboard, first)])
        config = self.request.config.model_dump(mode="json")
        if saved is None:
            self._curves.call("add", write_configuration, {**config, "tasks": list(self.request.tasks)})
            self._curves.call("add", write_layout, self.env.suite.names)
        try:
            if own_loop:
                self._let_learn(saved)
            else:
                self._drive(saved, checkpoint_share)
            last = self._updates(agent_scalars(self.agent.scalars()))  # of an update after the last step
            self._curves.call("write", last, self.statistics.total_steps)
            columns = {"agent": self.request.agent.label, "tasks": " ".join(self.request.tasks)}
            self._curves.call("add", write_hparams, config, columns, METRICS)
        finally:
            self._curves.call("close")

    def record(self) -> dict[str, Any]:
        """Content of ``training.json``."""
        agent = self.request.agent
        return TrainingSummary(
            label=f"{agent.label}-trained",
            agent=agent.name,
            options=dict(agent.options),
            tasks=self.request.tasks,
            steps=self.statistics.total_steps,
            episodes=self.statistics.episode_count,
            tokens_before_run=agent.tokens_before_run + self.statistics.total_tokens,
        ).to_json()

    def _drive(self, saved: Mapping[str, Any] | None, checkpoint_share: float) -> None:
        """Train an agent that learns by ``observe``."""
        driver = AgentDriver(self.agent, self.request.agent.label)
        observation: Observation | None = None
        seed: int | None = self._seed
        if saved is not None and self.statistics.total_steps:
            # A reset loads the models; the state that it draws is overwritten.
            self.env.reset(seed=seed)
            with self.directory.fitting_checkpoint():
                restored, _ = self.env.restore(saved["env"])
                driver.load_state_dict(saved["agent"])
                observation, seed = (None if saved["first"] else restored), None
        remaining = self.request.steps - self.statistics.total_steps
        self.agent.training = True  # as in the agent's own ``learn``
        loop = transitions(driver, self.statistics, observation=observation, first=False, seed=seed)
        for _ in range(remaining):
            transition = next(loop)
            self._write_curves(driver.scalars())
            if self.directory.checkpoint_due(checkpoint_share):
                self._save(partial(self._driver_state, driver, transition))

    def _let_learn(self, saved: Mapping[str, Any] | None) -> None:
        """Train an agent that has a ``learn`` of its own."""
        self._load_agent(saved)

        def after_step(transition: Transition) -> bool:
            self._write_curves(self.agent.scalars())
            if transition.done:
                self._save(self._agent_state)
            return True

        # After an interruption, new episodes: the agent has learned from the earlier ones.
        seed = self._seed + self.statistics.episode_count
        self.agent.learn(self.statistics, self.request.steps - self.statistics.total_steps, after_step, seed)

    def _load_agent(self, saved: Mapping[str, Any] | None) -> None:
        """Load the agent of a checkpoint, if there is one, whose last update is in the curves already."""
        if saved is not None:
            with self.directory.fitting_checkpoint():
                self.agent.load_state_dict(from_tensors(saved["agent"]))
            self._updates(agent_scalars(self.agent.scalars()))

    def _agent_state(self) -> dict[str, Any]:
        return {"agent": to_tensors(self.agent.state_dict(), f"the state of {self.request.agent.label!r}")}

    def _driver_state(self, driver: AgentDriver, transition: Transition) -> dict[str, Any]:
        return {"agent": driver.state_dict(), "env": self.env.snapshot(), "first": transition.done}

    def _save(self, state: Callable[[], Mapping[str, Any]]) -> None:
        counts = {"step": self.statistics.total_steps, "statistics": self.statistics.state_dict()}
        self.directory.save_checkpoint(lambda: {**counts, **state()})

    def _on_episode(self, record: dict[str, Any]) -> None:
        record = Episode(**record, seed=self.request.config.seed).to_json()
        files.append_line(self._episodes, record)
        step = self.statistics.total_steps
        self._console.call(
            "print",
            f"step {step:>5} of {self.request.steps}  episode {record['episode']:>4}  {record['task']:<20} "
            f"return {record['return']:+.4f}  utility (probes) {record['utility']:.4f}  left {self._pace.left(step)}",
            highlight=False, soft_wrap=True,
        )  # fmt: skip

    def _write_curves(self, scalars: Mapping[str, float]) -> None:
        statistics = self.statistics
        metrics = agent_scalars(scalars)
        values = {name: value for name, value in metrics.items() if not name.startswith("train/")}
        values |= {**self._updates(metrics), **statistics.scalars, "budget/training_tokens": statistics.total_tokens}
        values["time/fps"] = (statistics.total_steps - self._steps_before) / (time.monotonic() - self._started)
        if statistics.return_queue:
            values["rollout/ep_rew_mean"] = float(np.mean(statistics.return_queue))
            values["rollout/ep_len_mean"] = float(np.mean(statistics.length_queue))
            values["time/episodes"] = statistics.episode_count
        self._curves.call("write", values, statistics.total_steps)

    def _updates(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Metrics of SB3's updates, ``train/*``, that have changed: one point for each update."""
        found = {name: value for name, value in metrics.items() if name.startswith("train/")}
        fresh = {name: value for name, value in found.items() if self._update.get(name) != value}
        self._update = found
        return fresh


def has_own_loop(agent: Agent) -> bool:
    """True if ``learn`` is more than the loop of predict and observe."""
    return hasattr(agent.inner, "learn") if isinstance(agent, CustomAgent) else type(agent)._learn is not Agent._learn
