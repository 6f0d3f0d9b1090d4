"""Training on a surrogate: many environments at once, in this process and without models.

SB3's algorithms learn in a vector of surrogate environments, the set policy by gradients through the surrogate's worlds; other
agents in one environment, step by step. At every twentieth of the training the agent is judged on episodes of other seeds, which
gives the curves of ``eval/``, and saved, so that an interrupted training goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from read_env import files
from read_env.agents.base import Agent
from read_env.errors import ReadEnvError
from read_env.records import Episode
from read_env.running.agents import AgentSpec, build_agent
from read_env.running.training import Training
from read_env.running.vector_training import VectorStatistics
from read_env.surrogate.model import Surrogate

if TYPE_CHECKING:
    from read_env.config import Config
    from read_env.envs.surrogate import SurrogateEnv
    from read_env.envs.surrogate_vector import SurrogateVectorEnv

#: Parts of a training, each of which ends with an evaluation and a checkpoint.
_PARTS = 20
#: Largest number of episodes whose records are kept; they are spread evenly over the training.
_RECORDED = 1000
#: Episodes of an evaluation, and added to the seed of the training for them.
_JUDGED, _JUDGING_SEED = 512, 500_000
#: Judgement of an agent on a surrogate: its mean reward in an episode.
Evaluation = Callable[[Agent], float]


def make_surrogate_env(name: str, config: Config, **drawn: Any) -> SurrogateEnv:
    """Surrogate environment with the suite, reward and tasks of a configuration.

    Args:
        name: surrogate that ships, or a file.
        config: the configuration.
        drawn: tasks and students, as in ``TrainingRequest.drawn``.
    """
    from read_env.envs.surrogate import SurrogateEnv

    return SurrogateEnv(name, **_arguments(config, drawn))


def _arguments(config: Config, drawn: Mapping[str, Any]) -> dict[str, Any]:
    settings = config.model_dump(mode="json", include={"suite", "task", "reward", "eval", "budget", "distill"})
    return {"preset": config.preset, "overrides": settings, **drawn}


class SurrogateTraining(Training):
    """State of one training on a surrogate."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._surrogate: Surrogate = self.env.surrogate  # type: ignore[attr-defined]
        #: The agent learns from many environments at once.
        self._many = hasattr(self.agent, "learn_on_surrogate") or getattr(self.agent, "actions", "") == "logits"
        if self._many:
            self.statistics = SampledStatistics(self._on_episode, self.request.steps // self._surrogate.steps)
        elif self.request.envs > 1:
            raise ReadEnvError(
                f"agent {self.request.agent.label!r} learns in one environment of a surrogate; envs must be 1, not {self.request.envs}"
            )

    def record(self) -> dict[str, Any]:
        """Content of ``training.json``; the tokens are those of the recorded runs that the surrogate was fitted to."""
        found = super().record()
        before = self.request.agent.tokens_before_run + int(self._surrogate.made_from.get("tokens", 0))
        finished = getattr(self.statistics, "finished", self.statistics.episode_count)
        return {**found, "episodes": finished, "tokens_before_run": before}

    def _let_learn(self, saved: Mapping[str, Any] | None) -> None:
        if not self._many:
            super()._let_learn(saved)
            return
        self._load_agent(saved)
        agent: Any = self.agent
        judge = self._judge()
        requirement = judge(build_agent(AgentSpec.parse("task-static"), self.env.suite, 0, self.env.may_stop))
        learn = self._through_the_worlds if hasattr(agent, "learn_on_surrogate") else self._in_a_vector
        for steps in _parts(self.request.steps, self.statistics.total_steps, self.request.envs):
            learn(steps)
            self._show(judge(self.agent), requirement)
            self._save(self._agent_state)

    def _show(self, reward: float, requirement: float) -> None:
        """Write the curves and a line about an evaluation."""
        self._write_curves({**self.agent.scalars(), "eval/mean_reward": reward, "eval/task_static": requirement})
        step = self.statistics.total_steps
        self._console.call(
            "print",
            f"step {step:>9,} of {self.request.steps:,}  mean reward {reward:+.4f} in {_JUDGED} episodes of other seeds, w = r "
            f"{requirement:+.4f}  left {self._pace.left(step)}",
            highlight=False, soft_wrap=True,
        )  # fmt: skip

    def _on_episode(self, record: dict[str, Any]) -> None:
        if isinstance(self.statistics, SampledStatistics):  # too many for a line each
            files.append_line(self._episodes, Episode(**record, seed=self.request.config.seed).to_json())
        else:
            super()._on_episode(record)

    def _in_a_vector(self, steps: int) -> None:
        from read_env.envs.surrogate_sb3 import SurrogateVecEnv

        agent: Any = self.agent
        envs = SurrogateVecEnv(
            self.request.envs, scale=agent.settings.scale, surrogate=self.request.on,
            **_arguments(self.request.config, self.request.drawn),
        )  # fmt: skip
        envs.seed(self._seed + self.statistics.finished)
        agent.learn_vectorized(_counted(envs, self.statistics.add_all), steps)

    def _through_the_worlds(self, steps: int) -> None:
        agent: Any = self.agent
        agent.learn_on_surrogate(
            self._surrogate, steps, envs=self.request.envs, seed=self._seed + self.statistics.finished,
            progress=(self.statistics.total_steps, self.request.steps),
        )  # fmt: skip
        self.statistics.total_steps += steps
        self.statistics.finished += steps // self._surrogate.steps

    def _judge(self) -> Evaluation:
        from read_env.envs.surrogate_vector import SurrogateVectorEnv

        envs = SurrogateVectorEnv(
            _JUDGED, self.request.on, infos="none", **_arguments(self.request.config, self.request.drawn)
        )
        seed = self._seed + _JUDGING_SEED
        return lambda agent: float(np.mean(mean_returns(agent, envs, seed)))


class SampledStatistics(VectorStatistics):
    """Counts of many episodes, of which at most :data:`_RECORDED` are recorded.

    Args:
        on_episode: called with each record.
        expected: number of episodes of the training.
    """

    def __init__(self, on_episode: Callable[[dict[str, Any]], None], expected: int) -> None:
        super().__init__(on_episode)
        self.finished = 0
        self._every = max(1, -(-expected // _RECORDED))

    def add_all(self, infos: Sequence[Mapping[str, Any]]) -> None:
        """Count a step of every environment."""
        self.total_steps += len(infos)
        for info in infos:
            if "episode" not in info:
                continue
            self.finished += 1
            episode = info["episode"]
            self._remember({"return": episode["r"], "steps": episode["l"]})
            if self.finished % self._every == 0:
                self.episode_count += 1
                self._on_episode({
                    "episode": self.episode_count, "task": str(info["task"]), "return": float(episode["r"]),
                    "steps": int(episode["l"]), "completion_tokens": 0, "utility_start": None, "utility": float(info["utility"]),
                })  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "finished": self.finished}

    def load_state_dict(self, state: Mapping[str, Any], episodes: Sequence[Mapping[str, Any]]) -> None:
        super().load_state_dict(state, episodes)
        self.finished = state["finished"]


def mean_returns(agent: Any, envs: SurrogateVectorEnv, seed: int) -> np.ndarray:
    """Return of one episode in every environment, (n,), with the deterministic actions of an agent."""
    observations, _ = envs.reset(seed=seed)
    returns, state, start = np.zeros(envs.num_envs), None, np.ones(envs.num_envs, bool)
    running = np.ones(envs.num_envs, bool)
    while running.any():
        actions, state = agent.predict(observations, state, episode_start=start, deterministic=True)
        observations, rewards, ended, _, _ = envs.step(actions)
        returns += rewards * running
        running &= ~ended
        start = np.zeros(envs.num_envs, bool)
    return returns


def _parts(steps: int, done: int, envs: int) -> list[int]:
    """Steps of the parts that are left, each a multiple of the number of environments."""
    size = max(envs, steps // _PARTS // envs * envs)
    whole = [size] * (steps // size)
    if rest := steps - sum(whole):
        whole[-1:] = [whole[-1] + rest] if whole else [rest]
    passed = 0
    while whole and passed + whole[0] <= done:
        passed += whole.pop(0)
    return whole


def _counted(envs: Any, add: Callable[[Sequence[Mapping[str, Any]]], None]) -> Any:
    """SB3 vector environment that calls ``add`` with the infos of every step."""
    from stable_baselines3.common.vec_env import VecEnvWrapper

    class Counted(VecEnvWrapper):
        def reset(self) -> Any:
            return self.venv.reset()

        def step_wait(self) -> Any:
            result = self.venv.step_wait()
            add(result[3])
            return result

    return Counted(envs)
