"""The two engines of scripts/benchmark_throughput.py, each of which trains the same student on the same examples."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from throughput_pairs import Pair, Work, block_key
from throughput_variants import COLD, GIVEN, GROUPED, SHUFFLED, WARM, Run
from transformers import PrinterCallback, TrainerCallback
from trl import DistillationConfig, DistillationTrainer
from trl.experimental.gkd import GKDConfig, GKDTrainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from read_env.capabilities.base import Prompt
from read_env.distillation.examples.batching import update_groups
from read_env.distillation.models.head import completion_logits
from read_env.distillation.teachers.store import BlockStore
from read_env.distillation.text.completion import Answer, Example
from read_env.distillation.text.encoding import collate, length_buckets
from read_env.losses.targets import TeacherTargets

#: The clock is the CPU time of this process, which others on the machine change less than the time of day.
CPU_TIME = False
#: Training reads nothing of a prompt but the name of its capability.
_PROMPT = Prompt("any", "", "", "", 0.0)
#: TRL's sampling strategy of each row.
_SAMPLING = {SHUFFLED: "random", GROUPED: "group_by_length", GIVEN: "given"}


def run(variant: str, pair: Pair, work: Work, size: Batching | None = None, epochs: int | None = None) -> Run:
    """Trains the student, from its initial weights, on all of the work; ``size`` and ``epochs`` are TRL's."""
    pair.student.reset()
    if variant in (COLD, WARM):
        return _train_ours(pair, work, warm=variant == WARM)
    return train_theirs(pair, work, _SAMPLING[variant], size or batching(pair, work), epochs=epochs)


def now() -> float:
    """Clock reading after the device has finished all queued work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.process_time() if CPU_TIME else time.perf_counter()


# --- this engine ----------------------------------------------------------------------------------


def _train_ours(pair: Pair, work: Work, *, warm: bool) -> Run:
    """As an environment step does it: a chunk of targets, from the teacher or from disk, then updates on it."""
    store = BlockStore(work.store, max_bytes=2**40)
    distill, rng, updates = pair.config.distill, random.Random(0), 0
    count = distill.epochs * _updates(pair, work)
    started = now()
    for blocks in _chunks(work, pair.config.budget.step_tokens):
        examples: list[Example] = []
        if warm:
            for index in blocks:
                block = store.read(block_key(index))
                assert block is not None, "written when the work was prepared"
                examples += _examples(work, work.blocks[index].start, block)
        else:
            examples = scored(pair, work, work.blocks[blocks[0]].start, work.blocks[blocks[-1]].stop)
        for epoch in range(distill.epochs):
            for group in update_groups(examples, distill.tokens_per_update, rng):
                pair.student.update(group, updates / count, observe=epoch == 0)
                updates += 1
    return Run(now() - started, distill.epochs * sum(work.lengths), updates)


def _chunks(work: Work, step_tokens: int) -> list[list[int]]:
    """The blocks in each chunk of about ``step_tokens`` completion tokens."""
    chunks: list[list[int]] = [[]]
    held = 0
    for index, block in enumerate(work.blocks):
        if held >= step_tokens:
            chunks.append([])
            held = 0
        chunks[-1].append(index)
        held += sum(len(work.token_ids[i]) for i in block)
    return chunks


def _updates(pair: Pair, work: Work) -> int:
    """Optimizer steps of a pass."""
    answers = [Answer(ids, TeacherTargets.from_tokens(torch.tensor(ids))) for ids in work.token_ids]
    count = 0
    for blocks in _chunks(work, pair.config.budget.step_tokens):
        first, last = work.blocks[blocks[0]].start, work.blocks[blocks[-1]].stop
        examples = _examples(work, first, answers[first:last])
        count += len(update_groups(examples, pair.config.distill.tokens_per_update, random.Random(0)))
    return count


def scored(pair: Pair, work: Work, first: int, last: int) -> list[Example]:
    """Examples with targets from a forward pass of the teacher."""
    part = slice(first, last)
    found = pair.teacher.score(work.texts[part], work.token_ids[part])
    return _examples(work, first, list(map(Answer, work.token_ids[part], found)))


def _examples(work: Work, start: int, block: Sequence[Answer]) -> list[Example]:
    prompts = work.prompt_ids[start : start + len(block)]
    return [Example(_PROMPT, ids, a.token_ids, a.targets) for ids, a in zip(prompts, block, strict=True)]


# --- TRL ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Batching:
    """Sequences that TRL puts into one forward pass, and passes that it puts into one optimizer step."""

    sequences: int
    passes: int


def batching(pair: Pair, work: Work) -> Batching:
    """As many optimizer steps as this engine takes, as nearly as whole sequences allow, and no fewer tokens at once."""
    a_step = -(-work.trained // _updates(pair, work))
    padded = a_step * sum(work.lengths) / work.trained
    passes = max(1, round(padded / pair.config.distill.micro_batch_tokens))
    return Batching(-(-a_step // passes), passes)


def fastest_batching(variant: str, pair: Pair, work: Work) -> Batching:
    """The fastest of TRL's batchings, by a pass of each: an optimizer step at once or in 2, 4 or 8 times as many pieces."""
    whole = batching(pair, work)
    found = {}
    for pieces in (1, 2, 4, 8):
        if pieces <= whole.sequences:
            size = Batching(-(-whole.sequences // pieces), whole.passes * pieces)
            found[size] = run(variant, pair, work, size, epochs=1).speed
            print(f"{variant}: {size.sequences} sequences at once: {found[size]:,.0f} tokens/s", flush=True)
    return max(found, key=lambda size: found[size])


class _Clock(TrainerCallback):
    """From the first batch's loading to the end of the last step: models, data set and optimizer are there before."""

    started = ended = 0.0

    def on_train_begin(self, args, state, control, **kwargs):
        self.started = now()

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step >= state.max_steps:
            self.ended = now()


class _Recording(GKDTrainer):
    """Record the loss of every batch."""

    def training_step(self, *args, **kwargs):
        loss = super().training_step(*args, **kwargs)
        self.__dict__.setdefault("losses", []).append(loss.item())
        return loss


class _Given(DistillationTrainer):
    """Return stored completions in place of the student's samples."""

    work: Work
    tokens = 0

    def _generate(self, prompts):
        ids = [[list(rows[int(i)]) for i in prompts] for rows in (self.work.prompt_ids, self.work.token_ids)]
        self.tokens += sum(len(row) for rows in ids for row in rows)
        return *ids, None, None, []


def train_theirs(
    pair: Pair, work: Work, sampling: str, size: Batching, updates: int = -1, epochs: int | None = None
) -> Run:
    """Train by TRL's strategy ``sampling``; ``sequential`` keeps the examples' order and records the losses."""
    settings, placement = pair.config.distill, pair.student.placement
    epochs = epochs or settings.epochs
    common: dict[str, Any] = {
        "output_dir": str(work.store.parent / "trl"),
        "num_train_epochs": epochs,
        "max_steps": updates,
        "per_device_train_batch_size": size.sequences,
        "gradient_accumulation_steps": size.passes,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": "constant" if sampling == "sequential" else settings.lr_scheduler_type,
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "optim": "adamw_torch_fused",
        "bf16": placement.compute == torch.bfloat16,
        "use_cpu": placement.device.type == "cpu",
        "dataloader_pin_memory": placement.device.type != "cpu",
        "gradient_checkpointing": pair.config.models.gradient_checkpointing,
        "beta": 0.0,
        "report_to": "none",
        "logging_strategy": "no",
        "save_strategy": "no",
        "disable_tqdm": True,
    }
    clock, tokenizer = _Clock(), pair.student.encoder.tokenizer
    models = {"model": pair.student.model, "teacher_model": pair.teacher.model, "processing_class": tokenizer}
    if sampling == "given":
        rows = Dataset.from_dict({"prompt": [str(i) for i in range(work.trained)]})
        trainer: Any = _Given(**models, args=DistillationConfig(**common), train_dataset=rows, callbacks=[clock])
        trainer.work = work
    else:
        trainer = (_Recording if sampling == "sequential" else GKDTrainer)(
            **models,
            args=GKDConfig(**common, lmbda=0.0, max_length=None, train_sampling_strategy=sampling),
            train_dataset=_tokenized(work),
            data_collator=DataCollatorForLanguageModeling(pad_token_id=pair.student.encoder.pad_id),
            callbacks=[clock],
        )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    steps = trainer.state.global_step
    tokens = trainer.tokens if sampling == "given" else epochs * sum(work.lengths)
    result = Run(clock.ended - clock.started, tokens, steps, tuple(getattr(trainer, "losses", ())))
    # Unwrap the models: wrappers would accumulate from run to run.
    for model in (pair.student.model, pair.teacher.model):
        for name in ("forward", "_original_forward"):
            model.__dict__.pop(name, None)
        model.eval()
    del trainer
    gc.collect()
    return result


def _tokenized(work: Work) -> Dataset:
    """TRL's own preparation of prompts and completions: ids, and labels on the completion alone."""
    rows = []
    for prompt, completion in list(zip(work.prompt_ids, work.token_ids, strict=True))[: work.trained]:
        labels = [-100] * len(prompt) + list(completion)
        rows.append({"input_ids": [*prompt, *completion], "labels": labels, "length": len(labels)})
    return Dataset.from_list(rows)


# --- both -----------------------------------------------------------------------------------------


@torch.inference_mode()
def held_out_loss(pair: Pair, work: Work) -> float:
    """Forward KL over the whole vocabulary on the held-out examples, by TRL's function: nats per completion token."""
    total = count = 0.0
    held_out = range(work.trained, len(work.texts))
    lengths = [len(work.prompt_ids[i]) + len(work.token_ids[i]) for i in held_out]
    for bucket in length_buckets(lengths, pair.config.distill.micro_batch_tokens):
        prompts, completions = ([ids[held_out[place]] for place in bucket] for ids in (work.prompt_ids, work.token_ids))
        batch = collate(prompts, completions, pair.student.encoder.pad_id).to(pair.student.placement.device)
        logits = []
        for model in (pair.student.model, pair.teacher.model):
            with pair.student.placement.autocast():
                logits.append(completion_logits(model, batch, pair.student.encoder.vocabulary).float())
        total += GKDTrainer.generalized_jsd_loss(*logits, beta=0.0, reduction="sum").item()
        count += len(batch.targets)
    return total / count
