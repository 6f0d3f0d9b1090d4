"""The directory of a run: whose it is, what stands in it, and how it is taken up again.

==================  ======================================================================
``config.json``     the resolved configuration
``identity.json``   what a resumed run must agree with (:mod:`read_env.running.identity`)
``start.json``      the student before the run
``steps.jsonl``     one line a finished step
``checkpoint/``     the state to go on from: one file, replaced atomically
``summary.json``    only when the run is finished
``student/``        the distilled student, in Hugging Face form
``tensorboard/``    curves
==================  ======================================================================
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from read_env import files
from read_env.errors import ReadEnvError
from read_env.running.identity import RunIdentity

if TYPE_CHECKING:
    from typing_extensions import Self

#: What reports and interrupted writes add to any of them.
_REPORTS = ("report.md", "*.png", "runs.csv", "commands.txt", "*.tmp")

#: Everything that each kind of directory holds; ``--overwrite`` deletes this and nothing else.
_OWN = {
    "run": (
        "config.json", "start.json", "steps.jsonl", "summary.json", "error.txt", "checkpoint", "student", "tensorboard",
    ),
    "comparison": ("config.json", "runs"),
    "transfer": ("config.json", "runs", "transfer.json", "tensorboard"),
    "training": ("config.json", "episodes.jsonl", "training.json", "agent.*", "checkpoint", "tensorboard"),
}  # fmt: skip

_REMEDY = "the records beside it are untouched: put the file back, or start over with --overwrite"


class RecordDirectory:
    """A directory that belongs to one identity and is held by one process at a time.

    Args:
        path: the directory; need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.json"
        self.identity = path / "identity.json"
        self.checkpoint = path / "checkpoint" / "state.pt"
        self.tensorboard = path / "tensorboard"
        self._lock: int | None = None

    def claim(self, identity: RunIdentity, config: Mapping[str, Any], *, overwrite: bool = False) -> Self:
        """Makes the directory this identity's own, or recognises it as such. Use it as a context manager.

        Args:
            identity: what is to be run.
            config: the resolved configuration, written beside the records.
            overwrite: delete the records of another identity (or of an earlier run) first.

        Raises:
            ReadEnvError: if it holds something else (the fields that differ are named), something
                that nobody here wrote, or is in use by another process. Nothing is changed then.
        """
        if self.path.exists() and not self.path.is_dir():
            raise ReadEnvError(f"{self.path} is a file; name a directory (--out)")
        self.path.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        try:
            if self.identity.exists():
                self._recognise(identity, overwrite)
            # The identity is the first thing that is ever written here.
            elif any(not p.name.endswith(".tmp") for p in self.path.iterdir()):
                raise ReadEnvError(
                    f"{self.path} is not empty and has no identity.json, so nothing in it is touched; "
                    "choose another directory (--out)"
                )
            if not self.identity.exists():
                files.write_json(self.identity, identity.to_json())
            files.write_json(self.config, config)
        except BaseException:
            self.release()
            raise
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Lets another process claim the directory."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def save_checkpoint(self, state: Mapping[str, Any]) -> None:
        """Replaces the checkpoint."""
        self.checkpoint.parent.mkdir(exist_ok=True)
        files.save_tensors(self.checkpoint, state)

    def load_checkpoint(self, *, expected: bool) -> dict[str, Any] | None:
        """The state to go on from; None if there is none and none is expected.

        Raises:
            ReadEnvError: if it is damaged, or missing although it is expected.
        """
        if not self.checkpoint.exists() and not expected:
            return None
        saved = files.load_tensors(self.checkpoint, _REMEDY)
        if not isinstance(saved.get("step"), int):
            raise ReadEnvError(f"checkpoint {self.checkpoint} holds no state of a run; {_REMEDY}")
        return saved

    @contextmanager
    def fitting_checkpoint(self) -> Iterator[None]:
        """Makes an error while a checkpoint is taken over say which file doesn't fit, and what to do."""
        try:
            yield
        except (ReadEnvError, KeyError, TypeError, ValueError, IndexError, RuntimeError) as error:
            reason = str(error) if isinstance(error, ReadEnvError) else f"{type(error).__name__}: {error}"
            raise ReadEnvError(f"checkpoint {self.checkpoint} does not fit ({reason}); {_REMEDY}") from error

    def _recognise(self, identity: RunIdentity, overwrite: bool) -> None:
        there = RunIdentity.from_json(files.read_json(self.identity))
        if there.kind != identity.kind:
            raise ReadEnvError(
                f"{self.path} holds a {there.kind}, which a {identity.kind} never replaces; choose another directory (--out)"
            )
        if overwrite:
            self._clear(identity.kind)
            return
        differences = there.differences(identity)
        if differences:
            listed = "".join(f"\n  {line}" for line in differences)
            raise ReadEnvError(
                f"{self.path} holds another {there.kind}; these fields differ:{listed}\n"
                "choose another directory (--out), or delete what is there with --overwrite"
            )

    def _clear(self, kind: str) -> None:
        for pattern in (*_OWN[kind], *_REPORTS):
            for path in self.path.glob(pattern):
                files.remove(path)
        # Last: a deletion that is cut short leaves a directory that is still refused.
        files.remove(self.identity)

    def _take_lock(self) -> None:
        try:
            import fcntl
        except ImportError:  # not on Windows; two processes in one directory are then the user's to avoid
            return
        # The folder itself is locked, so no lock file stays behind; and the kernel drops the lock
        # when the process dies, however it dies.
        lock = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise ReadEnvError(
                f"{self.path} is in use by another process; wait for it, or choose another --out"
            ) from None
        self._lock = lock


class RunDirectory(RecordDirectory):
    """The directory of one run."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.start = path / "start.json"
        self.steps = path / "steps.jsonl"
        self.summary = path / "summary.json"
        self.student = path / "student"
        self.error = path / "error.txt"

    @property
    def finished(self) -> bool:
        """Whether the run came to its end: the summary is written last."""
        return self.summary.exists()

    @property
    def begun(self) -> bool:
        """Whether steps are on record."""
        return self.steps.exists() and self.steps.stat().st_size > 0
