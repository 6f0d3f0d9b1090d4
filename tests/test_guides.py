"""The guides in docs/guides, the notebooks and the examples of the concepts: their code and commands run as printed."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path

import matplotlib
import pandas as pd
import pytest
from documents import ROOT, blocks
from scoring_server import scoring_servers

from read_env.capabilities import get_suite
from read_env.cli import main
from read_env.tasks import load_task

YOUR_TASK, OFFLINE = "docs/guides/your_task.md", "docs/guides/offline.md"
POLICY, AGENT = "docs/guides/train_a_policy.md", "docs/guides/bring_your_agent.md"
SERVERS = "docs/guides/teacher_servers.md"
REPORT, RESUMING, REAL = (f"docs/guides/{name}.md" for name in ("reading_a_report", "resuming", "real_models"))
EVALUATE = "docs/guides/evaluate.md"
NOTEBOOKS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs/notebooks").glob("*.md"))


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder of its own, with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("READ_ENV_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def examples(place):
    """The examples of the guide to a task of one's own."""
    execute(YOUR_TASK, "python")
    return place


def command(guide: str, name: str) -> list[str]:
    program, *arguments = shlex.split(blocks(guide, name)[0])
    assert program == "read-env"
    return arguments


def marks(document: str) -> set[str]:
    """Names of the blocks that are marked for a test."""
    return set(re.findall(r"<!-- test: (.+?) -->", (ROOT / document).read_text()))


def execute(guide: str, name: str) -> None:
    exec(compile(blocks(guide, name)[0], guide, "exec"), {})


def test_every_guide_is_tested():
    assert {str(path.relative_to(ROOT)) for path in (ROOT / "docs/guides").glob("*.md")} == {
        YOUR_TASK, OFFLINE, POLICY, AGENT, SERVERS, REPORT, RESUMING, REAL, EVALUATE,
    }  # fmt: skip


def test_the_splits_are_as_large_as_the_guide_says(examples):
    prompts = load_task("notes.jsonl", get_suite("micro")).task_prompts()
    splits = [prompts.split_of(prompt.text) for prompt in prompts.prompts]
    assert len(splits) == 160 and 45 <= splits.count("exam") <= 75


@pytest.mark.slow
def test_the_guide_to_a_task_of_ones_own_goes_from_examples_to_a_student(examples, capsys):
    assert main(command(YOUR_TASK, "dry run")) == 0
    shown = capsys.readouterr().out
    assert all(f"\n{stage} " in shown for stage in ("needs", "run", "student")), shown
    assert not (examples / "runs").exists()

    assert main(command(YOUR_TASK, "run")) == 0
    summary = json.loads((examples / "runs/notes/summary.json").read_text())
    assert summary["task"] == "notes" and summary["tokens_before_run"] > 0
    started = json.loads((examples / "runs/notes/start.json").read_text())
    assert summary["utility"] > started["utility"]
    card = (examples / "runs/notes/student/README.md").read_text()
    assert "Find two numbers in a list, and add them." in card and "notes" in card
    capsys.readouterr()
    execute(YOUR_TASK, "load")
    assert "B7" in capsys.readouterr().out

    for line in blocks(YOUR_TASK, "by hand")[0].splitlines():
        assert main(shlex.split(line)[1:]) == 0, line
    assert load_task("notes.toml", get_suite("micro")).identified
    again = json.loads((examples / "runs/by-hand/summary.json").read_text())
    assert again["tokens_before_run"] == load_task("notes.toml", get_suite("micro")).tokens_before_run


@pytest.mark.slow
def test_the_guide_to_offline_learning_goes_from_runs_to_a_policy(place, monkeypatch, capsys):
    pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(place / "minari"))
    (place / "offline_policy.py").write_text(blocks(OFFLINE, "policy")[0])
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.delitem(sys.modules, "offline_policy", raising=False)

    assert main(command(OFFLINE, "record")) == 0
    assert main(command(OFFLINE, "export")) == 0
    assert "recover_environment() of the data set makes it" in capsys.readouterr().out
    execute(OFFLINE, "look")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "8 episodes, 64 transitions, actions in Box(0.0, 1.0, (10,), float32)"
    assert {tuple(line.split()[:2]) for line in lines[1:]} == {
        (agent, task)
        for agent in ("random-candidate", "water-filling")
        for task in ("price-tagger", "checkout-trainee")
    }

    assert main(command(OFFLINE, "run")) == 0
    summary = json.loads((place / "runs/offline/summary.json").read_text())
    assert summary["steps"] == 8 and summary["utility"] > summary["utility_start"]
    capsys.readouterr()
    execute(OFFLINE, "environment")
    shown = f"utility {summary['utility_start']:.3f} -> {summary['utility']:.3f}"
    assert capsys.readouterr().out.strip() == shown, "the recovered environment is that of the command"

    assert main(command(OFFLINE, "parquet")) == 0
    assert len(pd.read_parquet(place / "recorded.parquet")) == 64


@pytest.mark.slow
def test_the_guide_to_training_goes_from_a_surrogate_to_real_students(place, capsys):
    small = ["--budget.total-tokens", "1200", "--budget.step-tokens", "300", "--eval.exam", "8"]
    fewer = {"128000": "12800", "64000": "12800", "4000": "800", "500": "400"}

    def run(name: str, *more: str) -> None:
        for line in blocks(POLICY, name)[0].splitlines():
            program, *arguments = shlex.split(line)
            assert program == "read-env"
            assert main([*(fewer.get(argument, argument) for argument in arguments), *more]) == 0, line

    run("train")
    assert "mean reward" in capsys.readouterr().err
    run("judge", *small)
    summaries = [json.loads(path.read_text()) for path in (place / "runs/judged/runs").glob("*/summary.json")]
    before = {one["agent"]: one["tokens_before_run"] for one in summaries}
    assert before["set-policy-trained"] == before["sb3-PPO-trained"] > 0 == before["task-static"]
    run("record", "--eval.exam", "8")
    run("fit")
    capsys.readouterr()
    execute(POLICY, "python")
    assert "all ended: True" in capsys.readouterr().out


@pytest.mark.slow
def test_the_guide_to_agents_goes_from_fifteen_lines_to_a_loop_of_ones_own(place, monkeypatch, capsys):
    pytest.importorskip("stable_baselines3")
    code = blocks(AGENT, "agent")[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    (place / "my_agent.py").write_text(code + blocks(AGENT, "learner")[0])
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.delitem(sys.modules, "my_agent", raising=False)
    small = ["--budget.total-tokens", "1200", "--budget.step-tokens", "300", "--eval.exam", "8"]
    arguments = command(AGENT, "compare")
    agents = arguments.index("task-static")
    assert main([*arguments[:agents], "my_agent:Gains", *arguments[agents:], *small]) == 0
    assert len(list((place / "runs/mine/runs").glob("*/summary.json"))) == 6
    capsys.readouterr()
    execute(AGENT, "quick")
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["mine", "w = r"]
    assert all(0 < float(line.partition(": ")[2]) < 1 for line in lines)

    (place / "runs").mkdir(exist_ok=True)
    execute(AGENT, "sb3")
    assert main(["run", "--agent", "runs/my_ppo.zip", "--task", "tutor", "--out", "runs/zip", *small]) == 0

    program, script, *rest = shlex.split(blocks(AGENT, "loop")[0])
    rest[rest.index("400000")] = "30000"
    done = subprocess.run([sys.executable, ROOT / script, *rest], check=True, capture_output=True, text=True)
    assert program == "python" and "mean return" in done.stdout
    monkeypatch.syspath_prepend(str(ROOT))
    agent = "scripts.examples.ppo_vector:Policy,file=runs/ppo_vector.npz"
    assert main(["compare", "--agents", agent, "--tasks", "tutor", "--seeds", "0", "--out", "runs/loop", *small]) == 0


def test_the_guide_to_servers_has_configurations_that_check_finds_ready(place, monkeypatch, capsys):
    pytest.importorskip("openai")
    monkeypatch.setenv("READ_ENV_API_KEY", "x")
    with scoring_servers() as servers:
        shown = []
        for name in ("one", "several"):
            text = blocks(SERVERS, name)[0]
            for model in ("org/teacher", "mathematician", "coder"):
                text = text.replace(f"remote:{model}", "remote:m")
            text = text.replace('extends = "instruct"', 'extends = "micro"')
            for role in ("teacher", "student"):
                text = text.replace(f'"./{role}"', f'"embedded:micro/{role}"')
            for port in (8000, 8001):
                text = text.replace(f"http://localhost:{port}/v1", servers["vllm"].url)
            (place / "own.toml").write_text(text)
            assert main(command(SERVERS, "check")) == 0
            shown.append(capsys.readouterr().out)
    for row in ("probabilities", "ids echoed", "top-K", "tokenizer", "two answers"):
        assert row in shown[0] and f"| `{row}` |" in (ROOT / SERVERS).read_text()
    assert shown[0].count("yes, from vLLM: every loss works") == 1
    assert "probabilities of math" in shown[1] and "8 of 8 granted" in shown[0]


@pytest.mark.slow
def test_the_guide_to_reports_goes_through_what_a_comparison_leaves(place, capsys):
    assert marks(REPORT) == {"compare", "run report", "teacher", "allocations"}
    small = ["--budget.total-tokens", "1200", "--budget.step-tokens", "300", "--eval.exam", "8"]
    assert main([*command(REPORT, "compare"), *small]) == 0
    assert (place / "runs/report/allocation_bookkeeper.png").is_file()
    page = (place / "runs/report/report.md").read_text()
    assert main(command(REPORT, "run report")) == 0
    one = (place / command(REPORT, "run report")[1] / "report.md").read_text()
    text = (ROOT / REPORT).read_text()
    for part in re.findall(
        r"^\| ([A-Z][\w ]+) \|", text.partition("## Of a comparison")[2].partition("\n## ")[0], re.MULTILINE
    ):
        assert re.search(rf"^## {part}", page, re.MULTILINE), part
    for part in re.findall(r"^\| ([A-Z][\w ]+) \|", text.partition("## Of a comparison")[0], re.MULTILINE):
        assert re.search(rf"^(## )?{part}", one, re.MULTILINE), part
    capsys.readouterr()
    execute(REPORT, "teacher")
    assert "teacher_exam" in capsys.readouterr().out
    execute(REPORT, "allocations")
    shown = capsys.readouterr().out
    assert all(agent in shown for agent in ("pretrained-micro", "task-static", "water-filling"))


@pytest.mark.slow
def test_the_guide_to_resuming_moves_a_run_and_refuses_another_one(place, capsys):
    assert marks(RESUMING) == {"run", "refused", "move"}
    assert main(command(RESUMING, "run")) == 0
    steps = (place / "runs/here/steps.jsonl").read_text()
    assert len(steps.splitlines()) == 3
    capsys.readouterr()
    assert main(command(RESUMING, "refused")) == 2
    assert "budget.total_tokens" in capsys.readouterr().err
    copy, again = blocks(RESUMING, "move")[0].splitlines()
    assert copy == "cp -r runs/here runs/there"
    shutil.copytree("runs/here", "runs/there")
    assert main(shlex.split(again)[1:]) == 0
    assert (place / "runs/there/steps.jsonl").read_text() == steps, "nothing is run again"


@pytest.mark.slow
def test_the_guide_to_evaluation_goes_from_a_task_to_a_frame(place, capsys):
    pytest.importorskip("lm_eval")
    assert marks(EVALUATE) == {"task", "data", "run", "evaluate", "teacher", "frame"}
    (place / "tasks").mkdir()
    for name, file in (("task", "sums.yaml"), ("data", "sums.jsonl")):
        (place / "tasks" / file).write_text(blocks(EVALUATE, name)[0])
    assert main([*command(EVALUATE, "run"), "--eval.exam", "8"]) == 0
    assert "sums exact_match" in capsys.readouterr().out
    kept = ["students/step-000002", "student"]
    assert sorted(path.name for path in (place / "runs/sums/students").iterdir()) == ["step-000002"]
    assert main(command(EVALUATE, "evaluate")) == 0
    record = json.loads((place / "runs/sums/external.json").read_text())["evaluations"]
    assert [(one["student"], one["limit"]) for one in record] == [(name, limit) for limit in (None, 4) for name in kept]
    assert "## External evaluation" in (place / "runs/sums/report.md").read_text()
    assert main(command(EVALUATE, "teacher")) == 0
    (teacher,) = json.loads((place / "teacher.json").read_text())["evaluations"]
    assert teacher["results"]["sums"]["metrics"]["exact_match"]["value"] > 0.8
    capsys.readouterr()
    execute(EVALUATE, "frame")
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(record)


@pytest.fixture
def pair(place):
    """Stand-ins for a teacher and a student of one's own: the micro models, with the context that long prompts need."""
    for name in ("teacher", "student"):
        shutil.copytree(str(resources.files("read_env") / "assets" / "micro" / name), name)
        shape = Path(name, "config.json")
        shape.write_text(json.dumps({**json.loads(shape.read_text()), "max_position_embeddings": 16_384}))
    return place


@pytest.mark.slow
def test_the_guide_to_real_models_checks_runs_and_reads_an_array_of_jobs(pair, capsys):
    assert marks(REAL) == {"check", "run", "array", "read"}
    small = ["--budget.total-tokens", "100", "--budget.step-tokens", "100", "--distill.max-completion-tokens", "16"]
    small += ["--eval.probes", "1", "--eval.dev", "1", "--eval.exam", "1", "--eval.score-teacher", "never"]
    assert main([*command(REAL, "check"), *small]) == 0
    assert "distill.learning_rate" in capsys.readouterr().out
    assert main([*command(REAL, "run"), *small]) == 0
    assert (pair / "runs/first/student/model.safetensors").is_file()

    (pair / "own.toml").write_text(
        'extends = "micro"\nbudget = { total_tokens = 600, step_tokens = 300 }\neval = { probes = 4, dev = 4, exam = 4 }\n'
    )
    for job in range(4):
        assert main([argument.replace("$SLURM_ARRAY_TASK_ID", str(job)) for argument in command(REAL, "array")]) == 0
    capsys.readouterr()
    execute(REAL, "read")
    assert capsys.readouterr().out.splitlines()[-1].startswith("read-bandit ")


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: Path(path).stem)
@pytest.mark.slow
def test_notebooks_run_from_top_to_bottom(notebook, place, capsys):
    matplotlib.use("agg")
    cells = re.findall(
        r"^```\{code-cell\} python\n(?:---\n.*?\n---\n)?(.*?)^```",
        (ROOT / notebook).read_text(),
        re.MULTILINE | re.DOTALL,
    )
    assert len(cells) > 3
    namespace: dict = {}
    for cell in cells:
        exec(compile(cell, notebook, "exec"), namespace)
    if "agents" in namespace:
        compare = shlex.split(blocks(notebook, "compare")[0])[1:]
        at, small = compare.index("--seeds"), ["--budget.total-tokens", "600", "--budget.step-tokens", "300"]
        small += ["--eval.probes", "4", "--eval.dev", "4", "--eval.exam", "4"]
        assert main([*compare[: at + 2], *compare[compare.index("--out") :], *small]) == 0
        assert len(list(place.glob("runs/five/runs/*/summary.json"))) == len(namespace["agents"])
    if "bandit" in namespace:
        lines = capsys.readouterr().out.splitlines()
        means = {line.split()[0]: float(line.split()[1]) for line in lines[-3:]}
        assert means["mine"] > means["task-static"], "as the text says"
        assert lines[0].startswith("sums "), "the favourite is a drill"
        body = next(cell for cell in cells if cell.startswith("class "))
        assert len([line for line in body.splitlines() if line.strip()]) <= 30
        (place / "plan_bandit.py").write_text(f"import numpy as np\n\n\n{body}")
        train, judge = (shlex.split(line)[1:] for line in blocks(notebook, "commands")[0].splitlines())
        train[train.index("300")] = "4"
        small = ["--budget.total-tokens", "600", "--budget.step-tokens", "300", "--eval.probes", "4", "--eval.dev", "4"]
        assert main([*train, *small]) == 0
        assert main([*judge[: judge.index("1")], *judge[judge.index("--out") :], *small, "--eval.exam", "4"]) == 0
        assert len(list(place.glob("runs/judged/runs/*/summary.json"))) == 2


def test_what_the_models_read_is_what_the_page_says(capsys):
    page = "docs/concepts/prompts.md"
    code = re.search(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)[1]
    exec(compile(code, page, "exec"), {})
    shown = re.search(r"<!-- output -->\n```\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)[1]
    assert capsys.readouterr().out == shown


@pytest.mark.slow
def test_the_film_of_an_episode(place):
    pytest.importorskip("moviepy")
    page = "docs/environments/index.md"
    code = re.search(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)[1]
    exec(compile(code, page, "exec"), {})
    assert [path.suffix for path in (place / "videos").iterdir()] == [".mp4"]
