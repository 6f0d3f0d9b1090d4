"""Transfer matrices T_ij(B) = s_j(S(one-hot i, B)) − s_j(S_0) at several budgets (arXiv 2605.11290).

One run a capability and seed, to the largest budget; the exam is held whenever one of the smaller
budgets has been spent. The curriculum of such a run is that of the largest budget: a student at
20k of 80k tokens has seen easier prompts than one that was given 20k in all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from read_env import files
from read_env.errors import ReadEnvError
from read_env.running.agents import AgentSpec
from read_env.running.comparison import run_many
from read_env.running.directory import RecordDirectory, RunDirectory
from read_env.running.identity import RunIdentity
from read_env.running.pool import EnvFactory
from read_env.running.runner import RunRequest, make_env

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from read_env.config import Config


@dataclass(frozen=True)
class TransferRequest:
    """What to measure.

    Attributes:
        config: shared by all runs; its agent, seed and budget are replaced.
        budgets: completion tokens, each at least one step.
        seeds: of the prompts.
        directory: gets ``runs/one-hot-CAPABILITY__seedN/``.
        capabilities: sources; all of the suite if empty.
        processes: worker processes.
        overwrite: delete an earlier matrix first.
    """

    config: Config
    budgets: tuple[int, ...]
    seeds: tuple[int, ...]
    directory: Path
    capabilities: tuple[str, ...] = ()
    processes: int = 1
    overwrite: bool = False

    def runs(self) -> dict[str, RunRequest]:
        """Name -> run.

        Raises:
            ReadEnvError: no budget or seed, one that is not positive, or an unknown capability.
        """
        from read_env.capabilities import get_suite
        from read_env.errors import unknown

        names = get_suite(self.config.suite).names
        for capability in self.capabilities:
            if capability not in names:
                raise unknown("capability", capability, names)
        if not self.budgets or min(self.budgets) <= 0:
            raise ReadEnvError(f"budgets: name at least one, each above 0, got {list(self.budgets)}")
        if not self.seeds:
            raise ReadEnvError("seeds: name at least one")
        budgets = tuple(sorted(set(self.budgets)))
        step = step_tokens(budgets, self.config.budget.step_tokens)
        budget = self.config.budget.model_copy(update={"total_tokens": budgets[-1], "step_tokens": step})
        requests = {}
        for seed in dict.fromkeys(self.seeds):
            for capability in self.capabilities or names:
                options = {"capability": capability}
                name = f"one-hot-{capability}__seed{seed}"
                config = self.config.model_copy(
                    update={"agent": "one-hot", "agent_options": options, "seed": seed, "budget": budget}
                )
                agent = AgentSpec("one-hot", options, label=f"one-hot-{capability}")
                requests[name] = RunRequest(config, agent, self.directory / "runs" / name, exam_at=budgets)
        return requests


def step_tokens(budgets: Sequence[int], wanted: int) -> int:
    """Completion tokens of a step, at most ``wanted`` and so that steps end at every budget.

    Where that would make steps shorter than half of what is wanted, they stay as they are, and the
    exam of a budget is held at the end of the step in which it is passed.

    >>> step_tokens([20_000, 40_000, 80_000], 6_000)
    5000
    >>> step_tokens([20_000, 80_001], 6_000)
    6000
    """
    common = math.gcd(*budgets)
    for parts in range(math.ceil(common / wanted), 2 * common // wanted + 1):
        if common % parts == 0:
            return common // parts
    return wanted


def transfer(
    request: TransferRequest, console: Console | None = None, env_factory: EnvFactory = make_env
) -> Mapping[str, str]:
    """Makes the runs that are missing.

    Args:
        request: what to measure.
        console: where progress is shown.
        env_factory: makes the environment of a configuration; a function of a module for workers.

    Returns:
        Run name -> error, for those that failed.

    Raises:
        ReadEnvError: the directory holds something else, or the request makes no sense.
    """
    runs = request.runs()
    first = next(iter(runs.values()))
    budgets, seeds = list(first.exam_at), list(dict.fromkeys(request.seeds))
    directory = RecordDirectory(request.directory)
    identity = RunIdentity.of_many("transfer", first.config, budgets=budgets)
    earlier = request.directory / "config.json"
    if earlier.exists() and not request.overwrite:
        seeds = list(dict.fromkeys([*files.read_json(earlier).get("seeds", []), *seeds]))
    settings = first.config.model_dump(mode="json", exclude={"agent", "agent_options", "task", "seed"})
    settings |= {"budgets": budgets, "seeds": seeds}
    with directory.claim(identity, settings, overwrite=request.overwrite):
        failures = run_many("transfer matrix", runs, request.processes, console, env_factory)
        for run in runs.values():
            files.remove(RunDirectory(run.directory).student)
    return failures
