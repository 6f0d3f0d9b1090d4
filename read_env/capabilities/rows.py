"""Lines of the files that users bring: JSON lines with a prompt, a conversation, or both prompt and completion."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from read_env.capabilities.base import is_writable
from read_env.errors import ReadEnvError

#: Fields with the prompt, of which the first that a row has counts.
PROMPT_FIELDS = ("prompt", "question", "messages", "conversations")
_ROLES = {
    **dict.fromkeys(("user", "human"), "user"), **dict.fromkeys(("assistant", "gpt", "model", "bot", "chatgpt"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
}  # fmt: skip
#: First bytes of files that are no text.
_FORMATS = {
    b"\x1f\x8b": "compressed with gzip (gunzip it)", b"BZh": "compressed with bzip2 (bunzip2 it)", b"\xfd7zXZ": "compressed with xz (unxz it)",
    b"\x28\xb5\x2f\xfd": "compressed with zstd (unzstd it)", b"PK": "a zip archive (unzip it)", b"PAR1": "a Parquet file",
    b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16",
}  # fmt: skip


def text_of(path: Path, kind: str = "a JSON-lines file") -> str:
    """Content of a text file, without a byte-order mark.

    Args:
        path: the file.
        kind: format that is expected, for the error.

    Raises:
        ReadEnvError: the file can't be read, is compressed or is not UTF-8 (the line is named).
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ReadEnvError(f"{path}: can't be read ({error.strerror}); give the path of {kind}") from error
    for start, name in _FORMATS.items():
        if content.startswith(start):
            raise ReadEnvError(f"{path}: is {name}; give {kind}")
    content = content.removeprefix(b"\xef\xbb\xbf")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        column = error.start - (before.rfind(b"\n") + 1)
        raise ReadEnvError(
            f"{path}, line {before.count(bytes([10])) + 1}: byte {column} ({content[error.start]:#04x}) is not UTF-8; save the "
            "file as UTF-8"
        ) from error


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Iterate over the lines of a text file that are not blank, with their numbers from 1.

    Raises:
        ReadEnvError: see :func:`text_of`.
    """
    for number, line in enumerate(text_of(path).split("\n"), 1):
        if line.strip():
            yield number, line.strip("\r")


def json_rows(path: Path) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Iterate over the rows of a JSON-lines file: place for error messages, number of the line, fields.

    Raises:
        ReadEnvError: see :func:`text_lines`; or a line that is no JSON object.
    """
    first = True
    for number, line in text_lines(path):
        where = f"{path}, line {number}"
        if first and line.lstrip().startswith("["):
            raise ReadEnvError(f"{where}: the file is a JSON array; write one object per line, as `jq -c '.[]'` does")
        first = False
        try:
            row = json.loads(line, object_pairs_hook=_distinct)
        except (ValueError, RecursionError) as error:
            comma = " without the comma at its end" if line.rstrip().endswith(",") else ""
            raise ReadEnvError(
                f"{where}: {short(line)} is no JSON ({error}); write one object per line{comma}"
            ) from error
        if not isinstance(row, dict):
            raise ReadEnvError(f'{where}: {short(row)} is no JSON object; write {{"prompt": ..., "answer": ...}}')
        yield where, number, row


def prompt_and_completion(row: dict[str, Any], where: str) -> tuple[str, str | None]:
    """Prompt of a row, and its completion if it has one.

    The prompt is the text in ``prompt`` or ``question``, or the conversation in ``prompt``, ``messages`` or
    ``conversations``; a system message is put in front of the user's, with a blank line between.

    Raises:
        ReadEnvError: no prompt, an empty one, one with a lone surrogate, or a conversation of several exchanges.

    Example:
        >>> messages = [{"role": "user", "content": "2+3?"}, {"role": "assistant", "content": "5"}]
        >>> prompt_and_completion({"messages": messages}, "line 1")
        ('2+3?', '5')
    """
    field = next((name for name in PROMPT_FIELDS if row.get(name) is not None), None)
    if field is None:
        raise ReadEnvError(f"{where}: field 'prompt' is missing in {short(row)}; it must be a text, or give 'messages'")
    prompt, completion = row[field], row.get("completion") if field in ("prompt", "question") else None
    if isinstance(prompt, list) or field in ("messages", "conversations"):
        prompt, answered = _exchange(prompt, where, field)
        completion = answered if completion is None else completion
    if isinstance(completion, list):
        completion = "".join(text for role, text in _turns(completion, where, "completion") if role == "assistant")
    for name, text in ((field, prompt), ("completion", completion)):
        if text is None and name == "completion":
            continue
        if not isinstance(text, str) or not text.strip():
            raise ReadEnvError(f"{where}: {name} = {short(text)} must be a text that is not empty")
        check_writable(text, name, where)
    return prompt, completion


def check_writable(text: str, field: str, where: str) -> None:
    """Raise for a text with lone surrogates, which no encoding has."""
    if not is_writable(text):
        raise ReadEnvError(f"{where}: {field} = {short(text)} has half a character (a lone surrogate); mend it")


def short(value: object) -> str:
    """Value in an error message, cut to 60 characters."""
    text = repr(value[:60] if isinstance(value, str) else value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        twice = next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i]))
        raise ValueError(f"key {twice!r} occurs twice")
    return fields


def _exchange(value: object, where: str, field: str) -> tuple[str, str | None]:
    """Prompt and answer of a conversation: a system message, one message of the user, one answer; the user's is a must."""
    turns = _turns(value, where, field)
    roles = [role for role, _ in turns]
    texts = dict(turns)
    if [role for role in ("system", "user", "assistant") if role in texts] != roles or "user" not in texts:
        raise ReadEnvError(
            f"{where}: {field} has the roles {short(roles)}; right would be one message of the user and one answer, with or "
            "without a system message before them: split longer conversations"
        )
    prompt = "\n\n".join(texts[role] for role in ("system", "user") if texts.get(role))
    return prompt, texts.get("assistant")


def _turns(value: object, where: str, field: str) -> list[tuple[str, str]]:
    turns = []
    for message in value if isinstance(value, list) else [value]:
        fields = message if isinstance(message, dict) else {}
        role, content = fields.get("role", fields.get("from")), fields.get("content", fields.get("value"))
        if isinstance(content, list) and all(isinstance(p, dict) and isinstance(p.get("text"), str) for p in content):
            content = "".join(part["text"] for part in content)
        if not isinstance(role, str) or role not in _ROLES or not isinstance(content, str):
            raise ReadEnvError(
                f'{where}: {field} has {short(message)}; right would be {{"role": "user", "content": TEXT}}, with the roles '
                "system, user and assistant"
            )
        turns.append((_ROLES[role], content))
    return turns
