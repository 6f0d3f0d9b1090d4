"""From text to token ids and back, and from ids to padded batches.

The tokenizer's own chat template decides how a prompt is wrapped; a tokenizer without one gets
``bos + text + newline``. Training batches are padded on the right: under causal attention no
completion position ever sees a pad, so the models need no attention mask and take the fast path.
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
#: The day that a chat template is told, if it asks: with today's, no answer would be found again tomorrow. It is the
#: one that Llama's templates take where they can't ask.
_TODAY = datetime(2024, 7, 26)
_OF_A_DAY = "aAbBdHIjmMpSyY"


class Encoder:
    """Token ids of prompts and completions for one tokenizer.

    Args:
        tokenizer: any Hugging Face tokenizer with an end-of-sequence token.

    Attributes:
        vocabulary: token ids are below this; models may have rows of logits beyond it, which mean nothing.
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
                chat_template=_on_one_day(tokenizer.get_chat_template()),
            )  # fmt: skip
            self._before, _, self._after = str(rendered).partition(_SENTINEL)
        else:
            self._before, self._after = tokenizer.bos_token or "", "\n"

    @property
    def fingerprint(self) -> str:
        """Hex digest of the vocabulary, the special tokens and how prompts are wrapped."""
        content = (sorted(self.tokenizer.get_vocab().items()), self.eos_id, self.pad_id, self._before, self._after)
        return hashlib.blake2b(repr(content).encode(), digest_size=16).hexdigest()

    def prompts(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of the wrapped prompts, one list each."""
        return self._ids([self._before + text + self._after for text in texts])

    def completions(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of the completions, each ended by the end-of-sequence token."""
        return [[*ids, self.eos_id] for ids in self._ids(texts)]

    def text(self, ids: Sequence[int]) -> str:
        """The text of a completion's ids."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        return list(self.tokenizer(list(texts), add_special_tokens=False)["input_ids"])


def _on_one_day(template: str) -> str:
    """A chat template that is told the same day whenever it asks. transformers takes no clock, so it gets one in Jinja."""
    if "strftime_now" not in template:
        return template
    told = "".join(f"|replace('%{code}', '{_TODAY.strftime(f'%{code}')}')" for code in _OF_A_DAY)
    return f"{{%- macro strftime_now(format) -%}}{{{{ format{told} }}}}{{%- endmacro -%}}{template}"


@dataclass(frozen=True)
class Batch:
    """Prompts with completions, padded on the right.

    Attributes:
        input_ids: (n, L) token ids.
        rows: (m,) row of every completion token, in reading order.
        columns: (m,) position whose hidden state predicts that token.
        targets: (m,) the completion tokens.
    """

    input_ids: torch.Tensor
    rows: torch.Tensor
    columns: torch.Tensor
    targets: torch.Tensor

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        return Batch(*(t.to(device) for t in (self.input_ids, self.rows, self.columns, self.targets)))


def collate(prompt_ids: Sequence[Sequence[int]], completion_ids: Sequence[Sequence[int]], pad_id: int) -> Batch:
    """Pads sequences into one batch; completion tokens keep the order of the sequences."""
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
        model: a causal language model.
        batch: on the model's device.
        vocabulary: V, where the model has more rows of logits than there are tokens.
    """
    hidden = model.base_model(input_ids=batch.input_ids, use_cache=False).last_hidden_state
    logits: torch.Tensor = model.get_output_embeddings()(hidden[batch.rows, batch.columns])
    return logits[:, :vocabulary]


def length_buckets(lengths: Sequence[int], tokens_per_batch: int) -> list[list[int]]:
    """Indices grouped by similar length, about ``tokens_per_batch`` padded tokens a group."""
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    buckets: list[list[int]] = []
    for i in order:
        if buckets and (len(buckets[-1]) + 1) * lengths[i] <= tokens_per_batch:
            buckets[-1].append(i)
        else:
            buckets.append([i])
    return buckets
