"""Suites of one capability and of two: every agent, wrapper, report, picture and matrix."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_distillation import FakeDistillationEnv
from fake_runs import SMALL, fake_env, play
from rich.console import Console
from rule_records import example_records

from read_env.agents.registry import BUILT_IN, GROUPS
from read_env.capabilities import get_suite
from read_env.config import Config, load_preset
from read_env.envs.wrappers import CandidateAllocation, SoftmaxAllocation
from read_env.reporting import comparison_report, run_report, training_report, transfer_report
from read_env.running.agents import AgentSpec
from read_env.running.batch_requests import ComparisonRequest, TransferRequest
from read_env.running.comparison import compare
from read_env.running.requests import RunRequest, TrainingRequest
from read_env.running.training import train
from read_env.running.transfer import transfer

QUIET = Console(file=io.StringIO())
NAMES = ("sums", "words")
#: Options without which an agent can't act, besides records of runs.
OPTIONS = {"fixed": "shares=sums=1", "grid-searched": None}


@pytest.fixture(params=[1, 2], ids=["one", "two"])
def few(request: pytest.FixtureRequest, tmp_path: Path) -> Config:
    """Configuration with a suite of one or two files, whose task is the first."""
    for name in NAMES:
        rows = [{"prompt": f"{name} {a}+{b}", "answer": str(a + b)} for a in range(2, 22) for b in range(2, 20)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    suite = ",".join(f"{name}={tmp_path / name}.jsonl" for name in NAMES[: request.param])
    return load_preset("micro", {**SMALL, "suite": suite, "task": "sums"})


@pytest.mark.parametrize("name", [name for name in BUILT_IN if name not in GROUPS["pretrained"]])
def test_every_agent_runs_and_is_trained(few: Config, name: str, tmp_path: Path) -> None:
    records = example_records(get_suite(few.suite).names).get(name, {})
    option = OPTIONS.get(name, ",".join(f"{key}={value}" for key, value in records.items()))
    agent = AgentSpec.parse(f"{name},{option}" if option else name)
    if option is not None:
        result = play(RunRequest(agent.configure(few), tmp_path / "run"))
        assert result.summary["spent"] == 600
        assert (result.summary["tokens_before_run"] > 0) == (bool(records) or name == "lookahead")  # its trials count
        assert run_report(tmp_path / "run").stat().st_size
    request = TrainingRequest(agent.configure(few), ("sums",), 13, tmp_path / "training")
    trained = train(request, QUIET, env_factory=fake_env)
    assert trained.episodes == 2 and training_report(tmp_path / "training").stat().st_size
    again = AgentSpec.parse(str(trained.agent))
    assert play(RunRequest(again.configure(few), tmp_path / "trained")).summary["spent"] == 600


def test_the_pretrained_policy_for_any_suite_runs(few: Config, tmp_path: Path) -> None:
    result = play(RunRequest(AgentSpec.parse("pretrained:any").configure(few), tmp_path / "run"))
    assert result.summary["spent"] == 600 and run_report(tmp_path / "run").stat().st_size


def test_every_action_of_the_wrappers_is_taken(few: Config) -> None:
    for wrapper in (SoftmaxAllocation, CandidateAllocation):
        for mask_free in (False, True)[: 1 + (wrapper is CandidateAllocation)]:
            inner = FakeDistillationEnv(overrides=few.model_dump(exclude={"preset"}))
            size = len(inner.suite)
            env: Any = wrapper(inner, **({"mask_free": mask_free} if wrapper is CandidateAllocation else {}))
            env.reset(seed=0)
            actions = range(env.action_space.n) if wrapper is CandidateAllocation else [np.zeros(size), np.ones(size)]
            for action in actions:
                if env.step(action)[2]:
                    env.reset()
                assert inner.last_allocation.sum() == pytest.approx(float(inner._step > 0))


def test_comparison_and_transfer_matrix_have_reports_and_pictures(few: Config, tmp_path: Path) -> None:
    agents = ("read-bandit", "task-static", "uniform", "one-hot")
    comparison = ComparisonRequest(few, agents, ("sums",), (0, 1), processes=1, out=tmp_path / "comparison")
    assert compare(comparison, QUIET, fake_env).failures == {}
    matrix = TransferRequest(few, (300, 600), (0, 1), processes=1, out=tmp_path / "matrix")
    assert transfer(matrix, QUIET, fake_env) == {}
    for page in (comparison_report(tmp_path / "comparison"), transfer_report(tmp_path / "matrix")):
        assert page.stat().st_size and list(page.parent.glob("*.png"))
