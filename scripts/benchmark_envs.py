"""Environment steps per second of a training in one environment and in several, side by side.

    python scripts/benchmark_envs.py --out docs/benchmark_envs.md   # micro preset, one and two environments, one thread each
    python scripts/benchmark_envs.py --envs 4 --agent sb3:PPO

The trainings take turns in rounds, after one round that fills the cache of teacher answers. The start of processes and the
loading of models don't count; learning, resets, the log and checkpoints do. There are two ratios: by the clock, which needs
as many idle cores as environments, and by processor time, for machines that do other work: a step of all environments takes
as long as the longest of their processor times, and that of the parent process.
"""

from __future__ import annotations

import argparse
import os
import shlex
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from rich.console import Console
from throughput_page import hardware

from read_env.config import load_preset
from read_env.reporting.markdown import markdown_table
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
    parser.add_argument("--out", type=Path, help="page that is written; the table is printed in any case")
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
    text = page(np.array(found), args.envs, args.agent, args.preset)
    print(text)
    if args.out:
        args.out.write_text(text)


def page(found: np.ndarray, envs: int, agent: str, preset: str) -> str:
    """Text of docs/benchmark_envs.md.

    Args:
        found: (rounds, 2, 2) steps per second of every round, with one and with several environments, by the clock and by
            processor time.
        envs: number of environments.
        agent: the agent that is trained.
        preset: the preset.
    """
    rows = []
    for index, name in enumerate(("clock", "processor time")):
        one, many = found[:, 0, index], found[:, 1, index]
        ratios = many / one
        spread = f"{statistics.median(ratios):.2f} ({ratios.min():.2f}–{ratios.max():.2f})"
        rows.append([name, f"{statistics.median(one):.3f}", f"{statistics.median(many):.3f}", spread])
    table = markdown_table(["steps per second by", "1 environment", f"{envs} environments", "ratio"], rows)
    command = shlex.join(["python", *sys.argv])
    return (
        f"# Training in {envs} environments at a time\n\n"
        f"`{command}` (preset `{preset}`, agent `{agent}`), one thread for each environment, {hardware(torch.device('cpu'))}. Median of "
        f"{len(found)} rounds, in which the trainings take turns; ratios are taken round by round (least and greatest in "
        "parentheses). *Processor time*: a step of all environments takes as long as the longest of their processor times, and "
        f"that of the parent process; it does not count what else the machine does.\n\n{table}\n"
    )


if __name__ == "__main__":
    main()
