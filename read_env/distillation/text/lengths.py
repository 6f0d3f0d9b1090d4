"""Lengths of prompts and references against the contexts of both models and the maximum completion length."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from read_env.capabilities.base import Prompt, Split, Suite
from read_env.capabilities.from_file import FileCapability
from read_env.capabilities.stream import held_out
from read_env.config import Config
from read_env.distillation.text.encoding import Encoder
from read_env.errors import ReadEnvError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_LOG = logging.getLogger(__name__)


def every(capability: str) -> bool:
    """True for every capability."""
    return True


@dataclass(frozen=True)
class Reader:
    """Model as a reader of prompts.

    Attributes:
        role: ``teacher`` or ``student``.
        encoder: encoder of its tokenizer.
        context: maximum length of a sequence, tokens; None if the model's configuration has none.
        reads: True for the name of a capability whose prompts it reads.

    Example:
        >>> from read_env.distillation.loading import load
        >>> student = load("embedded:micro/student")
        >>> Reader.of("student", student.encoder, student.model).context
        160
    """

    role: str
    encoder: Encoder
    context: int | None
    reads: Callable[[str], bool] = every

    @classmethod
    def of(cls, role: str, encoder: Encoder, model: PreTrainedModel) -> Reader:
        """Reader of a loaded model; of ``model`` only the configuration is used."""
        return cls(role, encoder, getattr(model.config.get_text_config(), "max_position_embeddings", None))


class LengthLimit:
    """Longest sequence that every reader can read: the prompt, and a completion of maximum length or the reference.

    Args:
        readers: the models that read the prompts.
        max_completion_tokens: maximum length of a completion.

    Example:
        >>> from read_env.distillation.loading import load
        >>> reader = Reader("student", load("embedded:micro/student").encoder, context=100)
        >>> LengthLimit([reader], 64).excess([Prompt("math", "sum", "add 2,3 " * 9, "5", 0.5)])
        ['models.student reads at most 100 tokens; the prompt has 73, and a completion up to 64']
    """

    def __init__(self, readers: Sequence[Reader], max_completion_tokens: int) -> None:
        self.readers = [reader for reader in readers if reader.context is not None]
        self.max_completion_tokens = max_completion_tokens

    def excess(self, prompts: Sequence[Prompt], references: bool = False) -> list[str]:
        """Description of what is too long, per prompt; empty for prompts that fit.

        Args:
            prompts: prompts to encode.
            references: True if the references are scored too, so a long one needs more room than a completion.
        """
        found = [""] * len(prompts)
        for reader in self.readers:
            assert reader.context is not None
            texts = [prompt.text for prompt in prompts]
            room = [self.max_completion_tokens] * len(prompts)
            if references:
                ids = reader.encoder.completions([prompt.reference for prompt in prompts], texts)
                room = [max(self.max_completion_tokens, len(one)) for one in ids]
            for i, ids_of_prompt in enumerate(reader.encoder.prompts(texts)):
                too_long = len(ids_of_prompt) + room[i] > reader.context and reader.reads(prompts[i].capability)
                if too_long and not found[i]:
                    found[i] = (
                        f"models.{reader.role} reads at most {reader.context:,} tokens; the prompt has "
                        f"{len(ids_of_prompt):,}, and a completion up to {room[i]:,}"
                    )
        return found


def fitting_suite(suite: Suite, limit: LengthLimit, config: Config) -> tuple[Suite, dict[str, int]]:
    """Suite without the lines of files that are too long.

    Args:
        suite: capabilities; those that generate their prompts are returned as they are.
        limit: longest sequence of both models.
        config: ``distill.overlong_prompts`` and the sizes of the held-out sets.

    Returns:
        The suite, and by capability the number of lines that were left out, where there are any.

    Raises:
        ReadEnvError: a line is too long and ``distill.overlong_prompts`` is ``error``; all lines of a file are; or a
            held-out prompt of a capability that generates its prompts is.
    """
    kept, skipped = [], {}
    for capability in suite:
        if isinstance(capability, FileCapability):
            excess = limit.excess(capability.prompts, references=True)
            prompts = tuple(p for p, too_long in zip(capability.prompts, excess, strict=True) if not too_long)
            first = next((i for i, too_long in enumerate(excess) if too_long), None)
            if first is not None:
                problem = (
                    f"{len(excess) - len(prompts)} of {len(excess)} lines of {capability.name} are too long; the first is "
                    f"{capability.prompts[first].text[:60]!r}: {excess[first]}"
                )
                if not prompts or config.distill.overlong_prompts == "error":
                    raise ReadEnvError(f"{problem}. {_REMEDY}")
                _LOG.warning("%s. They are skipped", problem)
                skipped[capability.name] = len(excess) - len(prompts)
                capability = replace(capability, prompts=prompts)
        else:
            held = [p for split, count in held_out_sizes(config).items() for p in held_out(capability, split, count)]
            for prompt, too_long in zip(held, limit.excess(held), strict=True):
                if too_long:
                    raise ReadEnvError(f"{capability.name}, {prompt.text[:60]!r}: {too_long}. {_REMEDY}")
        kept.append(capability)
    return replace(suite, capabilities=tuple(kept)), skipped


_REMEDY = "Right would be shorter prompts, a lower distill.max_completion_tokens or a model with a longer context"


def held_out_sizes(config: Config) -> Mapping[Split, int]:
    """Sizes of the held-out sets that a run uses.

    Example:
        >>> from read_env.config import EvalConfig
        >>> held_out_sizes(Config(eval=EvalConfig(exam=500)))
        {'probes': 48, 'dev': 64, 'exam': 500}
    """
    sizes: dict[Split, int] = {"probes": config.eval.probes, "dev": config.eval.dev}
    return sizes | {config.eval.exam_split: max(config.eval.exam, sizes.get(config.eval.exam_split, 0))}


@dataclass(frozen=True)
class Lengths:
    """Lengths of a suite's held-out prompts in one model's tokens, with the model's limits.

    Attributes:
        prompt: tokens of the longest prompt, chat template included.
        prompt_of: capability of that prompt.
        reference: tokens of the longest reference, end-of-sequence token included.
        reference_of: capability of that reference.
        cut: share of the references, in [0, 1], longer than ``max_completion_tokens``.
        never: capabilities of which every reference is longer.
        max_completion_tokens: maximum length of a completion, tokens.
        context: maximum length of a sequence, tokens; None if the model's configuration has none.
    """

    prompt: int
    prompt_of: str
    reference: int
    reference_of: str
    cut: float
    never: tuple[str, ...]
    max_completion_tokens: int
    context: int | None

    def __str__(self) -> str:
        context = "" if self.context is None else f" of {self.context:,}"
        short = f": TOO FEW for {self.cut:.0%} of them" if self.cut else ""
        short += f", for all of {', '.join(self.never)}" if self.never else ""
        return (
            f"prompts up to {self.prompt:,}{context} tokens ({self.prompt_of}), references up to {self.reference:,} "
            f"({self.reference_of}); completions up to {self.max_completion_tokens:,}{short}"
        )


def measure_lengths(suite: Suite, reader: Reader, config: Config) -> Lengths:
    """Encode the held-out prompts of a suite that a model reads and find the longest ones; warn if references exceed the maximum."""
    read = [c for c in suite if reader.reads(c.name)]
    prompts = [p for c in read for split, count in held_out_sizes(config).items() for p in held_out(c, split, count)]
    pairs = reader.encoder.pairs([p.text for p in prompts], [p.reference for p in prompts])
    texts, references = [len(prompt) for prompt, _ in pairs], [len(completion) for _, completion in pairs]
    maximum = config.distill.max_completion_tokens
    fits = {p.capability for p, length in zip(prompts, references, strict=True) if length <= maximum}
    lengths = Lengths(
        max(texts), prompts[texts.index(max(texts))].capability,
        max(references), prompts[references.index(max(references))].capability,
        sum(length > maximum for length in references) / len(references), tuple(c.name for c in read if c.name not in fits),
        maximum, reader.context,
    )  # fmt: skip
    if lengths.cut:  # shorter answers may be right as well
        _LOG.warning(
            "distill.max_completion_tokens is %d, below %.0f %% of the references; those of %s have up to %d tokens of the %s",
            maximum, 100 * lengths.cut, lengths.reference_of, lengths.reference, reader.role,
        )  # fmt: skip
    return lengths
