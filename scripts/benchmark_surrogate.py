"""Steps per second of the surrogate environments, beside CartPole in the same run.

    python scripts/benchmark_surrogate.py     # docs/benchmark_surrogate.md

One core; every line is the best of several repetitions, which alternate between the environments. The time is that of the processor, which
other processes on the machine don't lengthen by waiting.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from common import write_page

import read_env  # noqa: F401  (registers the environments)
from read_env.reporting.markdown import markdown_table

COUNTS = (1, 64, 1024, 4096)
SURROGATE, CARTPOLE = "ReadEnv/Surrogate-v0", "CartPole-v1"


def alone(name: str, steps: int) -> Callable[[], float]:
    """Function that makes about so many steps in one environment and returns steps per second."""
    env = gym.make(name)
    actions = _actions(env.action_space, 64)

    def run() -> float:
        env.reset(seed=0)
        begun, ended = time.process_time(), False
        for step in range(steps):
            if ended:
                env.reset()
            _, _, terminated, truncated, _ = env.step(actions[step % 64])
            ended = terminated or truncated
        return steps / (time.process_time() - begun)

    return run


def many(name: str, count: int, steps: int, **arguments: Any) -> Callable[[], float]:
    """The same in a vector environment."""
    envs = gym.make_vec(name, num_envs=count, vectorization_mode="vector_entry_point", **arguments)
    actions = _actions(envs.single_action_space, count)
    envs.reset(seed=0)
    rounds = max(10, steps // count)

    def run() -> float:
        begun = time.process_time()
        for _ in range(rounds):
            envs.step(actions)
        return rounds * count / (time.process_time() - begun)

    return run


def _actions(space: Any, count: int) -> np.ndarray:
    space.seed(0)
    return np.array([space.sample() for _ in range(count)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument(
        "--steps", type=int, default=5_000, help="steps of a repetition alone; in a vector, 10 times as many"
    )
    args = parser.parse_args()
    rows = []
    for count in (0, *COUNTS):
        if count:
            runs = {
                SURROGATE: many(SURROGATE, count, 10 * args.steps, infos="none"),
                CARTPOLE: many(CARTPOLE, count, 10 * args.steps),
            }
        else:
            runs = {SURROGATE: alone(SURROGATE, args.steps), CARTPOLE: alone(CARTPOLE, args.steps)}
        best = dict.fromkeys(runs, 0.0)
        for _ in range(args.repetitions):
            for name, run in runs.items():
                best[name] = max(best[name], run())
        ratio = best[SURROGATE] / best[CARTPOLE]
        label = f"vector of {count:,}" if count else "alone, `gym.make`"
        rows.append([label, *(f"{value:,.0f}" for value in best.values()), f"{ratio:.2f}"])
    table = markdown_table(["environments", "surrogate", "CartPole-v1", "ratio"], rows)
    write_page(
        "benchmark_surrogate",
        "# Speed of the surrogate\n\nMade by `python scripts/benchmark_surrogate.py` on one core of "
        f"{platform.machine()}. Environment steps per second of processor time, best of {args.repetitions} repetitions that alternate between the two "
        "environments; a step of the surrogate has ten capabilities. Vectors are those of `vector_entry_point`, "
        f"resets included.\n\n{table}\n",
    )


if __name__ == "__main__":
    main()
