"""Exports of recorded runs: what is read back equals the transitions, and a mistake leaves nothing behind."""

from __future__ import annotations

import json
import shutil
import sys
import warnings
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fake_runs import Make, fake_env, play
from synthetic_records import write_run, write_training

import read_env
from read_env.cli import main
from read_env.config import Config
from read_env.errors import ReadEnvError
from read_env.reporting import load_run
from read_env.reporting.transitions import VECTORS, trajectory_of
from read_env.running.export import export
from read_env.running.tool_requests import ExportRequest


@pytest.fixture
def data_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Minari's folder of local data sets."""
    pytest.importorskip("minari")
    pytest.importorskip("pyarrow")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "data_sets"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data_sets"


@pytest.fixture
def comparison(request_for: Make, tmp_path: Path) -> Path:
    """Two agents on two tasks, and a run that has not finished."""
    for number, (agent, task) in enumerate([("uniform", "math"), ("task-static", "tutor"), ("task-static", "math")]):
        play(request_for(agent, f"runs/compare/runs/{number}", task=task, seed=number))
    play(request_for("uniform", "runs/compare/runs/3"), stop_after=2)
    return tmp_path / "runs/compare"


def rewrite(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def files_below(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file() and path.name != "namespace_metadata.json"}


def assert_equal(episode: Any, run: Path) -> None:
    expected = trajectory_of(load_run(run))
    np.testing.assert_equal(dict(episode.observations), dict(expected.observations))
    for values, wanted in [
        (episode.actions, expected.actions), (episode.rewards, expected.rewards),
        (episode.terminations, expected.terminations), *((episode.infos[k], v) for k, v in expected.infos.items()),
    ]:  # fmt: skip
        np.testing.assert_array_equal(values, wanted, strict=True)
    assert set(episode.infos) == set(expected.infos) and not episode.truncations.any()


# --- Minari -------------------------------------------------------------------------------------------


def test_a_comparison_becomes_a_data_set_of_minari(comparison: Path, data_sets: Path, capsys: Any) -> None:
    import minari

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert main(["export", str(comparison), "--format", "minari", "--author", "A. Author"]) == 0
    printed = capsys.readouterr()
    assert "3, with 18 transitions" in printed.out and "minari.load_dataset('read-env/compare-v0')" in printed.out
    assert "left out: 3: failed after 2 steps: RuntimeError: enough" in printed.err

    data = minari.load_dataset("read-env/compare-v0")
    assert (data.total_episodes, data.total_steps) == (3, 18)
    for number, episode in enumerate(data):
        assert_equal(episode, comparison / "runs" / str(number))
    assert list(minari.list_local_datasets()) == ["read-env/compare-v0"]
    metadata = data.storage.metadata
    assert metadata["author"] == {"A. Author"} and metadata["algorithm_name"] == "uniform, task-static"
    assert metadata["capabilities"] == list(load_run(comparison / "runs/0").begun.suite)
    assert (
        metadata["description"].startswith("3 episodes of ReadEnv/Distillation-v0")
        and "math, tutor" in metadata["description"]
    )
    episodes = list(data.storage.get_episode_metadata(range(3)))
    assert [(one["agent"], one["task"], one["student"], one["seed"]) for one in episodes] == [
        ("uniform", "math", "even", 0), ("task-static", "tutor", "even", 1), ("task-static", "math", "even", 2)
    ]  # fmt: skip
    for number, one in enumerate(episodes):
        run = load_run(comparison / "runs" / str(number))
        assert one["requirement"] == run.begun.requirement.tolist()
        assert one["exam_utility"] == run.ended.exam_utility and one["run"] == str(run.path)
        assert one["rewards_sum"] == pytest.approx(sum(step.reward for step in run.steps))


def test_the_recovered_environment_is_the_one_of_the_runs(comparison: Path, data_sets: Path, small: Config) -> None:
    import minari

    done = export(ExportRequest((comparison,), "minari"))
    assert done.environment == ""
    data = minari.load_dataset("read-env/compare-v0")
    env = data.recover_environment().unwrapped
    assert (env.action_space, env.observation_space) == (data.action_space, data.observation_space)
    assert env.config == small.model_copy(update={"task": env.config.task})
    assert [card.name for card in env.cards] == ["math", "tutor"]

    # An episode starts again from its seed and options, here without models.
    again = fake_env(env.config, tasks=["math", "tutor"])
    for number in range(3):
        (metadata,) = data.storage.get_episode_metadata([number])
        observation, info = again.reset(seed=metadata["seed"], options=metadata["options"])
        for name, values in data[number].observations.items():
            np.testing.assert_array_equal(observation[name], values[0])
        assert info["task"] == metadata["task"]


@pytest.mark.parametrize("agent", ["task-static,stop_at=0.3", "task-static"])
def test_a_stop_entry_and_an_observed_utility_are_in_the_spaces(
    agent: str, request_for: Make, small: Config, data_sets: Path
) -> None:
    import minari

    budget = small.budget.model_copy(update={"may_stop": True})
    sections = {"budget": budget, "eval": small.eval.model_copy(update={"observe_utility": True})}
    run = play(request_for(agent, **sections)).directory
    assert export(ExportRequest((run,), "minari", out="one-v3")).environment == ""
    data = minari.load_dataset("one-v3")
    env = data.recover_environment()
    assert (env.action_space, env.observation_space) == (data.action_space, data.observation_space)
    assert_equal(data[0], run)
    assert all(action in data.action_space for action in data[0].actions)


def test_runs_of_several_directories_and_of_earlier_versions(comparison: Path, tmp_path: Path, data_sets: Path) -> None:
    import minari

    old = write_run(tmp_path / "old", task="tickets", steps=3)
    done = export(ExportRequest((comparison, old), "minari", out="mixed-v0"))
    assert (done.episodes, done.transitions) == (4, 21)
    assert done.environment.startswith(f"the configurations of {comparison}/runs/0 and {old} differ: ")
    data = minari.load_dataset("mixed-v0")
    recorded = [set(trajectory_of(load_run(run)).infos) for run in [*sorted((comparison / "runs").glob("[012]")), old]]
    common = set.intersection(*recorded)
    assert common < recorded[0] and {"task", "utility_form"} <= common
    assert all(set(episode.infos) == common for episode in data)
    assert done.environment in data.storage.metadata["description"]
    with pytest.raises(ValueError, match="env_spec is None"):
        data.recover_environment()


def test_an_environment_whose_card_is_gone_is_not_recovered(request_for: Make, tmp_path: Path, data_sets: Path) -> None:
    card = tmp_path / "mine.toml"
    shutil.copy(resources.files("read_env.tasks") / "cards" / "tutor.toml", card)
    run = play(request_for("uniform", task=str(card))).directory
    card.unlink()
    done = export(ExportRequest((run,), "minari"))
    assert "mine.toml" in done.environment and (done.episodes, done.transitions) == (1, 6)


def test_runs_with_other_spaces_are_refused_by_name(
    comparison: Path, request_for: Make, small: Config, tmp_path: Path, data_sets: Path
) -> None:
    other = write_run(tmp_path / "other", steps=3)
    for name in ("start.json", "summary.json"):
        rewrite(
            other / name, lambda record: record.update({k: v[:3] for k, v in record.items() if isinstance(v, list)})
        )
    lines = [json.loads(line) for line in (other / "steps.jsonl").read_text().splitlines()]
    cut = [{k: v[:3] if isinstance(v, list) else v for k, v in line.items()} for line in lines]
    (other / "steps.jsonl").write_text("".join(json.dumps(line) + "\n" for line in cut))
    stopping = play(request_for("uniform", "s", budget=small.budget.model_copy(update={"may_stop": True}))).directory
    seeing = play(request_for("uniform", "u", eval=small.eval.model_copy(update={"observe_utility": True}))).directory
    for run, field in [(other, "suite"), (stopping, "budget.may_stop"), (seeing, "eval.observe_utility")]:
        message = (
            rf"the same spaces, but {field} is .* in .*compare/runs/0 and .* in .*{run.name}; right would be a data set"
        )
        with pytest.raises(ReadEnvError, match=message):
            export(ExportRequest((comparison, run), "minari"))
        assert not files_below(data_sets)
        # A column of lists has room for all of them.
        both = export(ExportRequest((comparison, run), "parquet", out=f"{run.name}.parquet"))
        lengths = pd.read_parquet(both.path)["observation/profile"].map(len)
        assert set(lengths) == ({10, 3} if run == other else {10})


def test_the_name_is_that_of_the_directory_in_letters_that_minari_takes(request_for: Make, data_sets: Path) -> None:
    run = play(request_for("uniform", "runs/fixed,shares=math 1__tutor@clerk__seed0")).directory
    done = export(ExportRequest((run,), "minari"))
    assert done.load == "minari.load_dataset('read-env/fixed-shares-math-1__tutor-clerk__seed0-v0')"
    assert done.path.is_dir()


def test_an_export_replaces_no_data_set(comparison: Path, data_sets: Path, capsys: Any) -> None:
    command = ["export", str(comparison), "--format", "minari", "--out", "mine/b-v1"]
    assert main(command) == 0
    before = {path: path.read_bytes() for path in files_below(data_sets)}
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "out: the data set mine/b-v1 exists in" in error and "right would be another name or version" in error
    assert {path: path.read_bytes() for path in files_below(data_sets)} == before


@pytest.mark.parametrize("name", ["compare", "compare-v", "a b-v0", "/etc/x-v0", "../x-v0", "x-v0.1"])
def test_a_name_that_minari_would_not_take_is_refused(name: str, comparison: Path, data_sets: Path) -> None:
    with pytest.raises(ReadEnvError, match=rf"out: '{name}' is no id of a Minari data set; right would be NAME-v0"):
        export(ExportRequest((comparison,), "minari", out=name))
    assert not files_below(data_sets)


def test_an_error_in_the_middle_leaves_no_data_set(
    comparison: Path, data_sets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import minari
    from minari.dataset._storages.arrow_storage import ArrowStorage

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ArrowStorage, "update_episode_metadata", full)
    assert main(["export", str(comparison), "--format", "minari"]) == 2
    assert not files_below(data_sets) and minari.list_local_datasets() == {}
    monkeypatch.undo()

    # Nor does a kill, which leaves the folder in which it was written.
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(data_sets))
    (data_sets / "read-env/.export-x/compare-v0/data").mkdir(parents=True)
    assert export(ExportRequest((comparison,), "minari")).episodes == 3
    assert list(minari.list_local_datasets()) == ["read-env/compare-v0"]


# --- Parquet ------------------------------------------------------------------------------------------


def test_a_parquet_file_has_a_row_for_each_transition(comparison: Path, data_sets: Path, capsys: Any) -> None:
    import pyarrow.parquet as parquet

    assert main(["export", "runs/compare", "--format", "parquet"]) == 0
    assert "pandas.read_parquet('runs/compare.parquet')" in capsys.readouterr().out
    expected = read_env.load_transitions("runs/compare")
    found = pd.read_parquet("runs/compare.parquet")
    assert list(found.columns) == list(expected.columns) and len(found) == 18
    for name in expected:
        if name in VECTORS:
            for one, other in zip(found[name], expected[name], strict=True):
                assert (one is None) == (isinstance(other, float) and np.isnan(other))
                if one is not None:
                    np.testing.assert_array_equal(one, other)
        else:
            pd.testing.assert_series_equal(found[name], expected[name], check_dtype=name not in ("info/stopped",))

    types = {field.name: str(field.type) for field in parquet.read_schema("runs/compare.parquet")}
    assert (
        types["action"] == types["observation/profile"] == types["next_observation/utility"] == "list<element: float>"
    )
    assert types["info/profile"] == types["info/dev_profile"] == "list<element: double>"
    assert types["info/tokens_by_capability"] == "list<element: int64>"
    assert types["capabilities"] == "list<element: string>"
    assert (types["path"], types["seed"], types["reward"], types["terminated"]) == ("string", "int64", "double", "bool")
    assert types["info/stopped"] == "bool", "also where no run can stop"


def test_an_export_replaces_no_file(comparison: Path, data_sets: Path, tmp_path: Path) -> None:
    (tmp_path / "there.parquet").write_text("mine")
    with pytest.raises(
        ReadEnvError, match=r"out: there.parquet exists, and no export replaces it; right would be another"
    ):
        export(ExportRequest((comparison,), "parquet", out="there.parquet"))
    assert (tmp_path / "there.parquet").read_text() == "mine"
    with pytest.raises(
        ReadEnvError, match="author: 'me' has no place in a Parquet file; right would be --format minari"
    ):
        export(ExportRequest((comparison,), "parquet", author="me"))


def test_an_error_in_the_middle_leaves_no_file(
    comparison: Path, data_sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(table: Any, file: Any) -> None:
        file.write(b"PAR1")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pyarrow.parquet.write_table", full)
    assert main(["export", str(comparison), "--format", "parquet", "--out", "new/t.parquet"]) == 2
    assert list((tmp_path / "new").iterdir()) == []


# --- mistakes in both ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["minari", "parquet"])
def test_what_has_no_transitions_is_refused_and_leaves_nothing(
    kind: str, data_sets: Path, tmp_path: Path, capsys: Any
) -> None:
    write_run(tmp_path / "begun", steps=3, stop_after=2)
    write_training(tmp_path / "training", 3)
    for sources, message in [
        (["begun"], "begun: no run has finished (begun: unfinished: 2 steps, "),
        (
            ["training"],
            "training: a training keeps episodes without their steps; right would be the directory of a run",
        ),
        (["nowhere"], "nowhere: no such run directory"),
        ([], "directories: name at least one directory of a run or a comparison"),
    ]:
        assert main(["export", *sources, "--format", kind]) == 2
        assert message in capsys.readouterr().err
    assert not files_below(data_sets) and not list(tmp_path.glob("**/*.parquet"))


def test_an_unknown_format_is_refused(tmp_path: Path, capsys: Any) -> None:
    with pytest.raises(ReadEnvError, match="unknown format 'parket': did you mean 'parquet'"):
        export(ExportRequest((tmp_path,), "parket"))  # type: ignore[arg-type]
    with pytest.raises(SystemExit) as left:
        main(["export", str(tmp_path), "--format", "parket"])
    assert left.value.code == 2 and "parquet" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "absent", "extra"),
    [("minari", "minari", "minari"), ("minari", "pyarrow", "minari"), ("parquet", "pyarrow", "data")],
)
def test_a_missing_extra_is_named(
    kind: str, absent: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(tmp_path / "run", steps=3)
    for name in [name for name in sys.modules if name.partition(".")[0] == absent]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(ReadEnvError, match=rf"format: {kind} needs .*pip install 'read-env\[{extra}\]'"):
        export(ExportRequest((run,), kind))  # type: ignore[arg-type]
