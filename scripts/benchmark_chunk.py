"""Seconds of a step by stage: prompts, teacher, student, probes, everything else.

    python scripts/benchmark_chunk.py                      # micro preset, cold and warm cache
    python scripts/benchmark_chunk.py --steps 12 --out docs/benchmark_chunk.md

All figures come from one process on one thread, side by side: a cold run of the first steps of an
episode, then the same steps with a warm cache. Reported are medians over the steps, the share of
each stage, tokens per second, the bandit's refit and choice, the import time of the package, and what
the stages come to at a million completion tokens per step.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from scipy.optimize import nnls

STAGES = ("prompts", "teacher", "student", "probes", "other")

#: Completion tokens of the projected step: the paper's at a budget of 20M (arXiv 2605.11290).
PROJECTED_TOKENS = 1_000_000
#: Target share of a projected step, and the paper's.
BARS = {"probes": (0.03, 0.0312), "everything else": (0.05, 0.0563)}


def measure_steps(distillation, steps: int) -> list[dict[str, float]]:
    """Seconds by stage of every step, with the tokens processed by the student."""
    distillation.reset(0)
    rows = []
    for _ in range(steps):
        started = time.perf_counter()
        report = distillation.step(np.ones(len(distillation.suite)))
        total = time.perf_counter() - started
        row = {stage: report.seconds[stage] for stage in STAGES}
        # Time that the process does not assign to a stage (validation, the report) belongs to "other".
        row["other"] += total - sum(row.values())
        rows.append({**row, "total": total, "trained_tokens": report.trained_tokens})
    return rows


def stage_table(title: str, rows: list[dict[str, float]]) -> list[str]:
    """A Markdown table of medians and shares."""
    total = statistics.median(r["total"] for r in rows)
    tokens = statistics.median(r["trained_tokens"] for r in rows)
    lines = [f"### {title}", "", "| stage | median s | share of the step |", "|---|---|---|"]
    for stage in (*STAGES, "total"):
        median = statistics.median(r[stage] for r in rows)
        lines.append(f"| {stage} | {median:.4f} | {statistics.median(r[stage] / r['total'] for r in rows):.1%} |")
    student = statistics.median(r["trained_tokens"] / r["student"] for r in rows)
    lines += ["", f"{tokens:,.0f} tokens per step (prompt and completion); {student:,.0f} trained tokens/s in the student stage, "
              f"{tokens / total:,.0f} tokens/s over the whole step; 8,000 tokens take {8000 * total / tokens:.2f} s.", ""]  # fmt: skip
    return lines


def projection(measured: dict[str, dict[int, list[dict[str, float]]]], choice: float) -> list[str]:
    """A Markdown table of a step of ``PROJECTED_TOKENS``, extrapolated from smaller ones.

    Args:
        measured: rows of ``measure_steps`` by step size, cold and warm; three sizes at least.
        choice: seconds of the agent's refit and choice, once per step.
    """
    lines = [
        f"### Projected to {PROJECTED_TOKENS:,} completion tokens per step", "",
        "Assumed: teacher and student take the same time for each token as in the steps above, so that both grow with the "
        "step; probes are the same forward passes whatever the step (their median over all steps above); everything else "
        "(prompts, bookkeeping, snapshot, and the bandit's refit and choice) is a fixed part and a part that grows with the "
        f"tokens, neither below zero, fitted to the medians at {len(measured['cold'])} step sizes. Measured at a hundredth "
        "of the size: read the orders of magnitude.", "",
        "| cache | stage | fixed s | s for each 1,000 tokens | projected s | share of the step | aimed at | the paper |",
        "|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for cache, by_size in measured.items():
        sizes = np.array(sorted(by_size), dtype=float)

        def medians(*stages: str, by_size=by_size, sizes=sizes) -> np.ndarray:
            return np.array([statistics.median(sum(r[s] for s in stages) for r in by_size[size]) for size in sizes])

        work = medians("teacher", "student")
        rest = medians("prompts", "other") + choice
        fixed, slope = nnls(np.stack([np.ones_like(sizes), sizes / sizes.max()], axis=1), rest)[0]
        parts = {
            "teacher and student": (0.0, float(sizes @ work / (sizes @ sizes))),
            "probes": (statistics.median(r["probes"] for rows in by_size.values() for r in rows), 0.0),
            "everything else": (fixed, slope / sizes.max()),
        }
        projected = {stage: fixed + slope * PROJECTED_TOKENS for stage, (fixed, slope) in parts.items()}
        for stage, (fixed, slope) in parts.items():
            share = projected[stage] / sum(projected.values())
            aim, paper = BARS.get(stage, (None, None))
            verdict = "" if aim is None else f"≤ {aim:.0%}: {'met' if share <= aim else 'missed'} | {paper:.2%}"
            lines.append(
                f"| {cache} | {stage} | {fixed:.4f} | {1000 * slope:.5f} | {projected[stage]:.2f} | {share:.2%} | "
                f"{verdict or ' | '} |"
            )
    return [*lines, ""]


def measure_bandits(steps: int) -> tuple[list[str], float]:
    """Milliseconds per refit and choice of each bandit, on random observations; seconds of the slowest."""
    from read_env.agents import make_agent
    from read_env.capabilities import get_suite

    names = get_suite("micro").names
    rng = np.random.default_rng(0)
    lines = ["### Refit and choice", "", "| agent | median ms | max ms |", "|---|---|---|"]
    slowest = 0.0
    for agent_name in ("read-bandit", "read-bandit-published"):
        agent = make_agent(agent_name, capabilities=names, options={}, seed=0)
        observation = _random_observation(rng, len(names), 1.0)
        durations = []
        for step in range(steps):
            started = time.perf_counter()
            action, _ = agent.predict(observation)
            following = _random_observation(rng, len(names), 1 - (step + 1) / steps, action)
            following["requirement"] = observation["requirement"]
            agent.observe(observation, action, float(rng.normal(0, 0.02)), following, False, False, {})
            durations.append(1e3 * (time.perf_counter() - started))
            observation = following
        late = durations[steps // 2 :]  # past the warm-up, with a full history
        lines.append(f"| {agent_name} | {statistics.median(late):.2f} | {max(late):.2f} |")
        slowest = max(slowest, statistics.median(late) / 1e3)
    return [*lines, ""], slowest


def _random_observation(rng, size: int, budget: float, action=None) -> dict[str, np.ndarray]:
    from read_env.agents.observation import KEYS

    last, gain = np.zeros(size) if action is None else action, rng.normal(0, 0.02, size)
    values = (rng.dirichlet(np.ones(size)), rng.uniform(0.1, 0.9, size), [budget], last, gain)
    return {key: np.asarray(value, np.float32) for key, value in zip(KEYS, values, strict=True)}


def measure_import() -> float:
    """Median seconds of ``import read_env`` in a fresh interpreter, beyond an empty one."""
    code = "import time; t = time.perf_counter(); import read_env; print(time.perf_counter() - t)"
    command = [sys.executable, "-c", code]
    return statistics.median(float(subprocess.check_output(command, text=True)) for _ in range(5))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="micro")
    parser.add_argument("--steps", type=int, default=10)
    sizes = "completion tokens per step; three sizes at least give a projection"
    parser.add_argument("--step-tokens", type=int, nargs="*", default=[4_000, 6_000, 10_000], help=sizes)
    parser.add_argument("--out", type=Path, help="also write the tables here")
    args = parser.parse_args()

    from read_env.config import load_preset
    from read_env.distillation.process import Distillation

    lines = [f"`{shlex.join(['python', *sys.argv])}`, one thread of a {platform.machine()} CPU.", ""]
    measured: dict[str, dict[int, list[dict[str, float]]]] = {"cold": {}, "warm": {}}
    for step_tokens in args.step_tokens:
        budget = {"total_tokens": step_tokens * args.steps, "step_tokens": step_tokens}
        # No cache on disk: a cold cache must not contain answers of an earlier run.
        distillation = Distillation.load(load_preset(args.preset, {"budget": budget, "cache": {"directory": "none"}}))
        for cache, by_size in measured.items():  # the second run finds the first one's answers in memory
            by_size[step_tokens] = measure_steps(distillation, args.steps)
            lines += stage_table(f"{step_tokens:,} completion tokens per step, {cache} cache", by_size[step_tokens])
    bandits, choice = measure_bandits(20)
    lines += bandits
    if len(measured["cold"]) >= 3:
        lines += projection(measured, choice)
    lines += [f"`import read_env`: {measure_import():.3f} s", ""]
    text = "\n".join(lines)
    print(text)
    if args.out:
        args.out.write_text("# Benchmark of one chunk\n\n" + text)


if __name__ == "__main__":
    main()
