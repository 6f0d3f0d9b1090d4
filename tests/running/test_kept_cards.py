"""Cards with an inferred requirement, as commands find them again: in the cache, and in the directory of what has begun."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from fake_distillation import FakeDistillation
from fake_runs import EVERY_STEP, fake_env, play_training, stopping_env, training_request
from rich.console import Console

from read_env.capabilities import get_suite
from read_env.config import Config
from read_env.errors import ReadEnvError
from read_env.reporting import identification_report
from read_env.running import comparison, runner
from read_env.running import identify as module
from read_env.running.batch_requests import ComparisonRequest, IdentifyRequest
from read_env.running.callbacks import Callback
from read_env.running.directory import RecordDirectory, RunDirectory
from read_env.running.identify import identified, identify
from read_env.running.identity import card_fingerprint
from read_env.running.requests import RunRequest
from read_env.running.runner import run
from read_env.running.worker import Worker
from read_env.tasks import TaskCard, load_task
from read_env.tasks.card import card_toml

QUIET = Console(file=io.StringIO())
SUITE = get_suite("micro")


@pytest.fixture
def config(small: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Configuration of ten interventions on the made-up distillation, with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    made = comparison.run_many

    def with_fake_env(title: str, runs: Any, processes: int, console: Any, _: Any, *rest: Any, **more: Any) -> Any:
        return made(title, runs, processes, console, fake_env, *rest, **more)

    monkeypatch.setattr(module, "run_many", with_fake_env)
    monkeypatch.setattr(runner, "make_env", fake_env)
    cache = small.cache.model_copy(update={"directory": "cache"})
    asked = small.identify.model_copy(update={"interventions": 10, "tokens": 2000})
    return small.model_copy(update={"cache": cache, "identify": asked})


@contextmanager
def failing(name: str) -> Iterator[None]:
    """Let an intervention fail in the block, before its first step."""
    made = Worker.__call__

    def call(self: Worker, request: RunRequest, report: Any) -> Any:
        if request.label == name:
            raise ReadEnvError("the disk is full")
        return made(self, request, report)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Worker, "__call__", call)
        yield


def sums(path: str, offset: int = 0) -> str:
    """Write a file of 100 sums."""
    rows = ({"prompt": f"{a}+{b}", "answer": str(a + b + offset)} for a in range(10) for b in range(10))
    Path(path).parent.mkdir(exist_ok=True)
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def card_of(path: str) -> TaskCard:
    return load_task(path, SUITE)


@pytest.mark.parametrize("form", ["prompts", "card"])
@pytest.mark.parametrize("then", ["edited", "deleted"])
def test_a_kept_card_reads_the_file_of_the_command(config: Config, form: str, then: str) -> None:
    for folder in ("p1", "p2"):
        sums(f"{folder}/t.jsonl")
        Path(folder, "t.toml").write_text('name = "t"\ndescription = "Sums."\nprompts = "t.jsonl"\n')
    name = "t.jsonl" if form == "prompts" else "t.toml"
    first = identified(config, f"p1/{name}", 1)
    assert card_of(first).prompts == str(Path.cwd() / "p1" / "t.jsonl")
    fingerprint = card_fingerprint(first, "micro")
    if then == "edited":
        sums("p1/t.jsonl", offset=1)
    else:
        Path("p1/t.jsonl").unlink()
    second = identified(config, f"p2/{name}", 1)
    assert second == first and card_of(second).prompts == str(Path.cwd() / "p2" / "t.jsonl")
    assert card_fingerprint(second, "micro") == fingerprint


def test_a_kept_card_that_reads_the_right_file_is_not_written_again(config: Config) -> None:
    first = Path(identified(config, sums("p1/t.jsonl"), 1))
    before = first.stat().st_mtime_ns
    assert identified(config, str(Path.cwd() / "p1" / "t.jsonl"), 1) == str(first)
    assert first.stat().st_mtime_ns == before


def test_the_exam_before_a_run_is_held_again_on_a_file_that_was_edited(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeDistillation, "task_exam", lambda self: int(self.task.prompts[0].check["answers"][0]) / 100)
    Path("t.toml").write_text(
        'name = "t"\ndescription = "Sums."\nprompts = "t.jsonl"\n'
        '[requirement]\nmath = 1.0\n[[exemplars]]\nprompt = "1+1"\ncompletion = "2"\n'
    )
    before = []
    for offset in (0, 50):
        sums("t.jsonl", offset)
        made = config.model_copy(update={"task": "t.toml", "agent": "task-static", "agent_options": {}})
        request = RunRequest(made, Path(f"run{offset}"))
        before.append(run(request, env=fake_env(made)).summary["exam_utility_start"])
    assert before[1] == pytest.approx(before[0] + 0.5)


# --- a run that has begun ---------------------------------------------------------------------------


def interrupted(request: RunRequest) -> None:
    """Begin a run, and interrupt it after two of its six steps."""

    class Kill(Callback):
        def on_step(self, record: Any) -> None:
            if record["step"] == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(request, env=fake_env(request.config), callbacks=[Kill()], checkpoint_share=EVERY_STEP)


def request_of(config: Config, task: str) -> RunRequest:
    return RunRequest(
        config.model_copy(update={"task": task, "agent": "task-static", "agent_options": {}}), Path("run")
    )


def test_what_has_begun_goes_on_with_its_own_card(config: Config) -> None:
    path, directory = sums("p1/t.jsonl"), RunDirectory(Path("run"))
    first = identified(config, path, 1, directory=directory)
    interrupted(request_of(config, first))
    # The kept card changes, as after an intervention that was repeated; and the prompts move.
    kept = card_of(first)
    other = {"requirement": {"code": 1.0}, "tokens_before_run": 7}
    Path(first).write_text(card_toml(kept.model_copy(update=other)))
    with pytest.raises(ReadEnvError, match=r"task \(content\)"):
        run(request_of(config, identified(config, path, 1)))
    own = identified(config, sums("p2/t.jsonl"), 1, directory=directory)
    assert Path(own).parent == directory.cards
    assert card_of(own) == kept.model_copy(update={"prompts": str(Path.cwd() / "p2" / "t.jsonl")})
    done = run(request_of(config, own))
    assert done.resumed_after == 1 and done.summary["tokens_before_run"] == kept.tokens_before_run
    # Begun again, it takes the card of the cache; of other prompts under its name nothing is inferred.
    assert identified(config, path, 1, directory=None) == first
    with pytest.raises(
        ReadEnvError, match="run began with another task 't': its prompts, description or grader differ"
    ):
        identified(config, sums("p3/t.jsonl", 1), 1, directory=directory)


def test_a_run_that_failed_before_its_first_step_takes_the_card_of_the_cache(config: Config) -> None:
    path, directory = sums("t.jsonl"), RunDirectory(Path("run"))
    first = identified(config, path, 1)
    request = request_of(config, first)
    with pytest.raises(RuntimeError, match="enough"):
        run(request, env=stopping_env(request.config, 0))
    assert list(directory.cards.iterdir()) and identified(config, path, 1, directory=directory) == first


@pytest.mark.parametrize("command", ["compare", "train"])
def test_comparisons_and_trainings_keep_their_cards(config: Config, command: str) -> None:
    first = identified(config, sums("t.jsonl"), 1)
    directory = RecordDirectory(Path("out"))
    if command == "compare":
        comparison.compare(
            ComparisonRequest(config, ("task-static",), (first,), (0,), 1, directory.path), QUIET, fake_env
        )
    else:
        request = training_request(config, "read-bandit", directory.path)
        play_training(replace(request, tasks=(first,)))
    Path(first).unlink()
    own = identified(config, "t.jsonl", 1, directory=directory)
    assert Path(own).parent == directory.cards and card_of(own).identified


# --- interventions that fail ------------------------------------------------------------------------


def test_a_failed_intervention_stops_the_command_that_needs_the_requirement(config: Config) -> None:
    path = sums("t.jsonl")
    message = (
        r"task 't': 1 of 10 interventions failed \(intervention-003: the disk is full\); the same command makes them again and "
        r"keeps the others\. .* give a copy of .*card\.toml as the task"
    )
    with failing("intervention-003"), pytest.raises(ReadEnvError, match=message):
        identified(config, path, 1)
    partial = next(Path("cache").rglob("requirements/*/card.toml"))
    assert partial.read_text().startswith("# Without intervention-003: failed.\n")
    assert card_of(str(partial)).identified
    whole = identified(config, path, 1)
    assert "# Without" not in Path(whole).read_text() and Path(whole) == partial
    assert len(list(partial.parent.glob("runs/*/summary.json"))) == 10


def test_a_card_without_an_intervention_is_not_taken_for_a_whole_one(config: Config) -> None:
    path = sums("t.jsonl")
    with failing("intervention-003"), pytest.raises(ReadEnvError):
        identified(config, path, 1)
    # Killed after the intervention was repeated, before the card was written.
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "_fitted", Mock(side_effect=KeyboardInterrupt))
        identified(config, path, 1)
    assert "# Without" not in Path(identified(config, path, 1)).read_text()


def test_identify_writes_a_card_without_the_interventions_that_failed(config: Config) -> None:
    request = IdentifyRequest(
        config.model_copy(update={"task": sums("t.jsonl")}), processes=1, runs_dir=Path("out"), out=Path("t.toml")
    )
    with failing("intervention-003"):
        found = identify(request)
    assert found.failures == {"intervention-003": "the disk is full"} and card_of("t.toml").identified
    report = identification_report(Path("out")).read_text()
    assert "**1 of 10 interventions failed, and the requirement was inferred without them.**" in report
    assert "- intervention-003: the disk is full" in report
    assert identify(request).failures == {} and "failed" not in identification_report(Path("out")).read_text()
    assert not Path("t.toml").read_text().startswith("#")


def test_failed_interventions_are_named_where_the_others_are_too_few(config: Config) -> None:
    path = sums("t.jsonl")
    with failing("intervention-003"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "fit_requirement", Mock(side_effect=ReadEnvError("too few interventions")))
        with pytest.raises(ReadEnvError, match="too few interventions; 1 of 10 interventions failed"):
            identified(config, path, 1)
