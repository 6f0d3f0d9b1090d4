"""Token ids of text, and padded batches of token ids.

Prompts and conversations are rendered by the tokenizer's chat template (``chat.py``). Training batches are padded on the
right: with causal attention no completion position attends to padding, so no attention mask is needed and the models
use their fast path.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from read_env.distillation.text.chat import ChatTemplate
from read_env.errors import ReadEnvError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: First and last of the private characters that break up control tokens in a text.
_BREAKS = range(0xE000, 0xF8FF)


class Encoder:
    """Token ids of prompts and completions for one tokenizer: those that ``apply_chat_template`` gives.

    A text that spells a control token, such as ``<|im_end|>``, is encoded as plain text.

    Args:
        tokenizer: Hugging Face tokenizer.
        stop_ids: further ids that end a completion, such as those of the model's generation configuration.
        rows: number of token embeddings of the model; without it every token of the tokenizer counts as known.

    Attributes:
        vocabulary: V; token ids are below it, and a model's rows of logits beyond it are padding. Special tokens beyond
            the model's embeddings, such as the image token of a Gemma 3 that reads text alone, are not in it.
        eos_id: id of the token with which the chat template ends a turn; without one the tokenizer's eos_token.
        stop_ids: all ids that end a completion, sorted; ``eos_id`` is one of them.
        pad_id: id of the padding token, else of the eos_token.

    Raises:
        ReadEnvError: no token ends a completion, the chat template can't be used, or the model has no embedding for an
            ordinary token of the tokenizer, the eos_token or a token of the chat template.

    Example:
        >>> from read_env.distillation.loading import load
        >>> encoder = load("embedded:micro/student").encoder
        >>> encoder.text(encoder.completions(["Answer: 5"])[0])
        'Answer: 5'
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, stop_ids: Iterable[int] = (), rows: int | None = None
    ) -> None:
        self.tokenizer = tokenizer
        self._template = ChatTemplate(tokenizer)
        tail = self._ids([self._template.tail])[0] if self._template.tail else []
        around = [i for ids in self._ids(self._template.around) for i in ids]
        self.vocabulary = _known_tokens(tokenizer, rows, {tokenizer.eos_token_id, *around, *tail})
        own, named = tokenizer.eos_token_id, [i for i in stop_ids if i < self.vocabulary]
        added = {i: str(token) for i, token in tokenizer.added_tokens_decoder.items()}
        ends = [i for i in tail if i in named or i == own or added.get(i, "").strip()]
        if not ends and own is None and not named:
            raise ReadEnvError(
                "models: the tokenizer has no eos_token, so completions could not be ended; set one and save it again"
            )
        #: Text after an answer that no single token ends.
        self._loose_tail = "" if ends else self._template.tail
        self.eos_id = int(ends[0] if ends else named[0] if own is None else own)
        self.stop_ids = tuple(sorted({self.eos_id, *named, *([] if own is None else [own])}))
        pad = tokenizer.pad_token_id
        self.pad_id = int(self.eos_id if pad is None or pad >= self.vocabulary else pad)
        special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
        framing = {i for i in around if added.get(i, "").strip()}
        self._control = special | framing | {*self.stop_ids, *tokenizer.all_special_ids} - {None}
        spelled = {str(token) for token in tokenizer.convert_ids_to_tokens(sorted(self._control))}
        longest = sorted((re.escape(token) for token in spelled if len(token) > 1), key=len, reverse=True)
        self._spelled = re.compile("|".join(longest) or "(?!)")

    @property
    def fingerprint(self) -> str:
        """Hex digest of the vocabulary, the special tokens and the prompt template."""
        template = (self._template.source, self._template.around, self._template.tail)
        content = (sorted(self.tokenizer.get_vocab().items()), self.stop_ids, self.eos_id, self.pad_id, template)
        return hashlib.blake2b(repr(content).encode(), digest_size=16).hexdigest()

    @property
    def eos_token(self) -> str:
        """Token with id ``eos_id``."""
        return str(self.tokenizer.convert_ids_to_tokens(self.eos_id))

    def prompts(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of the prompts, each in the chat template with its generation prompt."""
        return self._ids(*self._rendered((text,) for text in texts))

    def completions(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> list[list[int]]:
        """Token ids of completions, each with ``eos_id`` at its end; see :meth:`pairs`.

        Args:
            texts: completions.
            prompts: one prompt per completion; by default the same short one for all.
        """
        return [completion for _, completion in self.pairs(prompts or ["1"] * len(texts), texts)]

    def pairs(self, prompts: Sequence[str], completions: Sequence[str]) -> list[tuple[list[int], list[int]]]:
        """Token ids of prompts and completions: the conversation's, cut in two where the prompt ends.

        A tokenizer may merge the end of the prompt with the beginning of the completion; that token then belongs to the
        completion.

        Raises:
            ReadEnvError: the chat template can't render the conversation.
        """
        whole, breaks = self._rendered(zip(prompts, completions, strict=True))
        if self._loose_tail:
            whole = [text.removesuffix(self._loose_tail) for text in whole]
        pairs = []
        for prompt, ids in zip(self.prompts(prompts), self._ids(whole, breaks), strict=True):
            start = next((i for i, (a, b) in enumerate(zip(prompt, ids, strict=False)) if a != b), len(prompt))
            completion = ids[start:]
            end = completion.index(self.eos_id) if self.eos_id in completion else len(completion)
            pairs.append((ids[:start], [*completion[:end], self.eos_id]))
        return pairs

    def text(self, ids: Sequence[int]) -> str:
        """Text of a completion's token ids, without special tokens and without the token that ends it."""
        kept = list(ids[:-1]) if len(ids) and ids[-1] in self.stop_ids else list(ids)
        # Clean-up would remove spaces before punctuation.
        return str(self.tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def _rendered(self, turns: Iterable[tuple[str, ...]]) -> tuple[list[str], str]:
        """Prompts or conversations as text, with a character inside each control token that a turn spells; that character."""
        turns = list(turns)
        render = self._template.prompt if turns and len(turns[0]) == 1 else self._template.conversation
        if not any(self._spelled.search(text) for texts in turns for text in texts):
            return [render(*texts) for texts in turns], ""
        used = {character for texts in turns for text in texts for character in text}
        mark = next(chr(code) for code in _BREAKS if chr(code) not in used)
        return [render(*(self._break_up(text, mark) for text in texts)) for texts in turns], mark

    def _break_up(self, text: str, mark: str) -> str:
        while found := self._spelled.search(text):
            text = f"{text[: found.start() + 1]}{mark}{text[found.start() + 1 :]}"
        return text

    def _ids(self, texts: Sequence[str], mark: str = "") -> list[list[int]]:
        """Token ids of rendered texts, without those of ``mark``."""
        if not texts:
            return []
        if not mark:
            return list(self.tokenizer(list(texts), add_special_tokens=False)["input_ids"])
        if not self.tokenizer.is_fast:
            raise ReadEnvError(
                f"a prompt or a completion spells a control token of {self.tokenizer.name_or_path!r}, which this kind of "
                f"tokenizer can't encode as text: {next(text for text in texts if mark in text).replace(mark, '')!r}"
            )
        encoded = self.tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True)
        kept = []
        for text, ids, offsets in zip(texts, encoded["input_ids"], encoded["offset_mapping"], strict=True):
            pieces = [text[start:end] for start, end in offsets]
            if any(mark in piece != mark for piece in pieces) or (mark in text) != (mark in pieces):
                raise ReadEnvError(
                    f"a prompt or a completion spells a control token of {self.tokenizer.name_or_path!r}, and the tokenizer "
                    f"has no plain text for it: {text.replace(mark, '')!r}"
                )
            kept.append([i for i, piece in zip(ids, pieces, strict=True) if piece != mark])
        return kept


def _known_tokens(tokenizer: PreTrainedTokenizerBase, rows: int | None, needed: Set[int | None]) -> int:
    """V: number of token ids. Special tokens alone may lie beyond the model's rows, where no id in ``needed`` is theirs."""
    vocabulary = tokenizer.get_vocab()
    # No text has the id of a special token: one that is spelled is broken up.
    spare = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special} | {tokenizer.pad_token_id}
    spare -= needed
    beyond = {} if rows is None else {token: i for token, i in vocabulary.items() if i >= rows and i not in spare}
    if beyond:
        token = min(beyond, key=lambda token: beyond[token])
        raise ReadEnvError(
            f"models: the tokenizer of {tokenizer.name_or_path!r} has {1 + max(vocabulary.values()):,} tokens and the model "
            f"{rows:,} embeddings; {token!r} has id {beyond[token]}. Call model.resize_token_embeddings(len(tokenizer)) and "
            "save the model again, or remove the added tokens"
        )
    top = 1 + max(vocabulary.values())
    return top if rows is None else min(top, rows)


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


def collate(
    prompt_ids: Sequence[Sequence[int]],
    completion_ids: Sequence[Sequence[int]],
    pad_id: int,
    shape: Callable[[int, int], tuple[int, int]] | None = None,
) -> Batch:
    """Pad prompts with their completions into one batch; completion tokens keep the order of the sequences.

    Args:
        prompt_ids: token ids of the prompts.
        completion_ids: token ids of the completions.
        pad_id: token id of the padding.
        shape: shape to pad to, given the number of sequences and the longest; both at least as large. None: just these.

    Example:
        >>> collate([[5, 6], [7]], [[8], [9]], pad_id=0).input_ids
        tensor([[5, 6, 8],
                [7, 9, 0]])
    """
    count, length = len(prompt_ids), max(len(p) + len(c) for p, c in zip(prompt_ids, completion_ids, strict=True))
    if shape is not None:
        count, length = shape(count, length)
    input_ids: list[list[int]] = []
    rows: list[int] = []
    columns: list[int] = []
    targets: list[int] = []
    for row, (prompt, completion) in enumerate(zip(prompt_ids, completion_ids, strict=True)):
        input_ids.append([*prompt, *completion, *[pad_id] * (length - len(prompt) - len(completion))])
        rows.extend([row] * len(completion))
        columns.extend(range(len(prompt) - 1, len(prompt) + len(completion) - 1))
        targets.extend(completion)
    input_ids.extend([pad_id] * length for _ in range(count - len(prompt_ids)))
    return Batch(torch.tensor(input_ids), torch.tensor(rows), torch.tensor(columns), torch.tensor(targets))


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
