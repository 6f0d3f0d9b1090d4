"""Environment steps per second of a training in one environment and in several, side by side.

    python scripts/benchmark_envs.py                        # micro preset, one and two environments, one thread each
    python scripts/benchmark_envs.py --envs 4 --agent sb3:PPO

The trainings take turns in rounds, after one round that fills the cache of teacher answers. The start of processes and the
loading of models don't count; learning, resets, the log and checkpoints do. Two ratios are printed: by the clock, which needs
as many idle cores as environments, and by processor time, for machines that do other work: a step of all environments takes
as long as the longest of their processor times, and that of the parent process.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from rich.console import Console

from read_env.config import load_preset
from read_env.running.agents import AgentSpec
from read_env.running.requests import TrainingRequest, resolved
from read_env.running.runner import make_env
from read_env.running.training import train


def timed_env(config, folder: Path, **kwargs):
    """Environment that notes the clock and the processor time of its process after every step."""
    env = make_env(config, **kwargs)
    step = env.step

    def timed(action):
        result = step(action)
        with (folder / str(os.getpid())).open("a") as file:
            print(time.time(), time.process_time(), file=file)
        return result

    env.step = timed
    return env


class TimedConsole(Console):
    """Console that notes the processor time of this process at the end of every episode."""

    times: list[float]

    def print(self, *args, **kwargs) -> None:
        self.times.append(time.process_time())


def speeds(request: TrainingRequest, steps: int, episode: int) -> tuple[float, float]:
    """Steps per second of a training, by the clock and by processor time.

    Args:
        request: the training.
        steps: steps of each environment.
        episode: steps of an episode.
    """
    folder, console = request.directory.with_suffix(".times"), TimedConsole(quiet=True)
    folder.mkdir()
    console.times = []
    train(request, console, env_factory=partial(timed_env, folder=folder))
    marks = np.array([np.loadtxt(path) for path in folder.iterdir()])  # environments × steps × (clock, processor time)
    by_clock = marks[:, -1, 0].max() - marks[:, 0, 0].max()
    by_processor = np.diff(marks[:, :, 1], axis=1).max(axis=0).sum()
    if request.envs > 1:  # with one, its process is this one
        by_processor += (console.times[-1] - console.times[0]) * (steps - 1) / (steps - episode)
    made = request.envs * (steps - 1)
    return made / by_clock, made / by_processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="micro")
    parser.add_argument("--agent", default="read-bandit")
    parser.add_argument("--tasks", nargs="+", default=["tutor", "bookkeeper"])
    parser.add_argument("--envs", type=int, default=2)
    parser.add_argument("--episode", type=int, default=4, help="steps of an episode")
    parser.add_argument("--episodes", type=int, default=4, help="episodes of each environment")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    config = load_preset(args.preset)
    budget = config.budget.model_copy(update={"total_tokens": args.episode * config.budget.step_tokens})
    config = AgentSpec.parse(args.agent).configure(config).model_copy(update={"budget": budget})
    steps = args.episode * args.episodes
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(args.rounds + 1):
            pair = []
            for envs in (1, args.envs):
                out = Path(folder) / f"{envs}-{number}"
                request = resolved(TrainingRequest(config, tuple(args.tasks), steps * envs, out, envs=envs))
                pair.append(speeds(request, steps, args.episode))
                clock, processor = pair[-1]
                print(
                    f"round {number}: envs {envs}: steps/s {clock:.3f}, by processor time {processor:.3f}", flush=True
                )
            if number or not args.rounds:
                found.append(pair)
    for index, name in enumerate(("clock", "processor time")):
        ratios = [many[index] / one[index] for one, many in found]
        print(f"ratio by {name}: median {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}")


if __name__ == "__main__":
    main()
