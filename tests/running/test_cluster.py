"""Runs and trainings on a Ray cluster: the records of the local pool, also when a node is lost."""

from __future__ import annotations

import io
import os
import secrets
import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from documents import ROOT
from fake_runs import EVERY_STEP, Make, contents, curves, fake_env, training_request, watched_env
from micro import micro_config
from rich.console import Console

from read_env import files
from read_env.capabilities import get_suite
from read_env.cli import main
from read_env.config import Config
from read_env.errors import ReadEnvError
from read_env.running import cluster_node
from read_env.running.batch_requests import ComparisonRequest
from read_env.running.cluster import _inputs, _resources, map_on_cluster
from read_env.running.cluster_node import Sent, on_node, versions
from read_env.running.comparison import compare
from read_env.running.directory import RunDirectory
from read_env.running.pool import Ended, map_jobs
from read_env.running.requests import RunRequest
from read_env.running.training import train
from read_env.running.worker import StepEvent, Worker
from read_env.tasks import load_task
from read_env.tasks.card import card_toml

QUIET = Console(file=io.StringIO())


# --- without Ray --------------------------------------------------------------------------------


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, small: Config, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    request = ComparisonRequest(small, ("uniform",), seeds=(0,), out=tmp_path / "runs", cluster="auto")
    with pytest.raises(ReadEnvError, match=r"pip install 'read-env\[ray\]'"):
        compare(request, QUIET, fake_env)


def test_resources_follow_from_the_configuration(request_for: Make, small: Config, tmp_path: Path) -> None:
    def resources(visible: bool, **models: Any) -> dict[str, float]:
        return _resources(request_for("uniform", models=small.models.model_copy(update=models)), visible)

    assert resources(False) == {"num_cpus": 1, "num_gpus": 0}
    assert resources(True) == {"num_cpus": 1, "num_gpus": 1}, "auto is the GPU if there is one"
    assert resources(True, device="cpu", threads=4) == {"num_cpus": 4, "num_gpus": 0}
    assert resources(False, device="cuda") == {"num_cpus": 1, "num_gpus": 1}
    sharded = {"teacher": "vllm:some/model", "vllm_tensor_parallel_size": 4}
    assert resources(True, **sharded) == {"num_cpus": 1, "num_gpus": 4}
    assert resources(True, gpus=2) == {"num_cpus": 2, "num_gpus": 2}
    assert resources(False, gpus=2) == {"num_cpus": 2, "num_gpus": 0}, "ranks are processes on the CPU"
    with pytest.raises(ReadEnvError, match=r"models\.device: 'cuda:1'"):
        resources(True, device="cuda:1")
    training = training_request(small, "sb3:PPO", tmp_path, envs=2)
    assert _resources(training, True) == {"num_cpus": 2, "num_gpus": 1}
    assert _resources(replace(training, on="micro"), True) == {"num_cpus": 1, "num_gpus": 0}


def sent(request: RunRequest, **changes: Any) -> Sent:
    return Sent(request, **{
        "identity": request.identity.to_json(), "versions": versions(), "folder": "/nowhere", "inputs": {}, **changes
    })  # fmt: skip


def of_node(given: Sent) -> list[Any]:
    pytest.importorskip("ray")
    cluster_node._kept["this"] = Worker(fake_env)
    return list(on_node("this", [], given, []))


def test_a_node_with_another_environment_or_other_files_refuses(request_for: Make, tmp_path: Path) -> None:
    request = request_for("uniform")
    assert of_node(sent(request))[-1].error == ""
    others = {**versions(), "torch": "1.0"}
    assert ", not 1.0, so its results could differ" in of_node(sent(request, versions=others))[-1].error
    identity = request.identity.to_json()
    identity["contents"] = {**identity["contents"], "models.student": "another"}
    assert "has other files (models.student" in of_node(sent(request, identity=identity))[-1].error


def test_a_node_gets_the_inputs_that_it_lacks(request_for: Make, tmp_path: Path) -> None:
    card = tmp_path / "made" / "card.toml"
    card.parent.mkdir()
    card.write_text(card_toml(load_task("math", get_suite("micro"))))
    request = request_for("uniform", task=str(card))
    given = sent(request, inputs=_inputs(request))
    card.unlink()
    assert of_node(given)[-1].error == ""
    assert "math" in card.read_text()


# --- with Ray -----------------------------------------------------------------------------------


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Cluster of two nodes with a CPU each, to which this process is connected."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests" / "doubles")]))
    small = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    found = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
    try:
        found.second = found.add_node(**small)
        ray.init(address=found.address, logging_level="error", log_to_driver=False)
        yield found
    finally:
        ray.shutdown()
        found.shutdown()


def without_clock(folder: Path) -> dict[str, Any]:
    """Files below a folder, without curves, zip files and what else depends on the clock or on the cache."""
    parts = contents(folder).items()
    found: dict[str, Any] = {n: c for n, c in parts if "tensorboard" not in n and not n.endswith(".zip")}
    for name in found:
        if name.endswith("steps.jsonl"):
            lines = files.read_lines(folder / name)
            found[name] = [{k: v for k, v in line.items() if k not in ("seconds", "cache")} for line in lines]
    return found


class Located(Worker):
    """Reports the node on which a run is made."""

    def __call__(self, request: RunRequest, report: Any) -> Any:
        import ray

        report(f"on node {ray.get_runtime_context().get_node_id()}")
        return super().__call__(request, report)


@pytest.mark.slow  # a cluster, and three processes that load models
def test_a_lost_node_leaves_the_records_of_the_local_pool_to_the_bit(nodes: Any, tmp_path: Path) -> None:
    config = micro_config(total=1600, step=200, task="bookkeeper", agent="read-bandit-published")

    def requests(folder: str) -> dict[str, RunRequest]:
        seeds = (config.model_copy(update={"seed": seed}) for seed in (0, 1))
        return {f"run {one.seed}": RunRequest(one, tmp_path / folder / f"run{one.seed}") for one in seeds}

    made, events = requests("cluster"), []

    def report(name: str, event: Any) -> None:
        events.append((name, event))
        there = (name, f"on node {nodes.second.node_id}") in events
        if nodes.worker_nodes and there and isinstance(event, StepEvent) and event.spent:
            saved = RunDirectory(made[name].directory).load_checkpoint(expected=True)
            if saved is not None and saved["step"]:
                nodes.remove_node(nodes.second, allow_graceful=False)

    map_jobs(Located(), made, report, cluster="auto")
    ends = {name: event for name, event in events if isinstance(event, Ended)}
    assert {name: end.error for name, end in ends.items()} == {"run 0": "", "run 1": ""}
    (lost,) = [name for name, event in events if isinstance(event, str) and "was lost" in event]
    resumed = ends[lost].result.resumed_after
    assert resumed is not None and resumed >= 1, "goes on from the last checkpoint"

    local = requests("local")
    map_jobs(Worker(), local, lambda *_: None, processes=2)
    for name in made:
        assert without_clock(made[name].directory) == without_clock(local[name].directory)
        assert curves(made[name].directory).keys() == curves(local[name].directory).keys()


class Failing:
    """An environment factory whose environments fail at seed 1, and whose process dies at seed 2."""

    def __call__(self, config: Config) -> Any:
        def reset(*, seed: int | None = None, options: Any = None) -> None:
            if seed == 1:
                raise RuntimeError("seed 1 is broken")
            if seed == 2:
                os._exit(1)

        return watched_env(config, reset, "reset")


@pytest.mark.slow  # a cluster
def test_comparisons_and_trainings_leave_what_they_leave_on_this_machine(
    nodes: Any, small: Config, tmp_path: Path
) -> None:
    def comparison(out: str, **changes: Any) -> ComparisonRequest:
        agents, tasks = ("uniform", "read-bandit-published"), ("math", "tutor")
        return ComparisonRequest(small, agents, tasks, seeds=(0,), out=tmp_path / out, **changes)

    shown = Console(file=io.StringIO(), width=200)
    result = compare(comparison("cluster", cluster="auto"), shown, fake_env)
    assert result.failures == {}
    assert compare(comparison("local", processes=1), QUIET, fake_env).failures == {}
    assert without_clock(tmp_path / "cluster") == without_clock(tmp_path / "local")
    assert "[3/3, " in shown.file.getvalue(), "uniform is derived for the second task"
    before = contents(tmp_path / "cluster")
    assert compare(comparison("cluster", cluster="auto"), QUIET, fake_env).failures == {}
    assert contents(tmp_path / "cluster") == before

    local = training_request(small, "sb3:PPO", tmp_path / "trained", steps=12)
    train(local, QUIET, env_factory=fake_env, checkpoint_share=EVERY_STEP)
    shown = Console(file=io.StringIO(), width=200)
    remote = replace(local, out=tmp_path / "there" / "trained", cluster="auto")
    done = train(remote, shown, env_factory=fake_env, checkpoint_share=EVERY_STEP)
    assert not done.already_finished and done.agent == remote.directory / "agent.zip" and done.episodes == 2
    assert "step     6 of 12" in shown.file.getvalue()
    assert contents(remote.directory).keys() == contents(local.directory).keys()
    assert without_clock(remote.directory) == without_clock(local.directory)
    assert train(remote, QUIET, env_factory=fake_env).already_finished

    requests = {f"seed {seed}": replace(
        RunRequest(small.model_copy(update={"seed": seed}), tmp_path / f"failing{seed}")) for seed in (0, 1, 2)}  # fmt: skip
    events: list[tuple[str, Any]] = []
    map_on_cluster(Worker(Failing()), requests, lambda *event: events.append(event), "auto")
    ends = {name: event for name, event in events if isinstance(event, Ended)}
    assert ends["seed 0"].error == ""
    assert ends["seed 1"].error == "RuntimeError: seed 1 is broken" and "in reset" in ends["seed 1"].traceback
    assert "seed 1 is broken" in (tmp_path / "failing1" / "error.txt").read_text()
    assert "was lost 4 times" in ends["seed 2"].error
    assert sum("was lost" in event for name, event in events if isinstance(event, str)) == 3


def never(request: RunRequest, report: Any) -> None:
    """A job that takes long."""
    report("begun")
    time.sleep(300)


@pytest.mark.slow  # a cluster
def test_an_interrupt_cancels_the_tasks(nodes: Any, request_for: Make, small: Config) -> None:
    import ray

    def interrupt(name: str, event: Any) -> None:
        assert event == "begun"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        map_on_cluster(never, {name: request_for("uniform", name) for name in "ab"}, interrupt, "auto")
    until = time.monotonic() + 60
    while ray.available_resources().get("CPU") != 2 and time.monotonic() < until:
        time.sleep(0.2)
    assert ray.available_resources().get("CPU") == 2

    def waits(name: str, event: Any) -> None:
        assert event == "waits for a node with 4 CPUs and 0 GPUs, which none of the cluster has now"
        raise KeyboardInterrupt

    four = request_for("uniform", "four", models=small.models.model_copy(update={"threads": 4}))
    with pytest.raises(KeyboardInterrupt):
        map_on_cluster(never, {"four": four}, waits, "auto")


def test_an_address_without_a_cluster_is_refused(request_for: Make, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    with pytest.raises(ReadEnvError, match="is an address of Ray Client"):
        map_on_cluster(never, {"a": request_for("uniform")}, lambda *_: None, "ray://localhost:10001")


@pytest.mark.slow  # a cluster, and models in its processes
def test_the_command_of_the_page_runs_on_the_cluster(
    nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs/cluster.md").read_text()
    line = next(line for line in text.splitlines() if line.startswith("read-env compare"))
    command = shlex.split(line.replace("auto", nodes.address).replace("bookkeeper tutor", "bookkeeper"))[1:]
    small = {"total-tokens": "600", "step-tokens": "300"}
    options = [part for name, value in small.items() for part in (f"--budget.{name}", value)]
    assert main([*command, "--seeds", "0", *options, "--eval.probes", "4", "--eval.dev", "4", "--eval.exam", "4"]) == 0
    assert len(list(tmp_path.glob("runs/compare/runs/*/summary.json"))) == 2
