"""Recorded episodes that a surrogate is fitted to, as arrays and as a compressed file."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from read_env import files
from read_env.errors import ReadEnvError
from read_env.surrogate.model import rates_of

#: Arrays of the file: factor by which the values are stored as whole numbers.
_STORED = {"start": 1e4, "tokens": 1.0, "profiles": 1e4, "losses": 1e3}


@dataclass(frozen=True, eq=False)
class Episodes:
    """Recorded episodes of T steps, E in number; shorter ones are padded.

    Attributes:
        students: E starting students.
        policies: E names of what chose the allocations.
        start: (E, |C|) profile at the reset.
        tokens: (E, T, |C|) completion tokens of each step.
        profiles: (E, T, |C|) profile after it.
        losses: (E, T, |C|) training loss, nats per token; 0 for a capability without tokens.
        played: (E, T) True for steps, False for padding.
    """

    students: np.ndarray
    policies: np.ndarray
    start: np.ndarray
    tokens: np.ndarray
    profiles: np.ndarray
    losses: np.ndarray
    played: np.ndarray

    def __len__(self) -> int:
        return len(self.start)

    def __getitem__(self, index: Any) -> Episodes:
        """Episodes at these positions, or where a mask is true."""
        return Episodes(**{one.name: getattr(self, one.name)[index] for one in fields(self)})

    @property
    def before(self) -> np.ndarray:
        """(E, T, |C|) profile measured before each step."""
        return np.concatenate([self.start[:, None], self.profiles[:, :-1]], axis=1)

    @property
    def final(self) -> np.ndarray:
        """(E, |C|) profile at the end."""
        return self.profiles[np.arange(len(self)), self.played.sum(1) - 1]

    @classmethod
    def of(cls, episodes: Sequence[Mapping[str, Any]]) -> Episodes:
        """Arrays of episodes.

        Args:
            episodes: mappings with ``student``, ``policy``, ``start`` (|C|,) and ``steps``, a list of mappings with
                ``tokens``, ``profile`` and ``loss``, each (|C|,).
        """
        longest, size = max(len(one["steps"]) for one in episodes), len(episodes[0]["start"])

        def padded(name: str) -> np.ndarray:
            values = np.zeros((len(episodes), longest, size))
            for row, one in zip(values, episodes, strict=True):
                row[: len(one["steps"])] = [step[name] for step in one["steps"]]
            return values

        counts = np.array([len(one["steps"]) for one in episodes])
        return cls(
            students=np.array([str(one["student"]) for one in episodes]),
            policies=np.array([str(one["policy"]) for one in episodes]),
            start=np.array([one["start"] for one in episodes], np.float64),
            tokens=padded("tokens"), profiles=padded("profile"), losses=padded("loss"),
            played=np.arange(longest) < counts[:, None],
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Record:
    """Episodes of one suite, pair of models and budget.

    Attributes:
        capabilities: |C| names.
        total_tokens: the budget B.
        step_tokens: completion tokens of a step.
        lr_scheduler_type, warmup_ratio: as in section ``distill``.
        teacher: (|C|,) scores of the teacher on the probes; ones where they are not known.
        episodes: the episodes.
    """

    capabilities: tuple[str, ...]
    total_tokens: int
    step_tokens: int
    lr_scheduler_type: str
    warmup_ratio: float
    teacher: np.ndarray
    episodes: Episodes

    @property
    def rates(self) -> np.ndarray:
        """(E, T) learning-rate factor of every step; 0 for padding."""
        ends = self.episodes.tokens.sum(2).cumsum(1) / self.total_tokens
        rows = [rates_of(self.lr_scheduler_type, self.warmup_ratio, row.clip(0, 1)) for row in ends]
        return np.array(rows) * self.episodes.played

    def __getitem__(self, index: Any) -> Record:
        """Record of some of the episodes."""
        return replace(self, episodes=self.episodes[index])

    def save(self, path: str | Path) -> None:
        """Write the record to a compressed ``.npz`` file, scores with four digits, losses with three."""
        facts = {
            "capabilities": list(self.capabilities), "total_tokens": self.total_tokens, "step_tokens": self.step_tokens,
            "lr_scheduler_type": self.lr_scheduler_type, "warmup_ratio": self.warmup_ratio,
            "teacher": np.round(self.teacher, 4).tolist(), "students": self.episodes.students.tolist(),
            "policies": self.episodes.policies.tolist(),
        }  # fmt: skip
        stored = {
            name: (getattr(self.episodes, name) * by).round().clip(0, 65_535).astype(np.uint16)
            for name, by in _STORED.items()
        }
        with files.whole_file(Path(path)) as file:
            np.savez_compressed(file, facts=np.array(json.dumps(facts)), played=self.episodes.played, **stored)

    @classmethod
    def load(cls, path: str | Path) -> Record:
        """Record of a file.

        Raises:
            ReadEnvError: no such file, or one that holds no record.
        """
        try:
            with np.load(path, allow_pickle=False) as stored:
                facts = json.loads(str(stored["facts"]))
                arrays = {name: stored[name].astype(np.float64) / by for name, by in _STORED.items()}
                played = stored["played"]
            students, policies = (np.array(facts.pop(name)) for name in ("students", "policies"))
            facts |= {"capabilities": tuple(facts["capabilities"]), "teacher": np.array(facts["teacher"])}
            return cls(**facts, episodes=Episodes(students, policies, played=played, **arrays))
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise ReadEnvError(f"{path} holds no recorded episodes: {type(error).__name__} {error}") from None
