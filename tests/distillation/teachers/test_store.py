"""Teacher answers on disk: what comes back is what was kept, or nothing."""

import multiprocessing
import os
import random
import time
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from read_env.distillation.teachers import store as store_module
from read_env.distillation.teachers.base import TeacherCache
from read_env.distillation.teachers.store import BlockStore, StoreStats
from read_env.distillation.text.completion import Answer
from read_env.losses.targets import TeacherTargets

LARGE = 10**9


def block_of(seed: int, vocabulary: int = 91, count: int = 4, kept: int = 5) -> tuple[Answer, ...]:
    rng = np.random.default_rng(seed)
    answers = []
    for _ in range(count):
        tokens = torch.from_numpy(rng.integers(vocabulary, size=rng.integers(1, 9)))
        logits = torch.from_numpy(rng.normal(size=(len(tokens), vocabulary)))
        answers.append(Answer(tuple(tokens.tolist()), TeacherTargets.from_logits(logits, tokens, kept)))
    return tuple(answers)


def key_of(number: int) -> bytes:
    return number.to_bytes(16, "big")


def same(first: tuple[Answer, ...], second: tuple[Answer, ...]) -> bool:
    return all(
        a.token_ids == b.token_ids
        and all(
            x is y is None or (torch.equal(x, y) and x.dtype == y.dtype)
            for x, y in zip(vars(a.targets).values(), vars(b.targets).values(), strict=True)
        )
        for a, b in zip(first, second, strict=True)
    )


@given(st.integers(0, 1000), st.sampled_from([3, 91, 40_000]), st.integers(1, 5), st.integers(1, 60))
def test_a_block_comes_back_to_the_bit(tmp_path_factory, seed, vocabulary, count, kept):
    store, block = BlockStore(tmp_path_factory.mktemp("store"), LARGE), block_of(seed, vocabulary, count, kept)
    assert store.read(key_of(seed)) is None
    store.write(key_of(seed), block)
    assert same(store.read(key_of(seed)), block)


@pytest.mark.parametrize("tokens", [(4, 2), ()])
def test_text_without_probabilities_or_tokens_is_kept_too(tmp_path, tokens):
    store = BlockStore(tmp_path, LARGE)
    block = (Answer(tokens, TeacherTargets.from_tokens(torch.tensor(tokens, dtype=torch.int64))),)
    store.write(key_of(1), block)
    assert same(store.read(key_of(1)), block)


@given(st.data())
def test_a_damaged_block_is_never_served(tmp_path_factory, data):
    store = BlockStore(tmp_path_factory.mktemp("store"), LARGE)
    store.write(key_of(3), block_of(3))
    (path,) = store.directory.glob("*/*")
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans(), "cut"):
        content = content[: data.draw(st.integers(0, len(content) - 1), "length")]
    else:
        content[data.draw(st.integers(0, len(content) - 1), "place")] ^= data.draw(st.integers(1, 255), "bits")
    path.write_bytes(bytes(content))
    assert store.read(key_of(3)) is None
    assert store.stats.damaged == 1 and not path.exists()
    store.write(key_of(3), block_of(3))
    assert same(store.read(key_of(3)), block_of(3))


def test_a_block_under_another_name_is_never_served(tmp_path):
    store = BlockStore(tmp_path, LARGE)
    store.write(key_of(1), block_of(1))
    (path,) = tmp_path.glob("*/*")
    path.rename(path.with_name(f"{key_of(2).hex()}.block"))
    assert store.read(key_of(2)) is None and store.stats.damaged == 1


def _write_for_ever(directory, seed):
    store, rng = BlockStore(directory, LARGE), random.Random(seed)
    while True:
        number = rng.randrange(40)
        store.write(key_of(number), block_of(number, count=30, kept=50))


def test_killed_writers_leave_whole_blocks_or_none(tmp_path):
    context = multiprocessing.get_context("fork")
    for round_ in range(6):
        writers = [context.Process(target=_write_for_ever, args=(tmp_path, 10 * round_ + i)) for i in range(2)]
        for writer in writers:
            writer.start()
        time.sleep(0.1 + 0.03 * round_)
        for writer in writers:
            writer.kill()
            writer.join()
    store = BlockStore(tmp_path, LARGE)
    found = {number: block for number in range(40) if (block := store.read(key_of(number)))}
    assert all(same(block, block_of(number, count=30, kept=50)) for number, block in found.items())
    assert len(found) == store.stats.hits > 0 == store.stats.damaged


def test_the_bound_holds_and_what_was_used_last_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "_TOUCH_SECONDS", -1.0)
    probe = BlockStore(tmp_path / "probe", LARGE)
    probe.write(key_of(0), block_of(0))
    size = probe.stats.bytes
    store = BlockStore(tmp_path / "store", int(6.5 * size))
    now = time.time() - 1000
    for number in range(12):
        store.write(key_of(number), block_of(number))
        for path in store.directory.glob(f"*/{key_of(number).hex()}*"):
            os.utime(path, (now + number, now + number))
        assert store.read(key_of(0)) is not None, "read at every turn, so never among the oldest"
    left = list(store.directory.glob("*/*"))
    assert sum(path.stat().st_size for path in left) <= store.max_bytes
    assert store.read(key_of(11)) is not None and store.read(key_of(1)) is None


def test_the_bound_holds_for_two_processes_that_write_in_turn(tmp_path):
    probe = BlockStore(tmp_path / "probe", LARGE)
    probe.write(key_of(0), block_of(0, 91, 8))
    stores = [BlockStore(tmp_path / "store", 30 * probe.stats.bytes) for _ in range(2)]
    for number in range(60):
        stores[number % 2].write(key_of(number), block_of(0, 91, 8))
        held = sum(path.stat().st_size for path in (tmp_path / "store").glob("*/*"))
        # What the other wrote since this one looked: an eighth of a tenth of the bound, or a block.
        assert held <= stores[0].max_bytes + probe.stats.bytes
    assert sum(store.stats.evicted for store in stores) >= 30


def test_the_folder_is_not_measured_at_every_write(tmp_path, monkeypatch):
    measured, original = [], BlockStore._files
    monkeypatch.setattr(BlockStore, "_files", lambda store: measured.append(store) or original(store))
    store = BlockStore(tmp_path, LARGE)
    for number in range(5):
        store.write(key_of(number), block_of(number))
    assert len(measured) == 1


def test_abandoned_temporary_files_go_and_fresh_ones_stay(tmp_path):
    store = BlockStore(tmp_path, LARGE)
    store.write(key_of(1), block_of(1))
    folder = next(tmp_path.iterdir())
    old, new = (folder / f"{key_of(1).hex()}.{digit * 32}.tmp" for digit in "ab")
    old.write_bytes(b"x")
    new.write_bytes(b"x")
    os.utime(old, (0, 0))
    BlockStore(tmp_path, LARGE).write(key_of(2), block_of(2))
    assert set(folder.glob("*.tmp")) == {new}


def test_files_of_others_are_neither_deleted_nor_counted(tmp_path):
    """A store may be told to live in a folder that has other things in it, such as the current one."""
    foreign = [f"ab/{'0' * 32}.txt", "ab/notes.tmp", "ab/x.block", f"ab/{'0' * 32}.tmp", f"my/{'0' * 32}.block"]
    for name in foreign:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(bytes(100_000))
        os.utime(tmp_path / name, (0, 0))
    store = BlockStore(tmp_path, 50_000)
    for number in range(3):
        store.write(key_of(number), block_of(number))
    assert all((tmp_path / name).exists() for name in foreign)
    assert store.stats.evicted == 0 and all(store.read(key_of(number)) for number in range(3))


def test_the_numbers_say_what_happened(tmp_path):
    store = BlockStore(tmp_path, LARGE)
    assert store.stats == StoreStats()
    store.read(key_of(1))
    store.write(key_of(1), block_of(1))
    store.read(key_of(1))
    tokens = sum(len(c) for c in block_of(1))
    (path,) = tmp_path.glob("*/*")
    assert (store.stats.hits, store.stats.misses, store.stats.tokens) == (1, 1, 2 * tokens)
    assert store.stats.bytes == 2 * path.stat().st_size and store.stats.read_seconds > 0


def counting_teacher():
    complete = Mock(side_effect=lambda texts: block_of(len(texts), count=len(texts)))
    return SimpleNamespace(identity="a teacher", batched=True, encoder=None, complete=complete)


@pytest.mark.parametrize(("kept", "forgotten"), [(5, False), (91, True)])
def test_the_answers_in_memory_are_limited_by_their_bytes(kept, forgotten):
    """Probabilities of K tokens take most of the memory: with a larger K fewer answers stay."""
    teacher = counting_teacher()
    teacher.complete.side_effect = lambda texts: block_of(int(texts[0]), count=1, kept=kept)
    cache = TeacherCache(teacher, max_bytes=4_000)
    texts = [[str(number)] for number in range(4)]
    first, again = ([cache.complete(one) for one in texts] for _ in range(2))
    assert all(map(same, first, again)) and (teacher.complete.call_count > len(texts)) == forgotten


def test_a_teacher_is_asked_once_for_all_processes(tmp_path):
    first, second = counting_teacher(), counting_teacher()
    block = TeacherCache(first, store=BlockStore(tmp_path, LARGE)).complete(["a", "b"])
    assert same(TeacherCache(second, store=BlockStore(tmp_path, LARGE)).complete(["a", "b"]), block)
    assert (first.complete.call_count, second.complete.call_count) == (1, 0)


def test_a_store_that_cannot_be_written_costs_nothing_but_a_warning(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    cache = TeacherCache(counting_teacher(), store=BlockStore(tmp_path / "file", LARGE))
    assert same(cache.complete(["a"]), block_of(1, count=1))
    assert same(cache.complete(["a", "b"]), block_of(2, count=2))
    assert len([record for record in caplog.records if "not kept on disk" in record.message]) == 1
