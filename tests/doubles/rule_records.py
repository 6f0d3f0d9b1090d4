"""Records of runs for the rules that are fitted on them, of any suite."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np


def write_run(
    path: Path, names: Sequence[str], allocations: Any, start: Any, end: Any, tokens: Any = None, finished: bool = True,
    seed: int = 0, derived: bool = False,
) -> Path:  # fmt: skip
    """Write a run directory: one row of ``allocations`` a step, the profile moving evenly from ``start`` to ``end``."""
    path.mkdir(parents=True)
    rows, start, end = np.atleast_2d(np.asarray(allocations, dtype=np.float64)), np.asarray(start), np.asarray(end)
    counts = [100] * len(rows) if tokens is None else list(tokens)
    needs = np.full(len(names), 1 / len(names))
    begin = {
        "suite": list(names), "task": "all", "requirement": needs.tolist(), "utility_form": "weighted_mean",
        "profile": start.tolist(), "utility": float(start.mean()),
    }  # fmt: skip
    lines = []
    for step, (row, count) in enumerate(zip(rows, counts, strict=True), start=1):
        profile = start + (end - start) * step / len(rows)
        numbers = dict.fromkeys(("reward", "gain", "spillover", "cost", "forgetting", "loss"), 0.0)
        spent = sum(counts[:step])
        lines.append(
            {
                "step": step,
                "allocation": row.tolist(),
                "tokens_by_capability": (row * count).tolist(),
                "completion_tokens": count,
                "prompt_tokens": 0,
                "trained_tokens": count,
                "budget_spent": spent,
                "profile": profile.tolist(),
                "utility": float(profile.mean()),
                **numbers,
            }
        )
    none = dict.fromkeys(("exam_start", "exam", "exam_utility_start", "exam_utility", "exam_forgetting"))
    counted = dict.fromkeys(("residue", "prompt_tokens", "probe_tokens", "dev_tokens", "tokens_before_run"), 0)
    summary = {
        "agent": path.name, "task": "all", "seed": seed, "budget": sum(counts), "spent": sum(counts), "steps": len(rows),
        **counted, "profile_start": start.tolist(), "profile": end.tolist(), "utility_start": float(start.mean()),
        "utility": float(end.mean()), "spillover": 0.0, "forgetting": 0.0, **none,
        **({"derived_from": "another"} if derived else {}),
    }  # fmt: skip
    (path / "start.json").write_text(json.dumps(begin))
    (path / "steps.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if finished:
        (path / "summary.json").write_text(json.dumps(summary))
    return path


@cache
def example_records(names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Options of the agents that need records, by agent: a matrix, a comparison and a run that are written once."""
    folder, size = Path(tempfile.mkdtemp(prefix="read-env-records-")), len(names)
    rng = np.random.default_rng(0)
    transfer = 0.02 * rng.standard_normal((size, size)) + 0.3 * np.eye(size)
    start = np.linspace(0.2, 0.4, size)
    mixtures = [*np.eye(size), *rng.dirichlet(np.ones(size), 2 * size + 2)]
    for index, mixture in enumerate(mixtures):
        where = folder / "transfer" / "runs" / f"one-hot-{index}" if index < size else folder / "runs" / f"mix-{index}"
        write_run(where, names, mixture, start, np.clip(start + mixture @ transfer, 0, 1))
    run = write_run(folder / "run", names, mixtures[-1], start, start)
    return {
        "skill-it": {"transfer": str(folder / "transfer")},
        "olmix": {"runs": str(folder)},
        "regmix": {"runs": str(folder), "draws": 2000},
        "frozen-mean": {"run": str(run)},
    }
