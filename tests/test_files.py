"""File systems and users that are unlike the developer's: refused syncs, no home folder, ``~`` in paths."""

import errno
import json
import os
import stat
from pathlib import Path
from unittest.mock import Mock

import pytest

from read_env import files
from read_env.capabilities import get_suite, own_files
from read_env.capabilities.contamination import evaluation_hashes, overlaps
from read_env.config import CacheConfig
from read_env.preset_files import load_preset
from read_env.tasks import load_task


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EBADF, errno.EIO])
def test_a_folder_that_cannot_be_synced_is_no_error(code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync, refused = os.fsync, []

    def stubborn(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            refused.append(handle)
            raise OSError(code, os.strerror(code))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", stubborn)
    files.write_json(tmp_path / "a.json", {"a": 1})
    with files.whole_folder(tmp_path / "folder") as folder:
        (folder / "file").write_text("x")
    assert refused and files.read_json(tmp_path / "a.json") == {"a": 1} and (tmp_path / "folder" / "file").exists()


def test_a_file_that_cannot_be_synced_is_an_error_and_the_old_content_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.write_json(tmp_path / "a.json", {"a": 1})
    monkeypatch.setattr(os, "fsync", Mock(side_effect=OSError(errno.ENOSPC, "No space left")))
    with pytest.raises(OSError, match="No space left"):
        files.write_json(tmp_path / "a.json", {"a": 2})
    assert files.read_json(tmp_path / "a.json") == {"a": 1} and [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_user_without_a_home_folder_gets_no_cache_and_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("READ_ENV_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", Mock(side_effect=RuntimeError("Could not determine home directory.")))
    with pytest.warns(UserWarning, match=r"set cache.directory or \$READ_ENV_CACHE"):
        assert CacheConfig().folder is None
    assert CacheConfig(directory="cache").folder == Path("cache")


def test_a_tilde_is_the_home_folder_wherever_a_path_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    rows = [{"prompt": f"what is {a}+{b}", "answer": str(a + b)} for a in range(2, 12) for b in range(2, 12)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "own.toml").write_text('suite = "sums=~/sums.jsonl"\ntask = "sums"\n')
    (tmp_path / "card.toml").write_text(
        'name = "mine"\ndescription = "d"\ninput_format = "i"\noutput_format = "o"\nmetric = "m"\n'
        'requirement = { sums = 1.0 }\n[[exemplars]]\nprompt = "2+2"\ncompletion = "4"\n'
    )
    suite = get_suite(load_preset("~/own.toml").suite)
    assert suite.names == ("sums",) and own_files("sums=~/sums.jsonl") == {"sums": str(tmp_path / "sums.jsonl")}
    assert load_task("~/card.toml", suite).name == "mine"
    assert len(evaluation_hashes(["~/sums.jsonl"])) == 100
    assert overlaps(suite, "~/sums.jsonl")
