"""Math and reasoning with tasks of reasoning-gym beside their own templates."""

import random
import subprocess
import sys
from collections import Counter
from itertools import islice

import pytest

from read_env.capabilities import _suite, get_suite, split_of
from read_env.capabilities.instruct import gym_tasks
from read_env.capabilities.stream import PromptStream, held_out
from read_env.cli import main
from read_env.config import load_preset
from read_env.errors import ReadEnvError
from read_env.running.identity import RunIdentity

NAME = "instruct+reasoning-gym"
TASKS = [("math", task) for task in gym_tasks._MATH] + [("reasoning", task) for task in gym_tasks._REASONING]
task = pytest.mark.parametrize(("capability", "task"), TASKS, ids=[f"{c}-{t}" for c, t in TASKS])


def draw(capability, task, count, seed=0):
    found = get_suite(NAME)[capability]
    template = next(t for t in found.templates if t.name == task)
    rng = random.Random(f"{task}/{seed}")
    return found, [found.draw(template, rng) for _ in range(count)]


@pytest.fixture
def without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    for cached in (gym_tasks._package, _suite):
        cached.cache_clear()
    yield
    gym_tasks._package.cache_clear()


def test_without_the_package_the_suite_names_the_extra(without_the_package, capsys):
    with pytest.raises(ReadEnvError, match=r"needs reasoning-gym .*pip install 'read-env\[reasoning-gym\]'"):
        get_suite(NAME)
    assert main(["run", "--suite", NAME]) == 2
    assert "read-env[reasoning-gym]" in capsys.readouterr().err
    assert len(get_suite("instruct")["math"].templates) == 6  # the plain suite needs nothing


def test_what_is_installed_changes_no_suite_but_the_one_that_asks_for_it(without_the_package):
    before = [p.text for p in PromptStream(get_suite("instruct")["math"], 0).slice(0, 0, 30)]
    sys.modules.pop("reasoning_gym")
    for cached in (gym_tasks._package, _suite):
        cached.cache_clear()
    assert [p.text for p in PromptStream(get_suite("instruct")["math"], 0).slice(0, 0, 30)] == before


def test_another_version_of_the_package_is_another_run(monkeypatch):
    config = load_preset("micro", {"suite": NAME})
    pytest.importorskip("reasoning_gym")
    before = RunIdentity.of_run(config)
    monkeypatch.setattr(gym_tasks, "version", lambda: "9.9")
    (line,) = before.differences(RunIdentity.of_run(config))
    assert line.startswith("suite tasks (content)") and "9.9" in line
    assert "suite tasks" not in RunIdentity.of_run(load_preset("micro")).contents


class TestTasks:
    @pytest.fixture(autouse=True)
    def package(self):
        pytest.importorskip("reasoning_gym")

    def test_the_suite_has_the_capabilities_of_instruct_and_more_templates(self):
        suite, plain = get_suite(NAME), get_suite("instruct")
        assert suite.names == plain.names
        for one, own in zip(suite, plain, strict=True):
            added = [t.name for t in one.templates if t not in own.templates]
            assert added == [t for c, t in TASKS if c == one.name]

    @task
    def test_an_answer_is_right_however_it_is_marked(self, capability, task):
        found, prompts = draw(capability, task, 340)
        for prompt in prompts:
            answer = prompt.reference.removeprefix("Answer: ")
            assert found.verify(prompt, f"I think so.\n**Answer:** {answer}") and found.verify(prompt, answer), answer

    @task
    def test_difficulty_follows_the_settings_of_the_task(self, capability, task):
        found, prompts = draw(capability, task, 300)
        levels = Counter(found.tertile(p.difficulty) for p in prompts)
        assert all(70 <= levels[k] <= 130 for k in range(3))
        assert all(found.tertile(p.difficulty) == p.check["level"] for p in prompts)

    @pytest.mark.parametrize("capability", ["math", "reasoning"])
    def test_prompts_of_the_capabilitys_own_keep_their_tertile(self, capability):
        own, found = get_suite("instruct")[capability], get_suite(NAME)[capability]
        for template in own.templates:
            for seed in range(60):
                before, now = (c.draw(template, random.Random(seed)) for c in (own, found))
                assert now.text == before.text and now.reference == before.reference and 0 <= now.difficulty <= 1
                assert found.tertile(now.difficulty) == own.tertile(before.difficulty)
                assert found.verify(now, now.reference)

    @pytest.mark.parametrize("capability", ["math", "reasoning"])
    def test_streams_and_held_out_sets_mix_both_and_repeat(self, capability):
        found = get_suite(NAME)[capability]
        tasks = {t for c, t in TASKS if c == capability}
        for tertile in range(3):
            first, again = (PromptStream(found, 5).slice(tertile, 0, 60) for _ in range(2))
            assert first == again
            shown = {p.template for p in first}
            assert len(shown & tasks) >= 4 and shown - tasks
        probes = held_out(found, "probes", 60)
        assert {p.template for p in probes} >= tasks
        drawn = {p.text for p in islice(found.draws(random.Random(1)), 200) if split_of(p.text) == "stream"}
        assert drawn and not drawn & {p.text for p in probes}

    def test_importing_the_package_moves_no_global_generator(self):
        code = (
            "import random; from read_env.capabilities import get_suite; random.seed(3); a = random.getstate();"
            f"get_suite({NAME!r}); assert random.getstate() == a; import sys; assert 'reasoning_gym' in sys.modules"
        )
        subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
