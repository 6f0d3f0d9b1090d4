"""One run: what it leaves behind, and that an interruption changes nothing of it."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_distillation import FakeDistillation
from fake_runs import Make, contents, fake_env, kill_on_call, killed, play

from read_env import files
from read_env.agents.set_policy import weights_path
from read_env.config import BudgetConfig, CacheConfig, Config, load_preset
from read_env.errors import ReadEnvError
from read_env.reporting import load_runs, run_report
from read_env.running.callbacks import Callback
from read_env.running.requests import RunRequest
from read_env.running.runner import run


def test_a_run_spends_its_budget_and_leaves_records_and_a_student(request_for: Make) -> None:
    result = play(request_for("task-static"))
    assert {"config.json", "identity.json", "start.json", "steps.jsonl", "summary.json", "student/config.json"} == set(
        contents(result.directory)
    )
    steps = files.read_lines(result.directory / "steps.jsonl")
    assert [record["step"] for record in steps] == [1, 2, 3, 4, 5, 6]
    assert steps[-1]["budget_spent"] == result.summary["spent"] == 600
    assert [("dev_profile" in record) for record in steps] == [False, True, False, True, False, True]
    start = files.read_json(result.directory / "start.json")
    assert result.summary["profile_start"] == start["profile"] and result.summary["profile"] == steps[-1]["profile"]
    assert sum(record["gain"] for record in steps) == pytest.approx(
        result.summary["utility"] - result.summary["utility_start"]
    )
    assert result.summary["spillover"] == sum(record["spillover"] for record in steps)
    assert np.allclose(result.summary["exam"], np.array(result.summary["profile"]) ** 2)


def stopping(small: Config, **of_eval: Any) -> dict[str, Any]:
    """Changes of a configuration whose actions have a stop entry."""
    budget = small.budget.model_copy(update={"may_stop": True})
    return {"budget": budget, "eval": small.eval.model_copy(update=of_eval)}


def test_the_utility_of_a_product_is_relative_to_the_teacher_in_all_records(request_for: Make, small: Config) -> None:
    def ended(values: Any) -> float:
        return float(np.prod(np.array(values)[[2, 3, 4]]) / 0.9**3)

    of_eval = {"eval": small.eval.model_copy(update={"score_teacher": "never"})}
    request = request_for("task-static", task="code-reviewer")
    result = play(request)
    start, summary = files.read_json(result.directory / "start.json"), result.summary
    for record, scores, utility in [
        (start, "profile", "utility"), (start, "dev_profile", "dev_utility"), (summary, "profile_start", "utility_start"),
        (summary, "profile", "utility"), (summary, "exam_start", "exam_utility_start"), (summary, "exam", "exam_utility"),
    ]:  # fmt: skip
        assert record[utility] == pytest.approx(ended(record[scores])), utility
    relative = request.identity.differences(request_for("task-static", task="code-reviewer", **of_eval).identity)
    assert relative == ["eval.score_teacher: 'auto' in the folder, 'never' in this command"]
    assert request_for("task-static").identity.differences(request_for("task-static", **of_eval).identity) == []


@pytest.mark.parametrize("score_unspent", [True, False])
@pytest.mark.parametrize(
    ("agent", "steps"), [("task-static,stop_at=0.3", 2), ("read-bandit,cost_lambda=9", 0), ("task-static", 6)]
)
def test_tokens_left_by_a_stop_are_recorded_with_what_they_would_have_brought(
    agent: str, steps: int, score_unspent: bool, request_for: Make, small: Config
) -> None:
    request = request_for(agent, **stopping(small, score_unspent=score_unspent))
    result, left = play(request), 600 - 100 * steps
    summary, row = result.summary, load_runs(result.directory).iloc[0]
    assert (summary["steps"], summary["residue"], summary["left_tokens"], row["left_tokens"]) == (
        steps,
        left,
        left,
        left,
    )
    end = summary["profile"] if steps else summary["profile_start"]
    assert summary["exam"] == pytest.approx(np.array(end) ** 2)
    assert files.read_json(result.directory / "student" / "config.json")["profile"] == end, (
        "the student that stopped is kept"
    )
    played_on = bool(left and score_unspent)
    assert ("dev_utility" in summary, "left_utility" in summary) == (bool(left), played_on)
    report = run_report(result.directory).read_text()
    assert (f"had the {left} tokens left been spent" in report) == played_on
    if played_on:  # as the requirement, before and after the stop
        whole = play(request_for("task-static", "whole")).summary
        assert "left_tokens" not in whole
        assert [summary["left_utility"], summary["left_exam_utility"]] == [whole["utility"], whole["exam_utility"]]
    assert play(request).already_finished


@pytest.mark.parametrize("where", ["snapshot", "save_student", "exam"])
def test_a_run_killed_after_its_stop_ends_with_the_same_bits(request_for: Make, small: Config, where: str) -> None:
    expected = contents(play(request_for("task-static,stop_at=0.5", "whole", **stopping(small))).directory)
    request = request_for("task-static,stop_at=0.5", "interrupted", **stopping(small))
    count = {"snapshot": 6, "save_student": 1, "exam": 2}[where]  # the last ones belong to the tokens that were left
    was_killed, result = interrupted_then_resumed(request, lambda: kill_on_call(FakeDistillation, where, count))
    assert was_killed
    assert contents(result.directory) == expected


def test_the_exam_reaches_no_agent(request_for: Make) -> None:
    seen: list[dict[str, Any]] = []
    request = request_for("uniform")
    env = fake_env(request.config)
    exams: list[int] = []
    original = env.step
    env.step = lambda action: seen.append((made := original(action))[4]) or made  # type: ignore[method-assign]
    env.reset(seed=0)
    exam = env.distillation.exam
    env.distillation.exam = lambda: exams.append(len(seen)) or exam()  # type: ignore[union-attr]
    run(request, env=env)
    assert not any("exam" in key for info in seen for key in info)
    assert set(exams) <= {0, 6}, "before the first step and after the last one"


def test_a_finished_run_is_not_run_again(request_for: Make) -> None:
    assert not play(request_for("uniform")).already_finished
    assert play(request_for("uniform")).already_finished
    assert not play(request_for("uniform", overwrite=True)).already_finished


def test_another_configuration_is_refused_naming_the_fields(request_for: Make) -> None:
    first = play(request_for("uniform"))
    before = contents(first.directory)
    with pytest.raises(ReadEnvError, match=r"seed: 0 in the folder, 3 in this command") as refused:
        play(request_for("task-static", seed=3))
    assert "agent: 'uniform' in the folder, 'task-static' in this command" in str(refused.value)
    assert "--overwrite" in str(refused.value)
    assert contents(first.directory) == before
    assert play(request_for("task-static", seed=3, overwrite=True)).summary["seed"] == 3


def test_a_directory_that_nobody_here_wrote_is_never_touched(request_for: Make) -> None:
    request = request_for("uniform", overwrite=True)
    request.directory.mkdir()
    (request.directory / "steps.jsonl").write_text("mine")
    with pytest.raises(ReadEnvError, match="is not empty"):
        play(request)
    assert contents(request.directory) == {"steps.jsonl": b"mine"}


def test_a_directory_in_use_is_refused(request_for: Make) -> None:
    request = request_for("uniform")

    class Second(Callback):
        def on_run_start(self, start: Any, steps: Any) -> None:
            with pytest.raises(ReadEnvError, match="in use by another process"):
                play(request)

    play(request, callbacks=[Second()])


@pytest.mark.skipif(os.name == "nt", reason="Windows has no flock")
@pytest.mark.parametrize("code", [errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_not_reported_as_in_use(
    code: int, request_for: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_lock_daemon(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", no_lock_daemon)
    for _ in range(2):  # the second time there is a lock file
        with pytest.warns(RuntimeWarning, match="file system without locks"):
            assert play(request_for("uniform")).summary["steps"]


def test_a_run_that_failed_before_its_first_step_does_not_block_its_folder(request_for: Make) -> None:
    play(request_for("uniform"), stop_after=0)
    assert play(request_for("uniform", seed=3)).summary["seed"] == 3


def test_a_run_that_failed_after_a_step_is_not_replaced_by_another(request_for: Make) -> None:
    play(request_for("uniform"), stop_after=1)
    with pytest.raises(ReadEnvError, match=r"holds another run \(seed.* 0.* 3.*--overwrite"):
        play(request_for("uniform", seed=3))
    assert play(request_for("uniform")).resumed_after == 1


@pytest.mark.skipif(os.name == "nt", reason="Windows has no names of bytes")
def test_a_folder_whose_name_is_not_utf8_is_refused_before_anything_runs(request_for: Make) -> None:
    with pytest.raises(ReadEnvError, match=r"run-\\udcff is not UTF-8.*--out"):
        play(request_for("uniform", os.fsdecode(b"run-\xff")))


def test_a_callback_that_fails_is_named_once_and_the_run_goes_on(request_for: Make) -> None:
    class Broken(Callback):
        closed = 0

        def on_step(self, record: Any) -> None:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

        def close(self) -> None:
            self.closed += 1

    class Steps(Callback):
        seen = 0

        def on_step(self, record: Any) -> None:
            self.seen += 1

    broken, steps = Broken(), Steps()
    with pytest.warns(RuntimeWarning, match=r"Broken.on_step failed .*the run goes on without it") as warned:
        summary = play(request_for("uniform"), callbacks=[broken, steps]).summary
    assert summary["steps"] == steps.seen == 6 and broken.closed == 1 and len(warned) == 1


def test_ctrl_c_in_a_callback_ends_the_run(request_for: Make) -> None:
    class Interrupted(Callback):
        def on_step(self, record: Any) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        play(request_for("uniform"), callbacks=[Interrupted()])


def test_a_full_disk_ends_a_run_that_goes_on_where_there_is_room(
    request_for: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = play(request_for("random-candidate", "whole")).summary
    request, fsync, calls = request_for("random-candidate"), os.fsync, 0

    def full(handle: int) -> None:
        nonlocal calls
        calls += 1
        if calls > 12:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(handle)

    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space left") as raised:
        patched.setattr(os, "fsync", full)
        play(request)
    assert str(request.directory) in str(raised.value.filename)
    assert play(request).summary == expected


# --- interruptions ---------------------------------------------------------------------------------


def interrupted_then_resumed(request: RunRequest, interruption: Callable[[], None]) -> tuple[bool, Any]:
    """Whether the run was killed, and the result of the same call made again."""

    def work() -> None:
        interruption()
        play(request)

    code = killed(work)
    assert code in (0, -signal.SIGKILL)
    return code != 0, play(request)


@pytest.mark.skipif(os.name == "nt", reason="forks")
@pytest.mark.parametrize("agent", ["read-bandit-published", "random-candidate"])
def test_a_run_killed_at_any_write_ends_with_the_same_bits(request_for: Make, agent: str) -> None:
    budget = BudgetConfig(total_tokens=200, step_tokens=100)
    expected = contents(play(request_for(agent, "whole", budget=budget)).directory)
    request = request_for(agent, "interrupted", budget=budget)
    moments = 0
    # Every file is synced before it gets its name: so this visits each write, and the time between two.
    for moment in range(1, 200):
        was_killed, result = interrupted_then_resumed(
            request, lambda moment=moment: kill_on_call(files.os, "fsync", moment)
        )
        assert contents(result.directory) == expected, f"killed at write {moment}"
        if not was_killed:
            break
        moments += 1
        files.remove(result.directory)
    assert moments >= 15


def half_a_line(path: Path, record: dict[str, Any]) -> None:
    with path.open("ab") as file:
        file.write(json.dumps(record).encode()[:50])


def half_a_checkpoint(value: Any, file: Any) -> None:
    file.write(b"PK\x03\x04 half")
    file.flush()


@pytest.mark.skipif(os.name == "nt", reason="forks")
@pytest.mark.parametrize("step", [1, 2, 5])
@pytest.mark.parametrize("where", ["chunk", "line", "checkpoint", "student"])
def test_a_run_killed_inside_a_chunk_or_a_write_ends_with_the_same_bits(
    request_for: Make, where: str, step: int
) -> None:
    import torch

    interruptions = {
        "chunk": lambda: kill_on_call(FakeDistillation, "dev_profile", step if step < 5 else 4),
        "line": lambda: kill_on_call(files, "append_line", step, half_a_line),
        "checkpoint": lambda: kill_on_call(torch, "save", step, half_a_checkpoint),
        "student": lambda: kill_on_call(FakeDistillation, "save_student", 1),
    }
    expected = contents(play(request_for("read-bandit-published", "whole")).directory)
    was_killed, result = interrupted_then_resumed(
        request_for("read-bandit-published", "interrupted"), interruptions[where]
    )
    assert was_killed
    assert contents(result.directory) == expected


def test_a_failed_run_keeps_its_steps_and_says_why(request_for: Make) -> None:
    request = request_for("uniform")
    play(request, stop_after=3)
    assert "RuntimeError: enough" in (request.directory / "error.txt").read_text()
    result = play(request)
    assert result.resumed_after == 3
    assert not (request.directory / "error.txt").exists()


def test_steps_after_a_rare_checkpoint_are_made_again_with_the_same_bits(request_for: Make) -> None:
    expected = contents(play(request_for("random-candidate", "whole")).directory)
    request = request_for("random-candidate")
    play(request, stop_after=4, checkpoint_share=1e-9)  # none after the first
    assert len(files.read_lines(request.directory / "steps.jsonl")) == 4
    result = play(request)
    assert result.resumed_after == 0
    assert contents(result.directory) == expected


@pytest.mark.parametrize("damage", ["missing", "cut", "text", "other"])
def test_a_damaged_checkpoint_is_named_and_nothing_is_lost(request_for: Make, damage: str) -> None:
    request = request_for("uniform")
    play(request, stop_after=3)
    checkpoint = request.directory / "checkpoint" / "state.pt"
    if damage == "missing":
        checkpoint.unlink()
    elif damage == "cut":
        checkpoint.write_bytes(checkpoint.read_bytes()[:300])
    elif damage == "text":
        checkpoint.write_text("hello")
    else:
        files.save_tensors(checkpoint, {"something": 1})
    before = {name: data for name, data in contents(request.directory).items() if name != "error.txt"}
    with pytest.raises(ReadEnvError, match="state.pt") as refused:
        play(request)
    assert "--overwrite" in str(refused.value)
    after = {name: data for name, data in contents(request.directory).items() if name != "error.txt"}
    assert after == before


def test_records_shorter_than_the_checkpoint_are_refused(request_for: Make) -> None:
    request = request_for("uniform")
    play(request, stop_after=3)
    lines = (request.directory / "steps.jsonl").read_text().splitlines(keepends=True)
    (request.directory / "steps.jsonl").write_text(lines[0])
    with pytest.raises(ReadEnvError, match="holds 1 steps but the checkpoint was made after step 3"):
        play(request)


def test_a_moved_model_folder_is_the_same_run(small: Any, tmp_path: Path, request_for: Any) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "model.safetensors").write_bytes(b"weights")
    one, two = (
        request_for("uniform", models=small.models.model_copy(update={"student": str(tmp_path / folder)}))
        for folder in ("a", "b")
    )
    assert one.identity.differences(two.identity) == []
    (tmp_path / "b" / "model.safetensors").write_bytes(b"others!")
    assert [line.partition(":")[0] for line in one.identity.differences(two.identity)] == ["models.student (content)"]


def test_the_content_of_an_agents_file_identifies_it_not_its_folder(request_for: Make, tmp_path: Path) -> None:
    def identity(weights: Path | str) -> Any:
        return request_for(f"set-policy,weights={weights}").identity

    shipped = {name: identity(name) for name in ("any", "micro")}
    changed = ["agent_options.weights (content)"]
    assert [line.partition(":")[0] for line in shipped["any"].differences(shipped["micro"])] == changed
    first, second = tmp_path / "first.zip", tmp_path / "second.zip"
    shutil.copy(weights_path("any"), first)
    shutil.copy(first, second)
    before = identity(first)
    assert before.differences(identity(second)) == before.differences(shipped["any"]) == []
    shutil.copy(weights_path("micro"), first)
    assert [line.partition(":")[0] for line in before.differences(identity(first))] == changed


def test_where_the_answers_of_the_teacher_are_kept_is_no_part_of_a_run(request_for, tmp_path):
    kept = CacheConfig(directory=str(tmp_path), max_gib=1)
    assert request_for("uniform").identity.differences(request_for("uniform", cache=kept).identity) == []


def test_the_exam_before_the_run_is_that_of_its_own_settings(tmp_path: Path) -> None:
    """Two runs of one process that differ in how answers are decoded: the second must not take over the first one's."""
    small = {"budget": {"total_tokens": 200, "step_tokens": 200}, "eval": {"probes": 2, "dev": 2, "exam": 8}}
    starts = []
    for cut in (40, 1):
        config = load_preset("micro", {**small, "agent": "uniform", "distill": {"max_completion_tokens": cut}})
        starts.append(run(RunRequest(config, tmp_path / str(cut))).summary["exam_start"])
    # A student that may say one token answers next to nothing right.
    assert sum(starts[1]) < sum(starts[0])
