"""Check of prompt and reference lengths against a model's context and the maximum completion length."""

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
    """Lengths of a suite's probes in one model's tokens, with the model's limits.

    Attributes:
        prompt: tokens of the longest prompt, chat template included.
        prompt_of: capability of that prompt.
        reference: tokens of the longest reference, end-of-sequence token included.
        reference_of: capability of that reference.
        cut: share of the references, in [0, 1], longer than ``max_completion_tokens``.
        max_completion_tokens: maximum length of a completion, tokens.
        context: maximum length of a sequence, tokens; None if the model's configuration has none.
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
        """True if the longest prompt leaves room for a completion."""
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
    """Encode the probes and find the longest ones; of ``model`` only the configuration is used."""
    prompts = [p for c in get_suite(config.suite) for p in held_out(c, "probes", config.eval.probes)]
    texts = list(map(len, encoder.prompts([p.text for p in prompts])))
    references = list(map(len, encoder.completions([p.reference for p in prompts], [p.text for p in prompts])))
    cut = config.distill.max_completion_tokens
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return Lengths(
        max(texts), prompts[texts.index(max(texts))].capability,
        max(references), prompts[references.index(max(references))].capability,
        sum(length > cut for length in references) / len(references), cut, context,
    )  # fmt: skip


def check_lengths(role: str, lengths: Lengths) -> None:
    """Raise if prompts exceed the context; warn if references exceed the maximum, since shorter answers may be correct.

    Args:
        role: ``teacher`` or ``student``.
        lengths: lengths in its tokens.

    Raises:
        ReadEnvError: the longest prompt leaves no room for a completion.
    """
    if not lengths.fits:
        raise ReadEnvError(
            f"models.{role} reads at most {lengths.context:,} tokens; the longest probe of {lengths.prompt_of} has "
            f"{lengths.prompt:,}, and a completion up to {lengths.max_completion_tokens:,} "
            "(distill.max_completion_tokens): take shorter prompts, a lower maximum or a model with a longer context"
        )
    if lengths.cut:
        _LOG.warning(
            "distill.max_completion_tokens is %d, below %.0f %% of the references; those of %s have up to %d tokens of the %s",
            lengths.max_completion_tokens, 100 * lengths.cut, lengths.reference_of, lengths.reference, role,
        )  # fmt: skip
