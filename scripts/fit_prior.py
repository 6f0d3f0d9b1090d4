"""Prior of read-bandit's transfer model, fitted to the schedules of headroom.py on the training students.

python scripts/fit_prior.py     # after headroom.py; reads the schedules of its first profiling seed
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from headroom import PROFILING_SEEDS, TRAINING_PAIRS, allocations, parts

from read_env import files
from read_env.agents.transfer_model import TransferModel, TransferPrior, rates
from read_env.capabilities import Suite, get_suite
from read_env.config import load_preset
from read_env.reporting.markdown import markdown_table, number

CHUNK_TOKENS = 6_000
#: Transfer and interference of one source are told apart by differing scores only: a wider prior would let them grow
#: with opposite signs.
WIDE = TransferPrior(0.05, 0.2, 0.05, 0.0, 0.2, 0.05, 0.02)


def episodes(directory: Path, suite: Suite) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(steps, |C|) allocations and (steps + 1, |C|) profiles of every schedule of the trees."""
    for student in dict.fromkeys(student for _, student in TRAINING_PAIRS):
        pool = allocations(student, suite)
        for path in sorted(directory.glob(f"branch__{student}__*__{PROFILING_SEEDS[0]}__dev.json")):
            for name, result in files.read_json(path).items():
                profiles = np.array(result["profiles"])
                ends = [round(until * (len(profiles) - 1)) for _, until in parts(name)]
                yield np.repeat(pool[[at for at, _ in parts(name)]], np.diff([0, *ends]), axis=0), profiles


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/headroom"))
    args = parser.parse_args()

    config = load_preset("micro")
    suite, chunks = get_suite(config.suite), config.budget.step_tokens / CHUNK_TOKENS
    found = list(episodes(args.runs, suite))
    if not found:
        raise SystemExit(f"{args.runs} holds no schedules of {config.preset}: run headroom.py first")
    model, seen = TransferModel(len(suite), WIDE), set()
    for weights, profiles in found:
        for weight, before, after in zip(weights, profiles[:-1], profiles[1:], strict=True):
            if (key := (before.tobytes(), after.tobytes())) not in seen:  # schedules share their first part
                seen.add(key)
                model.update(weight, before, after - before, chunks)
    posterior = model.posterior()

    size = len(suite)
    gain, loss = posterior.mean[:, :size], posterior.mean[:, size:]
    own = np.eye(size, dtype=bool)
    parts = {"learning": gain[own], "transfer": gain[~own], "neglect": loss[own], "interference": loss[~own]}
    rows = [[name, number(float(part.mean()), 3, True), number(float(part.std()), 3)] for name, part in parts.items()]
    rows.append(["noise of a step", number(float(posterior.noise.mean()), 3), number(float(posterior.noise.std()), 3)])
    print(f"{len(found)} schedules, {len(seen)} steps; changes of probe score per {CHUNK_TOKENS:,} completion tokens\n")
    print(markdown_table(["coefficient", "mean", "s.d. over capabilities"], rows))

    predicted = []
    for weights, profiles in found:
        profile = profiles[0].copy()
        for weight in weights:
            up, down = rates(weight[None], posterior.mean)
            profile = np.clip(profile + chunks * ((1 - profile) * up[0] + profile * down[0]), 0, 1)
        predicted.append(profile)
    ends, starts = (np.array([profiles[at] for _, profiles in found]) for at in (-1, 0))
    print(
        "\nWhole schedules, rolled out with the fitted model: root mean square error of the final score, and the s.d. of"
    )
    print("the change that it predicts\n")
    rmse, spread = np.sqrt(np.mean((predicted - ends) ** 2, axis=0)), np.std(ends - starts, axis=0)
    rows = [[n, number(float(e)), number(float(s))] for n, e, s in zip(suite.names, rmse, spread, strict=True)]
    print(markdown_table(["capability", "error", "s.d."], rows))


if __name__ == "__main__":
    main()
