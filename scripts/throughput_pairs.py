"""Training data of scripts/benchmark_throughput.py: teacher, student, prompts with completions, cached targets."""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from read_env.capabilities import get_suite
from read_env.config import Config, load_preset, make_config
from read_env.distillation.examples.stream import ExampleStream
from read_env.distillation.loading import cached, load_student, load_teacher
from read_env.distillation.models.placement import Placement, place
from read_env.distillation.models.weights import count_parameters
from read_env.distillation.student.student import Student
from read_env.distillation.teachers.local import LocalTeacher
from read_env.distillation.teachers.store import BlockStore
from read_env.distillation.text.alignment import same_vocabulary
from read_env.distillation.text.completion import Answer
from read_env.distillation.text.encoding import Encoder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

#: Random weights in the shape of Llama models: (hidden, intermediate, layers, heads, key-value heads), the student
#: first; its embeddings are tied. ``random-tiny`` is there to try the script out.
SHAPES = {
    "random-1b-8b": (128_256, (2048, 8192, 16, 32, 8), (4096, 14_336, 32, 32, 8)),
    "random-tiny": (512, (64, 128, 2, 4, 2), (96, 256, 2, 4, 2)),
}
#: Settings of ``distill`` that differ from the preset's, for each pair of real models: on two cores a pass over enough
#: updates of 800 tokens of smollm2's takes minutes. The preset's rate for micro is the peak of a schedule.
PRESETS: dict[str, dict[str, float]] = {"micro": {"learning_rate": 3e-4}, "smollm2": {"tokens_per_update": 400}}
#: Completion tokens that are trained on, unless the command line says otherwise.
TOKENS = {"micro": 12_000, "smollm2": 1_600, "random-1b-8b": 65_536, "random-tiny": 2_000}
#: Number of held-out examples.
HELD_OUT = {"micro": 64, "smollm2": 16, "random-1b-8b": 64, "random-tiny": 64}


@dataclass(frozen=True)
class Pair:
    """A teacher and a student in memory, and the settings of both engines."""

    name: str
    config: Config
    teacher: LocalTeacher
    student: Student


@dataclass(frozen=True)
class Work:
    """Prompts with completions; the last of them are not trained on.

    Attributes:
        texts: the prompts.
        prompt_ids: the same as the student reads them.
        token_ids: the completions.
        held_out: number that is not trained on.
        blocks: indices of the examples in each block of the store, which has the training examples.
        store: folder of the teacher's targets, in the format of the teacher cache.
    """

    texts: list[str]
    prompt_ids: list[tuple[int, ...]]
    token_ids: list[tuple[int, ...]]
    held_out: int
    blocks: list[range]
    store: Path

    @property
    def trained(self) -> int:
        """Number of examples that are trained on."""
        return len(self.texts) - self.held_out

    @property
    def lengths(self) -> list[int]:
        """Prompt and completion tokens of every example that is trained on."""
        return [len(p) + len(c) for p, c in zip(self.prompt_ids, self.token_ids, strict=True)][: self.trained]


def load_pair(name: str, threads: int, device: str = "auto") -> Pair:
    """Both models; forward KL, so that the other engine's β is 0. Ends the script where several GPUs are visible."""
    if device != "cpu" and (gpus := torch.cuda.device_count()) > 1:
        sys.exit(
            f"{gpus} GPUs are visible: TRL's trainer would spread each batch over all of them, and this engine uses one; "
            "right would be CUDA_VISIBLE_DEVICES=0"
        )
    torch.set_num_threads(threads)
    models = {"threads": threads, "device": device}
    falling = {"loss": "fkl", "lr_scheduler_type": "linear", "warmup_ratio": 0.0}
    if name in PRESETS:
        config = load_preset(name, {"models": models, "distill": falling | PRESETS[name]})
        student = load_student(config)
        teacher = load_teacher(config, student)
        assert isinstance(teacher, LocalTeacher)
        return Pair(name, config, teacher, student)
    tokens = 8_192 if name == "random-1b-8b" else 400
    distill = {**falling, "teacher_top_k": 32, "tokens_per_update": tokens, "micro_batch_tokens": 2 * tokens}
    distill |= {"learning_rate": 3e-4, "max_completion_tokens": 40}
    budget = {"step_tokens": 4 * tokens, "total_tokens": 40 * tokens}
    config = make_config({"models": models, "distill": distill, "budget": budget}, name)
    vocabulary, *shapes = SHAPES[name]
    encoder = numbers(vocabulary)
    (model, placement), (taught, _) = (random_model(config, vocabulary, shapes[i], i == 0) for i in (0, 1))
    # As peaked as a language model's answers; plain random weights are next to uniform over the vocabulary.
    taught.get_output_embeddings().weight.data.mul_(5.0)
    teacher = LocalTeacher(taught, encoder, name, max_completion_tokens=1, top_k=config.distill.teacher_top_k)
    return Pair(name, config, teacher, Student(model, encoder, config.distill, placement, config.models))


def prepare(pair: Pair, tokens: int, folder: Path) -> Work:
    """Prompts, completions and the teacher's targets for them.

    Args:
        pair: whose teacher answers.
        tokens: completion tokens to train on.
        folder: for the store of the targets.
    """
    drawn = (
        _of_the_suite(pair, tokens)
        if pair.name in PRESETS
        else random_examples(pair.name, pair.teacher.encoder.vocabulary, tokens)
    )
    texts, prompt_ids, token_ids = map(list, zip(*drawn, strict=True))
    held_out, size = HELD_OUT[pair.name], pair.config.distill.teacher_batch_size
    trained = range(len(texts) - held_out)
    blocks = [trained[start : start + size] for start in trained[::size]]
    store = BlockStore(folder, max_bytes=2**40)
    for index, block in enumerate(blocks):
        part = slice(block.start, block.stop)
        targets = pair.teacher.score(texts[part], token_ids[part])
        store.write(block_key(index), list(map(Answer, token_ids[part], targets)))
    return Work(texts, prompt_ids, token_ids, held_out, blocks, folder)


def block_key(index: int) -> bytes:
    """Key of a block in the store."""
    return index.to_bytes(16, "big")


def _of_the_suite(pair: Pair, tokens: int) -> list[tuple[str, tuple[int, ...], tuple[int, ...]]]:
    """Stream prompts of every capability in turn, answered by the teacher; then as many more as are held out."""
    config, suite = pair.config, get_suite(pair.config.suite)
    cache, size = cached(pair.teacher, config.cache), config.distill.teacher_batch_size
    stream = ExampleStream(suite, pair.student.encoder, cache, same_vocabulary, config.seed, size)
    found, enough = [], None
    while enough is None or len(found) < enough:
        example = stream.take(len(found) % len(suite))
        found.append((example.prompt.text, example.prompt_ids, example.token_ids))
        if enough is None and sum(len(completion) for _, _, completion in found) >= tokens:
            enough = len(found) + HELD_OUT[pair.name]
    return found


def random_examples(name: str, vocabulary: int, tokens: int) -> list[tuple[str, tuple[int, ...], tuple[int, ...]]]:
    """Random ids, lengths spread over a factor of eight, as in a mixture of short answers and long ones."""
    rng = random.Random(0)
    long = 448 if name == "random-1b-8b" else 40
    found, trained_tokens = [], 0
    held_out = HELD_OUT[name]
    while len(found) < held_out + 1 or trained_tokens < tokens:
        prompt, completion = (rng.choices(range(2, vocabulary), k=rng.randint(long // 8, long)) for _ in range(2))
        found.append((" ".join(map(str, prompt)), tuple(prompt), tuple(completion)))
        trained_tokens += len(completion) if len(found) > held_out else 0
    return found


def numbers(vocabulary: int) -> Encoder:
    """A vocabulary of numbers: the text ``17 4`` has the ids 17 and 4."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    table = {"<pad>": 0, "<eos>": 1, **{str(i): i for i in range(2, vocabulary)}}
    words = Tokenizer(models.WordLevel(table, unk_token="<pad>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return Encoder(PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<eos>"))


def random_model(
    config: Config, vocabulary: int, shape: tuple[int, ...], trained: bool
) -> tuple[PreTrainedModel, Placement]:
    """Llama model with random weights, and where it is placed; its input and output embeddings are tied if it is trained."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    sizes = LlamaConfig(
        vocab_size=vocabulary, **dict(zip(names, shape, strict=True)), max_position_embeddings=4_096,
        tie_word_embeddings=trained, bos_token_id=None, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    with torch.device("meta"):
        parameters = count_parameters(AutoModelForCausalLM.from_config(sizes))
    placement = place(config.models, parameters, trained=trained)
    torch.manual_seed(int(trained))
    kinds = {"dtype": placement.weights, "attn_implementation": placement.attention}
    with placement.device:
        return AutoModelForCausalLM.from_config(sizes, **kinds).eval(), placement
