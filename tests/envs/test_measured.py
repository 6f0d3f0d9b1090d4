"""Tasks with prompts of their own, in real episodes and runs: measured, recorded, and never trained on."""

import json
import shutil

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from micro import SUITE, micro_config

from read_env import files
from read_env.capabilities.base import normalised_hash
from read_env.capabilities.stream import held_out
from read_env.distillation.process import Distillation
from read_env.distillation.student.evaluation import exam
from read_env.running.agents import AgentSpec
from read_env.running.requests import RunRequest
from read_env.running.reuse import shared_key
from read_env.running.runner import run
from read_env.tasks import load_task

ENV = "ReadEnv/Distillation-v0"
SMALL = {
    "budget": {"total_tokens": 800, "step_tokens": 200},
    "eval": {"probes": 6, "dev": 6, "exam": 6, "task_probes": 16, "task_dev": 16, "task_exam": 16, "dev_every": 3},
    "distill": {"teacher_batch_size": 4},
}
WEIGHTS = np.eye(10, dtype=np.float32)[9] + np.float32(0.1)


@pytest.fixture(scope="module")
def env():
    return gym.make(ENV, task="bill-abroad", overrides=SMALL, observe_utility=True)


def test_the_utility_is_the_score_on_the_tasks_own_probes(env):
    _, info = env.reset(seed=1)
    observation, reward, _, _, after = env.step(WEIGHTS)
    distillation = env.unwrapped.distillation
    assert info["utility"] != after["utility"] == distillation.task_score == pytest.approx(observation["utility"][0])
    assert after["gain"] == pytest.approx(after["utility"] - info["utility"])
    assert reward == pytest.approx(after["gain"] - 0.5 * after["spillover"])
    alone = env.unwrapped.card.utility(after["profile"], SUITE, score=0.5)
    assert alone == 0.5, "no function of the profile"


def test_measuring_a_task_changes_nothing_for_the_student(env):
    profiles = []
    for task in ("bill-abroad", "bookkeeper", "notes-added"):
        env.reset(seed=3, options={"task": task})
        profiles.append(env.step(WEIGHTS)[4]["profile"])
    assert np.array_equal(profiles[0], profiles[1]) and np.array_equal(profiles[0], profiles[2])


def test_a_snapshot_of_another_task_is_restored_with_its_task(env):
    env.reset(seed=4)
    env.step(WEIGHTS)
    state, expected = env.unwrapped.snapshot(), env.step(WEIGHTS)
    env.reset(seed=5, options={"task": "script-abroad"})
    env.step(WEIGHTS)
    _, info = env.unwrapped.restore(state)
    assert info["task"] == "bill-abroad"
    again = env.step(WEIGHTS)
    assert again[1] == expected[1] and again[4]["utility"] == expected[4]["utility"]
    env.reset(seed=5, options={"task": "math"})
    with pytest.raises(ValueError, match="this is no snapshot"):
        env.unwrapped.restore({**state, "distillation": {}, "trace": []})
    assert env.unwrapped.distillation.task is None


def test_the_environment_keeps_its_contract(env, recwarn):
    check_env(
        gym.make(ENV, task="bill-abroad", overrides=SMALL, observe_utility=True).unwrapped, skip_render_check=True
    )
    assert not [w for w in recwarn if "utility" in str(w.message)]
    assert "utility" not in gym.make(ENV, task="bill-abroad", overrides=SMALL).observation_space.spaces
    assert env.observation_space["utility"].shape == (1,)


@pytest.fixture
def drawn_from_math(tmp_path):
    """Task whose prompts are the first ones of the training stream of math."""
    from itertools import islice

    from read_env.capabilities.stream import training_draws

    drawn = {p.text: p for p in islice(training_draws(SUITE["math"], 0), 600)}
    path = tmp_path / "mine.jsonl"
    rows = [{"prompt": text, "completion": prompt.reference} for text, prompt in drawn.items()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    card = 'name = "mine"\ndescription = "Sums."\nprompts = "mine.jsonl"\n[requirement]\nmath = 1\n'
    path.with_suffix(".toml").write_text(card)
    return path


@pytest.mark.parametrize("start", ["even", "math=1@600"])
def test_no_student_is_trained_on_the_prompts_of_its_task(drawn_from_math, tmp_path, start):
    config = micro_config(600, 200, cache={"directory": str(tmp_path / "cache")})
    task = load_task(drawn_from_math, SUITE)
    refused = {normalised_hash(prompt.text) for prompt in task.task_prompts().prompts}
    seen = []
    distillation = Distillation.load(config)
    complete = distillation.cache.complete

    def answered(texts, *capabilities):
        seen.extend(texts)
        return complete(texts, *capabilities)

    distillation.cache.complete = answered
    distillation.reset(0, start)
    distillation.step(np.eye(10)[3])
    assert refused & set(map(normalised_hash, seen)), "without the task they are trained on"
    weights = distillation.student.state_dict()["model"]
    seen.clear()
    distillation.reset(0, start, task)
    distillation.step(np.eye(10)[3])
    assert seen and not refused & set(map(normalised_hash, seen))
    changed = distillation.student.state_dict()["model"]
    assert any(not np.array_equal(weights[name].float(), changed[name].float()) for name in weights)
    kept = list((tmp_path / "cache" / "students").glob("*.safetensors")) if start != "even" else []
    assert len(kept) == (0 if start == "even" else 2), "one past for each set of refused prompts"


def test_a_restored_episode_draws_none_of_its_tasks_prompts(drawn_from_math):
    """Of two tasks with one seed, only one refuses prompts of the suite."""
    env = gym.make(ENV, task="math", overrides=SMALL)
    env.reset(seed=0)
    env.reset(seed=0, options={"task": str(drawn_from_math.with_suffix(".toml"))})
    env.step(np.eye(10, dtype=np.float32)[3])
    state, expected = env.unwrapped.snapshot(), env.step(np.eye(10, dtype=np.float32)[3])
    env.reset(seed=0)
    env.unwrapped.restore(state)
    again = env.step(np.eye(10, dtype=np.float32)[3])
    assert np.array_equal(again[4]["profile"], expected[4]["profile"])


def test_a_snapshot_is_restored_after_the_prompts_of_its_task_were_moved(drawn_from_math, tmp_path):
    def env_in(folder):
        return gym.make(ENV, task=str(folder / drawn_from_math.with_suffix(".toml").name), overrides=SMALL)

    first = tmp_path / "first"
    shutil.copytree(drawn_from_math.parent, first, ignore=shutil.ignore_patterns("cache", "first"))
    env = env_in(first)
    env.reset(seed=0)
    env.step(WEIGHTS)
    state, expected = env.unwrapped.snapshot(), env.step(WEIGHTS)
    first.rename(tmp_path / "second")
    moved = env_in(tmp_path / "second")
    moved.reset(seed=1)
    moved.unwrapped.restore(state)
    again = moved.step(WEIGHTS)
    assert again[4]["utility"] == expected[4]["utility"]


def test_a_run_records_the_exam_of_its_task(tmp_path):
    config = micro_config(400, 200, task="bill-abroad", agent="task-static", eval=SMALL["eval"])
    result = run(RunRequest(config, tmp_path / "run"))
    start, summary = files.read_json(result.directory / "start.json"), result.summary
    steps = list(files.read_lines(result.directory / "steps.jsonl"))
    assert start["utility_form"] == "measured" and start["task_graded"]
    assert summary["utility"] == steps[-1]["utility"] != summary["utility_start"] == start["utility"]
    assert summary["exam_utility_start"] == start["task_exam"]
    assert start["teacher_task_exam"] == 1.0 and "bill_abroad" in {sample["capability"] for sample in start["samples"]}
    # The saved student answers as many of the task's exam prompts rightly as the record says.
    from read_env.distillation.loading import load

    student = load(str(result.directory / "student"))
    from read_env.capabilities.base import Suite

    task = load_task("bill-abroad", SUITE).task_prompts()
    scores, _ = exam(student.model, student.encoder, Suite("t", (task,)), per_capability=16)
    assert summary["exam_utility"] == scores["bill_abroad"]
    assert run(RunRequest(config, tmp_path / "run")).already_finished


def test_records_of_a_measured_task_serve_no_other():
    uniform = AgentSpec.parse("uniform")
    assert shared_key(uniform, load_task("bookkeeper", SUITE), SUITE)
    assert shared_key(uniform, load_task("bill-abroad", SUITE), SUITE) is None


def test_prompts_of_a_task_belong_to_the_identity_of_its_runs(drawn_from_math, tmp_path):
    card = drawn_from_math.with_suffix(".toml")
    request = RunRequest(micro_config(task=str(card)))
    before = request.identity
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for path in (card, drawn_from_math):
        (moved / path.name).write_bytes(path.read_bytes())
    assert not before.differences(RunRequest(micro_config(task=str(moved / "mine.toml"))).identity)
    drawn_from_math.write_text(drawn_from_math.read_text().replace(" so ", "  so "))
    assert before.differences(RunRequest(micro_config(task=str(card))).identity)
    assert held_out(load_task(card, SUITE).task_prompts(), "probes", 4)
