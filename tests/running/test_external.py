"""Evaluation on tasks of lm-eval: its own values, kept with the run, and what is refused before anything is spent."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_runs import Make, contents, curves, play
from micro import micro_config, saved

import read_env
from read_env import files
from read_env.cli import main
from read_env.config import Config
from read_env.distillation.loading import load
from read_env.errors import ReadEnvError
from read_env.reporting import RecordError, run_report
from read_env.running import external, harness
from read_env.running.batch_requests import IdentifyRequest
from read_env.running.check_refusals import Refusals
from read_env.running.directory import RunDirectory
from read_env.running.harness_tasks import HarnessTasks, load_tasks
from read_env.running.requests import RunRequest
from read_env.running.reuse import derive
from read_env.running.runner import run

SUMS = [(12, 9), (4, 12), (7, 8), (5, 6), (9, 4), (11, 7)]
CHOICE = """
output_type: multiple_choice
doc_to_choice: "{{choices}}"
doc_to_target: right
target_delimiter: ""
metric_list:
  - metric: acc
"""
EXACT = """
output_type: generate_until
doc_to_target: answer
generation_kwargs:
  until: []
  max_gen_toks: 16
metric_list:
  - metric: exact_match
"""


@pytest.fixture
def lm_eval() -> Any:
    return pytest.importorskip("lm_eval")


@pytest.fixture
def folder(lm_eval: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of two tasks of six prompts each: a choice between two answers, and a generated one."""
    from lm_eval.tasks import TaskManager

    from read_env.running import harness_tasks

    tasks = tmp_path / "tasks"
    tasks.mkdir()
    lines = [
        {"question": f"please, {a}+{b}=", "answer": str(a + b), "choices": [str(a + b + 1), str(a + b)], "right": 1}
        for a, b in SUMS
    ]
    (tasks / "sums.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    add_task(tasks, "sums-choice", CHOICE)
    add_task(tasks, "sums-exact", EXACT)
    # The index of lm-eval's own tasks takes many seconds, and no test here needs one of them.
    monkeypatch.setattr(
        harness_tasks, "_whole_index", lambda path: TaskManager(include_path=path, include_defaults=False)
    )
    return tasks


def add_task(folder: Path, name: str, rest: str, source: str = "json", version: str = "2.0") -> None:
    local = f"dataset_kwargs:\n  data_files: {folder / 'sums.jsonl'}\n" if source == "json" else ""
    text = f'task: {name}\ndataset_path: {source}\n{local}test_split: train\ndoc_to_text: "{{{{question}}}}"\n'
    (folder / f"{name}.yaml").write_text(f"{text}metadata:\n  version: {version}\n{rest}")


@pytest.fixture
def tasks(folder: Path) -> HarnessTasks:
    return HarnessTasks(("sums-choice", "sums-exact"), str(folder), chat_template=True)


def values(reference: str, tasks: HarnessTasks, **kwargs: Any) -> dict[str, float | None]:
    loaded = load(reference)
    found = {}
    for of_task in load_tasks(tasks).values():
        for name, result in harness.evaluate(loaded.model, loaded.encoder.tokenizer, tasks, of_task, **kwargs).items():
            found |= {f"{name} {metric}": score.value for metric, score in result.metrics.items()}
    return found


def test_a_teacher_that_adds_is_well_ahead_of_a_student_that_hardly_does(tasks: HarnessTasks) -> None:
    teacher, student = values("embedded:micro/teacher", tasks), values("embedded:micro/student", tasks)
    assert teacher["sums-exact exact_match"] >= 5 / 6 and teacher["sums-choice acc"] >= 5 / 6
    assert student["sums-exact exact_match"] <= 0.5


def test_values_and_settings_are_those_of_lm_eval(lm_eval: Any, tasks: HarnessTasks) -> None:
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    model = load("embedded:micro/teacher")
    lm = HFLM(pretrained=model.model, tokenizer=model.encoder.tokenizer, batch_size=8)
    for limit, template in ((None, True), (4, False)):
        expected = lm_eval.simple_evaluate(
            lm, tasks=list(tasks.names), limit=limit, apply_chat_template=template,
            task_manager=TaskManager(include_path=tasks.include_path, include_defaults=False),
        )["results"]  # fmt: skip
        asked = HarnessTasks(tasks.names, tasks.include_path, limit=limit, chat_template=template)
        for name, of_task in load_tasks(asked).items():
            result = harness.evaluate(model.model, model.encoder.tokenizer, asked, of_task)[name]
            metric = "acc" if name == "sums-choice" else "exact_match"
            assert result.metrics[metric].value == expected[name][f"{metric},none"]
            assert result.metrics[metric].stderr == expected[name][f"{metric}_stderr,none"]
            assert (result.version, result.num_fewshot) == ("2.0", 0)
            assert (result.samples, result.samples_in_all) == (limit or 6, 6)


def test_an_evaluation_leaves_the_generators_of_random_numbers_as_they_were(tasks: HarnessTasks) -> None:
    loaded, of_task = load("embedded:micro/student"), load_tasks(tasks)["sums-choice"]
    torch.manual_seed(7)
    random.seed(7)
    before = torch.get_rng_state(), random.getstate()
    harness.evaluate(loaded.model, loaded.encoder.tokenizer, tasks, of_task)
    assert torch.equal(torch.get_rng_state(), before[0]) and random.getstate() == before[1]


def test_a_group_has_the_mean_of_its_tasks(folder: Path) -> None:
    add_task(folder, "sums-again", CHOICE)
    (folder / "all.yaml").write_text(
        "group: all-sums\ntask:\n  - sums-choice\n  - sums-again\naggregate_metric_list:\n  - metric: acc\n"
    )
    found = values("embedded:micro/teacher", HarnessTasks(("all-sums",), str(folder), limit=3))
    assert set(found) == {"all-sums acc", "sums-choice acc", "sums-again acc"}
    assert found["all-sums acc"] == found["sums-choice acc"]


def test_a_batch_that_does_not_fit_is_halved(
    lm_eval: Any, tasks: HarnessTasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, sizes, fits = lm_eval.evaluate, [], 2

    def with_little_memory(lm: Any, *args: Any, **kwargs: Any) -> Any:
        sizes.append(lm.batch_size)
        if lm.batch_size > fits:
            raise torch.OutOfMemoryError("no room")
        return original(lm, *args, **kwargs)

    monkeypatch.setattr(lm_eval, "evaluate", with_little_memory, raising=False)
    one = HarnessTasks(("sums-choice",), tasks.include_path, chat_template=True)
    assert values("embedded:micro/teacher", one)["sums-choice acc"] >= 5 / 6
    assert sizes == [8, 4, 2]
    fits = 0
    with pytest.raises(ReadEnvError, match=r"out of memory in task sums-choice .* with batch size 1 \(no room\)"):
        values("embedded:micro/teacher", one)


# --- what is refused ----------------------------------------------------------------------------------


def test_a_missing_package_is_named_with_its_extra(tasks: HarnessTasks, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(ReadEnvError, match=r"needs the package lm-eval .*pip install 'read-env\[evaluate\]'"):
        load_tasks(tasks)
    assert load_tasks(HarnessTasks(())) == {}


def test_an_unknown_task_is_refused_with_names_that_are_close(folder: Path) -> None:
    with pytest.raises(ReadEnvError, match=r"unknown task 'sums-chioce'.*close to it: sums-choice"):
        load_tasks(HarnessTasks(("sums-chioce",), str(folder)))
    with pytest.raises(ReadEnvError, match=r"include path 'nowhere': no such folder"):
        load_tasks(HarnessTasks(("sums-choice",), "nowhere"))


def test_a_data_set_of_the_hub_is_refused_without_a_connection(folder: Path) -> None:
    add_task(folder, "far", CHOICE, source="org/not-in-the-cache")
    with pytest.raises(ReadEnvError, match=r"task 'far' of lm-eval could not be loaded .*\$HF_HOME"):
        load_tasks(HarnessTasks(("far",), str(folder)))


def test_tasks_that_execute_what_a_student_writes_are_refused_before_they_are_loaded(folder: Path) -> None:
    (folder / "functions.py").write_text("raise SystemExit('executed')\n")
    add_task(folder, "programs", f"unsafe_code: true\nprocess_docs: !function functions.prepare\n{EXACT}")
    (folder / "all.yaml").write_text("group: with-programs\ntask:\n  - sums-exact\n  - task: programs\n")
    with pytest.raises(ReadEnvError, match="task 'programs' executes programs that the student writes"):
        load_tasks(HarnessTasks(("programs",), str(folder)))
    with pytest.raises(ReadEnvError, match="task 'programs' of 'with-programs' executes"):
        load_tasks(HarnessTasks(("with-programs",), str(folder)))


def test_metrics_from_the_hub_are_refused_unless_they_are_trusted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import evaluate

    asked: list[str] = []

    class Metric:
        @staticmethod
        def compute(**_: Any) -> dict[str, float]:
            return {"theirs": 1.0}

    monkeypatch.setattr(evaluate, "load", lambda name: asked.append(name) or Metric)
    metric = EXACT.replace(
        "exact_match", "theirs\n    hf_evaluate: true\n    aggregation: mean\n    higher_is_better: true"
    )
    add_task(folder, "hub-metric", metric)
    before = evaluate.load
    with pytest.raises(ReadEnvError, match="'hub-metric' of lm-eval has the metric 'theirs'.*trust_remote_code"):
        load_tasks(HarnessTasks(("hub-metric",), str(folder)))
    assert asked == [] and evaluate.load is before
    assert load_tasks(HarnessTasks(("hub-metric",), str(folder), trust_remote_code=True)) and asked == ["theirs"]


def test_a_missing_chat_template_is_refused_where_it_is_asked_for(tasks: HarnessTasks) -> None:
    loaded = load("embedded:micro/student")
    loaded.encoder.tokenizer.chat_template = None
    of_task = load_tasks(tasks)["sums-choice"]
    with pytest.raises(ReadEnvError, match="no chat template"):
        harness.evaluate(loaded.model, loaded.encoder.tokenizer, tasks, of_task)
    without = HarnessTasks(tasks.names, tasks.include_path)
    assert harness.evaluate(loaded.model, loaded.encoder.tokenizer, without, of_task)


def test_an_error_of_a_task_names_the_task(folder: Path) -> None:
    add_task(folder, "wrong", EXACT.replace("doc_to_target: answer", 'doc_to_target: "{{question[99].x.y}}"'))
    with pytest.raises(ReadEnvError, match=r"task '?wrong'? of lm-eval could not be (loaded|evaluated)"):
        values("embedded:micro/student", HarnessTasks(("wrong",), str(folder)))


def test_check_and_a_run_refuse_what_can_not_be_evaluated_before_anything_is_spent(
    folder: Path, tmp_path: Path, request_for: Make, small: Config
) -> None:
    config = configured(small, folder, external=("nothing",))
    with pytest.raises(ReadEnvError, match="unknown task 'nothing'"):
        play(request_for("uniform", eval=config.eval))
    assert not (tmp_path / "run/start.json").exists()
    refused = Refusals()
    refused.look(config, [])
    assert any("unknown task 'nothing'" in problem for problem in refused.found)


# --- a run and its students ---------------------------------------------------------------------------


def configured(config: Config, folder: Path, **of_eval: Any) -> Config:
    asked = {"external": ("sums-choice",), "external_include_path": str(folder), "external_chat_template": True}
    return config.model_copy(update={"eval": config.eval.model_copy(update={**asked, **of_eval})})


def test_a_run_keeps_students_whatever_interrupts_it(small: Config, request_for: Make, tmp_path: Path) -> None:
    def asked(folder: str) -> RunRequest:
        request = request_for("task-static", folder)
        return RunRequest(request.config, request.out, keep=2)

    play(asked("whole"))
    found = contents(tmp_path / "whole")
    assert [name for name in found if name.startswith("students")] == [
        f"students/step-{step:06d}/config.json" for step in (2, 4)
    ], "after six steps there is student/"
    profiles = [json.loads(found[f"{name}/config.json"]) for name in ("students/step-000002", "student")]
    assert profiles[0] != profiles[1]
    play(asked("stopped"), stop_after=3)
    shutil.rmtree(tmp_path / "stopped/students/step-000002")
    play(asked("stopped"), stop_after=2)
    assert [path.name for path in RunDirectory(tmp_path / "stopped").kept_students()] == ["step-000004"]
    play(RunRequest(asked("stopped").config, tmp_path / "stopped", overwrite=True))
    assert not (tmp_path / "stopped/students").exists()
    with pytest.raises(ReadEnvError, match="keep is -1"):
        RunRequest(small, keep=-1)


@pytest.fixture
def small_run(folder: Path, tmp_path: Path) -> RunRequest:
    """Three steps on the micro models, with an evaluation of the students after the first two and at the end."""
    held_out = {"external": ("sums-choice",), "external_include_path": str(folder), "external_chat_template": True}
    config = micro_config(held_out=2, task="sums", agent="task-static", eval=held_out)
    return RunRequest(config, tmp_path / "run", keep=1)


def test_a_run_ends_with_the_evaluation_of_its_students(
    small_run: RunRequest, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    result = run(small_run)
    students = ["students/step-000001", "students/step-000002", "student"]
    record = files.read_json(result.directory / "external.json")["evaluations"]
    assert [(one["student"], one["step"], one["asked"]) for one in record] == [
        (student, step, "sums-choice") for step, student in enumerate(students, start=1)
    ]
    score = record[-1]["results"]["sums-choice"]["metrics"]["acc"]
    alone = HarnessTasks(("sums-choice",), str(folder), chat_template=True)
    assert values(str(result.directory / "student"), alone)["sums-choice acc"] == score["value"]
    drawn = curves_of(result.directory)
    assert [step for step, _ in drawn["external/sums-choice/acc"]][-1] == 3
    page = run_report(result.directory).read_text()
    assert "## External evaluation" in page and f"{score['value']:.3f} ± {score['stderr']:.3f}" in page

    frame = read_env.load_external(result.directory)
    assert frame["folder"].tolist() == students and frame["value"].iloc[-1] == score["value"]
    text = (Path(__file__).parents[2] / "docs/records.md").read_text()
    assert [name for name in frame if f"`{name}`" not in text] == []

    # Nothing is evaluated twice, whatever is asked for afterwards.
    done, original = [], harness.evaluate
    monkeypatch.setattr(external, "evaluate", lambda *args: done.append(args) or original(*args))
    assert run(small_run).already_finished and done == []
    more = replace(small_run, config=configured(small_run.config, folder, external=("sums-choice", "sums-exact")))
    assert run(more).already_finished and len(done) == 3
    command = ["evaluate", str(result.directory), "--tasks", "sums-choice", "sums-exact", "--include-path", str(folder)]
    assert main([*command, "--chat-template"]) == 0
    assert len(done) == 3 and "sums-exact exact_match" in capsys.readouterr().out
    one = [command[0], str(result.directory / "students/step-000002"), *command[2:], "--chat-template", "--limit", "2"]
    assert main([*one, "--out", str(tmp_path / "one.json")]) == 0
    assert len(done) == 5
    found = files.read_json(tmp_path / "one.json")["evaluations"]
    assert [(one["student"], one["limit"]) for one in found] == [("students/step-000002", 2)] * 2
    assert main([*one, "--overwrite"]) == 0 and len(done) == 7
    assert "2 of 6" in (result.directory / "report.md").read_text()
    assert len(files.read_json(result.directory / "external.json")["evaluations"]) == 8


def curves_of(directory: Path) -> dict[str, Any]:
    shutil.copytree(directory / "tensorboard/external", directory / "copy/tensorboard")
    return curves(directory / "copy")


def test_an_interrupted_evaluation_goes_on_with_the_same_command(
    small_run: RunRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, done = harness.evaluate, []

    def stops(*args: Any) -> Any:
        if len(done) == 2:
            raise ReadEnvError("enough")
        done.append(args)
        return original(*args)

    monkeypatch.setattr(external, "evaluate", stops)
    with pytest.raises(ReadEnvError, match="enough"):
        run(small_run)
    directory = RunDirectory(small_run.directory)
    assert not directory.finished and len(files.read_json(directory.external)["evaluations"]) == 2
    steps = directory.steps.read_bytes()
    monkeypatch.setattr(external, "evaluate", original)
    assert run(small_run).resumed_after == 3
    assert directory.steps.read_bytes() == steps and len(files.read_json(directory.external)["evaluations"]) == 3


def test_a_derived_run_has_the_evaluation_of_its_source(request_for: Make) -> None:
    source, derived = request_for("uniform", "a", task="math"), request_for("uniform", "b", task="tutor")
    directory = play(source).directory
    score = {"sums": {"version": "1", "num_fewshot": 0, "samples": 6, "samples_in_all": 6, "metrics": {}}}
    one = {"student": "student", "step": 6, "asked": "sums", "num_fewshot": None, "limit": None, "chat_template": False}
    score["sums"]["metrics"] = {"acc": {"value": 0.5, "stderr": None}}
    files.write_json(directory / "external.json", {"evaluations": [{**one, "lm_eval": "0.4.13", "results": score}]})
    copy = derive(source, derived).directory
    assert (copy / "external.json").read_bytes() == (directory / "external.json").read_bytes()
    assert curves_of(copy)["external/sums/acc"] == [(6, 0.5)]


def test_an_evaluation_is_no_part_of_the_identity_and_none_of_interventions(
    folder: Path, request_for: Make, small: Config
) -> None:
    config = configured(small, folder)
    assert request_for("uniform").identity.to_json() == request_for("uniform", eval=config.eval).identity.to_json()
    assert IdentifyRequest(config).shared("math").eval.external == ()


def test_models_that_belong_to_no_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "mine", name="teacher")
    command = ["--tasks", "sums-exact", "--include-path", str(folder), "--chat-template"]
    assert main(["evaluate", "mine", *command]) == 0
    assert float(capsys.readouterr().out.split()[2]) >= 5 / 6
    assert not (tmp_path / "mine/external.json").exists()
    (tmp_path / "many").mkdir()
    files.write_json(tmp_path / "many/identity.json", {"kind": "comparison"})
    assert main(["evaluate", "many", *command]) == 2
    assert "holds a comparison" in capsys.readouterr().err
    files.write_json(tmp_path / "many/identity.json", {"kind": "run"})
    assert main(["evaluate", "many", *command]) == 2
    assert "has no student" in capsys.readouterr().err


def test_a_malformed_record_names_the_field(tmp_path: Path) -> None:
    (tmp_path / "external.json").write_text('{"evaluations": [{"student": "student", "step": -1}]}')
    with pytest.raises(RecordError, match="external.json: evaluations.0.step is -1"):
        external.read_external(tmp_path)
