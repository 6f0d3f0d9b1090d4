"""The system call filter, interpreted here as the kernel interprets it."""

import errno
import struct

import pytest

from read_env.capabilities.execution import seccomp


def decide(filter_program: bytes, architecture: int, number: int) -> int:
    """What the kernel answers to a system call, by running the filter as the kernel does."""
    data = struct.pack("=II", number, architecture)
    instructions = list(struct.iter_unpack("=HBBI", filter_program))
    place, accumulator = 0, 0
    while True:
        code, jump_true, jump_false, value = instructions[place]
        place += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, value)
        elif code == 0x15:
            place += jump_true if accumulator == value else jump_false
        else:
            assert code == 0x06
            return int(value)


@pytest.mark.parametrize("name", seccomp.ARCHITECTURES)
def test_the_filter_lets_only_listed_calls_pass(name: str) -> None:
    architecture = seccomp.ARCHITECTURES[name]
    code = seccomp.program(architecture)
    passed = {n for n in range(1024) if decide(code, architecture.audit, n) == 0x7FFF0000}
    assert passed == set(architecture.calls.values())
    refused = {decide(code, architecture.audit, n) for n in set(range(1024)) - passed}
    assert refused == {0x00050000 | errno.EPERM}
    # Another way of calling the same kernel: the numbers of x32, and another architecture's.
    assert {decide(code, architecture.audit, n | 0x40000000) for n in range(1024)} == refused
    for foreign in (0x40000003, 0x40000028, *(other.audit for other in seccomp.ARCHITECTURES.values())):
        if foreign != architecture.audit:
            assert {decide(code, foreign, n) for n in range(512)} == {0x80000000}
