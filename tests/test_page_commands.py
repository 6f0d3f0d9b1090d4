"""Commands of README.md and of every page: all are read by the command line, and those of README.md run on small budgets."""

import importlib.util
import json
import re
import shlex

import pytest
from documents import ROOT, blocks

from read_env import cli
from read_env.config import load_preset

PAGES = ["README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))]
SMALL = {
    "budget.total-tokens": "600",
    "budget.step-tokens": "300",
    "eval.probes": "4",
    "eval.dev": "4",
    "eval.exam": "4",
}
#: In place of names that a reader replaces.
FILLED = {"$SLURM_ARRAY_TASK_ID": "3", "RUN": "run"}


def commands(text: str) -> list[list[str]]:
    """Arguments of the commands of this package in the code blocks of a page."""
    lines = [
        line
        for block in re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        for line in block.splitlines()
    ]
    found = (shlex.split(line, comments=True) for line in lines if line.startswith("read-env "))
    return [arguments for _, *arguments in found]


@pytest.mark.parametrize("page", [page for page in PAGES if commands((ROOT / page).read_text())])
def test_the_command_line_takes_the_commands_of_a_page(page, tmp_path, monkeypatch, capsys):
    executed = []

    def noted(request, command):
        executed.append(command)
        return 0

    monkeypatch.setattr(cli, "_COMMANDS", {name: (*parsed, noted) for name, (*parsed, _) in cli._COMMANDS.items()})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.toml").write_text('extends = "micro"\n')
    found = commands((ROOT / page).read_text())
    for arguments in found:
        for name, value in FILLED.items():
            arguments = [part.replace(name, value) for part in arguments]
        assert cli.main(arguments) == 0, (arguments, capsys.readouterr().err)
    assert len(executed) == len(found)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder of its own, with a cache and a folder of data sets of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("READ_ENV_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path


def shrunk(arguments: list[str]) -> list[str]:
    """Arguments with fewer steps, seeds and tokens."""
    text = shlex.join(arguments)
    for pattern, short in (("--steps 400", "--steps 4"), ("--steps 640000", "--steps 6400"), ("0 1( 2)?( |$)", "0 ")):
        text = re.sub(pattern, short, text)
    text = text.replace("--budgets 6000 12000 24000", "--budgets 300 600").replace("--budget.total-tokens 24000", "")
    own = [] if "--on" in arguments else [part for name, value in SMALL.items() for part in (f"--{name}", value)]
    return [*shlex.split(text), *own]


@pytest.mark.slow
def test_the_commands_of_the_readme_run(place, capsys):
    """Without the protocol, which allows no other budget, and the cluster; other tests have these."""
    for line in blocks("README.md", "commands")[0].splitlines():
        _, *arguments = shlex.split(line, comments=True)
        if arguments[0] == "benchmark" or "--cluster" in arguments:
            continue
        if arguments[0] == "export" and importlib.util.find_spec("minari") is None:
            continue
        plain = arguments if arguments[0] in ("export", "list") else shrunk(arguments)
        if arguments[0] == "train":
            at = plain.index("--eval.exam") if "--eval.exam" in plain else len(plain)
            plain = plain[:at]  # a training has no exam
        assert cli.main(plain) == 0, (plain, capsys.readouterr().err)
    for made in (
        "first/summary.json",
        "compare/report.html",
        "trained/agent.zip",
        "ppo/agent.zip",
        "transfer/report.md",
    ):
        assert (place / "runs" / made).is_file(), made


@pytest.mark.slow
def test_the_policy_of_the_readme_is_trained_and_judged(place, capsys):
    train, judge, _ = (shlex.split(line)[1:] for line in blocks("README.md", "policy")[0].splitlines())
    assert cli.main(shrunk(train)) == 0
    assert cli.main(shrunk(judge)) == 0, capsys.readouterr().err
    summaries = [json.loads(path.read_text()) for path in place.glob("runs/judged/runs/*/summary.json")]
    assert {summary["agent"] for summary in summaries} >= {"task-static", "water-filling"} and len(summaries) == 3


def test_the_servers_in_the_page_of_models_are_settings(tmp_path):
    text = re.search(r"```toml\n(\[models\].*?)```", (ROOT / "docs/models.md").read_text(), re.DOTALL)[1]
    (tmp_path / "azure.toml").write_text(f'extends = "micro"\n{text}')
    models = load_preset(str(tmp_path / "azure.toml")).models
    assert models.teacher == "remote:gpt-4.1" and "api-version" in models.remote_extra_query
