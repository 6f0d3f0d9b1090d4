"""code: write short Python functions, graded by running them, and predict what a program prints."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any

from read_env.capabilities.base import Capability, Filling, Prompt, Template, is_writable
from read_env.capabilities.instruct.answers import is_number
from read_env.capabilities.instruct.operations import (
    SAMPLE_WORDS,
    group_summary,
    list_summary,
    number_change,
    number_test,
    text_change,
    word_key,
)
from read_env.capabilities.instruct.words import ending, filling

_VERBS = "build calculate collect compute derive evaluate find get make produce solve".split()
_CASES = 5
_PYTHON = {"python", "py", "python3"}


def _task(
    rng: random.Random, noun: str, argument: str, wanted: str, body: Iterable[str], run: Callable[[Any], Any],
    sample: Callable[[], Any], call: str = "{}", *, steps: int, branches: int,
) -> Filling:  # fmt: skip
    """A function to write, and cases for it."""
    name = f"{rng.choice(_VERBS)}_{noun}"
    values = [sample() for _ in range(_CASES)]
    cases = [[call.format(f"{name}({value!r})"), repr(run(value))] for value in values]
    lines = [f"def {name}({argument}):", *(f"    {line}" for line in body)]
    slots = {"name": name, "argument": argument, "wanted": wanted, "code": "\n".join(lines)}
    return filling(slots, {"cases": cases}, steps=steps, branches=branches)


def _varied(fill: Callable[[random.Random], Filling]) -> Callable[[random.Random], Filling]:
    """Draw ``fill`` again until a function that returns a constant would fail."""

    def varied(rng: random.Random) -> Filling:
        while True:
            drawn = fill(rng)
            if len({expected for _, expected in drawn.check["cases"]}) > 1:
                return drawn

    return varied


def _numbers(rng: random.Random) -> Filling:
    keeps, changes = rng.random() < 0.7, rng.random() < 0.7
    keep, change, summary = number_test(rng), number_change(rng), list_summary(rng)
    wanted = f"keeps the numbers that {keep.text}, " if keeps else ""
    wanted += f"takes each number {change.text}, " if changes else ""
    new = change.source if changes else "n"
    condition = f" if {keep.source}" if keeps else ""

    def run(numbers: list[int]) -> Any:
        kept = [n for n in numbers if not keeps or keep.run(n)]
        return summary.run([change.run(n) if changes else n for n in kept])

    return _task(
        rng, "numbers", "numbers",
        f"takes a list of integers, {wanted}and returns {summary.text}",
        [f"values = [{new} for n in numbers{condition}]", f"return {summary.source}"],
        run, lambda: [rng.randint(-20, 40) for _ in range(rng.randint(0, 8))],
        steps=1 + keeps + changes, branches=int(keeps),
    )  # fmt: skip


def _text(rng: random.Random) -> Filling:
    count = rng.randint(1, 4)
    changes = [text_change(rng) for _ in range(count)]

    def run(text: str) -> str:
        for change in changes:
            text = change.run(text)
        return text

    return _task(
        rng, "text", "text",
        "takes a string, changes it and returns the result. In this order: " + "; ".join(c.text for c in changes),
        [*(f"text = {c.source}" for c in changes), "return text"],
        run, lambda: " ".join(rng.sample(SAMPLE_WORDS, rng.randint(1, 3))), steps=count, branches=0,
    )  # fmt: skip


def _rules(rng: random.Random) -> Filling:
    count = rng.randint(1, 3)
    divisors, names = rng.sample(range(2, 12), count), rng.sample(SAMPLE_WORDS, count)
    change = number_change(rng)
    rules = list(zip(divisors, names, strict=True))
    wanted = "; ".join(f"if n is divisible by {d}, return '{name}'" for d, name in rules)

    def run(n: int) -> Any:
        return next((name for divisor, name in rules if n % divisor == 0), change.run(n))

    body = [line for d, name in rules for line in (f"if n % {d} == 0:", f"    return '{name}'")]
    return _task(
        rng, "label", "n",
        f"takes an integer and follows the first rule that fits: {wanted}; otherwise return n {change.text}",
        [*body, f"return {change.source}"],
        run, lambda: rng.choice((*divisors, 1)) * rng.randint(1, 30), steps=1, branches=count,
    )  # fmt: skip


def _range(rng: random.Random) -> Filling:
    tests = [number_test(rng) for _ in range(rng.randint(1, 2))]
    sums, change = rng.random() < 0.5, number_change(rng)
    joins = rng.choice(("and", "or"))

    def run(limit: int) -> int:
        decide = all if joins == "and" else any
        fits = [n for n in range(1, limit + 1) if decide(test.run(n) for test in tests)]
        return sum(map(change.run, fits)) if sums else len(fits)

    condition = f" {joins} ".join(test.source for test in tests)
    wanted = f" {joins} ".join(f"that {test.text}" for test in tests)
    result = f"the sum, over the integers {{}}, of each integer {change.text}" if sums else "the number of integers {}"
    return _task(
        rng, "count", "limit",
        f"takes a positive integer limit and returns {result.format(f'from 1 to limit inclusive {wanted}')}",
        ["total = 0", "for n in range(1, limit + 1):", f"    if {condition}:",
         f"        total += {change.source if sums else 1}", "return total"],
        run, lambda: rng.randint(1, 60), steps=1 + sums, branches=len(tests),
    )  # fmt: skip


def _groups(rng: random.Random) -> Filling:
    key, summary, least = word_key(rng), group_summary(rng), rng.randint(1, 5)

    def run(words: list[str]) -> Any:
        groups: dict[Any, list[str]] = {}
        for word in words:
            if len(word) >= least:
                groups.setdefault(key.run(word), []).append(word)
        return sorted((k, summary.run(values)) for k, values in groups.items())

    only = f"Words with fewer than {least} letters are left out. " if least > 1 else ""
    return _task(
        rng, "groups", "words",
        f"takes a list of non-empty words and groups them by their {key.text}. {only}"
        f"It returns a dictionary that maps each {key.text} to this about its words: {summary.text}",
        ["groups = {}", "for text in words:", f"    if len(text) >= {least}:",
         f"        groups.setdefault({key.source}, []).append(text)",
         f"return {{key: {summary.source} for key, values in groups.items()}}"],
        run, lambda: rng.sample(SAMPLE_WORDS, rng.randint(0, 7)), "sorted({}.items())", steps=2, branches=int(least > 1),
    )  # fmt: skip


def _trace(rng: random.Random) -> Filling:
    test, change = number_test(rng), number_change(rng)
    start, rounds, branch = rng.randint(0, 30), rng.randint(2, 6), rng.random() < 0.6
    values = [rng.randint(1, 20) for _ in range(rounds)]
    total, work = start, [f"total = {start}"]
    for n in values:
        added = change.run(n) if not branch or test.run(n) else -n
        total += added
        work.append(f"n = {n}: total = {total}")
    if branch:
        body = f"    if {test.source}:\n        total += {change.source}\n    else:\n        total -= n"
    else:
        body = f"    total += {change.source}"
    program = f"total = {start}\nfor n in {values}:\n{body}\nprint(total)"
    slots = {"program": program, "work": "\n".join(work), "answer": total, "ending": ending(rng, "what is printed")}
    return filling(slots, {"number": total}, steps=1 + rounds // 2, branches=int(branch))


def python_block(completion: str) -> str:
    r"""The last fenced Python block of a completion (to its end if the fence stays open), or all of it.

    A block without a language counts only where none says Python: it may show what the program prints.

    Example:
        >>> python_block("It is:\n```python\nprint(1)\n```")
        'print(1)'
    """
    tagged: list[str] | None = None
    untagged: list[str] | None = None
    block: list[str] | None = None
    for line in completion.splitlines():
        mark = line.strip()
        if not mark.startswith("```"):
            if block is not None:
                block.append(line)
        elif block is not None:
            block = None
        else:
            block = []
            language = mark.lstrip("`").strip().casefold()
            tagged = block if language in _PYTHON else tagged
            untagged = untagged if language else block
    last = untagged if tagged is None else tagged
    return completion if last is None else "\n".join(last)


def passes(completion: str, cases: Iterable[tuple[str, str]]) -> bool:
    """True if the Python in a completion runs in the sandbox, and every call has the expected value.

    Args:
        completion: text with a block of code, or code alone.
        cases: pairs of a call and the ``repr`` of its value, as for :func:`read_env.capabilities.execution.run_python`.
    """
    code = python_block(completion)
    # Lone surrogates and null bytes are not Python source.
    if not code.strip() or "\0" in code or not is_writable(code):
        return False
    from read_env.capabilities.execution import run_python

    return run_python(code, [(call, expected) for call, expected in cases]).passed


def _verify(prompt: Prompt, completion: str) -> bool:
    if "number" in prompt.check:
        return is_number(completion, prompt.check["number"])
    return passes(completion, prompt.check["cases"])


_PATTERNS = (
    "Write a Python function `{name}({argument})` that {wanted}. Reply with one Python code block.",
    "In Python, implement `{name}({argument})`. It {wanted}. Give only the code, in one ```python block.",
    "I need a Python function called `{name}` with one parameter `{argument}`. It {wanted}. Answer with a code block.",
    "Define `{name}({argument})` in Python: it {wanted}. Put the definition into a ```python block.",
)
_REFERENCE = "```python\n{code}\n```"

CODE = Capability(
    "code",
    (
        Template("numbers", _PATTERNS, _REFERENCE, _varied(_numbers)),
        Template("text", _PATTERNS, _REFERENCE, _varied(_text)),
        Template("rules", _PATTERNS, _REFERENCE, _varied(_rules)),
        Template("range", _PATTERNS, _REFERENCE, _varied(_range)),
        Template("groups", _PATTERNS, _REFERENCE, _varied(_groups)),
        Template(
            "trace",
            (
                "What does this Python program print?\n```python\n{program}\n```\n{ending}",
                "Follow this program and say what it prints. {ending}\n```python\n{program}\n```",
            ),
            "{work}\nAnswer: {answer}",
            _trace,
        ),
    ),
    answer_marker="Answer:",
    verifier=_verify,
)
