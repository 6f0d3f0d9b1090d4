"""Students of one process and of two ranks, and what both are trained on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from micro import SUITE, micro_config, saved
from transformers import LlamaConfig, LlamaForCausalLM

from read_env.capabilities.stream import PromptStream
from read_env.config import Config
from read_env.distillation.loading import load, load_student, load_teacher
from read_env.distillation.student.student import Student, UpdateStats
from read_env.distillation.text.alignment import same_vocabulary
from read_env.distillation.text.completion import Example

LORA = {"lora_r": 4}


def settings(gpus: int, models: dict[str, Any] | None = None, **distill: Any) -> Config:
    """Configuration of a student of ``gpus`` processes on the CPU."""
    models = {**(models or {}), "gpus": gpus, "device": "cpu"}
    return micro_config(models=models, distill={"micro_batch_tokens": 300, **distill}, eval={"ema_decay": 0.9})


def pair(models: dict[str, Any] | None = None, **distill: Any) -> tuple[Student, Student, list[list[Example]]]:
    """Students of one process and of two, and groups of examples."""
    one = load_student(settings(1, models, **distill))
    prompts = [p for name in ("math", "code", "reasoning") for p in PromptStream(SUITE[name], 1).slice(1, 0, 9)]
    texts = [p.text for p in prompts]
    answers = load_teacher(settings(1), one).complete(texts)
    examples = list(map(same_vocabulary, prompts, one.encoder.prompts(texts), answers))
    # Five of mixed lengths for each step: the ranks have different numbers of passes.
    return one, load_student(settings(2, models, **distill)), [examples[start::5] for start in range(5)]


def train(student: Student, groups: Sequence[Sequence[Example]], steps: int) -> list[UpdateStats]:
    """Updates on the groups in turn."""
    return [student.update(groups[step % len(groups)], step / 20) for step in range(steps)]


def llama(folder: Path, vocabulary: int | None = None, *, tied: bool = False) -> str:
    """Model reference of a small Llama with random weights, and the tokenizer of the micro models.

    Args:
        folder: where it is saved.
        vocabulary: rows of its head; by default one for each token.
        tied: the head has the weights of the embedding.
    """
    rows = vocabulary or load("embedded:micro/student").model.config.vocab_size
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
    torch.manual_seed(0)
    shape = LlamaConfig(vocab_size=rows, num_key_value_heads=2, tie_word_embeddings=tied, **sizes)
    saved(folder, LlamaForCausalLM(shape))
    return str(folder)


def assert_close(left: dict[str, Any], right: dict[str, Any], tolerance: float = 1e-4) -> None:
    """Trained weights of two states, up to ``tolerance``."""
    for name, value in left["model"].items():
        torch.testing.assert_close(right["model"][name], value, rtol=tolerance, atol=tolerance)
