"""Computations of scripts/requirements.py and scripts/ablations.py, on worlds whose answers are known."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from read_env import files
from read_env.capabilities import get_suite
from read_env.tasks import load_task

SUITE = get_suite("micro")
Script = Callable[[str], ModuleType]


class Letters:
    """Encoder that counts letters."""

    def encode(self, texts: list[str]) -> np.ndarray:
        return np.array([[text.count(letter) / len(text) for letter in "aeioustr=+"] for text in texts], np.float32)


def row(table: str, name: str) -> list[str]:
    """Cells of the first row that begins with a name."""
    line = next(line for line in table.splitlines() if re.match(rf"\| {re.escape(name)} +\|", line))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_needs_that_are_known_are_found_and_their_worth_is_shown(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = script("requirements")
    lacking = {
        task: np.array([name in names for name in SUITE.names]) / len(names) for task, names in module.LACKING.items()
    }
    # What is lacking raises the score of a task by its tokens; with the past, general_knowledge raises nothing.
    rng = np.random.default_rng(0)

    def work(name: str, arguments: tuple[Any, ...]) -> Any:
        if name in ("start", "start-past"):
            scores = {task: 0.1 for task in lacking}
            return {"profile": [0.2] * len(SUITE), "tasks": scores, "exams": scores}
        if name.startswith("exam-"):  # a run on one allocation
            task, allocation, _, tokens = arguments
            gain = float(np.dot(allocation, lacking[task])) * (tokens / module.BUDGET) ** 0.5
            return {"exam": 0.1 + 0.5 * gain + 0.001 * rng.normal()}
        shares, _, tokens, past = arguments
        counts = np.array([not (past and name == "general_knowledge") for name in SUITE.names])
        gains = {task: 0.1 + np.dot(shares * counts, r) + 0.002 * rng.normal() for task, r in lacking.items()}
        return {"profile": (0.2 + 0.1 * np.array(shares)).tolist(), "spent": tokens, "tasks": gains}

    def kept(jobs: Mapping[str, tuple[Any, ...]], *_: Any) -> dict[str, Any]:
        return {name: work(name, arguments) for name, arguments in jobs.items()}

    pages: dict[str, str] = {}
    monkeypatch.setattr(module, "kept_results", kept)
    monkeypatch.setattr(module, "load_encoder", lambda *_: Letters())
    monkeypatch.setattr(module, "on_instruct_cards", lambda *_: "(cards)")
    monkeypatch.setattr(module, "COUNT", 20)
    monkeypatch.setattr(module, "TASKS", module.PAST_TASKS)
    monkeypatch.setattr(module, "DESIGNS", module.DESIGNS[:2])
    monkeypatch.setattr(module, "SEEDS", module.SEEDS[:2])
    monkeypatch.setattr(module, "FINAL_SEEDS", module.FINAL_SEEDS[:2])
    monkeypatch.setattr(module, "write_page", pages.__setitem__)
    monkeypatch.setattr("sys.argv", ["requirements.py", "--out", str(tmp_path)])
    module.main()
    page = pages["requirements"]
    assert row(page, "interventions")[1] == "1.00", "facts that are lacking"
    assert row(page, "flight-abroad")[3].startswith(("general_knowledge 0.", "sums 0."))
    gained = [float(cell.split(" ")[0]) for cell in row(page, "all")[2:]]
    construction, inferred, *_, uniform = gained
    assert inferred > construction > uniform
    spent = module.FEW * module.DESIGNS[0][1]
    counted = page.partition("## With the tokens")[2]
    few = row(counted, "few interventions")
    assert few[1:3] == [f"{spent:,}", f"{module.BUDGET:,}"] and float(few[3]) == pytest.approx(
        float(row(page, "all")[4].split(" ")[0]), abs=0.002
    )
    longer = [float(row(counted, kind)[3]) for kind in module.FREE]
    assert longer[0] / construction == pytest.approx((1 + spent / module.BUDGET) ** 0.5, abs=0.05)
    assert longer[0] > longer[2], "uniform"
    # Precision, recall and the best count.
    assert module.hits(np.array([0.5, 0.3, *[0.0] * 8]), ["general_knowledge", "math"]) == 0.5
    past = page.partition("## Another student")[2]
    assert (
        "general_knowledge" in row(past, "flight-abroad")[2]
        and "general_knowledge" not in row(past, "flight-abroad")[4]
    )
    saved = files.read_json(tmp_path / "requirements.json")
    assert set(saved) == {str(seed) for seed in module.SEEDS}
    for kinds in saved[str(module.SEEDS[0])].values():
        assert all(abs(sum(r) - 1) < 1e-6 and min(r) >= 0 for r in kinds.values())


def test_instruct_cards_are_read_by_identifiers_that_never_saw_them(script: Script) -> None:
    table = script("requirements").on_instruct_cards(Letters())
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:]] == [
        "text",
        "mean of the other cards",
        "uniform",
    ]
    assert row(table, "uniform")[1] != row(table, "text")[1]


def test_ablations_compare_the_arms_on_the_requirements_that_were_inferred(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = script("ablations")
    r = np.zeros(len(SUITE))
    r[:2] = 0.75, 0.25
    inferred = {
        str(seed): {
            task: {"interventions": r.tolist(), "uniform": [0.1] * len(SUITE)} for task in module.TASKS
        }
        for seed in (1, 2)
    }  # fmt: skip
    asked: dict[str, Any] = {}

    def run_all(_: str, requests: Mapping[str, Any], __: int) -> dict[str, Any]:
        asked.update(requests)
        runs = {}
        for i, (name, request) in enumerate(requests.items()):
            need = load_task(request.config.task, SUITE).requirement_vector(SUITE)
            gain = 0.2 + 0.2 * need[0] + (0.1 if request.config.agent == "read-bandit" else 0.0) + 0.001 * (i % 7)
            spilled = 0.05 + 0.1 * (request.config.reward.spillover_beta == 0)
            step = SimpleNamespace(spillover=spilled / 2)
            end, begun = SimpleNamespace(task_exam=0.1 + gain), SimpleNamespace(task_exam=0.1)
            runs[name] = SimpleNamespace(ended=end, start=begun, steps=[step, step])
        return runs

    monkeypatch.setattr(module, "run_all", run_all)
    page = module.page(module.measured(inferred, tmp_path, 1))
    assert len(asked) == len(module.SEEDS) * len(module.TASKS) * len(module.ARMS)
    arms = {arm: float(row(page.partition("Gain on the task's own")[2], arm)[1].split(" ")[0]) for arm in module.ARMS}
    assert arms["ReAD"] == pytest.approx(0.45, abs=0.01) and arms["no identifier"] == pytest.approx(0.32, abs=0.01)
    assert arms["no adaptation"] == pytest.approx(0.35, abs=0.01)
    assert "| ReAD − no identifier" in page and row(page, "no spillover penalty")[3] == "`spillover_beta = 0`"
