"""Models that several tests of the distillation share."""

import pytest
from micro import SUITE, micro_config

from read_env.capabilities.stream import PromptStream
from read_env.distillation.loading import load_student, load_teacher


@pytest.fixture(scope="module")
def pair():
    """A student with an on-policy objective, its teacher, and prompts of three capabilities."""
    settings = micro_config(distill={"loss": "grpo", "max_completion_tokens": 24})
    student = load_student(settings)
    prompts = [p for name in ("math", "code", "tool_use") for p in PromptStream(SUITE[name], 3).slice(0, 0, 3)]
    return student, load_teacher(settings, student), prompts
