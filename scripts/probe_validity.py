"""Remake docs/probe_validity.md: rank correlation between probe score and exam over students.

python scripts/probe_validity.py     # about 15 minutes on one core
"""

from __future__ import annotations

import argparse

import numpy as np
from pages import DOCS

from read_env.config import load_preset
from read_env.distillation.process import Distillation
from read_env.reporting import correlation_table, correlations


def students(
    preset: str, allocations: list[np.ndarray], total_tokens: int, step_tokens: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Probe profiles and exams, both (students, |C|): S_0 and the student after every step of each allocation's run."""
    overrides = {
        "budget": {"total_tokens": total_tokens, "step_tokens": step_tokens},
        "distill": {"teacher_batch_size": 96},
    }
    distillation = Distillation.load(load_preset(preset, overrides))
    profiles, exams = [distillation.reset(seed)], [distillation.exam()]
    for offset, allocation in enumerate(allocations):
        distillation.reset(seed + offset)
        while not distillation.exhausted:
            profiles.append(distillation.step(allocation).profile)
            exams.append(distillation.exam())
            print(f"run {offset + 1} of {len(allocations)}: {distillation.budget.spent:,} tokens", flush=True)
    return np.array(profiles), np.array(exams)


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
    (DOCS / "probe_validity.md").write_text(
        "# Probe score and exam\n\nMade by `python scripts/probe_validity.py`: probes of "
        f"{settings.probes} and an exam of {settings.exam} prompts per capability; Spearman's ρ over students, and the "
        "range of their exam scores: where students hardly differ, noise decides their order.\n\n"
        "## Along one training run\n\nS_0 and the students after every 25,000 of 600,000 completion tokens, spread "
        f"evenly.\n\n{correlation_table(correlations(names, *long_run), long_run[1])}\n\n"
        "## Across short runs\n\nS_0 and the students after every 15,000 of 120,000 completion tokens under three "
        "allocations: even, the suite's first half only, its second half only.\n\n"
        f"{correlation_table(correlations(names, *short_runs), short_runs[1])}\n"
    )
    print((DOCS / "probe_validity.md").read_text())


if __name__ == "__main__":
    main()
