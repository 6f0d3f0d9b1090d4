"""Transfer matrices T_ij(B) = s_j(S(one-hot i, B)) − s_j(S_0) at several budgets (arXiv 2605.11290).

There is one run per capability and seed, to the largest budget; the exam is held whenever one of the smaller budgets has
been spent. The curriculum is that of the largest budget: after 20k of 80k tokens a student has seen easier prompts than one
with a budget of 20k.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from read_env import files
from read_env.running.batch_requests import TransferRequest
from read_env.running.comparison import run_many
from read_env.running.directory import RecordDirectory, RunDirectory
from read_env.running.identity import RunIdentity
from read_env.running.requests import resolved
from read_env.running.runner import make_env
from read_env.running.worker import EnvFactory

if TYPE_CHECKING:
    from rich.console import Console


def transfer(
    request: TransferRequest, console: Console | None = None, env_factory: EnvFactory = make_env
) -> dict[str, str]:
    """Make the missing runs.

    Args:
        request: the transfer matrix.
        console: console that shows the progress. None: standard error.
        env_factory: makes the environment of a configuration; for worker processes a function of a module.

    Returns:
        Run name -> error, for the runs that failed.

    Raises:
        ReadEnvError: the directory holds something else, or the request is invalid.
    """
    request = resolved(request)
    runs = request.runs()
    first = next(iter(runs.values()))
    budgets = list(first.exam_at)
    directory = RecordDirectory(request.directory)
    identity = RunIdentity.of_many("transfer", first.config, budgets=budgets)
    settings = directory.merged_settings(first.config, request.overwrite, seeds=request.seeds)

    def drop_student(name: str) -> None:
        files.remove(RunDirectory(runs[name].directory).student)

    with directory.claim(identity, {**settings, "budgets": budgets}, overwrite=request.overwrite):
        failures = run_many(
            "transfer matrix", runs, request.processes, console, env_factory, drop_student, request.cluster
        )
        for name in runs.keys() - failures.keys():  # of an earlier call that was killed before it did
            drop_student(name)
    return failures
