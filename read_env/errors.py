"""Errors that are shown to the user."""

from __future__ import annotations

import difflib
import errno
import os
from collections.abc import Iterable


class ReadEnvError(ValueError):
    """Error that the user can correct: the message names the field, the value and what would be right."""


class DivergedError(ReadEnvError):
    """A student update diverged; the step was refused and the student restored."""


#: What helps against an error of the operating system.
_HELP = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "make room there; the same command goes on from what is saved"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "choose a place where you may read and write, such as with --out"),
    errno.ENAMETOOLONG: "choose a shorter name, such as with --out",
    errno.EIO: "check the disk; the same command goes on from what is saved",
    errno.ESTALE: "check the network share; the same command goes on from what is saved",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}  # fmt: skip


def describe_os_error(error: OSError) -> str:
    """Text of an error of the operating system in one line: the file, the problem and what would help.

    >>> describe_os_error(OSError(errno.EROFS, "Read-only file system", "runs/a"))
    'runs/a: Read-only file system; choose a place where you may read and write, such as with --out'
    """
    if error.errno is None or error.strerror is None:  # of libraries, with a text alone
        return " ".join(str(error).split()) or type(error).__name__
    help_ = _HELP.get(error.errno)
    names = [
        os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, (str, bytes, os.PathLike))
    ]
    where = f"{' -> '.join(names)}: " if names else ""
    return f"{where}{error.strerror}" + (f"; {help_}" if help_ else "")


def unknown(kind: str, value: str, known: Iterable[str]) -> ReadEnvError:
    """Error for an unknown name; the message lists the known names, the closest first.

    >>> print(unknown("agent", "unifrom", ["uniform", "greedy"]))
    unknown agent 'unifrom': did you mean 'uniform'? known: uniform, greedy
    """
    names = list(known)
    similarity = {name: difflib.SequenceMatcher(None, value.casefold(), name.casefold()).ratio() for name in names}
    names.sort(key=lambda name: (-similarity[name], name))
    hint = f"did you mean {names[0]!r}? " if names and similarity[names[0]] >= 0.5 else ""
    return ReadEnvError(f"unknown {kind} {value!r}: {hint}known: {', '.join(names) or 'none'}")
