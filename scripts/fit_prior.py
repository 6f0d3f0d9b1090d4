"""Prior of read-bandit's transfer model, fitted to runs of fixed allocations on the micro world.

python scripts/fit_prior.py     # after allocation_gap.py --search-only; reads its runs of one profiling seed
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from read_env.agents.transfer_model import TransferModel, TransferPrior, rates
from read_env.reporting import load_run
from read_env.reporting.markdown import markdown_table, number

CHUNK_TOKENS = 6_000
#: Transfer and interference of one source are told apart by differing scores only: a wider prior would let them grow
#: with opposite signs.
WIDE = TransferPrior(0.05, 0.1, 0.03, 0.0, 0.1, 0.03, 0.02)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/gap/search/runs"))
    parser.add_argument("--seed", type=int, default=5001)
    args = parser.parse_args()

    runs = [load_run(path) for path in sorted(args.runs.glob(f"*__seed{args.seed}"))]
    if not runs:
        raise SystemExit(f"{args.runs} holds no run of seed {args.seed}: run allocation_gap.py --search-only first")
    names = runs[0].begun.suite
    model = TransferModel(len(names), WIDE)
    for run in runs:
        profile = run.begun.profile
        for step in run.steps:
            chunks = step.completion_tokens / CHUNK_TOKENS
            model.update(step.allocation, profile, step.profile - profile, chunks)
            profile = step.profile
    posterior = model.posterior()

    size = len(names)
    gain, loss = posterior.mean[:, :size], posterior.mean[:, size:]
    own = np.eye(size, dtype=bool)
    parts = {"learning": gain[own], "transfer": gain[~own], "neglect": loss[own], "interference": loss[~own]}
    rows = [[name, number(float(part.mean()), 3, True), number(float(part.std()), 3)] for name, part in parts.items()]
    rows.append(["noise of a step", number(float(posterior.noise.mean()), 3), number(float(posterior.noise.std()), 3)])
    print(f"{len(runs)} runs of seed {args.seed}; changes of probe score per {CHUNK_TOKENS:,} completion tokens\n")
    print(markdown_table(["coefficient", "mean", "s.d. over capabilities"], rows))

    errors, changes = [], []
    for run in runs:
        profile = run.begun.profile.copy()
        for step in run.steps:
            up, down = rates(step.allocation[None], posterior.mean)
            chunks = step.completion_tokens / CHUNK_TOKENS
            profile = np.clip(profile + chunks * ((1 - profile) * up[0] + profile * down[0]), 0, 1)
        errors.append(profile - run.ended.profile)
        changes.append(run.ended.profile - run.begun.profile)
    print("\nWhole runs, rolled out with the fitted model: root mean square error of the final score, and the s.d. of")
    print("what it predicts\n")
    rmse, spread = np.sqrt(np.mean(np.square(errors), axis=0)), np.std(changes, axis=0)
    rows = [[n, number(float(e)), number(float(s))] for n, e, s in zip(names, rmse, spread, strict=True)]
    print(markdown_table(["capability", "error", "s.d."], rows))


if __name__ == "__main__":
    main()
