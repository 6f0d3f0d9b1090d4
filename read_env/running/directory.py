"""Directory of a run, comparison, transfer matrix or training: its owner, its files, its lock and its checkpoint.

==================  ======================================================================
``config.json``     resolved configuration
``identity.json``   identity that a resumed run must have (:mod:`read_env.running.identity`)
``start.json``      student before the run
``steps.jsonl``     one line per finished step
``checkpoint/``     state to resume from: one file, replaced atomically
``summary.json``    result, written last
``student/``        distilled student, in Hugging Face form
``students/``       students during the run, by ``--keep``: ``step-000010/`` after ten steps
``external.json``   results on tasks of lm-eval (:mod:`read_env.running.external`)
``cards/``          cards of the measured tasks, as it began (:mod:`read_env.running.cards`)
``tensorboard/``    curves
``.lock``           held by the process that writes here; empty, and stays behind
==================  ======================================================================
"""

from __future__ import annotations

import errno
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock

from read_env import files
from read_env.errors import ReadEnvError
from read_env.running.identity import RunIdentity

if TYPE_CHECKING:
    from read_env.config import Config

#: Errors of file systems that can't lock, such as NFS without its lock daemon.
_NO_LOCKS = (errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)

#: Files that reports and interrupted writes add to any kind of directory.
_REPORTS = ("report.md", "report.html", "*.png", "runs.csv", "commands.txt", "*.tmp")

#: Files of each kind of directory; ``--overwrite`` deletes these and nothing else.
_OWN = {
    "run": (
        "config.json", "start.json", "steps.jsonl", "summary.json", "error.txt", "checkpoint", "student", "students",
        "external.json", "cards", "tensorboard",
    ),
    "comparison": ("config.json", "cards", "runs"),
    "transfer": ("config.json", "runs", "transfer.json", "tensorboard"),
    "identification": ("config.json", "task.toml", "runs", "requirement.json", "card.toml"),
    "training": (
        "config.json", "episodes.jsonl", "training.json", "agent.*", "README.md", "cards", "checkpoint", "tensorboard",
    ),
}  # fmt: skip

_REMEDY = "the records beside it are untouched: put the file back, or start over with --overwrite"


class RecordDirectory:
    """Directory that belongs to one identity and is used by one process at a time.

    Args:
        path: the directory; need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.json"
        self.identity = path / "identity.json"
        self.checkpoint = path / "checkpoint" / "state.pt"
        self.tensorboard = path / "tensorboard"
        self.cards = path / "cards"
        # The kernel drops the lock when the process dies, however it dies.
        self._lock = filelock.FileLock(path / ".lock", fallback_to_soft=False)
        self._saved_at = time.monotonic()
        self._save_seconds = 0.0

    @contextmanager
    def claim(self, identity: RunIdentity, config: Mapping[str, Any], *, overwrite: bool = False) -> Iterator[None]:
        """Lock the directory during the block and give it this identity, or check that it has it.

        Args:
            identity: identity of the run.
            config: resolved configuration, written beside the records.
            overwrite: delete the records of an earlier run first.

        Raises:
            ReadEnvError: the directory holds another run (the fields that differ are named) or foreign files, or another
                process uses it. Nothing is changed then.
        """
        if self.path.exists() and not self.path.is_dir():
            raise ReadEnvError(f"{self.path} is a file; name a directory (--out)")
        try:
            str(self.path).encode()
        except UnicodeEncodeError:
            shown = str(self.path).encode("utf-8", "backslashreplace").decode()
            raise ReadEnvError(
                f"{shown} is not UTF-8, and tokenizers can't be saved there; choose another directory (--out)"
            ) from None
        self.path.mkdir(parents=True, exist_ok=True)
        with self.locked():
            if self.identity.exists():
                self._recognise(identity, overwrite)
            # The identity is the first file that is written here.
            elif any(not p.name.endswith(".tmp") and p.name != ".lock" for p in self.path.iterdir()):
                raise ReadEnvError(
                    f"{self.path} is not empty and has no identity.json, so nothing in it is touched; "
                    "choose another directory (--out)"
                )
            if not self.identity.exists():
                files.write_json(self.identity, identity.to_json())
            files.write_json(self.config, config)
            yield

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the directory during the block.

        Raises:
            ReadEnvError: another process uses it.
        """
        self._acquire()
        try:
            yield
        finally:
            self._lock.release()

    def merged_settings(self, config: Config, overwrite: bool, **lists: Sequence[Any]) -> dict[str, Any]:
        """Content of ``config.json`` of a comparison or transfer matrix.

        Args:
            config: configuration that the runs share.
            overwrite: an earlier ``config.json`` doesn't count.
            lists: names and values that every call adds to, such as seeds.
        """
        earlier = files.read_json(self.config) if self.config.exists() and not overwrite else {}
        return {
            **config.model_dump(mode="json", exclude={"agent", "agent_options", "task", "seed"}),
            **{name: list(dict.fromkeys([*earlier.get(name, []), *values])) for name, values in lists.items()},
        }

    def checkpoint_due(self, share: float) -> bool:
        """False while another checkpoint would make checkpoints take more than ``share`` of the time."""
        return time.monotonic() - self._saved_at >= self._save_seconds / share

    def save_checkpoint(self, state: Callable[[], Mapping[str, Any]]) -> None:
        """Replace the checkpoint by what ``state()`` returns, and note the time that both took."""
        started = time.monotonic()
        self.checkpoint.parent.mkdir(exist_ok=True)
        files.save_tensors(self.checkpoint, state())
        self._saved_at = time.monotonic()
        self._save_seconds = self._saved_at - started

    def load_checkpoint(self, *, expected: bool) -> dict[str, Any] | None:
        """State to resume from; None if there is none and none is expected.

        Raises:
            ReadEnvError: it is damaged, or missing although expected.
        """
        if not self.checkpoint.exists() and not expected:
            return None
        saved = files.load_tensors(self.checkpoint, _REMEDY)
        if not isinstance(saved.get("step"), int):
            raise ReadEnvError(f"checkpoint {self.checkpoint} holds no state of a run; {_REMEDY}")
        return saved

    @contextmanager
    def fitting_checkpoint(self) -> Iterator[None]:
        """Name the file and the remedy in errors that occur while a checkpoint is loaded."""
        try:
            yield
        except (ReadEnvError, KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
            reason = str(error) if isinstance(error, ReadEnvError) else f"{type(error).__name__}: {error}"
            raise ReadEnvError(f"checkpoint {self.checkpoint} does not fit ({reason}); {_REMEDY}") from error

    def _acquire(self) -> None:
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            raise ReadEnvError(
                f"{self.path} is in use by another process; wait for it, or choose another --out"
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            warnings.warn(
                f"{self.path} is on a file system without locks ({error.strerror}): let one process alone write there",
                RuntimeWarning,
                stacklevel=3,
            )

    def _recognise(self, identity: RunIdentity, overwrite: bool) -> None:
        there = RunIdentity.from_json(files.read_json(self.identity))
        differences = there.differences(identity)
        if (differences or there.kind != identity.kind) and there.kind in _OWN and not self.holds_results():
            self._clear(there.kind)  # of a run that failed before its first step
            return
        if there.kind != identity.kind:
            raise ReadEnvError(
                f"{self.path} holds a {there.kind}, which a {identity.kind} never replaces; choose another directory (--out)"
            )
        if overwrite:
            self._clear(identity.kind)
            return
        if differences:
            raise ReadEnvError(
                f"{self.path} holds another {there.kind} ({'; '.join(differences)}); choose another directory (--out), or "
                "delete what is there with --overwrite"
            )

    def holds_results(self) -> bool:
        """True once a step is recorded, here or in a run of a comparison, or saved in a checkpoint."""
        records = ("steps.jsonl", "episodes.jsonl", "summary.json", "training.json")
        if any(path.stat().st_size for name in records for path in self.path.rglob(name)):
            return True
        try:
            saved = self.load_checkpoint(expected=False)
        except ReadEnvError:  # damaged, but the user may have a copy
            return True
        return saved is not None and saved["step"] > 0

    def _clear(self, kind: str) -> None:
        for pattern in (*_OWN[kind], *_REPORTS):
            for path in self.path.glob(pattern):
                files.remove(path)
        # Last, so that an interrupted deletion leaves a directory that is still refused.
        files.remove(self.identity)


class RunDirectory(RecordDirectory):
    """Directory of one run.

    Example:
        >>> RunDirectory(Path("no-such-run")).finished
        False
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.start = path / "start.json"
        self.steps = path / "steps.jsonl"
        self.summary = path / "summary.json"
        self.student = path / "student"
        self.external = path / "external.json"
        self.error = path / "error.txt"

    @property
    def finished(self) -> bool:
        """True once the summary is there, which is written last."""
        return self.summary.exists()

    def kept_student(self, step: int) -> Path:
        """Folder of the student after a step, kept by ``--keep``."""
        return self.path / "students" / f"step-{step:06d}"

    def kept_students(self) -> list[Path]:
        """Folders of the students that ``--keep`` saved, by step."""
        return sorted(self.path.glob("students/step-" + "[0-9]" * 6))

    @property
    def begun(self) -> bool:
        """True once a step is recorded."""
        return self.steps.exists() and self.steps.stat().st_size > 0
