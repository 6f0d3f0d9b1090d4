"""Training in several environments at once, each in a spawned worker process with models of its own.

Agents that learn by ``observe`` are driven in Gymnasium's ``AsyncVectorEnv``: all environments make a step, then the agent
observes these steps in the order of the environments. A checkpoint holds the snapshot of each environment, so that a resumed
training ends with the same bits. SB3's algorithms learn in ``SubprocVecEnv`` with ``VecMonitor``; after an interruption they
resume with new episodes. All counts, the log and the checkpoint are those of the parent process.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import wait
from typing import Any

import gymnasium as gym
import numpy as np

from read_env.agents.base import Agent
from read_env.errors import ReadEnvError
from read_env.running.agents import AgentDriver
from read_env.running.pool import interrupts_held
from read_env.running.training import Training, has_own_loop
from read_env.running.worker_env import Report, WorkerEnvFactory, Wrap


class VectorStatistics:
    """Counts over all environments, with the attributes of :class:`TrainingStatistics`."""

    def __init__(self, on_episode: Callable[[dict[str, Any]], None]) -> None:
        self._on_episode = on_episode
        self.total_steps = self.total_tokens = self.episode_count = 0
        self.scalars: Mapping[str, float] = {}
        self.return_queue: deque[float] = deque(maxlen=100)
        self.length_queue: deque[int] = deque(maxlen=100)

    def add(self, report: Report) -> None:
        """Count a step."""
        assert report.info is not None
        self.total_steps += 1
        self.total_tokens += report.info["completion_tokens"]
        self.scalars = report.scalars
        if report.episode is not None:
            self.episode_count += 1
            self._remember(report.episode)
            self._on_episode({**report.episode, "episode": self.episode_count})

    def state_dict(self) -> dict[str, Any]:
        """Counts, as plain values."""
        return {name: getattr(self, name) for name in ("total_steps", "total_tokens", "episode_count")}

    def load_state_dict(self, state: Mapping[str, Any], episodes: Sequence[Mapping[str, Any]]) -> None:
        """Restore counts; ``episodes`` are the records of the episodes that were finished by then."""
        self.__dict__.update({name: state[name] for name in ("total_steps", "total_tokens", "episode_count")})
        for episode in episodes:
            self._remember(episode)

    def _remember(self, episode: Mapping[str, Any]) -> None:
        self.return_queue.append(episode["return"])
        self.length_queue.append(episode["steps"])


class VectorDriver:
    """One agent in several environments: what belongs to an episode is kept for each of them.

    Args:
        agent: the agent.
        label: its name in error messages.
        count: number of environments.

    Raises:
        ReadEnvError: an agent without a state for checkpoints.
    """

    def __init__(self, agent: Agent, label: str, count: int) -> None:
        self.agent = agent
        self._drivers = [AgentDriver(agent, label) for _ in range(count)]
        if not self._drivers[0].has_state:
            raise ReadEnvError(
                f"agent {label!r} has no state_dict and load_state_dict, which a training with envs above 1 needs: "
                "give it the two"
            )
        self._episodes = [copy.deepcopy(self._episode()) for _ in range(count)]

    @contextmanager
    def turn(self, index: int) -> Iterator[AgentDriver]:
        """Let the agent work in one environment."""
        self.agent.__dict__.update(self._episodes[index])
        yield self._drivers[index]
        self._episodes[index] = self._episode()

    def state_dict(self) -> list[dict[str, Any]]:
        """State of the agent in each environment."""
        states = []
        for index in range(len(self._drivers)):
            with self.turn(index) as driver:
                states.append(driver.state_dict())
        return states

    def load_state_dict(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Restore a state."""
        for index, state in enumerate(states):
            with self.turn(index) as driver:
                driver.load_state_dict(state)

    def _episode(self) -> dict[str, Any]:
        return {name: getattr(self.agent, name) for name in self.agent.episode_state}


class VectorTraining(Training):
    """State of one training in several environments."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.statistics = VectorStatistics(self._on_episode)
        if has_own_loop(self.agent) and not hasattr(self.agent, "learn_vectorized"):
            raise ReadEnvError(
                f"agent {self.request.agent.label!r} learns by a loop of its own, in one environment; envs must be 1, "
                f"not {self.request.envs}"
            )

    def _drive(self, saved: Mapping[str, Any] | None, checkpoint_share: float) -> None:
        from gymnasium.vector import AsyncVectorEnv

        states = saved["envs"] if saved is not None and self.statistics.total_steps else None
        driver = VectorDriver(self.agent, self.request.agent.label, self.request.envs)
        factories = self._factories(self.request.steps, self._seed, states)
        with _workers(lambda: AsyncVectorEnv(factories, shared_memory=False, context="spawn")) as envs:
            # A reset loads the models; the state that it draws is overwritten.
            observations, infos = envs.reset()
            now = self._checked(infos["report"])
            if states is not None and saved is not None:
                with self.directory.fitting_checkpoint():
                    restored, reports = zip(*envs.call("resume"), strict=True)
                    observations = {key: np.stack([one[key] for one in restored]) for key in observations}
                    now = self._checked(reports)
                    driver.load_state_dict(saved["agent"])
            self.agent.training = True  # as in the agent's own ``learn``
            while self.statistics.total_steps < self.request.steps:
                before = [{key: value[index] for key, value in observations.items()} for index in range(len(now))]
                actions = np.zeros(envs.action_space.shape, np.float32)
                for index, report in enumerate(now):
                    if report.active:
                        start = np.array([report.first])
                        with driver.turn(index) as one:
                            actions[index], _ = one.predict(before[index], episode_start=start, deterministic=False)
                observations, rewards, terminated, truncated, infos = envs.step(actions)
                now = self._checked(infos["report"])
                for index, report in enumerate(now):
                    if report.info is not None:
                        after = {key: value[index] for key, value in observations.items()}
                        ends = bool(terminated[index]), bool(truncated[index])
                        with driver.turn(index) as one:
                            reward = float(rewards[index])
                            one.observe(before[index], actions[index], reward, after, *ends, report.info)
                            self._count(report, one.scalars())
                if self.directory.checkpoint_due(checkpoint_share):
                    self._save(lambda: {"agent": driver.state_dict(), "envs": _as_tensors(envs.call("snapshot"))})
            with driver.turn(0):  # saved as it is in one environment, whichever made the last step
                pass

    def _let_learn(self, saved: Mapping[str, Any] | None) -> None:
        from stable_baselines3.common.vec_env import SubprocVecEnv

        self._load_agent(saved)
        left = self.request.steps - self.statistics.total_steps
        # After an interruption, new episodes: the agent has learned from the earlier ones.
        seed = self._seed + self.statistics.episode_count

        if left:
            agent: Any = self.agent
            factories = self._factories(left, seed, wrap=agent.wrap)
            with _workers(lambda: SubprocVecEnv(factories, start_method="spawn")) as envs:
                agent.learn_vectorized(_watched(envs, self._after_step), left)

    def _after_step(self, infos: Sequence[Mapping[str, Any]]) -> None:
        reports = self._checked([info["report"] for info in infos])
        for report in reports:
            if report.info is not None:
                self._count(report, self.agent.scalars())
        if any(report.episode is not None for report in reports):
            self._save(self._agent_state)

    def _count(self, report: Report, scalars: Mapping[str, float]) -> None:
        self.statistics.add(report)
        self._write_curves(scalars)

    def _checked(self, reports: Sequence[Report]) -> Sequence[Report]:
        for number, report in enumerate(reports, start=1):
            if report.error is not None:
                raise type(report.error)(f"environment {number} of {len(reports)}: {report.error}")
        return reports

    def _factories(
        self, steps: int, seed: int, states: Sequence[Any] | None = None, wrap: Wrap | None = None
    ) -> list[Callable[[], gym.Env]]:
        count = self.request.envs
        make = partial(self.env_factory, self.request.config, **self.request.drawn)
        return [
            WorkerEnvFactory(
                make,
                steps // count,
                int(np.random.SeedSequence([seed, index]).generate_state(1)[0]),
                b"" if states is None else states[index].numpy().tobytes(),
                wrap,
            )
            for index in range(count)
        ]


@contextmanager
def _workers(make: Callable[[], Any]) -> Iterator[Any]:
    """Make a vector environment, and end its processes after the block."""
    envs: Any = None
    try:
        with interrupts_held():
            envs = make()
        yield envs
        envs.close()
    except (EOFError, ConnectionError) as error:
        processes = {} if envs is None else {process.sentinel: process for process in envs.processes}
        gone = [processes[sentinel] for sentinel in wait(list(processes), timeout=10)]
        for process in gone:
            process.join(timeout=10)
        if envs is not None and not gone:
            raise
        codes = ", ".join(str(process.exitcode) for process in gone) or "unknown"
        raise ReadEnvError(
            f"a worker process ended (exit code {codes}); the same command resumes the training"
        ) from error
    finally:
        if envs is not None:
            envs.closed = True  # ``close`` would wait for the steps
            for process in envs.processes:
                process.terminate()
            for process in envs.processes:
                process.join(timeout=10)


def _watched(envs: Any, after_step: Callable[[Sequence[Mapping[str, Any]]], None]) -> Any:
    """SB3 vector environment with VecMonitor, that calls ``after_step`` with the infos of every reset and step."""
    from stable_baselines3.common.vec_env import VecMonitor

    class Watched(VecMonitor):
        def reset(self) -> Any:
            observations = super().reset()
            after_step(self.venv.reset_infos)
            return observations

        def step_wait(self) -> Any:
            result = super().step_wait()
            after_step(result[3])
            after_step(self.venv.reset_infos)
            return result

    return Watched(envs)


def _as_tensors(states: Sequence[bytes]) -> list[Any]:
    import torch

    return [torch.frombuffer(bytearray(state), dtype=torch.uint8) for state in states]
