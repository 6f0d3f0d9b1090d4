"""Files that people bring: what is read, what is said about it, and what is refused by line."""

import gzip
import json
import logging
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from read_env.capabilities import get_suite, split_of
from read_env.capabilities.contamination import evaluation_hashes, overlaps
from read_env.capabilities.from_file import capability_from_file
from read_env.capabilities.splits import fit_splits
from read_env.capabilities.stream import PromptStream, held_out
from read_env.cli import main
from read_env.config import load_preset
from read_env.distillation.examples.references import with_references
from read_env.distillation.process import Distillation
from read_env.errors import ReadEnvError
from read_env.tasks import load_task, task_names

PLAIN = [{"prompt": f"Question {i}", "answer": f"A{i}"} for i in range(12)]


@pytest.fixture
def load(tmp_path, caplog):
    """Capability of a file with these first rows (objects or text), and what the log said."""

    def loaded(*rows, rest=PLAIN):
        path = tmp_path / "own.jsonl"
        path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in (*rows, *rest)))
        caplog.clear()
        return capability_from_file(path, "own"), caplog.text

    return loaded


def prompt_of(capability, text):
    return next(p for p in capability.prompts if p.text == text)


USER, BOT, SYSTEM = (
    {"role": role, "content": text} for role, text in (("user", "2+3?"), ("assistant", "5"), ("system", "Be brief."))
)


@pytest.mark.parametrize(("row", "prompt", "right", "wrong"), [
    ({"messages": [USER, BOT]}, "2+3?", "It is 5.", "6"),
    ({"messages": [SYSTEM, USER, BOT]}, "Be brief.\n\n2+3?", "5", "6"),
    ({"messages": [USER], "answer": 5}, "2+3?", "5", "6"),
    ({"messages": [{"role": "user", "content": [{"type": "text", "text": "2+3?"}]}, BOT]}, "2+3?", "5", "6"),
    ({"conversations": [{"from": "human", "value": "2+3?"}, {"from": "gpt", "value": "5"}]}, "2+3?", "5", "6"),
    ({"prompt": [USER], "completion": [BOT]}, "2+3?", "5", "6"),
    ({"prompt": "2+3?", "completion": "2 and 3 are 5.\nAnswer: 5"}, "2+3?", "5", "6"),
    ({"prompt": "2+3?", "completion": r"So \boxed{5}", "answer": "5"}, "2+3?", "5", "6"),
    ({"question": "2+3?", "answer": 5}, "2+3?", "5.0", "6"),
    ({"prompt": "2+3?", "answer": 5.0}, "2+3?", "5", "50"),
    ({"prompt": "2+3?", "answer": [5, "five"]}, "2+3?", "five", "six"),
    ({"prompt": "2+3 = 5?", "answer": True}, "2+3 = 5?", "Yes", "No"),
    ({"prompt": "2+3 = 6?", "answer": False}, "2+3 = 6?", "Answer: False", "true"),
    ({"prompt": "2+3?", "answer": "5", "difficulty": 0}, "2+3?", "5", "6"),
    ({"prompt": "2+3?", "answer": "5", "completion": None, "messages": None}, "2+3?", "5", "6"),
])  # fmt: skip
def test_a_row_is_read_in_the_forms_that_data_sets_have(load, row, prompt, right, wrong):
    capability, _ = load(row)
    mine = prompt_of(capability, prompt)
    assert capability.graded and capability.verify(mine, mine.reference)
    assert capability.verify(mine, right) and not capability.verify(mine, wrong)


def test_other_fields_and_repeated_prompts_are_said_once(load):
    capability, said = load(*({**row, "id": i, "dificulty": 1} for i, row in enumerate(PLAIN)))
    assert len(capability.prompts) == 12 and said.count("kept aside: 'id', 'dificulty'") == 1
    assert said.count("12 lines repeat a prompt with the same answer") == 1


@pytest.mark.parametrize(
    ("first", "second"), [("5", 5.0), ("$1,000", "1000 USD"), ("Straße", "STRASSE"), (["a1", "b1"], ["b1", "a1"])]
)
def test_a_prompt_is_kept_once_if_its_answers_agree(load, first, second):
    capability, _ = load({"prompt": "Ｗho?", "answer": first}, {"prompt": "who? ", "answer": second})
    assert len(capability.prompts) == 13


@pytest.mark.parametrize(("first", "second"), [("5", 6), ("-5", "5"), ("a1", ["a1", "b1"]), (True, False)])
def test_a_prompt_with_two_answers_is_refused_with_both_lines(load, first, second):
    with pytest.raises(
        ReadEnvError, match=r"lines 1 and 14: prompt 'who\?' occurs twice .* with the answers .* and .*; keep one"
    ):
        load({"prompt": "Who?", "answer": first}, *PLAIN, {"prompt": "who?", "answer": second}, rest=[])


@pytest.mark.parametrize(("row", "message"), [
    ({"messages": [USER, BOT, USER, BOT]}, r"messages has the roles \['user', 'assistant', 'user', 'assistant'\]; .* split longer"),
    ({"messages": [BOT]}, r"messages has the roles \['assistant'\]"),
    ({"messages": [{"role": "tool", "content": "x"}]}, r"messages has \{'role': 'tool'.*system, user and assistant"),
    ({"messages": "hello"}, r"messages has 'hello'; right would be"),
    ({"messages": []}, r"messages has the roles \[\]"),
    ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "messages has"),
    ({"messages": [{"role": "user", "content": ""}, BOT]}, r"messages = '' must be a text that is not empty"),
    ({"messages": [{"role": [], "content": "x"}]}, "messages has"),
    ({"prompt": "x", "completion": ""}, r"completion = '' must be a text"),
    ({"prompt": "x", "completion": 5}, r"completion = 5 must be a text"),
    ({"prompt": "x", "completion": "Answer: 6", "answer": 5}, r"the completion ends with another answer than answer = 5"),
    ({"prompt": "x"}, r"field 'answer' is missing, and line 2 has one"),
    ({"prompt": "x", "answer": None}, r"field 'answer' is missing, and line 2 has one"),
    ({"prompt": "x", "answer": {"value": 5}}, r"answer = \{'value': 5\} must be a text"),
    ({"answer": "5"}, r"field 'prompt' is missing"),
    ('{"prompt": "x", "answer": NaN}', "answer = nan must be a text"),
    ('{"prompt": "x", "answer": -Infinity}', "answer = -inf must be a text"),
    ('{"prompt": "x", "answer": 1e999}', "answer = inf must be a text"),
    ('{"prompt": "x", "answer": ' + "9" * 5000 + "}", r"is no JSON \(Exceeds the limit"),
    ('{"prompt": "x", "prompt": "y", "answer": "z"}', r"is no JSON \(key 'prompt' occurs twice\)"),
    ('{"prompt": "x", "answer": "5"},', r"is no JSON .*write one object per line without the comma at its end"),
    ('{"prompt": "x", "completion": "\\ud800"}', r"completion = '\\ud800' has half a character"),
    ('{"messages": [{"role": "user", "content": "\\ud83d"}]}', r"messages = '\\ud83d' has half a character"),
    ("{" * 100_000, "is no JSON"), ("{'prompt': 'x'}", "is no JSON"), ("null", "None is no JSON object"), ("5", "5 is no JSON object"),
])  # fmt: skip
def test_a_line_that_cannot_be_used_is_refused_by_number(load, row, message):
    with pytest.raises(ReadEnvError, match=rf"own\.jsonl, line 1: .*{message}") as raised:
        load(row)
    assert len(str(raised.value)) < 700 and "\n" not in str(raised.value)


LINES = "\n".join(map(json.dumps, PLAIN)).encode()


@pytest.mark.parametrize(("content", "message"), [
    (b"", "0 prompts"), (b"\n \n\r\n", "0 prompts"), (b"\xef\xbb\xbf", "0 prompts"),
    (b"[" + LINES.replace(b"\n", b",\n") + b"]", "line 1: the file is a JSON array; write one object per line"),
    (b"[\n{}\n]", "line 1: the file is a JSON array"), (json.dumps(PLAIN, indent=1).encode(), "line 1: the file is a JSON array"),
    (json.dumps(PLAIN[0], indent=1).encode(), r"line 1: '\{' is no JSON"), (gzip.compress(LINES), r"compressed with gzip \(gunzip it\)"),
    (b"PK\3\4", "zip archive"), (b"PAR1", "Parquet"), (LINES.decode().encode("utf-16"), "is UTF-16"),
    (LINES + b'\n{"prompt": "caf\xe9"}', r"line 13: byte 15 \(0xe9\) is not UTF-8"), (LINES.replace(b"\n", b"\r"), "line 1: .* is no JSON"),
    (b"\x80", r"line 1: byte 0 \(0x80\) is not UTF-8"),
])  # fmt: skip
def test_a_file_that_is_no_json_lines_is_refused_for_training_and_as_an_evaluation_file(tmp_path, content, message):
    path = tmp_path / "own.jsonl"
    path.write_bytes(content)
    with pytest.raises(ReadEnvError, match=message):
        capability_from_file(path, "own")
    if message != "0 prompts":
        with pytest.raises(ReadEnvError, match=message):
            evaluation_hashes([path])


def test_a_folder_is_no_file(tmp_path):
    for read in (lambda path: capability_from_file(path, "own"), lambda path: evaluation_hashes([path])):
        with pytest.raises(ReadEnvError, match="can't be read .*; give the path of a JSON-lines file"):
            read(tmp_path)


def test_marks_and_line_ends_of_other_systems_and_huge_lines_are_read(tmp_path):
    path = tmp_path / "own.jsonl"
    long = json.dumps({"prompt": "x" * 5_000_000, "answer": "1"}).encode()
    path.write_bytes(b"\xef\xbb\xbf\r\n\r\n" + LINES.replace(b"\n", b"\r\n\r\n") + b"\r\n" + long)
    assert len(capability_from_file(path, "own").prompts) == 13 and len(evaluation_hashes([path])) == 13


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "from", "value", "user", "text"]), inner, max_size=3)
    ),
    max_leaves=6,
)
ROWS = st.dictionaries(
    st.sampled_from(["prompt", "answer", "messages", "conversations", "completion", "difficulty", "question", "id"]),
    JSON,
    max_size=4,
)


@given(st.lists(ROWS.map(json.dumps) | st.text(max_size=12), max_size=3), st.binary(max_size=3))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_file_is_read_or_refused_in_one_line(tmp_path, rows, end):
    path = tmp_path / "own.jsonl"
    path.write_bytes("\n".join(rows).encode("utf-8", "surrogatepass") + b"\n" + LINES + b"\n" + end)
    for read in (lambda: capability_from_file(path, "own"), lambda: evaluation_hashes([path])):
        try:
            read()
        except ReadEnvError as error:
            assert "own.jsonl" in str(error) and "\n" not in str(error)


def test_the_prompts_of_conversations_are_found_in_evaluation_files(tmp_path):
    path, exam = tmp_path / "own.jsonl", tmp_path / "exam.jsonl"
    path.write_text(
        "\n".join(json.dumps({"messages": [{"role": "user", "content": f"Größe {i}?"}, BOT]}) for i in range(20))
    )
    exam.write_text("\n".join(json.dumps({"question": f"GRÖSSE\u00a0{i}？"}) for i in range(20)))
    training = sum(split_of(p.text) == "stream" for p in get_suite(f"own={path}")["own"].prompts)
    assert len(overlaps(get_suite(f"own={path}"), exam)) == training > 0


# --- what can't be graded ----------------------------------------------------------------------

SMALL = {"budget": {"total_tokens": 200, "step_tokens": 100}, "task": "own", "distill": {"loss": "sft"}}


@pytest.fixture
def bare(tmp_path):
    """Suite of 300 prompts without answers."""
    path = tmp_path / "bare.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": f"add {a},{b}"}) for a in range(15) for b in range(20)))
    return f"own={path}"


def test_prompts_without_answers_are_measured_by_the_teachers_completions(bare, caplog):
    distillation = Distillation.load(load_preset("micro", {**SMALL, "suite": bare}))
    assert (
        "own has no exact match: probes and exam measure the likelihood of the teacher's own completions" in caplog.text
    )
    prompt = held_out(distillation.suite["own"], "probes", 1)[0]
    assert prompt.reference and not distillation.suite["own"].graded
    assert 0 < distillation.profile[0] < 1 and 0 < distillation.exam()[0] < 1
    before = distillation.profile[0]
    assert distillation.step([1.0]).profile[0] != before
    assert load_task("own", get_suite(bare)).metric == "likelihood of the reference"


def test_a_loss_that_rewards_answers_needs_them(bare):
    with pytest.raises(ReadEnvError, match=r"distill.loss is 'grpo', which rewards correct answers, and own has none"):
        Distillation.load(load_preset("micro", {**SMALL, "suite": bare, "distill": {"loss": "grpo"}}))


def test_long_completions_are_references_but_no_answers(load):
    rows = [{"prompt": f"Tell {i}", "completion": f"Once upon a time\nthere was {i}."} for i in range(12)]
    capability, said = load(*rows, rest=[])
    assert (
        capability.has_references
        and not capability.graded
        and "(such as that of 'Tell 0'), so own has no exact match" in said
    )


def test_a_file_without_answers_is_not_added_to_graded_prompts(tmp_path, bare):
    with pytest.raises(ReadEnvError, match="adds to prompts that are graded"):
        get_suite(f"micro,+math={bare.partition('=')[2]}")


# --- sizes of the splits, and small suites -----------------------------------------------------


@pytest.fixture
def three_hundred(tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_text(
        "\n".join(json.dumps({"prompt": f"add {a} {b}", "answer": a + b}) for a in range(15) for b in range(20))
    )
    return str(path)


def test_sizes_that_are_not_set_follow_the_file(three_hundred, caplog):
    config = fit_splits(load_preset("micro", {"suite": f"micro,own={three_hundred}"}))
    own = get_suite(config.suite)["own"]
    for split in ("probes", "dev", "exam"):
        assert getattr(config.eval, split) == sum(split_of(p.text) == split for p in own.prompts)
    assert f"eval.probes = {config.eval.probes} (not 48)" in caplog.text and "300 of own" in caplog.text
    assert fit_splits(config) == config


def test_sizes_that_were_set_are_kept_or_refused_with_the_number_of_lines(three_hundred):
    config = fit_splits(load_preset("micro", {"suite": f"own={three_hundred}", "eval": {"probes": 5, "dev": 100}}))
    assert config.eval.probes == 5 and config.eval.dev == 100
    with pytest.raises(
        ReadEnvError, match=r"is 100, but of the 300 prompts in the file of own, \d+ fall .* \(about 1600 are needed\)"
    ):
        held_out(get_suite(config.suite)["own"], "dev", 100)


def test_sizes_of_an_extended_preset_were_not_set(three_hundred, tmp_path):
    for name, text in (("base", 'extends = "micro"'), ("own", 'extends = "base.toml"\n[eval]\ndev = 7')):
        (tmp_path / f"{name}.toml").write_text(text + "\n")
    config = fit_splits(load_preset(str(tmp_path / "own.toml"), {"suite": f"own={three_hundred}"}))
    usual = load_preset("micro").eval
    assert config.eval.probes < usual.probes and config.eval.exam < usual.exam
    assert config.eval.dev == 7, "the user's own"


def test_suites_without_files_keep_their_sizes():
    config = load_preset("micro")
    assert fit_splits(config) is config


@pytest.mark.parametrize("names", [["own"], ["own", "other"], ["math"], ["tutor", "math"]])
def test_a_suite_of_one_or_two_has_tasks_of_its_own(three_hundred, names, capsys):
    suite = get_suite(",".join(f"{name}={three_hundred}" for name in names))
    for name in names:
        card = load_task(name, suite)
        assert card.requirement == {name: 1.0} and card.utility([0.25] * len(names), suite) == 0.25
        assert card.exemplars[0].prompt in {p.text for p in suite[name].prompts}
        assert len(PromptStream(suite[name], 0).slice(2, 0, 300)) == 300
    assert set(task_names(suite)) <= {"math"}
    with pytest.raises(
        ReadEnvError, match=r"task 'bookkeeper' needs tool_use, .*, which suite '.*' lacks; .*: " + ", ".join(names)
    ):
        load_task("bookkeeper", suite)
    assert main(["list", "tasks", "--suite", suite.name]) == 0 and "CAPABILITY" in capsys.readouterr().out


def test_the_log_is_silent_about_an_ordinary_file(load, caplog):
    with caplog.at_level(logging.DEBUG):
        assert load()[1] == ""


def test_a_split_that_a_small_file_leaves_empty_is_named(tmp_path):
    path = tmp_path / "own.jsonl"
    rows = [f"Question {i}" for i in range(200) if split_of(f"Question {i}") != "dev"][:40]
    path.write_text("\n".join(json.dumps({"prompt": text, "answer": 1}) for text in rows))
    config = fit_splits(load_preset("micro", {"suite": f"own={path}"}))
    with pytest.raises(
        ReadEnvError, match=r"is 1, but of the 40 .* 0 fall into the dev split \(2 of 32\); add lines \(about 16 are"
    ):
        held_out(get_suite(config.suite)["own"], "dev", config.eval.dev)


def test_lines_that_are_too_long_for_the_models_are_no_part_of_the_sizes(tmp_path):
    path = tmp_path / "own.jsonl"
    texts = [f"add {a} {b}" for a in range(15) for b in range(20)]
    texts += [
        next(t for i in range(99) if split_of(t := f"add {'9 ' * 200}{i}") == split) for split in ("probes", "exam")
    ]
    path.write_text("\n".join(json.dumps({"prompt": text, "answer": 1}) for text in texts))
    config = fit_splits(load_preset("micro", {**SMALL, "suite": f"own={path}"}))
    used = Distillation.load(config)
    assert used.overlong == {"own": 2} and used.config.eval.dev == config.eval.dev
    assert (used.config.eval.probes, used.config.eval.exam) == (config.eval.probes - 1, config.eval.exam - 1)


def test_held_out_prompts_that_the_teacher_does_not_answer_give_their_place_to_others(bare):
    config = load_preset("micro", {**SMALL, "suite": bare, "eval": {"probes": 4, "dev": 4, "exam": 4}})
    suite, silent = get_suite(bare), held_out(get_suite(bare)["own"], "probes", 4)[1].text
    encoder = SimpleNamespace(text=lambda ids: "" if ids == (silent,) else "said")
    answering = SimpleNamespace(
        teachers=SimpleNamespace(of=lambda capability: SimpleNamespace(encoder=encoder)),
        complete=lambda texts, capabilities: [SimpleNamespace(token_ids=(text,)) for text in texts],
    )
    probes = held_out(with_references(suite, answering, config)["own"], "probes", 4)
    assert silent not in {p.text for p in probes} and all(p.reference == "said" for p in probes)
