"""This engine and TRL side by side: the same models, prompts, completions, optimizer settings and precision.

    python scripts/benchmark_throughput.py --pair micro --out docs/benchmark_throughput.md
    python scripts/benchmark_throughput.py --pair smollm2 --threads 2 --out docs/benchmark_throughput.md
    python scripts/benchmark_throughput.py --pair random-1b-8b --out docs/benchmark_throughput.md   # a CUDA machine
    python scripts/benchmark_throughput.py --pair random-tiny --rounds 2                            # seconds: does it run?

First both train on the same batches, and must get the same losses and weights. Then they take turns in rounds, each
with its own batches; speeds and ratios are medians over the rounds. Memory comes from one more pass each, in a process
of its own. Needs trl (its GKD trainer moves between releases; this was written for 1.16).
"""

from __future__ import annotations

import argparse
import os
import pickle
import shlex
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import throughput_engines
import torch
import trl
from throughput_engines import Batching, batching, fastest_batching, held_out_loss, run, scored, train_theirs
from throughput_page import Measured, merge, section
from throughput_pairs import PRESETS, SHAPES, TOKENS, Pair, Work, load_pair, prepare
from throughput_variants import COLD, SHUFFLED, VARIANTS, WARM, Run, added_memory

#: Number of updates on the same batches that are compared.
CHECKED_UPDATES = 3
#: Teacher probabilities kept for the comparison: all of a small vocabulary.
CHECKED_K = 512
#: How much the losses of these, and the weights after them, may differ: relative, and as a share of the way from the
#: initial weights. The second for bf16, which has three digits, and where part of the vocabulary is in the tail.
EXACT, ROUGH = (1e-3, 0.02), (2e-2, 0.3)


@dataclass(frozen=True)
class Check:
    """Difference between the two engines after training on the same batches."""

    losses: list[tuple[float, float]]
    loss_gap: float
    weight_gap: float
    limits: tuple[float, float]
    kept: str

    @property
    def passed(self) -> bool:
        return self.loss_gap <= self.limits[0] and self.weight_gap <= self.limits[1]

    def __str__(self) -> str:
        ours, theirs = (", ".join(f"{value:.4f}" for value in side) for side in zip(*self.losses, strict=True))
        return (
            f"Same batches, {self.kept}: losses {ours} here and {theirs} with TRL (apart by {self.loss_gap:.1e}, allowed "
            f"{self.limits[0]:.0e}); weights apart by {self.weight_gap:.1%} of the way they went (allowed "
            f"{self.limits[1]:.0%}): {'the same' if self.passed else 'NOT the same'}."
        )


def same_batches(pair: Pair, work: Work) -> Check:
    """Both engines on the first batches, in order, with as much as possible of the teacher's distribution."""
    size, student = batching(pair, work), pair.student
    top_k, vocabulary = pair.teacher.top_k, pair.teacher.encoder.vocabulary
    a_step = size.sequences * size.passes
    if work.trained < CHECKED_UPDATES * a_step:
        sys.exit(f"{work.trained} examples: the check needs {CHECKED_UPDATES * a_step}; choose a larger --tokens")
    student.reset()
    start = _weights(student.model)
    pair.teacher.top_k = min(CHECKED_K, vocabulary)
    batches = (scored(pair, work, index * a_step, (index + 1) * a_step) for index in range(CHECKED_UPDATES))
    ours = [student.update(batch).loss for batch in batches]
    pair.teacher.top_k = top_k
    mine = _weights(student.model)
    student.reset()
    pieces = train_theirs(pair, work, "sequential", size, CHECKED_UPDATES).losses
    theirs = [sum(pieces[i * size.passes : (i + 1) * size.passes]) for i in range(CHECKED_UPDATES)]
    losses = list(zip(ours, theirs, strict=True))
    dense = vocabulary <= CHECKED_K
    return Check(
        losses,
        max(abs(a - b) / b for a, b in losses),
        ((mine - _weights(student.model)).norm() / (mine - start).norm()).item(),
        EXACT if dense and student.placement.compute == torch.float32 else ROUGH,
        "K = V" if dense else f"K = {CHECKED_K} and the whole vocabulary",
    )


def _weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten().double().cpu() for p in model.parameters()])


def measure(
    pair: Pair, work: Work, sizes: Mapping[str, Batching], rounds: int
) -> tuple[dict[str, list[Run]], dict[str, float]]:
    """Runs of every variant, in rotating order per round, after one warm-up round; losses after the last round."""
    runs: dict[str, list[Run]] = {variant: [] for variant in VARIANTS}
    losses = {}
    for index in range(rounds + 1):
        for place in range(len(VARIANTS)):
            variant = VARIANTS[(index + place) % len(VARIANTS)]
            done = run(variant, pair, work, sizes.get(variant))
            if index == rounds:
                losses[variant] = held_out_loss(pair, work)
            print(f"round {index}: {variant:45} {done.speed:10,.0f} tokens/s", flush=True)
            if index:
                runs[variant].append(done)
    return runs, losses


def in_own_process(variant: str, size: Batching | None, args: argparse.Namespace, folder: Path) -> float:
    """GiB that one pass adds to the loaded models."""
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_one_pass, variant, size, args.pair, args.threads, args.device, folder).result()


def _one_pass(variant: str, size: Batching | None, name: str, threads: int, device: str, folder: Path) -> float:
    pair = load_pair(name, threads, device)
    work: Work = pickle.loads((folder / "work.pkl").read_bytes())
    return added_memory(lambda: run(variant, pair, work, size), pair.student.placement.device)


def settings(pair: Pair, sizes: Mapping[str, Batching], runs: dict[str, list[Run]], threads: int) -> str:
    """Settings of both engines, in words."""
    theirs = ", ".join(f"{size.sequences} × {size.passes} ({variant})" for variant, size in sizes.items())
    return (
        f"{pair.config.distill.epochs} passes; {threads} thread{'s' * (threads > 1)}{', CPU time' * throughput_engines.CPU_TIME}; student: {pair.student.placement}; K = {pair.config.distill.teacher_top_k}; TRL "
        f"{trl.__version__}, sequences at once × forward passes a step: {theirs}; "
        f"{runs[COLD][0].updates} steps here, {runs[SHUFFLED][0].updates} there."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", default="micro", choices=[*PRESETS, *SHAPES])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, help=f"completion tokens of a round; {TOKENS} if not given")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--cpu-time", action="store_true", help="CPU time in place of wall time, on a machine that others use"
    )
    parser.add_argument("--out", type=Path, help="page whose section of this pair and hardware is written anew")
    args = parser.parse_args()
    throughput_engines.CPU_TIME = args.cpu_time

    pair = load_pair(args.pair, args.threads, args.device)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        work = prepare(pair, args.tokens or TOKENS[args.pair], folder / "store")
        (folder / "work.pkl").write_bytes(pickle.dumps(work))
        pair.student.reset()
        start = held_out_loss(pair, work)
        check = same_batches(pair, work)
        print(check, flush=True)
        if not check.passed:
            sys.exit("the engines don't train the same: their speeds can't be compared")
        sizes = {variant: fastest_batching(variant, pair, work) for variant in VARIANTS if variant not in (COLD, WARM)}
        runs, losses = measure(pair, work, sizes, args.rounds)
        memory = {variant: in_own_process(variant, sizes.get(variant), args, folder) for variant in VARIANTS}
    command, described = shlex.join(["python", *sys.argv]), settings(pair, sizes, runs, args.threads)
    text = section(pair, work, Measured(command, described, str(check), runs, losses, start, memory))
    print(text)
    if args.out:
        args.out.write_text(merge(args.out.read_text() if args.out.exists() else "", text))


if __name__ == "__main__":
    main()
