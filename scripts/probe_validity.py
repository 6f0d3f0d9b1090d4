"""Does the probe score mean something? Its rank correlation with the exam along distillation runs.

    python scripts/probe_validity.py     # writes docs/probe_validity.md

Students are taken after every step of runs with different allocations, so that each capability is
seen rising and falling. Reported is Spearman's rank correlation of probe score and exam exact match.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from read_env.config import load_preset
from read_env.distillation.process import Distillation
from read_env.reporting import correlation_table, correlations

DOCS = Path(__file__).resolve().parent.parent / "docs"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="micro")
    parser.add_argument("--total-tokens", type=int, default=120_000)
    parser.add_argument("--step-tokens", type=int, default=15_000)
    parser.add_argument("--seed", type=int, default=8001)
    args = parser.parse_args()

    budget = {"total_tokens": args.total_tokens, "step_tokens": args.step_tokens}
    distillation = Distillation.load(load_preset(args.preset, {"budget": budget}))
    names = distillation.suite.names
    size = len(names)
    halves = np.arange(size) < size // 2
    allocations = {"uniform": np.ones(size), "first half": halves.astype(float), "second half": (~halves).astype(float)}
    profiles, exams = [distillation.reset(args.seed)], [distillation.exam()]
    for offset, allocation in enumerate(allocations.values()):
        distillation.reset(args.seed + offset)
        while not distillation.exhausted:
            profiles.append(distillation.step(allocation).profile)
            exams.append(distillation.exam())
    found = correlations(names, np.array(profiles), np.array(exams))
    (DOCS / "probe_validity.md").write_text(
        "# Probe score and exam\n\nMade by `python scripts/probe_validity.py`: "
        f"{len(profiles)} students, S_0 and those after every {args.step_tokens:,} of {args.total_tokens:,} completion "
        f"tokens under the allocations {', '.join(allocations)}; probes of {distillation.config.measure.probes} and an "
        f"exam of {distillation.config.measure.exam} prompts a capability.\n\n{correlation_table(found)}\n"
    )
    print((DOCS / "probe_validity.md").read_text())


if __name__ == "__main__":
    main()
