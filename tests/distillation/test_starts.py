"""Starting students: recipes, prompts of their own, weights on disk, and the episodes that begin with them."""

import errno
import os
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch
from fake_distillation import FakeDistillationEnv
from fake_runs import SMALL, fake_env, play
from hypothesis import given
from hypothesis import strategies as st
from micro import micro_config, same_state

from read_env.capabilities import get_suite
from read_env.capabilities.stream import PromptStream, in_past
from read_env.config import load_preset
from read_env.distillation import pasts
from read_env.distillation.process import Distillation
from read_env.distillation.starts import JUDGING_STARTS, STARTS, TRAINING_STARTS, parse_past
from read_env.errors import ReadEnvError
from read_env.running.batch_requests import ComparisonRequest
from read_env.running.comparison import compare
from read_env.running.requests import RunRequest

NAMES = get_suite("micro").names
UNIFORM = np.ones(10)


@given(st.one_of(st.sampled_from(sorted(STARTS)), st.integers(0, 2**40).map("random:{}".format)))
def test_shares_are_a_distribution_with_a_floor(text):
    past = parse_past(f"{text}@12000", NAMES)
    assert sum(past.shares.values()) == pytest.approx(1) and past.tokens == 12_000
    assert set(past.shares) <= set(NAMES) and min(past.shares.values()) >= 0.03
    if text in STARTS:
        kept = {*NAMES[:8], *(part.partition("=")[0] for part in STARTS[text].split())}
        assert set(past.shares) == kept, "a drill is known only to whom the recipe gives it"
    assert past == parse_past(f"{text}@12000", NAMES)


def test_draws_differ_in_what_they_keep_up():
    kept = [set(parse_past(f"random:{k}", NAMES).shares) for k in range(60)]
    assert len({frozenset(one) for one in kept}) > 40
    assert 15 < sum("sums" in one for one in kept) < 57


@pytest.mark.parametrize("text", ["random:4", "shopkeeper"])
def test_a_suite_of_nothing_but_drills_has_pasts(text):
    assert sum(parse_past(text, ["sums", "prices"]).shares.values()) == pytest.approx(1)


def test_recipes_for_training_and_for_judging_share_nothing():
    assert not set(TRAINING_STARTS) & set(JUDGING_STARTS)
    shares = [sorted(text.split()) for text in STARTS.values()]
    assert len(shares) == len({tuple(one) for one in shares}) >= 9
    assert parse_past("even", NAMES) is None
    assert parse_past("random:3", NAMES) != parse_past("random:4", NAMES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clrk", "unknown starting student 'clrk': did you mean 'clerk'"),
        ("random:x", "random:K with a whole number"),
        ("clerk@many", "'many' tokens; right would be a whole number"),
        ("math=2@0", "'0' tokens"),
        ("math=-1", "'math=-1'; right would be a positive number"),
        ("maths=1", "needs maths, which the suite lacks; it has general_knowledge"),
    ],
)
def test_what_is_no_past_is_refused(text, message):
    with pytest.raises(ReadEnvError, match=message):
        parse_past(text, NAMES)


def test_a_past_and_its_runs_share_no_prompt():
    capability = get_suite("micro")["math"]
    texts = [{p.text for p in PromptStream(capability, 0, past=past).slice(1, 0, 200)} for past in (True, False, None)]
    assert not texts[0] & texts[1] and all(map(in_past, texts[0])) and texts[0] & texts[2]


def test_a_starting_student_is_made_once_and_begins_the_run(tmp_path):
    config = micro_config(cache={"directory": str(tmp_path)})
    distillation, start = Distillation.load(config), "prices=1@1600"
    even = distillation.reset(3)
    profile = distillation.reset(3, start)
    prices = NAMES.index("prices")
    assert profile[prices] > even[prices] + 0.05 and distillation.budget.spent == 0
    (file,) = (tmp_path / "students").glob("*.safetensors")
    made = file.stat().st_mtime_ns
    steps = [distillation.step(UNIFORM) for _ in range(2)]
    again = Distillation.load(config.model_copy(update={"models": config.models.model_copy(update={"start": start})}))
    assert np.array_equal(again.reset(3), profile) and file.stat().st_mtime_ns == made
    assert [s.loss for s in steps] == [again.step(UNIFORM).loss for _ in range(2)]
    state = again.snapshot()
    distillation.reset(3)
    assert np.array_equal(distillation.profile, even), "the student as it was loaded is still there"
    distillation.restore(state)
    assert same_state(distillation.snapshot(), state)
    assert distillation.step(UNIFORM).loss == again.step(UNIFORM).loss


def test_a_student_that_another_process_makes_is_waited_for(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(pasts, "_made", lambda *_: made.append(1) or time.sleep(0.3) or {"w": torch.ones(2)})
    monkeypatch.setattr(pasts, "_identity", lambda *_: [])
    config = load_preset("micro", {"cache": {"directory": str(tmp_path)}})
    run = SimpleNamespace(config=config, student=None)
    past = parse_past("clerk", NAMES)
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: pasts.weights_of(past, run), range(3)))
    assert made == [1] and all(torch.equal(one["w"], torch.ones(2)) for one in found)
    with mock.patch("filelock.FileLock.acquire", side_effect=NotImplementedError):
        assert pasts.weights_of(parse_past("editor", NAMES), run)["w"].sum() == 2


@pytest.fixture
def quick(monkeypatch):
    """Weights of a past without training, from a configuration with that cache folder."""
    made = []
    monkeypatch.setattr(pasts, "_made", lambda *_: made.append(1) or {"w": torch.ones(2)})
    monkeypatch.setattr(pasts, "_identity", lambda *_: [])

    def weights(folder):
        run = SimpleNamespace(config=load_preset("micro", {"cache": {"directory": str(folder)}}), student=None)
        return pasts.weights_of(parse_past("clerk", NAMES), run)

    return weights, made


@pytest.mark.parametrize("fault", ["a file in the way", "a full disk", "no space for a lock"])
def test_a_folder_that_cannot_be_written_costs_a_warning_and_not_the_student(
    fault, quick, tmp_path, monkeypatch, caplog
):
    weights, made = quick
    folder = tmp_path
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if fault == "a file in the way":
        folder = tmp_path / "file"
        folder.write_text("")
    elif fault == "a full disk":
        monkeypatch.setattr(pasts, "whole_file", mock.Mock(side_effect=full))
    else:
        monkeypatch.setattr("filelock.FileLock.acquire", mock.Mock(side_effect=full))
    assert weights(folder)["w"].sum() == 2 and made == [1]
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warned) == (fault != "no space for a lock")
    assert all("a starting student is not kept on disk" in text for text in warned)


def test_a_damaged_file_of_a_starting_student_is_made_again(quick, tmp_path, caplog):
    weights, made = quick
    weights(tmp_path)
    (file,) = (tmp_path / "students").glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:20])
    assert weights(tmp_path)["w"].sum() == 2 and made == [1, 1]
    assert [record.getMessage().partition(str(tmp_path))[0] for record in caplog.records] == [
        "the starting student in "
    ]
    assert weights(tmp_path)["w"].sum() == 2 and made == [1, 1]


def test_a_past_does_not_depend_on_the_objective_of_the_run(tmp_path):
    profiles = [
        Distillation.load(micro_config(cache={"directory": str(tmp_path)}, distill={"loss": loss})).reset(
            0, "code=1@800"
        )
        for loss in ("rkl", "grpo")
    ]
    assert np.array_equal(*profiles) and len(list((tmp_path / "students").glob("*.safetensors"))) == 1


def test_an_episode_has_a_student_drawn_or_asked_for():
    env = FakeDistillationEnv(overrides=SMALL, students=["clerk", "editor", "random:5"])
    seen = {env.reset(seed=seed)[1]["student"] for seed in range(20)}
    assert seen == {"clerk", "editor", "random:5"}
    _, info = env.reset(seed=1, options={"student": "even", "task": "math"})
    assert (info["student"], info["task"]) == ("even", "math")
    state = env.snapshot()
    env.reset(seed=2, options={"student": "clerk"})
    assert env.restore(state)[1]["student"] == "even"
    with pytest.raises(ReadEnvError, match="unknown starting student"):
        env.reset(options={"student": "nobody"})
    with pytest.raises(ReadEnvError, match="students must be a list of at least one student"):
        FakeDistillationEnv(students="clerk")


def test_a_comparison_has_every_task_with_every_student(tmp_path):
    config = load_preset("micro", SMALL)
    request = ComparisonRequest(
        config, agents=("uniform", "task-static"), tasks=("tutor", "math"), students=("even", "clerk"), seeds=(0, 1),
        processes=1, out=tmp_path / "c",
    )  # fmt: skip
    assert request.task_names == ["tutor", "tutor@clerk", "math", "math@clerk"]
    result = compare(request, env_factory=fake_env)
    assert not result.failures and len(list((tmp_path / "c" / "runs").iterdir())) == 16
    report = (tmp_path / "c" / "report.md").read_text() if (tmp_path / "c" / "report.md").exists() else ""
    assert not report or "tutor@clerk" in report


def test_a_run_records_its_student(tmp_path):
    config = load_preset("micro", {**SMALL, "models": {"start": "clerk"}})
    request = RunRequest(config.model_copy(update={"agent": "uniform"}), tmp_path / "run")
    assert play(request).summary["task"] == request.task_name == "bookkeeper@clerk"
    assert RunRequest(config).directory.name == "read-bandit__bookkeeper@clerk__seed0"
