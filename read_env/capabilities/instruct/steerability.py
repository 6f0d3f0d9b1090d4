"""steerability: write about a topic under one to three constraints that can be checked, and hold a given word."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from read_env.capabilities.base import Capability, Filling, Prompt, Template
from read_env.capabilities.instruct.constraints import holds
from read_env.capabilities.instruct.topics import TOPICS, Topic
from read_env.capabilities.instruct.words import filling

_STARTS = ("In short:", "Let me say this:", "What I know:", "A brief note:", "To begin with:", "As you asked:")
_ENDS = ("That is all.", "This is my answer.", "Thank you for asking.", "I hope this helps.", "So much for today.")
_MARKS = ("***", "---", "###", "+++", "~~~")
_ECHOES = ("bravo", "echo", "tango", "delta", "zulu", "sierra")
_KEYS = ("summary", "opinion", "reason", "example", "remark", "advice")


@dataclass
class _Text:
    """Partial reference with the constraints that it has to satisfy."""

    topic: Topic
    sentences: list[str]
    body: str = ""
    asked: list[str] = field(default_factory=list)
    check: list[dict[str, Any]] = field(default_factory=list)

    def ask(self, text: str, kind: str, **parameters: Any) -> None:
        """Add a constraint and its wording in the prompt."""
        self.asked.append(text)
        self.check.append({"kind": kind, **parameters})


def _begin(rng: random.Random, count: int) -> _Text:
    topic = rng.choice(TOPICS)
    return _Text(topic, [topic.sentences[0], *rng.sample(topic.sentences[1:], count - 1)])


def _end(rng: random.Random, text: _Text, size: int) -> Filling:
    order = rng.sample(range(len(text.asked)), len(text.asked))
    check = [{"kind": "includes", "word": text.topic.word}, *text.check]
    slots = {
        "word": text.topic.word, "constraints": " ".join(text.asked[i] for i in order), "body": text.body,
    }  # fmt: skip
    return filling(slots, {"constraints": check}, constraints=len(text.check), size=size)


def _length(rng: random.Random, text: _Text) -> None:
    words = len(text.body.split())
    if rng.random() < 0.5:
        limit = words + rng.randint(0, 12)
        text.ask(f"Use at most {limit} words.", "at_most_words", count=limit)
    else:
        limit = max(3, words - rng.randint(0, 6))
        text.ask(f"Use at least {limit} words.", "at_least_words", count=limit)


def _forbid(rng: random.Random, text: _Text) -> None:
    words = rng.sample(text.topic.tempting, rng.randint(1, 3))
    quoted = " or ".join(f'"{word}"' for word in words)
    text.ask(f"Do not use the {'word' if len(words) == 1 else 'words'} {quoted}.", "excludes", words=words)


def _case(rng: random.Random, text: _Text) -> None:
    if rng.random() < 0.5:
        text.body = text.body.lower()
        text.ask("Write everything in lower case.", "lower_case")
    else:
        text.body = text.body.upper()
        text.ask("Write everything in capital letters.", "upper_case")


def _start(rng: random.Random, text: _Text) -> None:
    phrase = rng.choice(_STARTS)
    text.body = f"{phrase} {text.body}"
    text.ask(f'Begin with "{phrase}"', "starts_with", phrase=phrase)


def _finish(rng: random.Random, text: _Text) -> None:
    phrase = rng.choice(_ENDS)
    text.body = f"{text.body} {phrase}"
    text.ask(f'End with the exact words "{phrase}"', "ends_with", phrase=phrase)


def _commas(rng: random.Random, text: _Text) -> None:
    text.ask("Do not use any commas.", "no_commas")


def _quote(rng: random.Random, text: _Text) -> None:
    text.body = f'"{text.body}"'
    text.ask("Put the whole reply into double quotation marks.", "quoted")


def _add(
    rng: random.Random, text: _Text, count: int, extras: tuple[Callable[[random.Random, _Text], None], ...]
) -> None:
    """Choose ``count`` of the extras, kept in order: those that change the text come before those that measure it."""
    for i in sorted(rng.sample(range(len(extras)), count)):
        extras[i](rng, text)


def _describe(rng: random.Random) -> Filling:
    size, count = rng.randint(1, 5), rng.randint(1, 3)
    text = _begin(rng, size)
    text.body = " ".join(text.sentences)
    extras: tuple[Callable[[random.Random, _Text], None], ...]
    extras = (rng.choice((_start, _finish, _quote)), _case, _length, _forbid, _commas)
    if rng.random() < 0.5:
        extras, count = tuple(e for e in extras if e is not _finish), count - 1
        text.ask(f"Write exactly {_counted(size, 'sentence')}.", "sentences", count=size)
    _add(rng, text, count, extras)
    return _end(rng, text, size)


def _list(rng: random.Random) -> Filling:
    size = rng.randint(2, 6)
    text = _begin(rng, size)
    if rng.random() < 0.6:
        text.body = "\n".join(f"- {sentence}" for sentence in text.sentences)
        text.ask(
            f'Give exactly {_counted(size, "bullet point")}, each on a line that begins with "- ".',
            "bullets",
            count=size,
        )
        longest = max(len(sentence.split()) for sentence in text.sentences) + rng.randint(0, 3)
        if rng.random() < 0.4:
            text.ask(f"No bullet point may have more than {longest} words.", "short_bullets", count=longest)
    else:
        text.body = "\n".join(f"{i}. {sentence}" for i, sentence in enumerate(text.sentences, 1))
        text.ask(f"Give a numbered list (1., 2., ...) with exactly {_counted(size, 'entry')}.", "numbered", count=size)
    _add(rng, text, rng.randint(0, 3 - len(text.check)), (_title, _case, _forbid, _commas))
    return _end(rng, text, size)


def _title(rng: random.Random, text: _Text) -> None:
    text.body = f"<<On the {text.topic.word}>>\n{text.body}"
    text.ask("Put a title in double angle brackets, like <<title>>, on the first line.", "title")


def _counted(count: int, noun: str) -> str:
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{count} {noun if count == 1 else plural}"


def _postscript(rng: random.Random, text: _Text) -> None:
    text.body += "\nP.S. Write again soon."
    text.ask('End with a line that begins with "P.S.".', "postscript")


def _echo(rng: random.Random, text: _Text) -> None:
    word, count = rng.choice(_ECHOES), rng.randint(2, 5)
    text.body = f"{' '.join([word.capitalize(), *[word] * (count - 1)])}! {text.body}"
    text.ask(f'Use the word "{word}" exactly {count} times.', "repeats", word=word, count=count)


def _parts(rng: random.Random) -> Filling:
    size = rng.randint(2, 5)
    text = _begin(rng, size)
    if rng.random() < 0.5:
        mark = rng.choice(_MARKS)
        text.body = f"\n{mark}\n".join(text.sentences)
        text.ask(
            f"Write {size} parts with a line {mark} between them and nowhere else.", "separated", mark=mark, count=size
        )
    else:
        text.body = "\n\n".join(text.sentences)
        text.ask(f"Write exactly {size} paragraphs with a blank line between them.", "paragraphs", count=size)
    extras = (_echo, rng.choice((_postscript, _quote)), _forbid, _commas)
    _add(rng, text, rng.randint(0, 2), extras)
    return _end(rng, text, size)


def _json(rng: random.Random) -> Filling:
    size = rng.randint(2, 5)
    text = _begin(rng, size)
    keys = rng.sample(_KEYS, size)
    value: dict[str, Any] = dict(zip(keys, text.sentences, strict=True))
    quoted = ", ".join(f'"{key}"' for key in keys)
    text.ask(f"Reply with one JSON object and nothing else; its keys are exactly {quoted}.", "json_keys", keys=keys)
    if rng.random() < 0.6:
        count = rng.randint(2, 4)
        value[keys[-1]] = [text.sentences[0], *rng.sample(text.topic.sentences[1:], count - 1)]
        text.ask(f'The value of "{keys[-1]}" is a list of {count} strings.', "json_list", key=keys[-1], count=count)
    text.body = json.dumps(value)
    if rng.random() < 0.5:
        _forbid(rng, text)
    return _end(rng, text, size)


def _verify(prompt: Prompt, completion: str) -> bool:
    return all(holds(constraint, completion) for constraint in prompt.check["constraints"])


_PATTERNS = (
    'Write about this topic: {word}. The word "{word}" must occur. {constraints}',
    'Tell me something about the topic "{word}" and use that word. {constraints}',
    'Say something true about "{word}", with that word in it. Follow these rules. {constraints}',
    'Topic: {word}. {constraints} Use the word "{word}" too.',
)

STEERABILITY = Capability(
    "steerability",
    (
        Template("describe", _PATTERNS, "{body}", _describe),
        Template("list", _PATTERNS, "{body}", _list),
        Template("parts", _PATTERNS, "{body}", _parts),
        Template("json", _PATTERNS, "{body}", _json),
    ),
    verifier=_verify,
)
