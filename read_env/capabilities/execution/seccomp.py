"""A system call filter for the calling process: few calls pass, all others fail with EPERM.

Linux only; needs no privileges. :func:`program` makes the filter, :func:`install` hands it to the kernel.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import struct
import sys
from collections.abc import Mapping
from typing import NamedTuple

_ALLOW = 0x7FFF0000
_FAIL = 0x00050000 | errno.EPERM
_KILL = 0x80000000
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_NUMBER_AT, _ARCHITECTURE_AT = 0, 4

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
_SECCOMP_MODE_FILTER = 2


class Architecture(NamedTuple):
    """How the kernel names a machine, and the numbers of the calls that pass on it."""

    audit: int
    calls: Mapping[str, int]


# Left out on purpose, though harmless in most processes: madvise (a privileged process could
# poison physical memory with it), tgkill (signals), close (the result pipe must stay), read
# (nothing is open for reading).
ARCHITECTURES: Mapping[str, Architecture] = {
    "x86_64": Architecture(
        0xC000003E,
        {
            "write": 1,
            "mmap": 9,
            "mprotect": 10,
            "munmap": 11,
            "brk": 12,
            "rt_sigaction": 13,
            "rt_sigprocmask": 14,
            "rt_sigreturn": 15,
            "select": 23,  # time.sleep of Python 3.10
            "sched_yield": 24,
            "mremap": 25,
            "nanosleep": 35,
            "getpid": 39,
            "exit": 60,
            "gettimeofday": 96,
            "gettid": 186,
            "time": 201,
            "futex": 202,
            "restart_syscall": 219,
            "clock_gettime": 228,
            "clock_getres": 229,
            "clock_nanosleep": 230,
            "exit_group": 231,
            "pselect6": 270,
            "getrandom": 318,
        },
    ),
    "aarch64": Architecture(
        0xC00000B7,
        {
            "write": 64,
            "pselect6": 72,
            "exit": 93,
            "exit_group": 94,
            "futex": 98,
            "nanosleep": 101,
            "clock_gettime": 113,
            "clock_getres": 114,
            "clock_nanosleep": 115,
            "sched_yield": 124,
            "restart_syscall": 128,
            "rt_sigaction": 134,
            "rt_sigprocmask": 135,
            "rt_sigreturn": 139,
            "gettimeofday": 169,
            "getpid": 172,
            "gettid": 178,
            "brk": 214,
            "munmap": 215,
            "mremap": 216,
            "mmap": 222,
            "mprotect": 226,
            "getrandom": 278,
        },
    ),
}


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def machine() -> str:
    """The machine's name as in :data:`ARCHITECTURES`, or another one if there is no filter for it."""
    return os.uname().machine if sys.platform == "linux" else sys.platform


def program(architecture: Architecture) -> bytes:
    """The filter as BPF instructions of 8 bytes: kill on a foreign architecture, EPERM unless listed.

    Numbers are compared whole, so those of the x32 variant of x86_64 (a high bit set) are refused too.
    """
    numbers = sorted(architecture.calls.values())
    instructions = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_JUMP_IF_EQUAL, 1, 0, architecture.audit),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_AT),
        # On a match, jump over the rest of the list and over the refusal.
        *((_JUMP_IF_EQUAL, len(numbers) - place, 0, number) for place, number in enumerate(numbers)),
        (_RETURN, 0, 0, _FAIL),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, *arguments: int) -> None:
    values = [ctypes.c_ulong(argument) for argument in (*arguments, *[0] * (4 - len(arguments)))]
    if _libc().prctl(ctypes.c_int(option), *values) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def die_with_parent(signal: int) -> None:
    """Have the kernel send ``signal`` when the parent dies, and dump no core. Linux only."""
    _prctl(_PR_SET_PDEATHSIG, signal)
    _prctl(_PR_SET_DUMPABLE, 0)


def install() -> None:
    """Confine this process for the rest of its life, and see that it is.

    Descriptors that are open stay usable for writing: close them first.

    Raises:
        OSError: if the kernel doesn't take the filter, or takes it without effect.
        KeyError: if there is none for this machine.
    """
    code = program(ARCHITECTURES[machine()])
    buffer = ctypes.create_string_buffer(code, len(code))
    structure = _Program(len(code) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(structure))
    try:
        os.pipe()
    except OSError as error:
        # Not EMFILE: that would be the limit on descriptors, which comes after the filter.
        if error.errno == errno.EPERM:
            return
    raise OSError(errno.ENOSYS, "the filter has no effect")
