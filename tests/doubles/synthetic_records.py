"""Synthetic run, comparison, transfer and training directories in the schemas that the command line writes.

The dynamics are a toy: each capability moves by a linear transfer matrix with saturation and a little
noise. Everything is seeded, so two calls write the same bytes.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np

from read_env.capabilities import get_suite
from read_env.distillation.teachers.cache_use import CacheUse

SUITE = get_suite("micro").names
TASKS = {
    "sums": {"math": 1.0},
    "tickets": {"tool_use": 0.5, "multilingual": 0.5},
    "puzzles": {"steerability": 0.4, "reasoning": 0.3, "code": 0.3},
}
START = np.array([0.42, 0.35, 0.30, 0.22, 0.38, 0.28, 0.33, 0.25, 0.31, 0.27])
_TRANSFER = np.random.default_rng(7).normal(-0.10, 0.12, (len(SUITE), len(SUITE)))
np.fill_diagonal(_TRANSFER, [0.9, 1.1, 0.6, 0.5, 0.8, 1.0, 0.5, 1.2, 0.7, 0.6])


def requirement_of(task: str) -> np.ndarray:
    return np.array([TASKS[task].get(name, 0.0) for name in SUITE])


def advance(profile: np.ndarray, allocation: np.ndarray, share: float, noise: np.ndarray) -> np.ndarray:
    drift = allocation @ _TRANSFER * share
    room = np.where(drift > 0, 1 - profile, profile * 1.4)
    return np.clip(profile + drift * room + noise, 0.0, 1.0)


def allocation_of(agent: str, step: int, requirement: np.ndarray, profile: np.ndarray, rng) -> np.ndarray:
    if agent == "uniform":
        weights = np.ones(len(SUITE))
    elif agent == "water-filling":
        weights = requirement * (1 - profile)
    elif agent == "random-candidate":
        weights = np.where(requirement > 0, rng.random(len(SUITE)), 0.0) + 0.05 * rng.random(len(SUITE))
    elif agent == "read-bandit":
        weights = (
            requirement * (1 - profile) + 0.15 * (np.arange(len(SUITE)) == (step * 3) % len(SUITE)) * (step < 8) + 0.02
        )
    elif agent.startswith("one-hot-"):
        weights = np.array([name == agent.removeprefix("one-hot-") for name in SUITE], dtype=float)
    else:
        weights = requirement
    return weights / weights.sum()


def write_run(
    path: Path,
    agent: str = "read-bandit",
    task: str = "tickets",
    seed: int = 0,
    *,
    steps: int = 20,
    step_tokens: int = 6000,
    finished: bool = True,
    stop_after: int | None = None,
    exam_steps: tuple[int, ...] = (),
    bonus: float = 0.0,
) -> Path:
    """Write one run directory; ``stop_after`` leaves it unfinished, ``bonus`` is added to every final exam score."""
    path.mkdir(parents=True)
    rng = np.random.default_rng([seed, *map(ord, agent)])
    requirement, profile = requirement_of(task), START.copy()
    source = agent.removeprefix("one-hot-") if agent.startswith("one-hot-") else ""
    config = {
        "preset": "micro", "suite": "micro", "task": task, "agent": "one-hot" if source else agent,
        "agent_options": {"capability": source} if source else {}, "seed": seed,
        "budget": {"total_tokens": steps * step_tokens, "step_tokens": step_tokens},
    }  # fmt: skip
    _write(path / "config.json", config)
    exam_start = np.round(START * 0.8 * 128) / 128
    start = {
        "suite": list(SUITE), "task": task, "requirement": requirement.tolist(), "utility_form": "weighted_mean",
        "profile": profile.tolist(), "utility": float(requirement @ profile), "exam": exam_start.tolist(),
        "dev_profile": profile.tolist(),
    }  # fmt: skip
    _write(path / "start.json", start)
    spent, total_spillover, lines = 0, 0.0, []
    essential = (requirement > 0) & (requirement >= np.sort(requirement)[-3])
    for step in range(1, (stop_after or steps) + 1):
        weights = allocation_of(agent, step, requirement, profile, rng)
        before, profile = profile, advance(profile, weights, 0.11, rng.normal(0, 0.008, len(SUITE)))
        tokens = np.floor(weights * step_tokens).astype(int)
        spent += int(tokens.sum())
        change = profile - before
        spillover = float((requirement * np.maximum(-change, 0))[essential].sum())
        total_spillover += spillover
        record = {
            "step": step,
            "allocation": weights.tolist(),
            "tokens_by_capability": tokens.tolist(),
            "completion_tokens": int(tokens.sum()),
            "prompt_tokens": int(tokens.sum() * 1.4),
            "trained_tokens": int(tokens.sum() * 2.4),
            "budget_spent": spent,
            "profile": profile.tolist(),
            "utility": float(requirement @ profile),
            "reward": float(requirement @ change) - 0.5 * spillover,
            "gain": float(requirement @ change),
            "spillover": spillover,
            "cost": 0.05,
            "forgetting": float(np.maximum(START - profile, 0)[~essential].mean()),
            "loss": 1.2 / (1 + 0.1 * step),
            "metrics": {"grad_norm": 0.8, "fkl": 1.1 / (1 + 0.1 * step)},
            "agent": {"bandit/kappa": 0.9**step},
            "seconds": {"prompts": 0.01, "teacher": 0.1, "cache": 0.02, "student": 0.9, "probes": 0.15, "other": 0.01},
            "cache": CacheUse(10, 4, 8_000, 3_000, 8_000, 640_000, 1).counts(),
        }
        if step % 5 == 0:
            dev = np.clip(profile + rng.normal(0, 0.01, len(SUITE)), 0, 1)
            record |= {"dev_profile": dev.tolist(), "dev_utility": float(requirement @ dev)}
        if step in exam_steps:
            record["exam"] = _exam(profile, bonus).tolist()
        lines.append(json.dumps(record))
    (path / "steps.jsonl").write_text("".join(line + "\n" for line in lines))
    if finished and stop_after is None:
        exam = _exam(profile, bonus)
        summary = {
            "agent": agent,
            "task": task,
            "seed": seed,
            "budget": steps * step_tokens,
            "spent": spent,
            "residue": steps * step_tokens - spent,
            "prompt_tokens": int(spent * 1.4),
            "probe_tokens": 48 * len(SUITE) * 30 * (steps + 1),
            "dev_tokens": 64 * len(SUITE) * 30 * 5,
            "tokens_before_run": 600_000 if agent == "grid-searched" else 0,
            "steps": steps,
            "profile_start": START.tolist(),
            "profile": profile.tolist(),
            "utility_start": float(requirement @ START),
            "utility": float(requirement @ profile),
            "exam_start": exam_start.tolist(),
            "exam": exam.tolist(),
            "exam_utility_start": float(requirement @ exam_start),
            "exam_utility": float(requirement @ exam),
            "spillover": total_spillover,
            "forgetting": float(np.maximum(START - profile, 0)[~essential].mean()),
            "exam_forgetting": float(np.maximum(exam_start - exam, 0)[~essential].mean()),
        }
        _write(path / "summary.json", summary)
    return path


def write_comparison(
    path: Path,
    agents=("read-bandit", "task-static", "water-filling", "random-candidate", "uniform"),
    tasks=("tickets",),
    seeds=range(3),
    **options,
) -> Path:
    (path / "runs").mkdir(parents=True)
    config = {
        "agents": list(agents), "tasks": list(tasks), "seeds": list(seeds),
        "command": "read-env compare --agents ...", "budget": {"total_tokens": 120_000, "step_tokens": 6000},
    }  # fmt: skip
    _write(path / "config.json", config)
    for agent, task, seed in itertools.product(agents, tasks, seeds):
        write_run(path / "runs" / f"{agent}__{task}__seed{seed}", agent, task, seed, **options)
    return path


def write_transfer(path: Path, budgets=(24_000, 60_000, 120_000), seeds=range(8)) -> Path:
    (path / "runs").mkdir(parents=True)
    _write(path / "config.json", {"budgets": list(budgets), "seeds": list(seeds), "preset": "micro"})
    steps = tuple(budget // 6000 for budget in budgets)
    for name, seed in itertools.product(SUITE, seeds):
        folder = path / "runs" / f"one-hot-{name}__seed{seed}"
        write_run(folder, f"one-hot-{name}", "tickets", seed, exam_steps=steps, steps=steps[-1])
    return path


def write_training(path: Path, episodes: int = 24, finished: bool = True) -> Path:
    path.mkdir(parents=True)
    _write(path / "config.json", {"agent": "read-bandit", "steps": episodes * 20, "preset": "micro"})
    rng = np.random.default_rng(3)
    lines = []
    for episode in range(1, episodes + 1):
        gain = 0.2 + 0.1 * (1 - np.exp(-episode / 8)) + rng.normal(0, 0.02)
        record = {
            "episode": episode, "task": ("tickets", "puzzles")[episode % 2], "seed": 0, "return": float(gain - 0.01),
            "steps": 20, "completion_tokens": 119_900, "utility_start": 0.3, "utility": float(0.3 + gain),
        }  # fmt: skip
        lines.append(json.dumps(record))
    (path / "episodes.jsonl").write_text("".join(line + "\n" for line in lines))
    if finished:
        _write(path / "training.json", {"label": "read-bandit-trained", "episodes": episodes})
    return path


def _exam(profile: np.ndarray, bonus: float) -> np.ndarray:
    return np.clip(np.round(np.clip(profile * 0.9 - 0.02, 0, 1) * 128) / 128 + bonus, 0.0, 1.0)


def _write(path: Path, value) -> None:
    path.write_text(json.dumps(value))
