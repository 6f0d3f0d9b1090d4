"""The code of README.md and docs/agents.md runs as printed, on a budget small enough for a test."""

import re

import gymnasium as gym
import pytest
from documents import ROOT, blocks

SMALL = {"budget": {"total_tokens": 600, "step_tokens": 300}, "eval": {"probes": 4, "dev": 4, "exam": 4}}


@pytest.fixture
def small_budget(monkeypatch):
    make = gym.make
    monkeypatch.setattr(gym, "make", lambda *args, **kwargs: make(*args, **kwargs, overrides=SMALL))


def test_the_ten_lines_of_python(small_budget, capsys):
    code = blocks("README.md", "python")[0]
    assert len(code.strip().splitlines()) <= 12
    exec(compile(code, "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2"]
    assert "utility 0." in lines[-1]


@pytest.mark.slow
def test_the_stable_baselines_loop(small_budget, tmp_path, monkeypatch):
    code = re.search(r"## Stable-Baselines3.*?```python\n(.*?)```", (ROOT / "docs/agents.md").read_text(), re.DOTALL)[1]
    code = code.replace("n_steps=20, batch_size=20", "n_steps=2, batch_size=2").replace("learn(400)", "learn(4)")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "docs/agents.md", "exec"), {})
    assert list((tmp_path / "runs" / "tb").rglob("events.*"))
