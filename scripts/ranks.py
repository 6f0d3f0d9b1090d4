"""Ranks of agents on real students and in the surrogate, for the page of ``scripts/fit_surrogate.py``."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from common import DOCS
from scipy.stats import kendalltau

from read_env.agents.interaction import transitions
from read_env.envs.surrogate import SurrogateEnv
from read_env.reporting.markdown import markdown_table, number
from read_env.running.agents import AgentDriver, AgentSpec, build_agent
from read_env.running.benchmark import IncompleteResult, load_protocol, load_result
from read_env.surrogate.model import Surrogate

PROTOCOL = "micro-dev"
#: Episodes of an agent on a pair in the surrogate.
EPISODES = 16
#: Least number of agents whose ranks mean something.
LEAST = 4


def section(folder: Path = DOCS / "measured" / PROTOCOL, episodes: int = EPISODES) -> str:
    """Markdown about the agents whose results are in a folder; empty with fewer than :data:`LEAST`."""
    protocol = load_protocol(PROTOCOL)
    results = []
    for path in sorted(folder.glob("*.json")):
        with contextlib.suppress(IncompleteResult):
            results.append(load_result(path, protocol))
    if len(results) < LEAST:
        return ""
    by_seed = np.array([gains_of(one) for one in results])
    real = by_seed.mean(-1)
    starts = {pair["pair"]: np.array(pair["profile_start"]) for pair in results[0]["pairs"]}
    tasks = [pair.task for pair in protocol.pairs]
    played = np.array([simulated(one["name"], one["options"], starts, tasks, episodes) for one in results])
    agreement = [float(kendalltau(real[:, pair], played[:, pair]).statistic) for pair in range(len(starts))]
    rows = [
        [one["agent"], *(f"{number(a)} / {number(b)}" for a, b in zip(real[i], played[i], strict=True))]
        for i, one in enumerate(results)
    ]
    rows.append(["Kendall τ", *(number(value, 2) for value in agreement)])
    mean = float(np.mean(agreement))
    whole = float(kendalltau(real.mean(1), played.mean(1)).statistic)
    repeated = float(np.mean([repeatability(by_seed[:, pair]) for pair in range(len(starts))]))
    return (
        f"## Ranks of agents\n\nGain of exam utility on real students (`{PROTOCOL}`, {len(protocol.seeds)} seeds) / gain of utility in "
        f"the surrogate from the same profile ({episodes} episodes). Kendall τ between the two over the {len(results)} agents: "
        f"**{mean:.2f}** on average over the pairs, {whole:.2f} between the means over the pairs. Real students agree with "
        f"themselves as far as this: one seed with the mean of the others {repeated:.2f}. The surrogate was fitted to none of "
        "these students.\n\n"
        f"{markdown_table(['agent', *starts], rows)}\n"
    )


def gains_of(result: Mapping[str, Any]) -> list[np.ndarray]:
    """Gains of exam utility by pair, (seeds,) each."""
    return [np.subtract(one["exam_utility"], one["exam_utility_start"]) for one in result["pairs"]]


def repeatability(gains: np.ndarray) -> float:
    """Kendall τ between the ranks of agents on one seed and on the mean of the others, mean over the seeds.

    Args:
        gains: (agents, seeds).
    """
    others = [np.delete(gains, seed, axis=1).mean(1) for seed in range(gains.shape[1])]
    return float(np.mean([kendalltau(one, rest).statistic for one, rest in zip(gains.T, others, strict=True)]))


def simulated(
    name: str, options: Mapping[str, Any], starts: Mapping[str, np.ndarray], tasks: Sequence[str], episodes: int
) -> list[float]:
    """Mean gain of utility of an agent by pair, in the surrogate that ships."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "surrogate.json"
        replace(Surrogate.load("micro"), starts=starts).save(path)
        for (pair, _), task in zip(starts.items(), tasks, strict=True):
            env = SurrogateEnv(str(path), tasks=[task], students=[pair])
            found.append(float(np.mean([_played(name, options, env, seed) for seed in range(episodes)])))
    return found


def _played(name: str, options: Mapping[str, Any], env: SurrogateEnv, seed: int) -> float:
    """Gain of utility in one episode with a new agent, as in a run."""
    driver = AgentDriver(build_agent(AgentSpec.parse(name, options), env.suite, seed), name)
    observation, info = env.reset(seed=seed)
    for step in transitions(driver, env, observation=observation, deterministic=True):
        if step.done:
            return float(step.info["utility"] - info["utility"])
    raise AssertionError("transitions goes on for ever")
