"""Remake docs/observations.md: transfer matrices at three budgets, diminishing returns, rising spillover.

    python scripts/observations.py                 # a run per capability and seed, then the page
    python scripts/observations.py --processes 1   # after an interruption the same command continues

Budgets and seeds were fixed before the first run: the preset's budget, a quarter and half of it. The seeds were used for no
setting. The learning rate is constant: the exam of a run at half of its tokens is then that of a run with half the budget.
"""

from __future__ import annotations

import numpy as np
from common import parser_of, publish

from read_env.config import load_preset
from read_env.reporting import transfer_report
from read_env.reporting.markdown import interval, markdown_table, number
from read_env.reporting.statistics import Estimate, mean_interval
from read_env.reporting.transfer import Transfer, load_transfer
from read_env.running.batch_requests import TransferRequest
from read_env.running.transfer import transfer

#: Budget at which the signs are tested; the others show the trend.
TESTED_BUDGET = 24_000


def claims(result: Transfer, measure: str) -> dict[str, Estimate]:
    """Claims of the paper's Figure 1, each as a difference that is positive if the claim holds here.

    Differences are taken within a seed, the interval is over seeds.
    """
    matrices = result.matrices[measure]
    own = matrices[0].own
    by_seed = [entry.changes.transpose(1, 0, 2) for entry in matrices]  # (seeds, sources, |C|) for each budget
    diagonal = [changes[:, own].mean(axis=1) for changes in by_seed]
    size = [np.abs(changes[:, ~own]).mean(axis=1) for changes in by_seed]
    drop = [np.maximum(-changes[:, ~own], 0.0).mean(axis=1) for changes in by_seed]
    first, middle, last = result.budgets
    early = diagonal[0] / first
    late = (diagonal[2] - diagonal[1]) / (last - middle)
    shrinks = f"marginal gain shrinks: per 10,000 tokens, the first {first:,} against {middle:,} to {last:,}"
    differences = {
        f"the own capability gains more from {last:,} tokens than from {first:,}": diagonal[2] - diagonal[0],
        f"the others move further after {last:,} tokens than after {first:,} (mean size)": size[2] - size[0],
        shrinks: 10_000 * (early - late),
        f"the mean drop of the others grows from {first:,} to {last:,} tokens": drop[2] - drop[0],
    }
    return {claim: mean_interval(values) for claim, values in differences.items()}


def introduction(result: Transfer) -> str:
    """Table of agreement with the paper."""
    tested = result.matrices["exam"][result.budgets.index(TESTED_BUDGET)]
    negative, positive = int(tested.survivors(-1).sum()), int(tested.survivors(+1).sum())
    rows = []
    for measure in ("exam", "probe"):
        for claim, found in claims(result, measure).items():
            verdict = "agrees" if found.low > 0 else "contradicts" if found.high < 0 else "open"
            rows.append([measure, claim, number(found.mean, 4, True), interval(found, 4), verdict])
    off = tested.mean[~tested.own]
    symmetric = tested.mean - np.diag(np.diag(tested.mean))
    there_and_back = float(np.corrcoef(symmetric[~tested.own], symmetric.T[~tested.own])[0, 1])
    return (
        "Made by `python scripts/observations.py`. The paper's Figure 1 (arXiv 2605.11290) shows two things: tokens "
        "spent on one capability move others, in a signed pattern that depends on the source and grows with the "
        "budget; and the gain on the target shrinks with its budget while the harm to others grows.\n\n"
        "## What agrees with the paper\n\n"
        + markdown_table(["measure", "claim", "difference", "95 % (t, over seeds)", "verdict"], rows, text_columns=2)
        + f"\n\nSigns, tested on the exam at {TESTED_BUDGET:,} tokens (a budget fixed beforehand): of "
        f"{off.size} off-diagonal entries, {negative} negative and {positive} positive ones of at least .02 survive "
        f"Holm's correction. The mean off-diagonal entry is {number(float(off.mean()), 3, True)}. What i does to j and what "
        f"j does to i correlate at {number(there_and_back, 2, True)}.\n\n"
        "The learning rate is constant, 3e-4, in place of the preset's falling one, so that a smaller budget can be "
        "measured within the run of a larger one. Sizes say nothing about models of another size."
    )


def main() -> None:
    parser = parser_of(__doc__, "runs/observations")
    parser.add_argument("--preset", default="micro")
    parser.add_argument("--budgets", type=int, nargs=3, default=[6_000, 12_000, TESTED_BUDGET])
    parser.add_argument("--seeds", type=int, nargs="*", default=list(range(7001, 7007)))
    args = parser.parse_args()

    # The allocation is fixed, so steps can be long; large teacher batches suit long streams.
    distill = {"teacher_batch_size": 96, "lr_scheduler_type": "constant", "learning_rate": 3e-4}
    config = load_preset(args.preset, {"budget": {"step_tokens": 6_000}, "distill": distill})
    request = TransferRequest(config, tuple(args.budgets), tuple(args.seeds), processes=args.processes, out=args.out)
    failures = transfer(request)
    report, intro = transfer_report(args.out), introduction(load_transfer(args.out))
    pictures = [picture.name for picture in sorted(args.out.glob("*.png"))]
    title = "Two observations on the micro world"
    print(publish(report, "observations", title=title, intro=intro, pictures=pictures, files=["transfer.json"]))
    if failures:
        raise SystemExit("\n".join(f"{name}: {error}" for name, error in failures.items()))


if __name__ == "__main__":
    main()
