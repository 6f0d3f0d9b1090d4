"""Cards with an inferred requirement, as commands find them again: in the cache, and in the directory of what has begun."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fake_distillation import FakeDistillation
from fake_runs import fake_env

from read_env.capabilities import get_suite
from read_env.config import Config
from read_env.running import comparison
from read_env.running import identify as module
from read_env.running.identify import identified
from read_env.running.identity import card_fingerprint
from read_env.running.requests import RunRequest
from read_env.running.runner import run
from read_env.tasks import TaskCard, load_task

SUITE = get_suite("micro")


@pytest.fixture
def config(small: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Configuration of ten interventions on the made-up distillation, with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    made = comparison.run_many

    def with_fake_env(title: str, runs: Any, processes: int, console: Any, _: Any, *rest: Any, **more: Any) -> Any:
        return made(title, runs, processes, console, fake_env, *rest, **more)

    monkeypatch.setattr(module, "run_many", with_fake_env)
    cache = small.cache.model_copy(update={"directory": "cache"})
    asked = small.identify.model_copy(update={"interventions": 10, "tokens": 2000})
    return small.model_copy(update={"cache": cache, "identify": asked})


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
