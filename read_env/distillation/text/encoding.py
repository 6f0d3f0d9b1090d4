"""Token ids of text, and padded batches of token ids.

Prompts are wrapped in the tokenizer's chat template, or in ``bos + text + newline`` without one. Training batches are
padded on the right: with causal attention no completion position attends to padding, so no attention mask is needed
and the models use their fast path.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import torch

from read_env.errors import ReadEnvError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_SENTINEL = "\u241ecut here\u241e"
#: Date given to chat templates that ask for the current one, so that cache keys don't change daily; the default of
#: Llama's templates.
_TODAY = datetime(2024, 7, 26)
_DATE_CODES = "aAbBdHIjmMpSyY"


class Encoder:
    """Token ids of prompts and completions for one tokenizer.

    Args:
        tokenizer: Hugging Face tokenizer with an end-of-sequence token.

    Attributes:
        vocabulary: V; token ids are below it, and a model's rows of logits beyond it are padding.

    Raises:
        ReadEnvError: the tokenizer has no end-of-sequence token.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if tokenizer.eos_token_id is None:
            raise ReadEnvError(
                "models: the tokenizer has no eos_token, so completions could not be ended; set one and save it again"
            )
        self.tokenizer = tokenizer
        self.vocabulary = 1 + max(tokenizer.get_vocab().values())
        self.eos_id: int = int(tokenizer.eos_token_id)
        self.pad_id: int = int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id)
        if tokenizer.chat_template:
            rendered = tokenizer.apply_chat_template(
                [{"role": "user", "content": _SENTINEL}], tokenize=False, add_generation_prompt=True,
                chat_template=_with_fixed_date(tokenizer.get_chat_template()),
            )  # fmt: skip
            self._before, _, self._after = str(rendered).partition(_SENTINEL)
        else:
            self._before, self._after = tokenizer.bos_token or "", "\n"

    @property
    def fingerprint(self) -> str:
        """Hex digest of the vocabulary, the special tokens and the prompt template."""
        content = (sorted(self.tokenizer.get_vocab().items()), self.eos_id, self.pad_id, self._before, self._after)
        return hashlib.blake2b(repr(content).encode(), digest_size=16).hexdigest()

    def prompts(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of the prompts, each wrapped in the chat template."""
        return self._ids([self._before + text + self._after for text in texts])

    def completions(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of the completions, each with the end-of-sequence token."""
        return [[*ids, self.eos_id] for ids in self._ids(texts)]

    def text(self, ids: Sequence[int]) -> str:
        """Text of a completion's token ids, without special tokens."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        return list(self.tokenizer(list(texts), add_special_tokens=False)["input_ids"])


def _with_fixed_date(template: str) -> str:
    """Chat template with a fixed date: a Jinja macro shadows the ``strftime_now`` of transformers."""
    if "strftime_now" not in template:
        return template
    replaced = "".join(f"|replace('%{code}', '{_TODAY.strftime(f'%{code}')}')" for code in _DATE_CODES)
    return f"{{%- macro strftime_now(format) -%}}{{{{ format{replaced} }}}}{{%- endmacro -%}}{template}"


@dataclass(frozen=True)
class Batch:
    """Prompts with completions, padded on the right.

    Attributes:
        input_ids: (n, L) token ids.
        rows: (m,) row of every completion token, in order.
        columns: (m,) position whose hidden state predicts that token.
        targets: (m,) completion tokens.
    """

    input_ids: torch.Tensor
    rows: torch.Tensor
    columns: torch.Tensor
    targets: torch.Tensor

    def to(self, device: torch.device | str) -> Batch:
        """Batch on another device."""
        return Batch(*(t.to(device) for t in (self.input_ids, self.rows, self.columns, self.targets)))


def collate(prompt_ids: Sequence[Sequence[int]], completion_ids: Sequence[Sequence[int]], pad_id: int) -> Batch:
    """Pad prompts with their completions into one batch; completion tokens keep the order of the sequences.

    Example:
        >>> collate([[5, 6], [7]], [[8], [9]], pad_id=0).input_ids
        tensor([[5, 6, 8],
                [7, 9, 0]])
    """
    length = max(len(p) + len(c) for p, c in zip(prompt_ids, completion_ids, strict=True))
    input_ids: list[list[int]] = []
    rows: list[int] = []
    columns: list[int] = []
    targets: list[int] = []
    for row, (prompt, completion) in enumerate(zip(prompt_ids, completion_ids, strict=True)):
        input_ids.append([*prompt, *completion, *[pad_id] * (length - len(prompt) - len(completion))])
        rows.extend([row] * len(completion))
        columns.extend(range(len(prompt) - 1, len(prompt) + len(completion) - 1))
        targets.extend(completion)
    return Batch(torch.tensor(input_ids), torch.tensor(rows), torch.tensor(columns), torch.tensor(targets))


def completion_logits(model: PreTrainedModel, batch: Batch, vocabulary: int | None = None) -> torch.Tensor:
    """(m, V) logits at the completion positions only; the head never sees prompt positions.

    Args:
        model: causal language model.
        batch: batch on the model's device.
        vocabulary: V, if the model has more rows of logits than there are tokens.
    """
    hidden = model.base_model(input_ids=batch.input_ids, use_cache=False).last_hidden_state
    logits: torch.Tensor = model.get_output_embeddings()(hidden[batch.rows, batch.columns])
    return logits[:, :vocabulary]


def length_buckets(lengths: Sequence[int], tokens_per_batch: int) -> list[list[int]]:
    """Group indices by similar length, at most ``tokens_per_batch`` padded tokens per group (or one sequence).

    Example:
        >>> length_buckets([3, 9, 4], tokens_per_batch=10)
        [[0, 2], [1]]
    """
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    buckets: list[list[int]] = []
    for i in order:
        if buckets and (len(buckets[-1]) + 1) * lengths[i] <= tokens_per_batch:
            buckets[-1].append(i)
        else:
            buckets.append([i])
    return buckets
