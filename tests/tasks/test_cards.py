"""Task cards: what ships is sound, what is malformed is refused with file and field."""

import itertools
import random
import re
from pathlib import Path
from string import Formatter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from read_env.capabilities import get_suite, split_of
from read_env.capabilities.base import Template
from read_env.capabilities.micro.facts import PRICES
from read_env.errors import ReadEnvError
from read_env.tasks import Exemplar, TaskCard, essential, load_task, task_names

SUITE = get_suite("micro")

CARD = """
name = "chess"
description = "Say who wins."
input_format = "A position."
output_format = "A colour."
metric = "exact match"
utility_form = "weighted_mean"
[requirement]
reasoning = 3
math = 1
[[exemplars]]
prompt = "2+3+4"
completion = "2+3=5+4=9 so 9"
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "chess.toml"
    path.write_text(text)
    return path


def card(requirement: dict[str, float], utility_form: str = "weighted_mean") -> TaskCard:
    exemplar = Exemplar(prompt="p", completion="c")
    texts = dict.fromkeys(("name", "description", "input_format", "output_format", "metric"), "x")
    return TaskCard(**texts, exemplars=(exemplar,), requirement=requirement, utility_form=utility_form)


# --- what ships -------------------------------------------------------------------------------


def test_prompts_of_the_micro_world_are_for_its_suite_alone():
    measured = [name for name in task_names(SUITE) if load_task(name, SUITE).measured]
    assert len(measured) == 8 and not set(measured) & set(task_names(get_suite("instruct")))
    with pytest.raises(ReadEnvError, match="needs sums, prices, which suite 'instruct' lacks"):
        load_task("weather-abroad", get_suite("instruct"))


@pytest.mark.parametrize("name", task_names())
def test_shipped_cards_are_sound(name: str) -> None:
    task = load_task(name, SUITE)
    assert task.name == name
    requirement = task.requirement_vector(SUITE)
    assert requirement.shape == (10,) and requirement.min() >= 0
    assert requirement.sum() == pytest.approx(1, abs=1e-12)
    assert len(task.exemplars) >= 2
    assert {split_of(exemplar.prompt) for exemplar in task.exemplars} == {"stream"}, "none is held out"


@pytest.mark.parametrize("name", task_names())
def test_exemplars_are_prompts_of_the_suite_with_correct_completions(name: str) -> None:
    task = load_task(name, SUITE)
    if task.measured:
        return  # they are prompts of its own, see test_prompts.py
    templates = [t for c in SUITE if c.name in task.requirement for t in c.templates]
    for exemplar in task.exemplars:
        makers = [template for template in templates if fits(exemplar, template)]
        assert makers, f"no template of {list(task.requirement)} makes {exemplar}"
        # Where a template has few prompts, this finds the very one.
        for template in makers:
            drawn = dict(template.draw(random.Random(i))[:2] for i in range(3000))
            assert drawn.get(exemplar.prompt, exemplar.completion) == exemplar.completion
        steps, _, answer = exemplar.completion.rpartition(" so ")
        for word in steps.split():
            check_step(word, exemplar.prompt)
        if any(template in SUITE[name].templates for name in ("long_context", "reasoning") for template in makers):
            assert all(piece in steps for piece in answer.split(","))  # answers there are found, not made up


def fits(exemplar: Exemplar, template: Template) -> bool:
    """True if some pattern of the template gives the prompt, and its reference the completion, with the same slots."""
    for pattern in template.patterns:
        prompt = re.fullmatch(as_regex(pattern), exemplar.prompt)
        completion = re.fullmatch(as_regex(template.reference), exemplar.completion)
        if prompt and completion:
            given, used = prompt.groupdict(), completion.groupdict()
            if all(used[slot] == given[slot] for slot in used.keys() & given.keys()):
                return True
    return False


def as_regex(pattern: str) -> str:
    """A ``str.format`` pattern as a regular expression with its slots as groups."""
    regex, seen = "", set()
    for literal, slot, _, _ in Formatter().parse(pattern):
        regex += re.escape(literal)
        if slot is not None:
            regex += f"(?P={slot})" if slot in seen else f"(?P<{slot}>.+?)"
            seen.add(slot)
    return regex


def check_step(word: str, prompt: str) -> None:
    """A worked step is right: its sums add up, its hops were given in the prompt."""
    expressions = word.split("=") if re.fullmatch(r"[0-9+=-]+", word) else []
    for expression, result in itertools.pairwise(expressions):
        a, sign, b = re.fullmatch(r"(\d+)([+-])(\d+)", expression).groups()
        assert int(result.split("+")[0]) == (int(a) + int(b) if sign == "+" else int(a) - int(b)), word
    if price := re.fullmatch(r"([a-z]+)=(\d+)", word):
        assert PRICES[price[1]] == int(price[2]) and price[1] in prompt, word
    for a, b in itertools.pairwise(word.split(">")):
        assert f"{a}>{b}" in prompt or f"{a} over {b}" in prompt, word


def test_the_suite_of_tasks_has_the_promised_variety() -> None:
    tasks = [load_task(name, SUITE) for name in task_names()]
    needs = [len([w for w in task.requirement.values() if w > 0]) for task in tasks]
    assert len(tasks) >= 10
    assert needs.count(1) >= 3 and needs.count(2) >= 2 and needs.count(3) >= 2
    forms = [task.utility_form for task in tasks]
    assert forms.count("geometric_mean") >= 2 and forms.count("product") >= 4
    assert set().union(*(task.requirement for task in tasks)) == set(SUITE.names)


# --- requirement and utility -------------------------------------------------------------------


def test_a_card_from_a_path(tmp_path: Path) -> None:
    task = load_task(write(tmp_path, CARD), SUITE)
    assert task.requirement == {"reasoning": 0.75, "math": 0.25}
    assert load_task(str(tmp_path / "chess.toml"), SUITE) == task
    np.testing.assert_array_equal(task.requirement_vector(SUITE), [0, 0, 0.75, 0.25, 0, 0, 0, 0, 0, 0])


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=10).filter(any))
def test_requirements_are_on_the_simplex_and_survive_a_second_validation(weights: list[float]) -> None:
    task = card(dict(zip(SUITE.names, weights, strict=False)))
    assert task.requirement_vector(SUITE).sum() == pytest.approx(1, abs=1e-12)
    assert TaskCard.model_validate(task.model_dump()) == task


def test_weighted_and_geometric_mean() -> None:
    profile = np.array([0.9, 0.9, 0.2, 0.6, *[0] * 6])
    assert card({"reasoning": 3, "math": 1}).utility(profile, SUITE) == pytest.approx(0.3)
    task = card({"reasoning": 1, "math": 1}, "geometric_mean")
    assert task.utility(np.array([0, 0, 0.25, 0.64, *[0] * 6]), SUITE) == pytest.approx(0.4)
    assert task.utility(np.zeros(10), SUITE) == pytest.approx(1e-6)


def test_a_product_is_relative_to_the_teachers_own() -> None:
    task = card({"reasoning": 3, "math": 1}, "product")
    profile, teacher = np.array([0.9, 0.9, 0.2, 0.6, *[0] * 6]), np.array([0, 0, 0.5, 0.8, *[0] * 6])
    assert task.utility(profile, SUITE) == pytest.approx(0.12), "weights say what is needed and not how much"
    assert task.utility(profile, SUITE, teacher) == pytest.approx(0.12 / 0.4)
    assert task.utility(teacher, SUITE, teacher.tolist()) == 1
    assert task.utility(np.ones(10), SUITE, teacher) == 1
    assert task.utility(profile, SUITE, np.zeros(10)) == 1, "divided by .1 · .1"
    assert task.utility(0 * profile, SUITE, np.zeros(10)) == 0
    for form in ("weighted_mean", "geometric_mean"):
        assert (same := card({"math": 1}, form)).utility(profile, SUITE, teacher) == same.utility(profile, SUITE)


@given(arrays(float, 10, elements=st.floats(0, 1)), arrays(float, 10, elements=st.floats(0.001, 1)))
def test_utility_is_within_the_needed_scores(profile: np.ndarray, weights: np.ndarray) -> None:
    for form in ("weighted_mean", "geometric_mean"):
        value = card(dict(zip(SUITE.names, weights.tolist(), strict=True)), form).utility(profile, SUITE)
        assert profile.min() - 1e-9 <= value <= max(profile.max(), 1e-6) + 1e-9


def test_utility_refuses_a_profile_of_another_length() -> None:
    with pytest.raises(ReadEnvError, match=r"profile must have shape \(10,\).*got \(7,\)"):
        card({"math": 1}).utility(np.zeros(7), SUITE)


def test_essential_capabilities() -> None:
    requirement = np.array([0.1, 0.3, 0.0, 0.2, 0.2, 0.2])
    np.testing.assert_array_equal(np.flatnonzero(essential(requirement, 3)), [1, 3, 4])
    np.testing.assert_array_equal(np.flatnonzero(essential(np.array([0, 1.0, 0]), 3)), [1])


# --- bad input -------------------------------------------------------------------------------------


def test_unknown_task_lists_the_known_ones_closest_first() -> None:
    with pytest.raises(ReadEnvError, match="unknown task 'mth': did you mean 'math'") as error:
        load_task("mth", SUITE)
    assert all(name in str(error.value) for name in task_names())


def test_the_name_of_a_capability_is_the_task_that_needs_it_alone() -> None:
    for capability, alone in zip(SUITE, np.eye(len(SUITE)), strict=True):
        task = load_task(capability.name, SUITE)
        np.testing.assert_array_equal(task.requirement_vector(SUITE), alone)
        assert split_of(task.exemplars[0].prompt) == "stream"
    assert load_task("tool_use", SUITE).name == "tool_use"
    with pytest.raises(ReadEnvError, match="unknown task 'tool_us': did you mean 'tool_use'"):
        load_task("tool_us", SUITE)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('metric = "exact match"\n', "", "field 'metric' is missing"),
        ('metric = "exact match"', 'metric = ""', "field 'metric'.*at least 1 character"),
        ('metric = "exact match"', "metric = 3", "field 'metric'.*valid string.*got 3"),
        ('metric = "exact match"', 'metrik = "exact match"', "unknown field 'metrik': did you mean 'metric'"),
        ("[requirement]\nreasoning = 3\nmath = 1\n", "", "field 'requirement' is missing"),
        ("math = 1", "mth = 1", "field 'requirement': unknown capability 'mth': did you mean 'math'"),
        ("math = 1", "math = -1", "field 'requirement': the weight of 'math' is -1"),
        ("math = 1", "math = nan", "field 'requirement': the weight of 'math' is nan"),
        ("math = 1", "math = inf", "field 'requirement': the weight of 'math' is inf"),
        ("math = 1", 'math = "1"', r"field 'requirement\.math'.*valid number.*got '1'"),
        ("reasoning = 3\nmath = 1", "reasoning = 0\nmath = 0", "field 'requirement'.*no positive weight"),
        ("reasoning = 3\nmath = 1", "", "field 'requirement'.*no positive weight"),
        ('"weighted_mean"', '"geometric"', "field 'utility_form': unknown utility form 'geometric': did you mean 'geometric_mean'"),
        ('completion = "2+3=5+4=9 so 9"', "", r"field 'exemplars\.0\.completion' is missing"),
        ('completion = "2', 'answer = "2', "unknown field 'answer'"),
        ("math = 1", "math = ", "not valid TOML.*line 10"),
    ],
)  # fmt: skip
def test_malformed_cards_name_file_and_field(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in CARD
    path = write(tmp_path, CARD.replace(old, new))
    with pytest.raises(ReadEnvError, match=message) as error:
        load_task(path, SUITE)
    assert str(path) in str(error.value)


def test_a_missing_and_a_binary_file_are_no_cards(tmp_path: Path) -> None:
    with pytest.raises(ReadEnvError, match=r"nowhere/chess\.toml can't be read: No such file"):
        load_task("nowhere/chess.toml", SUITE)
    (tmp_path / "chess.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ReadEnvError, match="not valid TOML"):
        load_task(tmp_path / "chess.toml", SUITE)
