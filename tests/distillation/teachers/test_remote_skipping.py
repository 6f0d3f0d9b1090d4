"""Prompts that a server refuses: skipped, named in record and report, and the same ones whenever a run is resumed."""

import json

import pytest
from chat_server import answer, serving

from read_env import load_steps
from read_env.cli import main
from read_env.config import load_preset
from read_env.distillation.process import Distillation
from read_env.distillation.teachers.base import TeacherCache
from read_env.distillation.teachers.remote import Utf8
from read_env.distillation.teachers.store import BlockStore
from read_env.errors import ReadEnvError
from read_env.record_files import read_records
from read_env.records import StepRecord

pytest.importorskip("openai")


@pytest.fixture
def sums(tmp_path, monkeypatch):
    """Suite of one capability with 144 sums, of which those with 7 are refused by ``filtering``."""
    monkeypatch.setenv("READ_ENV_API_KEY", "x")
    monkeypatch.setenv("READ_ENV_CACHE", str(tmp_path / "cache"))
    rows = [{"prompt": f"what is {a}+{b}", "answer": str(a + b)} for a in range(2, 14) for b in range(2, 14)]
    path = tmp_path / "sums.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"sums={path}"


def filtering(number, prompt):
    refused = 400, {"error": {"message": "filtered", "param": "prompt", "code": "content_filter"}}
    return refused if "7" in prompt else (200, answer("so 42"))


def distillation_at(server, suite, loss="sft", **models):
    settings = {
        "suite": suite, "task": "sums", "budget": {"total_tokens": 600, "step_tokens": 200},
        "eval": {"probes": 2, "dev": 2, "exam": 2}, "distill": {"loss": loss, "teacher_batch_size": 8},
        "models": {"teacher": "remote:m", "remote_base_url": server.url, "remote_max_retries": 0, **models},
    }  # fmt: skip
    return Distillation.load(load_preset("micro", settings))


def test_refused_prompts_are_skipped_and_the_same_when_a_run_goes_on(sums):
    with serving(filtering) as server:
        whole = distillation_at(server, sums)
        first, state = whole.step([1.0]), whole.snapshot()
        expected = [whole.step([1.0]), whole.step([1.0])]
        asked = len(server.prompts)
        resumed = distillation_at(server, sums)
        resumed.restore(state)
        again = [resumed.step([1.0]), resumed.step([1.0])]
        assert len(server.prompts) == asked, "refusals are kept with the answers"
    assert [one.skipped for one in again] == [one.skipped for one in expected]
    assert [one.profile.tolist() for one in again] == [one.profile.tolist() for one in expected]
    skipped = [dict(one) for report in (first, *expected) for one in report.skipped]
    assert len(skipped) > 3 and all("7" in one["prompt"] for one in skipped)
    assert {(one["capability"], one["reason"]) for one in skipped} == {("sums", "content_filter")}
    length = len(whole.student.encoder.completions(["so 42"])[0])
    for report in (first, *expected):  # nothing is charged for a refused prompt
        assert report.completion_tokens == length * report.examples_by_capability.sum() > 0


def test_a_step_that_fails_forgets_what_it_skipped(sums):
    with serving(filtering) as server:
        distillation = distillation_at(server, sums)
        server.reply = lambda n, prompt: filtering(n, prompt) if n < 30 else (400, {})
        before = distillation.snapshot()["stream"]
        with pytest.raises(ReadEnvError, match="HTTP 400"):
            distillation.step([1.0])
        assert distillation.snapshot()["stream"] == before
        server.reply = filtering
        skipped = distillation.step([1.0]).skipped
    assert len({one["prompt"] for one in skipped}) == len(skipped) > 0


def test_a_teacher_that_answers_nothing_is_an_error(sums):
    with serving(lambda n, prompt: (200, answer("", "length"))) as server:
        distillation = distillation_at(server, sums)
        with pytest.raises(
            ReadEnvError, match=r"32 prompts of sums in a row had to be skipped; .*: cut before any text"
        ):
            distillation.step([1.0])


def test_a_teacher_of_empty_answers_spends_nothing(sums):
    with serving(lambda n, prompt: (200, answer("", "stop"))) as server:
        distillation = distillation_at(server, sums)
        with pytest.raises(ReadEnvError, match="32 prompts of sums in a row had to be skipped; .*: an empty answer"):
            distillation.step([1.0])
    assert distillation.budget.spent == 0


def test_reasoning_counts_against_the_budget_only_where_it_is_learned(sums):
    text = "<think>\n40+2\n</think>\n\nso 42"
    tokens = {}
    with serving(lambda n, prompt: (200, answer(text) | {"usage": {"completion_tokens": 900}})) as server:
        for mode in ("drop", "keep"):
            distillation = distillation_at(server, sums, remote_reasoning=mode, remote_max_tokens=1000)
            report = distillation.step([1.0])
            tokens[mode] = report.completion_tokens / report.examples_by_capability.sum()
            assert distillation.budget.spent == report.completion_tokens <= 200 + tokens[mode]
    lengths = [len(ids) for ids in distillation.student.encoder.completions(["so 42", text])]
    assert list(tokens.values()) == lengths and server.requests[-1]["max_tokens"] == 1000


def test_an_answer_longer_than_the_student_may_read_is_cut(sums):
    with serving(lambda n, prompt: (200, answer("so 42 " * 40))) as server:
        distillation = distillation_at(server, sums, remote_max_tokens=1000)
        example = distillation._stream.take(0)
        assert len(example) == 40 == distillation.config.distill.max_completion_tokens
        assert example.token_ids[-1] != distillation.student.encoder.eos_id and len(example.targets.tokens) == 40
        assert distillation.step([1.0]).completion_tokens == 200


def test_an_answer_without_tokens_for_the_student_is_skipped(sums):
    with serving(lambda n, prompt: (200, answer("so 42"))) as server:
        distillation = distillation_at(server, sums)
        whole = distillation._stream.alignment

        def alignment(prompt, prompt_ids, found):
            return whole(prompt, prompt_ids, Utf8().answer("", ended=False) if "7" in prompt.text else found)

        distillation._stream.alignment = alignment
        skipped = distillation.step([1.0]).skipped
    assert skipped and all("7" in one["prompt"] and one["reason"].startswith("cut before any text") for one in skipped)


def test_the_reason_is_kept_on_disk(tmp_path):
    utf8, store = Utf8(), BlockStore(tmp_path, 10**9)
    block = (utf8.answer("a", ended=True), utf8.no_answer("content_filter é"), utf8.answer("b", ended=False))
    store.write(b"k", block)
    found = store.read(b"k")
    assert [(one.token_ids, one.skipped) for one in found] == [(one.token_ids, one.skipped) for one in block]
    alone = (utf8.no_answer("safety"),)
    store.write(b"l", alone)
    assert [(len(one), one.skipped) for one in store.read(b"l")] == [(0, "safety")]
    assert TeacherCache(None, store=store)._held_block(b"l")[0].skipped == "safety"


def test_record_and_report_name_what_was_skipped(sums, tmp_path, monkeypatch):
    monkeypatch.setattr("read_env.reporting.run_page.save", lambda picture, path, alt: alt)
    run = tmp_path / "run"
    arguments = ["run", "--suite", sums, "--task", "sums", "--agent", "task-static", "--out", str(run)]
    arguments += "--budget.total-tokens 300 --budget.step-tokens 150 --eval.probes 2 --eval.dev 2 --eval.exam 2".split()
    arguments += "--distill.loss sft --models.teacher remote:m".split()
    with serving(filtering) as server:
        assert main([*arguments, "--models.remote-base-url", server.url]) == 0
    steps, _ = read_records(run / "steps.jsonl", StepRecord)
    skipped = [one for step in steps for one in step.skipped or ()]
    assert skipped and all("7" in one["prompt"] for one in skipped)
    page = (run / "report.md").read_text()
    assert f"{len(skipped)} prompts without an example for the student, skipped without cost" in page
    assert load_steps(run)["skipped"].sum() == len(skipped)
    assert all(f"| {one['prompt']} " in page and "content_filter" in page for one in skipped[:20])
    assert sum(step.completion_tokens for step in steps) <= 300
