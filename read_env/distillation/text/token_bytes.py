"""Bytes of each token of a tokenizer, and the tokens of two tokenizers that have the same bytes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from read_env.distillation.text.encoding import Encoder
from read_env.errors import ReadEnvError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BYTE_FALLBACK = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE = "\u2581"
#: Texts that show whether the tokens of a tokenizer, one after the other, spell a text.
_SAMPLES = ("a", "Answer: 42", "ab cd", " b  c", "1\n2", "né", "日本", "🙂")


def _byte_level_characters() -> dict[str, int]:
    """Byte of each character of byte-level BPE: printable bytes stand for themselves, the others come after U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


_BYTE_LEVEL = _byte_level_characters()


def token_bytes(tokenizer: PreTrainedTokenizerBase, vocabulary: int, role: str = "student") -> list[bytes]:
    """UTF-8 bytes that each token adds to a text; empty for special tokens, which add none.

    Byte-level BPE, SentencePiece with or without byte fallback, and vocabularies of plain characters or words. A token may
    be part of a character.

    Args:
        tokenizer: Hugging Face tokenizer.
        vocabulary: V; ids without a token have no bytes.
        role: ``teacher`` or ``student``, for the error.

    Raises:
        ReadEnvError: the tokens do not spell a text, as with WordPiece, whose decoder adds spaces.

    Example:
        >>> from read_env.distillation.loading import load
        >>> encoder = load("embedded:micro/student").encoder
        >>> spelled = token_bytes(encoder.tokenizer, encoder.vocabulary)
        >>> [spelled[token] for token in encoder.completions(["5 a"])[0]]
        [b'5', b' ', b'a', b'']
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    decoder = "" if backend is None else str(backend.decoder)
    special = {*tokenizer.all_special_ids} | {i for i, t in tokenizer.added_tokens_decoder.items() if t.special}
    tokens = tokenizer.convert_ids_to_tokens(list(range(vocabulary)))
    by_byte = "ByteLevel" in decoder
    spaced = _SPACE in decoder or "Metaspace" in decoder or backend is None
    found = [
        b"" if token is None or i in special else _bytes(str(token), by_byte, spaced) for i, token in enumerate(tokens)
    ]
    _check_spelling(tokenizer, found, role)
    return found


def _bytes(token: str, by_byte: bool, spaced: bool) -> bytes:
    if by_byte and all(character in _BYTE_LEVEL for character in token):
        return bytes(_BYTE_LEVEL[character] for character in token)
    if spaced and (fallback := _BYTE_FALLBACK.fullmatch(token)):
        return bytes([int(fallback[1], 16)])
    return (token.replace(_SPACE, " ") if spaced else token).encode("utf-8", "surrogatepass")


def _check_spelling(tokenizer: PreTrainedTokenizerBase, found: Sequence[bytes], role: str) -> None:
    for sample in _SAMPLES:
        ids = tokenizer(sample, add_special_tokens=False)["input_ids"]
        text = str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))
        spelled = b"".join(found[i] for i in ids if i < len(found))
        if text == sample and spelled not in (text.encode(), b" " + text.encode()):
            raise ReadEnvError(
                f"models.{role}: the tokens of {tokenizer.name_or_path!r} don't spell a text byte by byte: those of "
                f"{sample!r} are {tokenizer.convert_ids_to_tokens(ids)}; the losses 'gold' and 'uld' align two tokenizers by "
                "bytes and need byte-level BPE or SentencePiece; right would be distill.loss 'sft', which learns from the text"
            )


@dataclass(frozen=True)
class SharedVocabulary:
    """Tokens that two vocabularies share, because they have the same bytes.

    Attributes:
        teacher, student: bytes of every token of either side.
        ids: (V of the teacher,) int64 id of the same token in the student's vocabulary, -1 where there is none. Every
            token that ends the teacher's turn is the student's ``eos_id``; other special tokens are shared by name.
        unshared: (V of the student,) True for tokens that the teacher doesn't have.

    Example:
        >>> from read_env.distillation.loading import load
        >>> encoder = load("embedded:micro/student").encoder
        >>> bool((SharedVocabulary.of(encoder, encoder).ids == torch.arange(encoder.vocabulary)).all())
        True
    """

    teacher: Sequence[bytes]
    student: Sequence[bytes]
    ids: torch.Tensor
    unshared: torch.Tensor

    @classmethod
    def of(cls, teacher: Encoder, student: Encoder) -> SharedVocabulary:
        """Shared tokens of two encoders.

        Raises:
            ReadEnvError: the tokens of one of them don't spell a text.
        """
        theirs = token_bytes(teacher.tokenizer, teacher.vocabulary, "teacher")
        ours = token_bytes(student.tokenizer, student.vocabulary, "student")
        # Where several tokens have the same bytes, the n-th there is the n-th here.
        by_name = {name: i for i, name in _names(student, ours)}
        ids = torch.full((teacher.vocabulary,), -1, dtype=torch.int64)
        for i, name in _names(teacher, theirs):
            ids[i] = by_name.get(name, -1)
        ids[ids == student.eos_id] = -1
        ids[list(teacher.stop_ids)] = student.eos_id
        unshared = torch.ones(student.vocabulary, dtype=torch.bool)
        unshared[ids[ids >= 0]] = False
        return cls(theirs, ours, ids, unshared)


def _names(encoder: Encoder, spelled: Sequence[bytes]) -> list[tuple[int, tuple[object, int]]]:
    """Id and name of every token: its bytes, or a special token's text, and how many came before with the same.

    Byte-fallback tokens come last, so that a character that is a token is never taken for its byte.
    """
    tokens = encoder.tokenizer.convert_ids_to_tokens(list(range(len(spelled))))
    order = sorted(range(len(spelled)), key=lambda i: (bool(_BYTE_FALLBACK.fullmatch(str(tokens[i]))), i))
    seen: dict[object, int] = {}
    names = []
    for i in order:
        key: object = spelled[i] or str(tokens[i])
        seen[key] = seen.get(key, -1) + 1
        names.append((i, (key, seen[key])))
    return names
