"""More math and reasoning prompts, from tasks of the package reasoning-gym, which also grades them.

A prompt is known by its task, level and index alone: the task makes the same entry of them again
whenever an answer is graded. Only tasks are taken whose scorers compare text and evaluate none of it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from importlib import import_module, metadata
from typing import Any

from read_env.capabilities.base import Capability, Filling, Suite, Template
from read_env.capabilities.extension import extend
from read_env.capabilities.instruct.answers import marked
from read_env.capabilities.instruct.words import ending, filling
from read_env.errors import ReadEnvError

#: Number of entries per task and level, of which each prompt draws one.
_ENTRIES = 2**31
#: Maximum characters of an answer; the longest correct one has about a hundred.
_LONGEST_ANSWER = 300

Level = Mapping[str, int]

#: Task -> its own settings when it is easy, medium and hard. Tasks with few possible answers are left out.
_MATH: Mapping[str, tuple[Level, Level, Level]] = {
    "chain_sum": (
        {"min_terms": 2, "max_terms": 3, "min_digits": 2, "max_digits": 2},
        {"min_terms": 4, "max_terms": 5, "min_digits": 2, "max_digits": 3},
        {"min_terms": 5, "max_terms": 7, "min_digits": 4, "max_digits": 5},
    ),
    "products": (
        {"min_terms": 2, "max_terms": 2, "min_digits": 2, "max_digits": 2},
        {"min_terms": 2, "max_terms": 2, "min_digits": 3, "max_digits": 3},
        {"min_terms": 3, "max_terms": 3, "min_digits": 3, "max_digits": 3},
    ),
    "lcm": (
        {"min_numbers": 2, "max_numbers": 2, "min_value": 2, "max_value": 50},
        {"min_numbers": 2, "max_numbers": 2, "min_value": 51, "max_value": 150},
        {"min_numbers": 3, "max_numbers": 3, "min_value": 20, "max_value": 150},
    ),
    "fraction_simplification": (
        {"min_value": 1, "max_value": 20, "min_factor": 2, "max_factor": 6},
        {"min_value": 20, "max_value": 60, "min_factor": 7, "max_factor": 20},
        {"min_value": 61, "max_value": 400, "min_factor": 21, "max_factor": 100},
    ),
    "simple_equations": (
        {"min_terms": 2, "max_terms": 2, "max_value": 20},
        {"min_terms": 3, "max_terms": 3, "max_value": 50},
        {"min_terms": 4, "max_terms": 5, "max_value": 200},
    ),
    "leg_counting": (
        {"min_animals": 2, "max_animals": 3, "max_instances": 5},
        {"min_animals": 4, "max_animals": 5, "max_instances": 10},
        {"min_animals": 6, "max_animals": 9, "max_instances": 20},
    ),
    "prime_factorization": (
        {"min_value": 4, "max_value": 500},
        {"min_value": 501, "max_value": 2_000},
        {"min_value": 2_001, "max_value": 20_000},
    ),
}
_REASONING: Mapping[str, tuple[Level, Level, Level]] = {
    "knights_knaves": ({"n_people": 2}, {"n_people": 3}, {"n_people": 4}),
    "word_sorting": (
        {"min_words": 3, "max_words": 4},
        {"min_words": 5, "max_words": 6},
        {"min_words": 7, "max_words": 10},
    ),
    "needle_haystack": (
        {"min_num_statements": 5, "max_num_statements": 10},
        {"min_num_statements": 15, "max_num_statements": 25},
        {"min_num_statements": 30, "max_num_statements": 40},
    ),
    "color_cube_rotation": (
        {"min_rotations": 1, "max_rotations": 2},
        {"min_rotations": 3, "max_rotations": 4},
        {"min_rotations": 5, "max_rotations": 7},
    ),
    "path_star": (
        {"degree": 2, "min_path_length": 2, "max_path_length": 2},
        {"degree": 3, "min_path_length": 3, "max_path_length": 3},
        {"degree": 4, "min_path_length": 4, "max_path_length": 5},
    ),
}
_TASKS = {**_MATH, **_REASONING}


def extended(suite: Suite) -> Suite:
    """Instruct suite with the tasks added to math and reasoning.

    Raises:
        ReadEnvError: reasoning-gym is not installed.
    """
    _package()
    tasks = {"math": _MATH, "reasoning": _REASONING}
    return Suite(
        f"{suite.name}+reasoning-gym",
        tuple(_extend(one, tuple(tasks[one.name])) if one.name in tasks else one for one in suite),
    )


def version() -> str:
    """Installed version of reasoning-gym, which determines the prompts; empty if it is not installed."""
    try:
        return metadata.version("reasoning-gym")
    except metadata.PackageNotFoundError:
        return ""


def _extend(own: Capability, tasks: tuple[str, ...]) -> Capability:
    templates = tuple(Template(name, _PATTERNS, "Answer: {answer}", _entry(name)) for name in tasks)
    return extend(own, templates, lambda prompt, completion: _is_right(prompt.check, completion))


_PATTERNS = ("{question}\n\n{ending}", "{question} {ending}", "{ending}\n\n{question}")


def _entry(task: str) -> Callable[[random.Random], Filling]:
    """Draw a level and one of the task's entries."""

    def fill(rng: random.Random) -> Filling:
        level, index = rng.randrange(3), rng.randrange(_ENTRIES)
        entry = _dataset(task, level)[index]
        slots = {
            "question": entry["question"].strip(), "answer": entry["answer"],
            "ending": ending(rng, "the final answer"),
        }  # fmt: skip
        return filling(slots, {"task": task, "level": level, "index": index}, level=level)

    return fill


def _is_right(check: Mapping[str, Any], completion: str) -> bool:
    """True if the task's own scorer gives the final answer the full score."""
    answer = marked(completion)
    given = (completion if answer is None else answer).strip()
    if not 0 < len(given) <= _LONGEST_ANSWER:
        return False
    dataset = _dataset(check["task"], check["level"])
    entry = dataset[check["index"]]
    # The answer as written, without the usual decoration, and the part after an equals sign.
    bare = given.strip("*`$ ")
    for text in dict.fromkeys((given, bare, bare.removesuffix("."), bare.removesuffix(".").rpartition("=")[2].strip())):
        try:
            if dataset.score_answer(text, entry) == 1:
                return True
        except Exception:  # some scorers raise on malformed text
            continue
    return False


@cache
def _dataset(task: str, level: int) -> Any:
    """All entries of a task at a level; each is a function of its index."""
    return _package().create_dataset(task, seed=0, size=_ENTRIES, **_TASKS[task][level])


@lru_cache(maxsize=1)
def _package() -> Any:
    # The import draws from the global random generator; its state is restored, so that no other draw depends on it.
    state = random.getstate()
    try:
        return import_module("reasoning_gym")
    except ImportError as error:
        raise ReadEnvError(
            f"suite 'instruct+reasoning-gym' needs reasoning-gym ({error}); pip install 'read-env[reasoning-gym]', or "
            "take suite 'instruct', which has math and reasoning prompts of its own"
        ) from error
    finally:
        random.setstate(state)
