"""Recorded runs as the data of a rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from read_env.agents.observation import Array
from read_env.agents.rules.base import LiteratureRule, surprisal
from read_env.errors import ReadEnvError


@dataclass(frozen=True)
class RecordedRun:
    """Outcome of a finished run.

    Attributes:
        allocation: mean allocation, the steps weighted by their completion tokens, (|C|,) on the simplex.
        start: probe scores before the run, (|C|,).
        end: probe scores after it, (|C|,).
        tokens: completion tokens that it spent.
    """

    allocation: Array
    start: Array
    end: Array
    tokens: int

    @property
    def losses(self) -> tuple[Array, Array]:
        """Probe surprisals before and after the run, (|C|,) each, in nats."""
        return surprisal(self.start), surprisal(self.end)


def read_runs(directory: str | Path, capabilities: Sequence[str]) -> list[RecordedRun]:
    """Finished runs of a run directory, or of the directory of a comparison or a transfer matrix.

    Runs that were derived from the records of another task are left out, as their source is there too.

    Raises:
        ReadEnvError: no such directory, a malformed record, another suite, or no finished run.
    """
    from read_env.reporting.runs import load_run  # imports pandas

    path = Path(directory).expanduser()
    inside = path / "runs"
    folders = sorted(folder for folder in inside.iterdir() if folder.is_dir()) if inside.is_dir() else [path]
    found = []
    for run in map(load_run, folders):
        if run.summary is None or not run.steps or (inside.is_dir() and run.summary.derived_from):
            continue
        if run.begun.suite != tuple(capabilities):
            raise ReadEnvError(
                f"{run.path} has the capabilities {', '.join(run.begun.suite)}; here they are {', '.join(capabilities)}"
            )
        tokens = np.array([step.completion_tokens for step in run.steps], dtype=np.float64)
        allocation = tokens @ np.array([step.allocation for step in run.steps], dtype=np.float64)
        start, end = (np.asarray(profile, dtype=np.float64) for profile in (run.begun.profile, run.steps[-1].profile))
        found.append(RecordedRun(allocation / allocation.sum(), start, end, run.spent))
    if not found:
        raise ReadEnvError(f"{path} has no finished run")
    return found


class RecordedRule(LiteratureRule):
    """Rule that is fitted on recorded runs before it acts.

    The runs are read when the agent first needs them. A saved agent holds what was fitted and needs them no more.
    """

    #: Option with the directory of the runs.
    source: ClassVar[str] = "runs"
    #: Runs that right options would name, for error messages.
    wanted: ClassVar[str] = "the directory of a comparison"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._fitted: dict[str, Array] = {}
        self._tokens = 0

    @property
    def tokens_before_run(self) -> int:
        return self._tokens

    def fit(self, runs: list[RecordedRun]) -> dict[str, Array]:
        """Arrays that the rule needs, by name.

        Raises:
            ReadEnvError: the runs are too few or of the wrong kind.
        """
        raise NotImplementedError

    def fitted(self) -> dict[str, Array]:
        """Result of :meth:`fit`, computed at the first call.

        Raises:
            ReadEnvError: no directory is given, or its runs can't be used.
        """
        if not self._fitted:
            directory = getattr(self.settings, self.source)
            if not directory:
                raise ReadEnvError(
                    f"agent {self.name!r} has no recorded runs; "
                    f"right would be '{self.name},{self.source}=PATH', PATH {self.wanted}"
                )
            try:
                runs = read_runs(directory, self.capabilities)
                self._fitted = self.fit(runs)
            except ReadEnvError as error:
                raise ReadEnvError(
                    f"agent {self.name!r}, option {self.source!r} is {directory!r}: {error}; "
                    f"right would be {self.wanted}"
                ) from error
            self._tokens = sum(run.tokens for run in runs)
        return self._fitted

    def check_task(self, requirement: Array) -> None:
        self.fitted()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "fitted": dict(self._fitted), "tokens": self._tokens}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._fitted = {name: np.array(value, dtype=np.float64) for name, value in state["fitted"].items()}
        self._tokens = int(state["tokens"])
