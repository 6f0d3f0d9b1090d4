"""Suites with a user's own prompts, and evaluation prompts that are never trained on."""

import itertools
import json
import random

import numpy as np
import pytest
from micro import micro_config

from read_env.capabilities import get_suite, split_of
from read_env.capabilities.contamination import evaluation_hashes
from read_env.capabilities.stream import PromptStream, held_out
from read_env.cli import main
from read_env.config import load_preset
from read_env.distillation.process import Distillation
from read_env.errors import ReadEnvError


@pytest.fixture
def own(tmp_path):
    """A file of two hundred sums in words."""
    pairs = itertools.product(range(14), range(15))
    rows = [{"prompt": f"what is {a} and {b}", "answer": str(a + b), "difficulty": a / 20} for a, b in pairs]
    path = tmp_path / "totals.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_own_capabilities_come_after_those_of_the_suite_or_in_their_place(own):
    assert get_suite(f"micro,totals={own}").names == (*get_suite("micro").names, "totals")
    replaced = get_suite(f"micro,math={own}")
    assert replaced.names == get_suite("micro").names and replaced["math"].finite
    assert get_suite(f"totals={own},more={own}").names == ("totals", "more")


def test_a_file_can_stand_beside_the_suites_own_prompts(tmp_path):
    path = tmp_path / "facts.jsonl"
    rows = [{"prompt": f"In which town is museum {i}?", "answer": f"Town{i}"} for i in range(300)]
    path.write_text("\n".join(map(json.dumps, rows)))
    suite, plain = get_suite(f"instruct,+general_knowledge={path}"), get_suite("instruct")
    both, own = suite["general_knowledge"], plain["general_knowledge"]
    assert suite.names == plain.names and suite["math"] == plain["math"]
    assert [t.name for t in both.templates] == [*(t.name for t in own.templates), "facts.jsonl"]
    for split in ("probes", "dev", "exam"):
        prompts = held_out(both, split, 36)
        assert {split_of(p.text) for p in prompts} == {split}
        assert {p.template for p in prompts} == {t.name for t in both.templates}
    drawn = [p for tertile in range(3) for p in PromptStream(both, 0).slice(tertile, 0, 90)]
    mine = [p for p in drawn if p.template == "facts.jsonl"]
    assert 15 <= len(mine) <= 60 and {both.tertile(p.difficulty) for p in mine} == {0, 1, 2}
    assert all(both.verify(p, p.reference) and not both.verify(p, "Answer: Town") for p in drawn)
    # A prompt of the suite's own keeps its tertile.
    for template in own.templates:
        before, now = (c.draw(template, random.Random(1)) for c in (own, both))
        assert before.text == now.text and own.tertile(before.difficulty) == both.tertile(now.difficulty)


def test_several_files_can_be_added(own):
    once = get_suite(f"micro,+math={own},+code={own}")
    assert [c.name for c in once if "totals.jsonl" in {t.name for t in c.templates}] == ["math", "code"]


@pytest.mark.parametrize("name", ["micro,+totals={}", "+totals={}", "micro,math={0},+math={0}"])
def test_a_file_is_added_only_to_prompts_that_the_suite_makes(own, name):
    with pytest.raises(ReadEnvError, match=r"it makes none for '\w+' \(it does for: .*\); write '\w+=.*totals\.jsonl'"):
        get_suite(name.format(own))


def test_a_file_that_changed_is_read_again(own):
    name = f"micro,totals={own},+math={own}"
    before = get_suite(name)
    assert get_suite(name) is before
    own.write_text(own.read_text().replace("what is", "tell me"))
    now = get_suite(name)
    assert all("tell me" in p.text for p in now["totals"].prompts) and "tell me" not in before["totals"].prompts[0].text
    assert any("tell me" in p.text for p in PromptStream(now["math"], 0).slice(0, 0, 60))
    own.unlink()
    with pytest.raises(ReadEnvError, match="can't be read"):
        get_suite(name)


def test_the_same_name_in_another_folder_is_another_file(own, tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "totals.jsonl").write_text(own.read_text().replace("what is", "tell me"))
    found = []
    for folder in (tmp_path, tmp_path / "other"):
        monkeypatch.chdir(folder)
        found.append(get_suite("totals=totals.jsonl")["totals"].prompts[0].text[:7])
    assert found == ["what is", "tell me"]


@pytest.mark.parametrize("name", ["micro,totals", "micro,=x.jsonl", "micro,totals=", "micro,+=x.jsonl"])
def test_a_part_that_is_no_file_is_named(name):
    with pytest.raises(ReadEnvError, match=r"should read capability=FILE\.jsonl"):
        get_suite(name)


def test_a_run_on_own_prompts(own):
    distillation = Distillation.load(micro_config(600, 300, 2, suite=f"micro,totals={own}"))
    report = distillation.step(np.eye(11)[10])
    assert report.tokens_by_capability[10] == report.completion_tokens > 200 and report.profile.shape == (11,)


def test_another_content_of_the_file_is_another_run(own, tmp_path):
    from read_env.running.identity import RunIdentity

    config = load_preset("micro", {"suite": f"micro,totals={own}", "decontamination_files": [str(own)]})
    before = RunIdentity.of_run(config)
    own.write_text(own.read_text() + "\n" + json.dumps({"prompt": "one more", "answer": "1"}))
    changed = [line.partition(" (content)")[0] for line in before.differences(RunIdentity.of_run(config))]
    assert changed == ["suite totals", "evaluation 1"]


def test_evaluation_prompts_are_never_trained_on(tmp_path):
    math = get_suite("micro")["math"]
    first = PromptStream(math, 0).slice(0, 0, 40)
    path = tmp_path / "exam.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": p.text.upper()}) for p in first[::2]))
    kept = PromptStream(math, 0, evaluation_hashes([path])).slice(0, 0, 40)
    assert not {p.text for p in first[::2]} & {p.text for p in kept}
    assert [p.text for p in kept][:15] == [p.text for p in first if p.text not in {q.text for q in first[::2]}][:15]


def test_a_stream_that_runs_dry_says_so(own):
    sums = get_suite(f"totals={own}")["totals"]
    with pytest.raises(ReadEnvError, match="totals has no easy training prompts beside those of the held-out splits"):
        PromptStream(sums, 0, evaluation_hashes([own])).slice(0, 0, 1)


def test_the_command_finds_overlaps_and_says_how_many(tmp_path, capsys):
    prompt = PromptStream(get_suite("micro")["code"], 0).slice(1, 0, 1)[0].text
    path = tmp_path / "exam.txt"
    path.write_text(f"hello\n{prompt}\n")
    assert main(["check-contamination", str(path), "--draws", "3000"]) == 1
    assert "line 2" in (shown := capsys.readouterr().out) and "1 overlaps" in shown
    path.write_text("hello\n")
    assert main(["check-contamination", str(path), "--draws", "100"]) == 0


def test_capabilities_are_listed_with_their_difficulty(capsys):
    assert main(["list", "capabilities", "--suite", "instruct"]) == 0
    shown = capsys.readouterr().out
    assert "steerability" in shown and "easy" in shown and "NAME=FILE.jsonl" in shown
