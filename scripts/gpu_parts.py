"""Measurements of scripts/gpu_day.py: each returns a table; ``tiny`` makes them small enough for a CPU."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from benchmark_compile import SHAPES as BATCHES
from benchmark_compile import made, passes
from throughput_pairs import SHAPES, numbers, random_examples, random_model

from read_env.capabilities.base import Prompt
from read_env.config import load_preset, make_config
from read_env.distillation.loading import load
from read_env.distillation.process import Distillation
from read_env.distillation.student.compiled import CompiledLayers
from read_env.distillation.student.student import Student
from read_env.distillation.text.completion import Example
from read_env.losses import TeacherTargets
from read_env.reporting.markdown import number

ROOT = Path(__file__).resolve().parent.parent
#: Updates that are timed, after one that isn't.
UPDATES = 8
#: Teacher probabilities kept per token.
TOP_K = 32


class Missing(Exception):
    """A package that a part needs is not installed."""


@dataclass(frozen=True)
class Table:
    """Result of a part.

    Attributes:
        header: names of the columns.
        rows: cells as they are shown.
        note: sentence below the table.
    """

    header: list[str]
    rows: list[list[str]]
    note: str = ""


def tests(device: str, tiny: bool) -> Table:
    """Tests that need a GPU; of the same file those on the CPU, where there is none."""
    mark = ["-m", "cuda"] if device.startswith("cuda") else ["-k", "cpu and profiles_are_those"]
    command = ["pytest", "-q", "-p", "no:cacheprovider", *mark, "tests/cuda"]
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
    print(done.stdout, done.stderr, sep="\n")
    counts = re.findall(r"(\d+) (passed|failed|skipped|deselected|errors?)", done.stdout.strip().rpartition("\n")[2])
    if done.returncode not in (0, 1) or not counts:
        raise RuntimeError(f"pytest ended with {done.returncode}")
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    found = dict.fromkeys(("passed", "failed", "skipped"), "0")
    found |= {name: count for count, name in counts if name != "deselected"}
    note = "Failed: " + ", ".join(f"`{name}`" for name in failed) if failed else ""
    return Table(["command", *found], [[f"`{' '.join(command)}`", *found.values()]], note)


def micro(device: str, tiny: bool) -> Table:
    """The same episode of the micro world on a CPU and on this device."""
    steps = 2 if tiny else 10
    allocations = np.random.default_rng(0).dirichlet(np.ones(10), steps)
    played = {}
    for where in ("cpu", device):
        changes: dict[str, Any] = {"models": {"device": where}, "eval": {"ema_decay": 0.0}}
        if tiny:
            changes |= {"budget": {"total_tokens": 800, "step_tokens": 400}, "eval": {"probes": 4, "ema_decay": 0.0}}
        run = Distillation.load(load_preset("micro", changes))
        run.reset(0)
        profiles, seconds = [run.profile], []
        for allocation in allocations:
            begun = time.perf_counter()
            profiles.append(run.step(allocation).profile)
            seconds.append(time.perf_counter() - begun)
        played[where] = np.array(profiles), np.array(seconds)
    apart = np.abs(played[device][0] - played["cpu"][0]).max(1)
    rows = [
        [where, number(1 / float(np.median(seconds[1:] if len(seconds) > 1 else seconds)), 2),
         number(float(seconds.sum()), 1)]
        for where, (_, seconds) in played.items()
    ]  # fmt: skip
    note = f"Largest difference between the profiles: {apart[0]:.1e} at the start, {apart[1]:.1e} after a step, {apart[-1]:.1e} after {steps}."
    return Table(["device", "steps/s", "seconds of an episode"], rows, note)


def throughput(device: str, tiny: bool) -> Table:
    """This engine beside TRL at the shapes of a 1B student and an 8B teacher."""
    if importlib.util.find_spec("trl") is None:
        raise Missing("trl")
    pair = ["--pair", "random-tiny", "--rounds", "1"] if tiny else ["--pair", "random-1b-8b", "--rounds", "3"]
    page = ROOT / "docs" / "benchmark_throughput.md"
    command = ["scripts/benchmark_throughput.py", *pair, "--device", device]
    done = subprocess.run(
        [sys.executable, *command, *([] if tiny else ["--out", str(page.relative_to(ROOT))])],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    print(done.stdout, done.stderr, sep="\n")
    if done.returncode:
        raise RuntimeError(done.stderr.strip().rpartition("\n")[2] or f"ended with {done.returncode}")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines() if "|" in line]
    header, _, *cells = rows
    return Table(header, cells, f"`python {' '.join(command)}`")


@dataclass(frozen=True)
class Variant:
    """Student whose updates are timed."""

    name: str
    large: bool
    models: dict[str, Any]


VARIANTS = (
    Variant("1B, all weights", False, {}),
    Variant("1B, all weights, FlashAttention", False, {"attn_implementation": "flash_attention_2"}),
    Variant("8B, LoRA", True, {"lora_r": 16}),
    Variant("8B, LoRA, gradient checkpointing", True, {"lora_r": 16, "gradient_checkpointing": True}),
)


def updates(device: str, tiny: bool) -> Table:
    """Updates of students with random weights in the shapes of Llama models."""
    rows, absent = [], []
    for variant in VARIANTS:
        if "attn_implementation" in variant.models and importlib.util.find_spec("flash_attn") is None:
            absent.append(variant.name)
            continue
        rows.append(_update_row(variant, device, tiny))
    note = f"flash-attn is not installed: without {', '.join(absent)}." if absent else ""
    return Table(
        ["student", "parameters", "trained", "dtype", "trained tokens/s", "peak memory, GiB", "loss"], rows, note
    )


def _update_row(variant: Variant, device: str, tiny: bool) -> list[str]:
    shape_name = "random-tiny" if tiny else "random-1b-8b"
    vocabulary, *shapes = SHAPES[shape_name]
    tokens = 400 if tiny else 8_192
    config = make_config(
        {
            "models": {"device": device, **({} if tiny else {"dtype": "bfloat16"}), **variant.models},
            "distill": {"loss": "fkl", "teacher_top_k": TOP_K, "micro_batch_tokens": 2 * tokens, "learning_rate": 1e-4},
        },
        shape_name,
    )
    encoder = numbers(vocabulary)
    model, placement = random_model(config, vocabulary, shapes[variant.large], not config.models.lora_r)
    parameters = model.num_parameters()
    student = Student(model, encoder, config.distill, placement, config.models)
    groups = list(_groups(shape_name, vocabulary, tokens))
    losses = [student.update(groups[0]).loss]
    _synchronize(device, reset=True)
    begun = time.perf_counter()
    losses += [student.update(group).loss for group in groups[1:]]
    _synchronize(device)
    seconds = time.perf_counter() - begun
    trained = sum(len(e.prompt_ids) + len(e.token_ids) for group in groups[1:] for e in group)
    peak = f"{torch.cuda.max_memory_allocated() / 2**30:.1f}" if device.startswith("cuda") else ""
    return [
        variant.name, f"{parameters / 1e6:,.1f} M", f"{student.trained_parameters / 1e6:,.1f} M", str(placement.compute).removeprefix("torch."),
        f"{trained / seconds:,.0f}", peak, f"{losses[0]:.3f} → {losses[-1]:.3f}",
    ]  # fmt: skip


def _groups(shape: str, vocabulary: int, tokens: int) -> Iterator[list[Example]]:
    """Examples of one update after another, with K distinct tokens at each position; the answer's has probability ½."""
    drawn = iter(random_examples(shape, vocabulary, (UPDATES + 2) * tokens))
    # The stride is a prime that divides no vocabulary here, so that the K tokens differ.
    strides = 7919 * torch.arange(TOP_K)
    probabilities = torch.tensor([0.5, *[0.4 / (TOP_K - 1)] * (TOP_K - 1)])
    for _ in range(UPDATES + 1):
        group: list[Example] = []
        while sum(map(len, group)) < tokens:
            text, prompt, completion = next(drawn)
            ids, count = torch.tensor(completion), len(completion)
            top = (ids[:, None] + strides) % vocabulary
            targets = TeacherTargets(ids, top, probabilities.log().expand(count, -1), torch.full((count,), 0.1).log())
            group.append(Example(Prompt("random", "random", text, "", 0.0), prompt, completion, targets))
        yield group


def compiled(device: str, tiny: bool) -> Table:
    """Forward and backward pass of the micro student by ``models.torch_compile_mode``."""
    shapes, rounds = (BATCHES[:1], 1) if tiny else (BATCHES, 5)
    loaded = load("embedded:micro/student")
    vocabulary, pad = loaded.encoder.vocabulary, loaded.encoder.pad_id
    rows, eager = [], 0.0
    modes: tuple[Literal["off", "default", "reduce-overhead"], ...] = ("off", "default", "reduce-overhead")
    for mode in modes[:2] if tiny else modes:
        model = load("embedded:micro/student").model.to(device).float().train()
        layers = CompiledLayers(model, mode) if mode != "off" else None
        rng, shape = np.random.default_rng(0), layers.shape if layers else None
        inputs = [made(*one, vocabulary, pad, rng, shape).to(device) for one in shapes]
        work = partial(passes, model, inputs, vocabulary, *([layers.begin_pass] if layers else []))
        with layers.in_place() if layers else nullcontext():
            first, *others = [_timed(work, device) for _ in range(rounds + 1)]
        seconds = float(np.median(others))
        eager = eager or seconds
        rows.append(
            [f"`{mode}`", number(1000 * seconds / len(inputs), 1), number(eager / seconds, 2), number(first, 1)]
        )
        torch.compiler.reset()
    return Table(["torch_compile_mode", "milliseconds a batch", "ratio", "seconds of the first round"], rows)


def vllm(device: str, tiny: bool) -> Table:
    """The micro teacher in vLLM beside transformers: log-probabilities of the same completions, and time."""
    if importlib.util.find_spec("vllm") is None:
        raise Missing("vllm")
    from read_env.capabilities import get_suite
    from read_env.capabilities.stream import held_out
    from read_env.distillation.loading import load_student, load_teacher

    count = 4 if tiny else 64
    prompts = [prompt.text for c in get_suite("micro") for prompt in held_out(c, "dev", count)]
    with tempfile.TemporaryDirectory() as folder:
        loaded = load("embedded:micro/teacher")
        loaded.model.save_pretrained(folder)
        loaded.encoder.tokenizer.save_pretrained(folder)
        rows, scores, completions = [], {}, None
        for reference in (folder, f"vllm:{folder}"):
            config = load_preset("micro", {"models": {"device": device, "teacher": reference}})
            teacher: Any = load_teacher(config, load_student(config))
            begun = time.perf_counter()
            answers = teacher.answer(prompts)
            seconds = time.perf_counter() - begun
            completions = completions or [answer.token_ids for answer in answers]
            scored = teacher.score(prompts, completions)
            scores[reference] = torch.cat([targets.teacher_log_probs for targets in scored])
            name = reference.partition(":")[0] if reference.startswith("vllm") else "transformers"
            rows.append([name, f"{sum(len(a.token_ids) for a in answers) / seconds:,.0f}"])
    apart = (scores[folder] - scores[f"vllm:{folder}"]).abs()
    note = f"Log-probabilities apart by {float(apart.mean()):.1e} nats on average, {float(apart.max()):.1e} at most."
    return Table(["teacher", "answer tokens/s"], rows, note)


def _timed(work: Callable[[], object], device: str) -> float:
    _synchronize(device)
    begun = time.perf_counter()
    work()
    _synchronize(device)
    return time.perf_counter() - begun


def _synchronize(device: str, reset: bool = False) -> None:
    """Wait for the GPU, if it is one; ``reset`` forgets its peak of memory."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
        if reset:
            torch.cuda.reset_peak_memory_stats(device)


#: Parts in order of value.
PARTS: dict[str, Callable[[str, bool], Table]] = {
    "tests": tests, "micro": micro, "throughput": throughput, "updates": updates, "vllm": vllm, "compile": compiled,
}  # fmt: skip
