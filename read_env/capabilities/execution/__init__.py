"""Untrusted Python, written by a language model, run and graded without trusting it.

:func:`run_python` starts the program in a process of its own, asks it for the value of each call
and compares the values' texts here, in the caller's process: the program never learns what is
expected. What confines it is, in this order:

1. ``"seccomp"`` (Linux on x86_64 and aarch64, no privileges needed): the kernel refuses every
   system call but memory, clocks and writing to the one pipe that is open. No file, no socket, no
   process, no signal, whatever the program reaches inside the Python interpreter.
2. ``"interpreter"`` (other POSIX systems, or where seccomp is forbidden): the program isn't given to
   Python at all; a small interpreter walks its syntax tree and knows a fixed list of constructs,
   functions and methods. Anything else is answered with ``unsupported: …``.
3. ``"none"``: nothing is run; :func:`run_python` raises :class:`~read_env.errors.ReadEnvError`.

A server process is started once (about 0.2 s) and forks a fresh, confined copy of itself for each
program: some milliseconds a run, plus what the program takes.

What it does not protect from: bugs of the kernel or, in the second case, of CPython's builtin types;
side channels such as timing; a program that gives the right values without computing them, for
example from a table. The program shares its process with the code that reports its values, so it
can in principle report values that none of its functions returned. That wins nothing: a program
that knows the right text could as well have returned it.
"""

from read_env.capabilities.execution.host import ExecutionResult, isolation, isolation_reason, run_python

__all__ = ["ExecutionResult", "isolation", "isolation_reason", "run_python"]
