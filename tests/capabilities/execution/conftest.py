import textwrap
from typing import Any

import pytest
from sandboxes import Run, needs_seccomp

from read_env.capabilities.execution import ExecutionResult, run_python


@pytest.fixture(params=[pytest.param("seccomp", marks=needs_seccomp), "interpreter"])
def run(request: pytest.FixtureRequest) -> Run:
    """``run_python`` in one kind of isolation, with indented code."""
    walking = request.param == "interpreter"

    def call(code: str, *cases: tuple[str, str], seconds: float = 10.0, **options: Any) -> ExecutionResult:
        return run_python(textwrap.dedent(code), cases, seconds=seconds, interpreter=walking, **options)

    return call
