"""Prompts of scripts/real_pair.py, which measures a pair that comes inside packages."""

import pytest

from read_env.capabilities import get_suite
from read_env.capabilities.stream import held_out


@pytest.fixture
def prompts(script):
    return script("real_pair_prompts")


def test_files_of_lists_are_capabilities_whose_own_answers_are_right(prompts, tmp_path):
    suite = get_suite(prompts.write_prompts(tmp_path / "prompts"))
    assert suite.names == tuple(prompts.CAPABILITIES)
    for capability in suite:
        shown = held_out(capability, "exam", 12)
        for prompt in shown:
            *examples, question = prompt.text.split("\n")
            assert len(examples) == prompts.EXEMPLARS and question.endswith(("->", "French:", "="))
            assert capability.verify(prompt, prompt.reference)
            assert not any(question == line[: len(question)] for line in examples), "the answer is not shown"
            assert not capability.verify(prompt, " nothing of the kind")


def test_the_prompts_are_the_same_every_time(prompts, tmp_path):
    for folder in ("one", "two"):
        prompts.write_prompts(tmp_path / folder)
    for name in prompts.CAPABILITIES:
        assert (tmp_path / "one" / f"{name}.jsonl").read_bytes() == (tmp_path / "two" / f"{name}.jsonl").read_bytes()
