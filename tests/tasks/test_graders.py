"""Graders of a task's own prompts."""

import json
import sys

import pytest

from read_env.capabilities import get_suite
from read_env.capabilities.base import Prompt
from read_env.errors import ReadEnvError
from read_env.running.identity import grader_code
from read_env.tasks import load_task
from read_env.tasks.graders import check_grader, get_grader, grader_names


def prompt(*answers, reference=None, **check):
    reference = f"Answer: {answers[0]}" if reference is None else reference
    return Prompt("task", "own", "What?", reference, 0.5, {"answers": list(answers), **check})


@pytest.mark.parametrize(
    ("grader", "answer", "right", "wrong"),
    [
        ("answer", "Paris", ["It is Paris.", "Answer: paris"], ["Rome", "Paris or Rome"]),
        ("exact", "a, b", ["A,  b", "so\nAnswer: a, b"], ["a b", "it is a, b"]),
        ("number", "1250", ["It costs $1,250.", "Answer: 1250.0"], ["1251", "none", "12 or 1250"]),
        ("choice", "B", ["B", "(B)", "The answer is B.", "**B**: the Nile", "Answer: B) Nile", "It is the Nile.\nB"],
         ["A", "A or B", "the Nile", "Answer: A, not B", "Bee", ""]),
        ("choice", "A", ["A", "A.", "(A) A river", "Answer: A"], ["B", "A B"]),
        ("contains", "the Nile", ["I think that the Nile is longest, as far as I know."], ["the Niles", "Nile"]),
    ],
)  # fmt: skip
def test_what_each_grader_accepts(grader, answer, right, wrong):
    one = prompt(answer)
    check_grader(grader, one)
    verdicts = {text: get_grader(grader)(one, text) for text in (*right, *wrong)}
    assert verdicts == {**dict.fromkeys(right, True), **dict.fromkeys(wrong, False)}


def test_code_runs_in_the_sandbox():
    one = prompt(reference="def f(n):\n    return 2 * n", cases=[["f(2)", "4"], ["f(0)", "0"]])
    check_grader("code", one)
    assert get_grader("code")(one, "```python\ndef f(n): return n + n\n```")
    assert not get_grader("code")(one, "def f(n): return 4")


def test_a_function_of_the_users_grades(tmp_path, monkeypatch):
    (tmp_path / "my_graders.py").write_text(
        "def grade(prompt, completion, answers): return prompt == 'What?' and completion.endswith(answers[0])\n"
        "def fails(prompt, completion, answers): return 1 / 0\n"
        "def vague(prompt, completion, answers): return 0.5\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    check_grader("my_graders:grade", prompt("5"))
    assert not get_grader("my_graders:grade")(prompt("5"), "6")
    with pytest.raises(ReadEnvError, match=r"grader 'my_graders:fails' raised ZeroDivisionError.*prompt 'What\?'"):
        check_grader("my_graders:fails", prompt("5"))
    with pytest.raises(ReadEnvError, match=r"returned 0.5 for prompt 'What\?'; right would be True or False"):
        check_grader("my_graders:vague", prompt("5"))
    sys.modules.pop("my_graders", None)


def test_a_completion_that_a_grader_cannot_read_is_wrong(tmp_path, monkeypatch, caplog):
    (tmp_path / "close_graders.py").write_text(
        "import numpy as np\n"
        "def close(prompt, completion, answers): return np.isclose(float(completion.split()[-1]), float(answers[0]))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    check_grader("close_graders:close", prompt("5"))
    grade = get_grader("close_graders:close")
    assert [grade(prompt("5"), text) for text in ("5", "about five", "", "it is 5.0")] == [True, False, False, True]
    (line,) = caplog.messages
    assert "raised ValueError" in line and "'about five'" in line and "count as wrong" in line
    sys.modules.pop("close_graders", None)


def test_a_grader_beside_its_card_or_in_the_working_directory_is_found(tmp_path, monkeypatch):
    rows = [json.dumps({"prompt": f"{a}+{b}?", "answer": str(a + b)}) for a in range(13) for b in range(7)]
    text = 'name = "sums-of-mine"\ndescription = "Add."\nprompts = "rows.jsonl"\ngrader = "MODULE:grade"\n'
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cards").mkdir()
    for folder, module in (("cards", "beside_card"), (".", "in_directory")):
        (tmp_path / folder / f"{module}.py").write_text(
            "def grade(prompt, completion, answers): return answers[0] in completion"
        )
        (tmp_path / "cards/rows.jsonl").write_text("\n".join(rows))
        (tmp_path / "cards" / f"{module}.toml").write_text(text.replace("MODULE", module))
        card = load_task(tmp_path / "cards" / f"{module}.toml", get_suite("micro"))
        assert card.grader == f"{module}:grade" and grader_code(card.grader)
        sys.modules.pop(module, None)


@pytest.mark.parametrize(
    ("grader", "given", "message"),
    [
        ("exakt", prompt("5"), "did you mean 'exact'"),
        ("none_here:f", prompt("5"), "No module named 'none_here'"),
        ("json:nothing", prompt("5"), "unknown function in module json 'nothing'"),
        ("number", prompt("five"), "'five' is no number"),
        ("choice", prompt("the Nile"), "'the Nile' is no option; right would be a capital letter"),
        ("code", prompt("5"), "field 'cases' is missing"),
        ("code", prompt(reference="def f(n): return n", cases=[["f(2)", "4"]]), "refuses the reference"),
        ("exact", prompt(reference="5"), "no answer to compare with"),
        ("exact", prompt("5", reference="6"), "grader 'exact' refuses the reference of a row"),
    ],
)
def test_what_cannot_be_graded_is_named(grader, given, message):
    with pytest.raises(ReadEnvError, match=message):
        check_grader(grader, given)


def test_every_grader_is_documented():
    from read_env.tasks import graders

    assert all(f"``{name}``" in graders.__doc__ for name in grader_names())
