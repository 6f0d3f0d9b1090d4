"""Remake docs/probe_validity.md: rank correlation between probe score and exam over students.

python scripts/probe_validity.py     # about 15 minutes on one core
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
from common import write_page

from read_env.config import load_preset
from read_env.distillation.process import Distillation
from read_env.reporting.markdown import markdown_table, number
from read_env.reporting.statistics import spearman


def students(
    preset: str, allocations: list[np.ndarray], total_tokens: int, step_tokens: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Probe profiles and exams, both (students, |C|): S_0 and the student after every step of each allocation's run."""
    budget = {"total_tokens": total_tokens, "step_tokens": step_tokens}
    distillation = Distillation.load(load_preset(preset, {"budget": budget, "distill": {"teacher_batch_size": 96}}))
    profiles, exams = [distillation.reset(seed)], [distillation.exam()]
    for offset, allocation in enumerate(allocations):
        distillation.reset(seed + offset)
        while not distillation.exhausted:
            profiles.append(distillation.step(allocation).profile)
            exams.append(distillation.exam())
            print(f"run {offset + 1} of {len(allocations)}: {distillation.budget.spent:,} tokens", flush=True)
    return np.array(profiles), np.array(exams)


def correlation_table(names: Sequence[str], profiles: np.ndarray, exams: np.ndarray) -> str:
    """Spearman's ρ between probe score and exam exact match over students, by capability, as a Markdown table.

    Without p-values: students along one run are not independent. A capability that does not vary says so.

    Args:
        names: capabilities, in the suite's order.
        profiles: (students, |C|) probe profiles of student checkpoints.
        exams: (students, |C|) exam exact match of the same checkpoints.

    Raises:
        ValueError: shapes that do not fit each other or the names.
    """
    first, second = np.asarray(profiles, dtype=np.float64), np.asarray(exams, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 2 or first.shape[1] != len(names):
        raise ValueError(
            f"expected profiles and exams of shape (students, {len(names)}), got {first.shape} and {second.shape}"
        )
    rows = []
    for name, probe, exam in zip(names, first.T, second.T, strict=True):
        rho, _, note = spearman(probe, exam)
        span = f"{number(exam.min(), 2)} – {number(exam.max(), 2)}"
        rows.append([name, number(rho), str(len(exam)), span, note])
    header = ["capability", "Spearman ρ", "students", "exam from – to", "note"]
    width = 5 if any(row[-1] for row in rows) else 4
    return markdown_table(header[:width], [row[:width] for row in rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="micro")
    parser.add_argument("--seed", type=int, default=8001)
    args = parser.parse_args()

    distillation = Distillation.load(load_preset(args.preset))
    names, settings = distillation.suite.names, distillation.config.eval
    size = len(names)
    uniform = np.ones(size)
    first_half = (np.arange(size) < size // 2).astype(float)
    long_run = students(args.preset, [uniform], 600_000, 25_000, args.seed)
    short_runs = students(args.preset, [uniform, first_half, 1 - first_half], 120_000, 15_000, args.seed + 10)
    write_page(
        "probe_validity",
        "# Probe score and exam\n\nMade by `python scripts/probe_validity.py`: probes of "
        f"{settings.probes} and an exam of {settings.exam} prompts per capability; Spearman's ρ over students, and the "
        "range of their exam scores: where students hardly differ, noise decides their order.\n\n"
        "## Along one training run\n\nS_0 and the students after every 25,000 of 600,000 completion tokens, spread "
        f"evenly.\n\n{correlation_table(names, *long_run)}\n\n"
        "## Across short runs\n\nS_0 and the students after every 15,000 of 120,000 completion tokens under three "
        "allocations: even, the suite's first half only, its second half only.\n\n"
        f"{correlation_table(names, *short_runs)}\n",
    )


if __name__ == "__main__":
    main()
