"""Identification of a task's requirement: real interventions, resumed, fitted, and written as a card."""

import json

import numpy as np
import pytest
from micro import SUITE, micro_config

from read_env import files
from read_env.cli import main
from read_env.errors import ReadEnvError
from read_env.reporting import identification_report, load_identification
from read_env.running import comparison
from read_env.running.batch_requests import IdentifyRequest
from read_env.running.identify import identify
from read_env.running.requests import RunRequest
from read_env.running.runner import run
from read_env.tasks import load_task
from read_env.tasks.regression import fit_requirement


@pytest.fixture
def request_for(tmp_path):
    def make(**changes):
        task = changes.pop("task", "bill-abroad")
        of_identify = {"interventions": 10, "tokens": 10 * 120}
        of_identify |= {name: changes.pop(name) for name in ("design", "regress_on") if name in changes}
        config = micro_config(400, 200, task=task, eval={"task_probes": 8}, identify=of_identify)
        return IdentifyRequest(config, processes=1, runs_dir=tmp_path / "identify", **changes)

    return make


def test_interventions_are_made_once_and_end_in_a_card(request_for, tmp_path, monkeypatch):
    request = request_for(out=tmp_path / "found.toml")
    result = identify(request)
    record = load_identification(request.directory)
    assert record.interventions == 10 and record.tokens == result.tokens
    spent = [files.read_json(path)["spent"] for path in request.directory.glob("runs/*/summary.json")]
    assert sum(spent) == record.tokens and len(spent) == 10
    assert not list(request.directory.glob("runs/*/student")), "students that nobody asked for"
    card = load_task(result.card, SUITE)
    assert card.task_prompts() == load_task("bill-abroad", SUITE).task_prompts()
    np.testing.assert_allclose(card.requirement_vector(SUITE), result.requirement.mean, atol=0.01)

    report = identification_report(request.directory).read_text()
    assert "# What bill-abroad needs" in report and "intervention-005" in report
    assert (request.directory / "requirement.png").stat().st_size > 5000

    # The same command makes nothing again; a run with the card reports what was spent before it.
    monkeypatch.setattr(
        comparison,
        "map_jobs",
        lambda _, runs, *rest, **options: pytest.fail(f"made again: {list(runs)}") if runs else None,
    )
    again = identify(request)
    assert np.array_equal(again.requirement.mean, result.requirement.mean)
    config = micro_config(200, 200, task=str(result.card), agent="task-static", eval={"task_probes": 8, "task_exam": 8})
    assert run(RunRequest(config, tmp_path / "run")).summary["tokens_before_run"] == record.tokens


def test_a_killed_identification_goes_on(request_for, monkeypatch):
    request, made = request_for(), []

    def two(work, runs, *rest, **options):
        real(work, {name: runs[name] for name in list(runs)[:2]}, *rest, **options)
        raise KeyboardInterrupt

    def recorded(work, runs, *rest, **options):
        made.extend(runs)
        real(work, runs, *rest, **options)

    real = comparison.map_jobs
    monkeypatch.setattr(comparison, "map_jobs", two)
    with pytest.raises(KeyboardInterrupt):
        identify(request)
    assert not (request.directory / "requirement.json").exists()
    monkeypatch.setattr(comparison, "map_jobs", recorded)
    assert identify(request).requirement.mean.sum() == pytest.approx(1) and len(made) == 8


def test_students_are_fitted_apart_and_together(request_for):
    request = request_for(students=("even", "math=1@300"))
    identify(request)
    record = load_identification(request.directory)
    assert list(record.students) == ["all", "even", "math=1@300"] and record.interventions == 20
    assert "| all students | even | math=1@300 |".replace(" ", "") in identification_report(
        request.directory
    ).read_text().replace(" ", "").replace("|capability", "")


def test_the_utility_is_explained_by_tokens_where_that_is_asked(request_for):
    request = request_for(regress_on="tokens")
    result = identify(request)
    made = [files.read_json(path) for path in sorted(request.directory.glob("runs/*/summary.json"))]
    shares = [files.read_lines(path)[0]["allocation"] for path in sorted(request.directory.glob("runs/*/steps.jsonl"))]
    seeds = [files.read_json(path)["seed"] for path in sorted(request.directory.glob("runs/*/config.json"))]
    assert set(seeds) == {0}, "one block has the same prompts"
    expected = fit_requirement(
        np.array(shares), np.array([one["utility"] - one["utility_start"] for one in made]), shares=True
    )
    np.testing.assert_allclose(result.requirement.mean, expected.mean, atol=1e-6)
    assert "the shares of the tokens, w; in brackets" in identification_report(request.directory).read_text()


def test_another_design_needs_another_directory(request_for):
    identify(request_for())
    with pytest.raises(ReadEnvError, match="design: 'axial' in the folder, 'random' in this command"):
        identify(request_for(design="random"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "bookkeeper"}, "task 'bookkeeper' is a function of the profile.*identify needs prompts with answers"),
        ({"students": ("even", "even")}, "students: even is there twice"),
        ({"seeds": ()}, "seeds: name at least one"),
    ],
)
def test_what_cannot_be_identified_is_refused_before_anything_runs(request_for, changes, message):
    request = request_for(**changes)
    with pytest.raises(ReadEnvError, match=message):
        identify(request)
    assert not request.directory.exists()


def test_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = [
        {"prompt": f"sum {a}+{b}=", "answer": str(a + b), "completion": str(a + b)}
        for a in range(2, 12)
        for b in range(2, 12)
    ]
    (tmp_path / "my_sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = "--identify.interventions 10 --identify.tokens 1200 --eval.probes 4 --eval.task-probes 8".split()
    of_identify = "--processes 1 --out my_sums.toml".split()
    assert main(["identify", "--task", "my_sums.jsonl", *options, *of_identify]) == 0
    shown = capsys.readouterr().out
    assert (
        "my_sums.toml   (read-env run --task my_sums.toml)" in shown
        and "completion tokens spent on interventions" in shown
    )
    card = load_task("my_sums.toml", SUITE)
    assert card.identified and card.prompts.endswith("my_sums.jsonl")
    assert (tmp_path / "runs" / "identify-my_sums" / "report.md").exists()

    # A run on the file itself infers the requirement first, and a second one takes what the first found.
    monkeypatch.setenv("READ_ENV_CACHE", str(tmp_path / "cache"))
    run_options = "--agent task-static --budget.total-tokens 200 --budget.step-tokens 200 --eval.exam 4 --eval.task-exam 8".split()
    for out in ("first", "second"):
        assert main(["run", "--task", "my_sums.jsonl", *options, *run_options, "--out", out]) == 0
    shown = capsys.readouterr().err
    assert shown.count("the requirement of my_sums.jsonl was inferred") == 2
    assert shown.count("10 runs, 0 finished already") == 1, "the second run takes what the first found"
    assert files.read_json(tmp_path / "first" / "summary.json")["tokens_before_run"] > 500


class Letters:
    """Encoder that counts letters."""

    def encode(self, texts):
        return np.array([[text.count(letter) / len(text) for letter in "aeioustr=+"] for text in texts], np.float32)


def test_an_identifier_is_trained_on_identifications_and_is_the_prior_of_others(
    request_for, tmp_path, monkeypatch, capsys
):
    from read_env.running.train_identifier import train_identifier
    from read_env.tasks import identifier as module

    identify(request_for())
    _, tasks = train_identifier([tmp_path / "identify"], "micro", tmp_path / "kept", encoder=Letters())
    assert tasks[0] == "bill-abroad" and "bookkeeper" in tasks and "chain-to-price" not in tasks
    with pytest.raises(ReadEnvError, match=r"requirement.json: missing"):
        train_identifier([tmp_path / "absent"], "micro", tmp_path / "other", encoder=Letters())

    # With interventions it is their prior, without it is the requirement, and its text costs no tokens.
    monkeypatch.setattr(module, "load_encoder", lambda *_: Letters())
    monkeypatch.chdir(tmp_path)
    base = request_for(task="chain-to-price")
    for count, folder in ((10, "both"), (0, "text")):
        asked = base.config.identify.model_copy(update={"identifier": str(tmp_path / "kept"), "interventions": count})
        changed = base.config.model_copy(update={"identify": asked})
        request = IdentifyRequest(changed, processes=1, runs_dir=tmp_path / folder)
        result = identify(request)
        record = load_identification(tmp_path / folder)
        assert record.interventions == count and record.prior.sum() == pytest.approx(1)
        page = identification_report(tmp_path / folder).read_text()
        assert ("Read from the text of the card" in page) == (count == 0)
    assert result.tokens == 0 and np.array_equal(result.requirement.mean, record.prior)
    assert load_task(result.card, SUITE).tokens_before_run == 0


def test_neither_interventions_nor_an_identifier_is_refused(request_for):
    request = request_for()
    asked = request.config.identify.model_copy(update={"interventions": 0})
    with pytest.raises(ReadEnvError, match="names no identifier"):
        identify(IdentifyRequest(request.config.model_copy(update={"identify": asked}), runs_dir=request.directory))
