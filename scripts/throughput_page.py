"""The page of scripts/benchmark_throughput.py: a section for every pair of models and kind of hardware."""

from __future__ import annotations

import os
import platform
import re
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from throughput_pairs import Pair, Work
from throughput_variants import COLD, GROUPED, SHUFFLED, VARIANTS, WARM, Run

#: Target ratio to TRL with shuffled batches, cold and warm, on two CPU cores.
BARS = {"micro": {COLD: 1.6, WARM: 3.0}, "smollm2": {COLD: 1.0, WARM: 1.5}}
#: Maximum relative difference of the held-out losses after a whole round, each with its own batches.
ROUND_TOLERANCE = 0.05
#: Dense bf16 operations a second of one device, from its maker's data sheet.
PEAK = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12}

_INTRO = """# Throughput beside TRL

Trained tokens are prompt and completion tokens of every pass, counted the same for both; both make as many passes
(`distill.epochs` here, `num_train_epochs` there). *Cold*: completions are given, the teacher's forward pass is part of the
time, once for all passes; TRL makes it in every pass. *Warm*: the teacher's targets are read from disk, in the format of the teacher cache,
checksums included. TRL has no such cache, so every one of its rows is cold. Set-up (models, tokenization, data set,
optimizer) is outside the time for both, and so are saving and logging. TRL runs with its own collator and sampler,
without gradient checkpointing, since this engine has it off too, at the same number of optimizer steps. Each of its rows
has an optimizer step in as many forward passes as suit it best on this machine, found beforehand in a pass of each. *Length-grouped* is its option `train_sampling_strategy="group_by_length"`.

The objective is forward KL. TRL takes it over the whole vocabulary, this engine over the teacher's top K tokens and one
bin for the rest. TRL's GKD trainer computes logits of both models, and the divergence, at every position, prompts and
padding included; this engine at completion tokens alone, which counts where the vocabulary is large and prompts are long.
That it is the same objective is checked twice. Before the clock runs, on the same batches and with K = V (of large
vocabularies: with K = 512): the losses of the first updates and the weights after them agree. And after a round with its
own batches and its own K: each student's forward KL over the whole vocabulary, on held-out examples and by TRL's
function, agrees with that of TRL's to {tolerance:.0%}.

TRL's DistillationTrainer samples completions from the student and has no mode for given ones. For its row the sampling
is replaced by a look-up of the same completions, which leaves its loss, batches and loop; the last, incomplete batch is
dropped, as it does.

Memory is what a pass adds at its peak to what the loaded models take: resident memory on a CPU, torch's allocations on a
GPU. Model FLOP utilisation counts 6 operations for each parameter of the student and 2 of the teacher (0 where targets
are read), the output head at completion tokens only, and no attention scores.
"""

_ON_A_GPU = "random-1b-8b"
_WITHOUT_A_GPU = f"""
**No GPU was at hand** for this page: what `--pair {_ON_A_GPU}` measures, on a CUDA machine, is missing.
"""


def operations(pair: Pair, work: Work, variant: str) -> float:
    """Floating-point operations of one pass over all examples."""
    completion_tokens, total = sum(map(len, work.token_ids[: work.trained])), sum(work.lengths)

    def of(model: torch.nn.Module, factor: int) -> float:
        head, inputs = model.get_output_embeddings().weight, model.get_input_embeddings().weight
        body = sum(p.numel() for p in model.parameters() if p is not head and p is not inputs)
        return factor * (body * total + head.numel() * completion_tokens)

    return of(pair.student.model, 6) + (0 if variant == WARM else of(pair.teacher.model, 2))


def hardware(device: torch.device) -> str:
    """Kind of machine, without its name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE) if cpuinfo.exists() else None
    return f"{found.group(1) if found else platform.machine()}, {os.cpu_count()} cores"


@dataclass(frozen=True)
class Measured:
    """Measurements of one pair.

    Attributes:
        command: that measured it.
        settings: of both engines, in words.
        check: what came of training both on the same batches, in words.
        runs: by variant, those of each round.
        losses: by variant, held-out forward KL after the last round, nats per completion token.
        initial_loss: the same before training.
        memory: by variant, GiB that a pass adds.
    """

    command: str
    settings: str
    check: str
    runs: Mapping[str, list[Run]]
    losses: Mapping[str, float]
    initial_loss: float
    memory: Mapping[str, float]

    def speeds(self, variant: str) -> list[float]:
        """Trained tokens per second, by round."""
        return [run.speed for run in self.runs[variant]]

    def ratios(self, variant: str, base: str) -> list[float]:
        """Ratio of two variants' speeds, by round."""
        return [a / b for a, b in zip(self.speeds(variant), self.speeds(base), strict=True)]


def section(pair: Pair, work: Work, measured: Measured) -> str:
    """The Markdown of this pair on this machine."""
    device, losses = pair.student.placement.device, measured.losses
    gap = max(abs(losses[v] - losses[SHUFFLED]) / losses[SHUFFLED] for v in (COLD, WARM))
    same = gap <= ROUND_TOLERANCE
    completion_tokens = sum(map(len, work.token_ids[: work.trained]))
    lines = [
        f"## {pair.name} on {hardware(device)}", "",
        f"`{measured.command}`: {len(measured.runs[COLD])} rounds of {sum(work.lengths):,} tokens, {completion_tokens:,} of them "
        f"completion, in {work.trained} examples. {measured.settings} Median (range) over the rounds; ratios are taken "
        "round by round.", "",
        f"{measured.check} Held-out forward KL was {measured.initial_loss:.4f} before training; after a round this engine "
        f"and TRL are apart by {gap:.1%} (allowed {ROUND_TOLERANCE:.0%}): {'the same' if same else 'NOT the same'}.", "",
        *_table(pair, work, measured), "",
    ]  # fmt: skip
    if device.type == "cpu" and not same:
        lines.append("What was aimed at is not judged: students that learned something else can't be compared.")
    elif device.type == "cpu":
        for variant, bar in BARS.get(pair.name, {}).items():
            ratio = statistics.median(measured.ratios(variant, SHUFFLED))
            lines.append(f"- {variant}: aimed at {bar:g}×, got {ratio:.2f}×: {'met' if ratio >= bar else 'missed'}.")
    return "\n".join(lines).rstrip() + "\n"


def _table(pair: Pair, work: Work, measured: Measured) -> list[str]:
    device = pair.student.placement.device
    peak = next((p for name, p in PEAK.items() if re.search(rf"\b{name}\b", hardware(device))), None)
    titles = ["", "trained tokens/s", "ratio to TRL shuffled", "to length-grouped", "memory added", "held-out FKL"]
    titles += ["TFLOP/s (of peak)"] if device.type == "cuda" else []
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for variant in VARIANTS:
        row = [variant, _range(measured.speeds(variant), ",.0f")]
        row += [_range(measured.ratios(variant, base), ".2f") for base in (SHUFFLED, GROUPED)]
        row += [f"{1024 * measured.memory[variant]:,.0f} MiB", f"{measured.losses[variant]:.4f}"]
        if device.type == "cuda":
            a_token = operations(pair, work, variant) / sum(work.lengths)
            rate = a_token * statistics.median(measured.speeds(variant))
            row.append(f"{rate / 1e12:,.0f}" + (f" ({rate / peak:.0%})" if peak else ""))
        lines.append("| " + " | ".join(row) + " |")
    return lines


def _range(values: list[float], form: str) -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}}–{max(values):{form}})"


def merge(page: str, new: str) -> str:
    """The page with a section in place of the one of the same title, or at the end."""
    sections = {part.partition("\n")[0]: part.strip() for part in page.split("\n## ")[1:]}
    sections[new.removeprefix("## ").partition("\n")[0]] = new.removeprefix("## ").strip()
    body = "\n\n".join(f"## {sections[title]}" for title in sorted(sections))
    without = "" if any(title.startswith(_ON_A_GPU) for title in sections) else _WITHOUT_A_GPU
    return _INTRO.format(tolerance=ROUND_TOLERANCE) + without + "\n" + body + "\n"
