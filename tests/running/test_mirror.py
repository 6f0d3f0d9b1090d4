"""Copies of run directories on other machines: whole at every moment, in pieces where files are large."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_runs import Make, contents, play

from read_env.running import mirror
from read_env.running.mirror import Mirror, write_piece


def copy(source: Mirror, target: Path) -> list[str]:
    """Names of the files that were copied."""
    pieces = list(source.changes())
    for piece in pieces:
        write_piece(target, piece)
    return [piece.name for piece in pieces]


def test_only_changes_are_copied_and_in_the_end_both_are_equal(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "checkpoint").mkdir(parents=True)
    (source / "config.json").write_text("{}")
    (source / ".lock").touch()
    (source / "student.tmp").mkdir()
    (source / "student.tmp" / "half").write_text("written")
    copied = Mirror(source, copied=True)
    assert not copied.due and copy(copied, target) == []
    (source / "checkpoint" / "state.pt").write_bytes(b"1")
    (source / "steps.jsonl").write_text("{}\n")
    assert copied.due
    assert copy(copied, target) == ["steps.jsonl", "checkpoint/state.pt"], "a checkpoint comes after what it counts"
    assert not copied.due
    (source / "checkpoint" / "state.pt").unlink()
    (source / "summary.json").write_text("{}")
    assert copy(copied, target) == ["summary.json", "checkpoint/state.pt"], "and goes after the summary came"
    assert sorted(path.name for path in target.rglob("*")) == ["steps.jsonl", "summary.json"]
    assert copy(Mirror(source), target) == ["config.json", "steps.jsonl", "summary.json"]


def test_a_large_file_comes_in_pieces_and_takes_its_name_with_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "_PIECE_BYTES", 10)
    (tmp_path / "source").mkdir()
    target = tmp_path / "target" / "weights"
    for size in (0, 10, 25):
        content = bytes(range(size))
        (tmp_path / "source" / "weights").write_bytes(content)
        *first, last = Mirror(tmp_path / "source").changes()
        assert len(first) == max(0, (size - 1) // 10)
        before = target.read_bytes() if target.exists() else None
        for piece in first:
            write_piece(target.parent, piece)
        assert (target.read_bytes() if target.exists() else None) == before
        write_piece(target.parent, last)
        assert target.read_bytes() == content


def test_a_run_goes_on_from_a_copy_of_an_interrupted_one(request_for: Make) -> None:
    play(request_for("read-bandit-published", "whole"))
    interrupted, there = request_for("read-bandit-published", "first"), request_for("read-bandit-published", "there")
    play(interrupted, stop_after=3)
    copy(Mirror(interrupted.directory), there.directory)
    assert play(there).resumed_after == 3
    assert contents(there.directory) == contents(request_for("read-bandit-published", "whole").directory)
