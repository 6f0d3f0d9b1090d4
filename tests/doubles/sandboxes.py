"""What tests of untrusted code share: where they can run, and the kernel's isolation alone."""

import os
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import pytest

from read_env.capabilities.execution import ExecutionResult, isolation, isolation_reason, run_python

Run = Callable[..., ExecutionResult]

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="untrusted code is refused without fork()")
needs_seccomp = pytest.mark.skipif(
    sys.platform != "linux" or isolation() != "seccomp", reason=f"no seccomp: {isolation_reason()}"
)


def seccomp_only(code: str, *cases: tuple[str, str], seconds: float = 10.0, **options: Any) -> ExecutionResult:
    return run_python(textwrap.dedent(code), cases, seconds=seconds, **options)
