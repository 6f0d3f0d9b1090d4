"""Where the seconds of a step go: prompts, teacher, student, probes, everything else.

    python scripts/benchmark_chunk.py                      # micro preset, cold and warm cache
    python scripts/benchmark_chunk.py --steps 12 --out docs/benchmark_chunk.md

All figures come from one process on one thread, side by side: a cold run of the first steps of an
episode, then the same steps with a warm cache. Reported are medians over the steps, the share of
each stage, tokens per second, the bandit's refit and choice, and the import time of the package.
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

STAGES = ("prompts", "teacher", "student", "probes", "other")


def measure_steps(distillation, steps: int) -> list[dict[str, float]]:
    """Seconds by stage of every step, with the tokens that went through the student."""
    distillation.reset(0)
    rows = []
    for _ in range(steps):
        started = time.perf_counter()
        report = distillation.step(np.ones(len(distillation.suite)))
        total = time.perf_counter() - started
        row = {stage: report.seconds[stage] for stage in STAGES}
        # What the process did not time itself (validation, the report) belongs to "other" too.
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
    lines += ["", f"{tokens:,.0f} tokens a step (prompt and completion); {student:,.0f} trained tokens/s in the student stage, "
              f"{tokens / total:,.0f} tokens/s over the whole step; 8,000 tokens take {8000 * total / tokens:.2f} s.", ""]  # fmt: skip
    return lines


def measure_bandits(steps: int) -> list[str]:
    """Milliseconds that each bandit takes to refit and choose, on random observations."""
    from read_env.agents import make_agent
    from read_env.capabilities import get_suite

    names = get_suite("micro").names
    rng = np.random.default_rng(0)
    lines = ["### Refit and choice", "", "| agent | median ms | max ms |", "|---|---|---|"]
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
    return [*lines, ""]


def _random_observation(rng, size: int, budget: float, action=None) -> dict[str, np.ndarray]:
    return {
        "requirement": rng.dirichlet(np.ones(size)).astype(np.float32),
        "profile": rng.uniform(0.1, 0.9, size).astype(np.float32),
        "budget": np.array([budget], dtype=np.float32),
        "last_allocation": np.zeros(size, np.float32) if action is None else np.asarray(action, np.float32),
        "last_gain": rng.normal(0, 0.02, size).astype(np.float32),
    }


def measure_import() -> float:
    """Median seconds of ``import read_env`` in a fresh interpreter, beyond an empty one."""
    code = "import time; t = time.perf_counter(); import read_env; print(time.perf_counter() - t)"
    runs = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(5)
    ]
    return statistics.median(runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="micro")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument(
        "--step-tokens", type=int, nargs="*", default=[4_000, 6_000, 10_000], help="completion tokens a step"
    )
    parser.add_argument("--out", type=Path, help="also write the tables here")
    args = parser.parse_args()

    from read_env.config import load_preset
    from read_env.distillation.process import Distillation

    lines = [f"`{shlex.join(['python', *sys.argv])}`, one thread of a {platform.machine()} CPU.", ""]
    for step_tokens in args.step_tokens:
        budget = {"total_tokens": step_tokens * args.steps, "step_tokens": step_tokens}
        distillation = Distillation.load(load_preset(args.preset, {"budget": budget}))
        lines += stage_table(
            f"{step_tokens:,} completion tokens a step, cold cache", measure_steps(distillation, args.steps)
        )
        lines += stage_table(
            f"{step_tokens:,} completion tokens a step, warm cache", measure_steps(distillation, args.steps)
        )
    lines += measure_bandits(20)
    lines += [f"`import read_env`: {measure_import():.3f} s", ""]
    text = "\n".join(lines)
    print(text)
    if args.out:
        args.out.write_text("# Benchmark of one chunk\n\n" + text)


if __name__ == "__main__":
    main()
