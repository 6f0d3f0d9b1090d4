"""Training in several environments: the same ledger, one log, checkpoints to the bit, and workers that end."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fake_distillation import FakeDistillationEnv
from fake_runs import TASKS, contents, curves, fake_env, kill_on_call, play_training, training_request
from gymnasium.vector import SyncVectorEnv
from micro import micro_config
from stable_baselines3.common.vec_env import DummyVecEnv

from read_env import files
from read_env.agents import load_agent
from read_env.config import Config
from read_env.errors import DivergedError, ReadEnvError
from read_env.running.runner import make_env
from read_env.running.vector_training import VectorDriver


class SameProcess(SyncVectorEnv):
    """``AsyncVectorEnv`` without processes, whose start takes seconds."""

    processes = ()

    def __init__(self, env_fns: Any, **_: Any) -> None:
        super().__init__(env_fns)


class Sb3SameProcess(DummyVecEnv):
    """``SubprocVecEnv`` without processes."""

    processes = ()

    def __init__(self, env_fns: Any, start_method: str) -> None:
        super().__init__(env_fns)


@pytest.fixture
def same_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gymnasium.vector.AsyncVectorEnv", SameProcess)
    monkeypatch.setattr("stable_baselines3.common.vec_env.SubprocVecEnv", Sb3SameProcess)


class UnevenEnv(FakeDistillationEnv):
    """Episodes of two to six steps, so that the environments start them at different times."""

    def step(self, action: Any) -> Any:
        observation, reward, terminated, _, info = super().step(action)
        assert self.distillation is not None
        ended = terminated or info["step"] == 2 + self.distillation.seed % 5
        return observation, reward, ended, False, info


def uneven_env(config: Config, stop_after: int | None = None, **kwargs: Any) -> UnevenEnv:
    env = UnevenEnv(preset=config.preset, overrides=config.model_dump(exclude={"preset"}), **kwargs)
    calls = iter(range(10**6))
    original = env.step

    def step(action: Any) -> Any:
        if next(calls) == stop_after:
            raise RuntimeError("enough")
        return original(action)

    env.step = step  # type: ignore[method-assign]
    return env


@pytest.mark.usefixtures("same_process")
@pytest.mark.parametrize(
    "agent", ["read-bandit", "sb3:PPO", "sb3:SAC", "sb3:TD3", "sb3:DQN", "sb3-contrib:MaskablePPO"]
)
def test_several_environments_make_the_steps_together_and_share_a_log(
    small: Config, tmp_path: Path, agent: str
) -> None:
    result = play_training(training_request(small, agent, tmp_path, steps=28, envs=2))
    record = files.read_json(tmp_path / "training.json")
    assert (record["steps"], record["episodes"], result.tokens_before_run) == (28, 4, 2800)
    episodes = files.read_lines(tmp_path / "episodes.jsonl")
    assert [(one["episode"], one["steps"], one["completion_tokens"]) for one in episodes] == [
        (number, 6, 600) for number in range(1, 5)
    ]
    assert {one["task"] for one in episodes} <= set(TASKS)
    assert len({one["utility_start"] for one in episodes}) == 4, "each environment draws from a generator of its own"
    assert load_agent(result.agent).name == agent
    drawn = curves(tmp_path)
    assert [step for step, _ in drawn["time/fps"]] == list(range(1, 29)) and drawn["time/fps"][-1][1] > 0
    assert drawn["rollout/ep_len_mean"][-1] == (28, 6) and "rollout/ep_rew_mean" in drawn


@pytest.mark.usefixtures("same_process")
@pytest.mark.parametrize("stop_after", [1, 2, 3, 6, 9])
def test_an_interrupted_training_in_two_environments_ends_with_the_same_bits(
    small: Config, tmp_path: Path, stop_after: int
) -> None:
    whole, parts = (training_request(small, "read-bandit", tmp_path / name, envs=2) for name in ("whole", "parts"))
    play_training(whole, env_factory=uneven_env)
    play_training(parts, stop_after, env_factory=partial(uneven_env, stop_after=stop_after))
    play_training(parts, env_factory=uneven_env)
    assert contents(parts.directory) == contents(whole.directory)
    lengths = [one["steps"] for one in files.read_lines(whole.directory / "episodes.jsonl")]
    assert len(set(lengths)) > 1


@pytest.mark.usefixtures("same_process")
@pytest.mark.parametrize("agent", ["sb3:PPO", "sb3:SAC"])
def test_an_interrupted_sb3_training_in_two_environments_goes_on_with_new_episodes(
    small: Config, tmp_path: Path, agent: str
) -> None:
    request = training_request(small, agent, tmp_path, envs=2)
    play_training(request, stop_after=8)
    assert len(files.read_lines(tmp_path / "episodes.jsonl")) == 2
    play_training(request)
    record = files.read_json(tmp_path / "training.json")
    assert (record["steps"], record["episodes"], record["tokens_before_run"]) == (20, 2, 2000)


def broken_env(config: Config, how: str, **kwargs: Any) -> FakeDistillationEnv:
    env = fake_env(config, **kwargs)

    def step(action: Any) -> Any:
        if how == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        raise DivergedError("loss 41.2") if how == "diverges" else KeyError("step")

    env.step = step  # type: ignore[method-assign]
    return env


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("agent", ["uniform", "sb3:PPO"])
@pytest.mark.parametrize(
    ("how", "kind", "message"),
    [
        ("diverges", DivergedError, "environment 1 of 2: loss 41.2"),
        pytest.param("fails", ReadEnvError, "environment 1 of 2: KeyError: 'step'", marks=pytest.mark.slow),
        pytest.param("dies", ReadEnvError, "a worker process ended (exit code -9", marks=pytest.mark.slow),
    ],
)
def test_an_error_in_a_worker_ends_the_training_in_one_line(
    small: Config, tmp_path: Path, agent: str, how: str, kind: type[ReadEnvError], message: str
) -> None:
    with pytest.raises(kind) as caught:
        play_training(training_request(small, agent, tmp_path, envs=2), env_factory=partial(broken_env, how=how))
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)
    assert not multiprocessing.active_children()


def marked_env(config: Config, folder: Path, **kwargs: Any) -> FakeDistillationEnv:
    """Leaves a file with the name of its process."""
    (folder / f"{os.getpid()}").touch()
    return fake_env(config, **kwargs)


def running(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.slow  # six worker processes
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc")
def test_a_killed_training_leaves_no_workers_and_ends_with_the_same_bits(small: Config, tmp_path: Path) -> None:
    (tmp_path / "pids").mkdir()
    factory = partial(marked_env, folder=tmp_path / "pids")
    whole, parts = (training_request(small, "read-bandit", tmp_path / name, envs=2) for name in ("whole", "parts"))

    def work() -> None:
        kill_on_call(files.os, "fsync", 15)
        play_training(parts, env_factory=factory)

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL and not (parts.directory / "training.json").exists()
    workers = [int(path.name) for path in (tmp_path / "pids").iterdir() if path.name != str(process.pid)]
    assert len(workers) == 2
    deadline = time.monotonic() + 20
    while any(map(running, workers)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    play_training(parts)
    play_training(whole)
    assert contents(parts.directory) == contents(whole.directory)


def test_a_training_in_several_environments_is_refused_before_any_worker_starts(small: Config, tmp_path: Path) -> None:
    for agent, steps, envs, message in (
        ("uniform", 20, 0, "envs must be above 0"),
        ("uniform", 20, 3, "20 is none of 3; right would be 21"),
        ("grid-searched", 20, 2, "learns by a loop of its own, in one environment; envs must be 1, not 2"),
    ):
        with pytest.raises(ReadEnvError, match=message):
            play_training(training_request(small, agent, tmp_path / agent, steps, envs))
    play_training(training_request(small, "uniform", tmp_path / "one"))
    with pytest.raises(ReadEnvError, match="envs: 'absent' in the folder, 2 in this command"):
        play_training(training_request(small, "uniform", tmp_path / "one", envs=2))


def test_what_belongs_to_an_episode_is_kept_for_each_environment(small: Config) -> None:
    env = fake_env(small)
    from read_env.agents import make_agent

    driver = VectorDriver(make_agent("read-bandit", capabilities=env.suite.names, options={}, seed=0), "read-bandit", 2)
    observation, _ = env.reset(seed=0)
    for index, dev in ((0, 0.5), (1, 0.5), (0, 0.4), (0, 0.4)):
        with driver.turn(index) as one:
            one.observe(observation | {"last_allocation": observation["requirement"]}, observation["requirement"],
                        0.0, observation, False, False, {"dev_utility": dev})  # fmt: skip
    kappas = [state["agent"]["calibration"]["kappa"] for state in driver.state_dict()]
    assert kappas[0] < kappas[1]


@pytest.mark.slow  # two workers that load models
def test_two_workers_train_on_the_micro_pair(tmp_path: Path) -> None:
    request = training_request(micro_config(), "read-bandit", tmp_path, steps=8, envs=2)
    play_training(request, env_factory=make_env)
    assert files.read_json(tmp_path / "training.json")["episodes"] == 2
