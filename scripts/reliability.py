"""Remake docs/reliability.md: kills and resumes, the ledger under random budgets, and malformed inputs.

    python scripts/kill_runs.py --kills 200
    python scripts/reliability.py

The first command kills, the second one checks the ledger, tries inputs, and writes the page from the logs of both. Each goes
on from its log after an interruption.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from common import DOCS
from kill_runs import Experiment
from malformed_inputs import Kinds, tried

from read_env import files
from read_env.config import BudgetConfig
from read_env.distillation.budget import TokenBudget
from read_env.distillation.examples.allocation import Quotas, normalise_allocation
from read_env.distillation.process import Distillation
from read_env.reporting.markdown import markdown_table, write_page

#: Cases of the ledger in one line of the log.
_BLOCK = 2_000


class _Completion:
    """Example whose tokens are only counted."""

    prompt_ids = (0,) * 7

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length


class _Lengths:
    """Stream of completions of given lengths, repeated for ever."""

    def __init__(self, lengths: Sequence[Sequence[int]]) -> None:
        self.lengths, self.taken = lengths, [0] * len(lengths)

    def peek(self, capability: int) -> _Completion:
        own = self.lengths[capability]
        return _Completion(own[self.taken[capability] % len(own)])

    def take(self, capability: int) -> _Completion:
        example = self.peek(capability)
        self.taken[capability] += 1
        return example


class Ledger(Distillation):
    """Distillation that grants, gathers and charges, and trains nothing.

    Args:
        total: budget, completion tokens.
        step_tokens: completion tokens per step.
        lengths: per capability, tokens of the completions in stream order.
    """

    def __init__(self, total: int, step_tokens: int, lengths: Sequence[Sequence[int]]) -> None:
        budget = BudgetConfig(total_tokens=total, step_tokens=step_tokens)
        self.config: Any = SimpleNamespace(budget=budget, distill=SimpleNamespace(curriculum="uniform"))
        self.budget = TokenBudget(total)
        self.suite: Any = SimpleNamespace(names=tuple(map(str, range(len(lengths)))))
        self.step_index, self.exhausted = 0, False
        self._stream: Any = _Lengths(lengths)
        self._quotas = Quotas(len(lengths))

    def chunk(self, weights: Sequence[float]) -> np.ndarray:
        """Tokens by capability of one step, (|C|,)."""
        allocation = normalise_allocation(weights, len(self.suite.names))
        examples, capabilities = self._gather(allocation, self._grant(allocation))
        self._charge(examples)
        return np.bincount(capabilities, [len(e) for e in examples], minlength=len(allocation))

    def fits(self, weights: Sequence[float]) -> bool:
        """True if the next completion of a capability with a weight fits into what is left."""
        return any(w > 0 and len(self._stream.peek(c)) <= self.budget.left for c, w in enumerate(weights))


def ledger_faults(
    total: int, step_tokens: int, lengths: Sequence[Sequence[int]], allocations: Sequence[Sequence[float]]
) -> list[str]:
    """Spend a budget and return what is wrong with the ledger.

    Args:
        total: budget, completion tokens.
        step_tokens: completion tokens per step.
        lengths: per capability, tokens of the completions in stream order.
        allocations: weights of the steps, repeated until the budget is spent.

    Returns:
        Any of ``overspent``; ``miscounted``: the ledger is not the sum of the examples; ``outside``: tokens for a
        capability without a weight; ``left over``: the last step ends although a completion fits.
    """
    ledger, spent, faults = Ledger(total, step_tokens, lengths), 0, []
    while not ledger.exhausted:
        weights = allocations[ledger.step_index % len(allocations)]
        try:
            tokens = ledger.chunk(weights)
        except ValueError as error:
            return ["overspent"] if "cannot spend" in str(error) else [f"error: {error}"]
        spent += int(tokens.sum())
        faults += ["overspent"] * (spent > total) + ["miscounted"] * (ledger.budget.spent != spent)
        faults += ["outside"] * bool(tokens[np.array(weights) == 0].any())
    return faults + ["left over"] * ledger.fits(weights)


def _random_case(rng: np.random.Generator) -> tuple[int, int, list[list[int]], list[list[float]]]:
    size, total = int(rng.integers(1, 10)), int(10 ** rng.uniform(0, 3.5))
    longest = int(10 ** rng.uniform(0, 2.5))
    lengths = rng.integers(1, longest + 1, (size, int(rng.integers(1, 20)))).tolist()
    allocations = rng.dirichlet(np.full(size, 10 ** rng.uniform(-1.5, 1)), int(rng.integers(1, 5)))
    allocations[rng.random(allocations.shape) < 0.2] = 0
    allocations[allocations.sum(1) == 0] = 1
    allocations *= 10 ** rng.uniform(-6, 6)
    return total, int(max(1, total * 10 ** rng.uniform(-1.5, 0.5))), lengths, allocations.tolist()


class Study:
    """Log of the ledger's cases and of the inputs, and the page.

    Args:
        out: folder of the log.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.log = out / "log.jsonl"
        out.mkdir(parents=True, exist_ok=True)
        self.lines = files.read_lines(self.log)
        files.keep_lines(self.log, len(self.lines))

    def of(self, part: str) -> list[dict[str, Any]]:
        """Lines of one part."""
        return [line for line in self.lines if line["part"] == part]

    def note(self, **line: Any) -> None:
        """Add a line to the log."""
        files.append_line(self.log, line)
        self.lines.append(line)
        print({name: value for name, value in line.items() if name != "tracebacks"}, flush=True)
        for error, place, given in line.get("tracebacks", ()):
            print(f"  {error} | {place} | {given}", flush=True)

    def ledger(self, cases: int) -> None:
        """Spend random budgets by random allocations."""
        done = sum(line["cases"] for line in self.of("ledger"))
        while done < cases:
            rng, faults, steps = np.random.default_rng(done), [], 0
            count = min(_BLOCK, cases - done)
            for _ in range(count):
                case = _random_case(rng)
                faults += ledger_faults(*case)
                steps += BudgetConfig(total_tokens=case[0], step_tokens=case[1]).steps
            self.note(
                part="ledger", cases=count, steps=steps, faults={name: faults.count(name) for name in set(faults)}
            )
            done += count

    def inputs(self, count: int) -> None:
        """Read malformed inputs, ``count`` of each kind."""
        scratch = (self.out / "scratch").resolve()
        scratch.mkdir(exist_ok=True)
        done, before = {line["kind"] for line in self.of("inputs")}, Path.cwd()
        for kind, (strategy, read) in Kinds(scratch).all().items():
            if kind not in done:
                os.chdir(scratch)
                try:
                    found = tried(strategy(), read, count, number=0)
                finally:
                    os.chdir(before)
                self.note(part="inputs", kind=kind, **found)

    def page(self, path: Path, command: str) -> Path:
        """Write the page."""
        kills = Experiment(self.out / "kills", seed=0)
        ledger, inputs = self.of("ledger"), self.of("inputs")
        steps, cases = (sum(line[name] for line in ledger) for name in ("steps", "cases"))
        faults = ("overspent", "miscounted", "outside", "left over")
        counts = [sum(line["faults"].get(fault, 0) for line in ledger) for fault in faults]
        others = sum(sum(line["faults"].values()) for line in ledger) - sum(counts)
        rows = [[kind, *map(str, numbers)] for kind, *numbers in (
            *((line["kind"], line["tried"], line["refused"], len(line["tracebacks"])) for line in inputs),
            ("all", *(sum(line[name] for line in inputs) for name in ("tried", "refused")),
             sum(len(line["tracebacks"]) for line in inputs)),
        )]  # fmt: skip
        errors = [
            f"- {line['kind']}: `{error[0]}` at {error[1]}" for line in inputs for error in line["tracebacks"][:5]
        ]
        return write_page(path, [
            "# Reliability", f"Written by `{command}`, from its log and that of `python scripts/kill_runs.py`.",
            "## Kills", _KILLS, kills.table(),
            "## Ledger", _LEDGER, markdown_table(
                ["cases", "steps", *faults, "other errors"],
                [[f"{cases:,}", f"{steps:,}", *map(str, counts), str(others)]], text_columns=0,
            ),
            "## Malformed inputs", _INPUTS, markdown_table(["kind", "tried", "refused", "tracebacks"], rows),
            "\n".join(errors),
        ])  # fmt: skip


_KILLS = """\
`read-env run`, `train` and `compare` (two workers) on the micro models, eight or twelve steps, killed by SIGKILL with all
their workers and started again by the same command until they end. Moments are uniform over the processor time of an
uninterrupted process, from its first line to its report; the times of one that starts an interpreter (every eighth) and of
one that is a fork with the libraries imported are in the table. A run *differs* if a record (without seconds and the use of
the cache), the weights of a student, a saved agent or `runs.csv` is not that of the uninterrupted run, to the bit; it *failed*
if it ended with another exit code than 0. *In a write*: the kill left a temporary file."""

_LEDGER = """\
Random budgets, step sizes, allocations and lengths of completions, spent by the code of a run up to the student: shares,
quotas, whole examples, charge. *Overspent*: more tokens than the budget. *Miscounted*: the ledger is not the sum of the
examples. *Outside*: tokens for a capability of weight zero. *Left over*: the last step ends although a completion fits."""

_INPUTS = """\
Drawn by hypothesis: options with values that don't fit, files with one value replaced, removed or repeated, files that are cut
or garbled, snapshots and checkpoints with one part replaced. An input ends in a one-line error, in the start of a run (some
damage does no harm), or in a *traceback*, which is a fault."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=100_000, help="cases of the ledger")
    parser.add_argument("--inputs", type=int, default=60, help="inputs of each kind")
    parser.add_argument("--out", type=Path, default=Path("runs/reliability"))
    parser.add_argument("--page", type=Path, default=DOCS / "reliability.md")
    args = parser.parse_args()
    study = Study(args.out)
    study.ledger(args.cases)
    study.inputs(args.inputs)
    print(study.page(args.page, shlex.join(["python", *sys.argv])))


if __name__ == "__main__":
    main()
