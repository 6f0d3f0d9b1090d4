"""Whether prompts, references and a model fit together: its context, and where completions are cut."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from read_env.capabilities import get_suite
from read_env.capabilities.stream import held_out
from read_env.config import Config
from read_env.distillation.text.encoding import Encoder
from read_env.errors import ReadEnvError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Lengths:
    """How long the probes of a suite are in one model's tokens, and how much it can take.

    Attributes:
        prompt: tokens of the longest prompt, chat template included.
        prompt_of: its capability.
        reference: tokens of the longest reference, its end included.
        reference_of: its capability.
        cut: share of the references that are longer than completions may be.
        max_completion_tokens: completions are cut here.
        context: tokens that the model was made to read at once; None where its configuration doesn't say.
    """

    prompt: int
    prompt_of: str
    reference: int
    reference_of: str
    cut: float
    max_completion_tokens: int
    context: int | None

    @property
    def fits(self) -> bool:
        """Whether the longest prompt leaves room for a completion."""
        return self.context is None or self.prompt + self.max_completion_tokens <= self.context

    def __str__(self) -> str:
        context = "" if self.context is None else f" of {self.context:,}"
        short = f": TOO FEW for {self.cut:.0%} of them" if self.cut else ""
        return (
            f"prompts up to {self.prompt:,}{context} tokens ({self.prompt_of}){'' if self.fits else ': TOO LONG'}, "
            f"references up to {self.reference:,} ({self.reference_of}); completions up to "
            f"{self.max_completion_tokens:,}{short}"
        )


def measure_lengths(config: Config, encoder: Encoder, model: PreTrainedModel) -> Lengths:
    """Encodes the probes and looks for the longest; of the model its configuration counts."""
    prompts = [p for c in get_suite(config.suite) for p in held_out(c, "probes", config.eval.probes)]
    texts = list(map(len, encoder.prompts([p.text for p in prompts])))
    references = list(map(len, encoder.completions([p.reference for p in prompts])))
    cut = config.distill.max_completion_tokens
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return Lengths(
        max(texts), prompts[texts.index(max(texts))].capability,
        max(references), prompts[references.index(max(references))].capability,
        sum(length > cut for length in references) / len(references), cut, context,
    )  # fmt: skip


def check_lengths(role: str, lengths: Lengths) -> None:
    """Refuses prompts that don't fit; of references beyond the cut it only warns: shorter answers may be right too.

    Args:
        role: ``teacher`` or ``student``.
        lengths: in its tokens.

    Raises:
        ReadEnvError: past its context a model answers nonsense, or crashes.
    """
    if not lengths.fits:
        raise ReadEnvError(
            f"models.{role} reads at most {lengths.context:,} tokens; the longest probe of {lengths.prompt_of} has "
            f"{lengths.prompt:,}, and a completion up to {lengths.max_completion_tokens:,} "
            "(distill.max_completion_tokens): take shorter prompts, a lower cut or a model with a longer context"
        )
    if lengths.cut:
        _LOG.warning(
            "distill.max_completion_tokens is %d, below %.0f %% of the references; those of %s have up to %d tokens of the %s",
            lengths.max_completion_tokens, 100 * lengths.cut, lengths.reference_of, lengths.reference, role,
        )  # fmt: skip
