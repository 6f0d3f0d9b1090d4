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
from read_env.config import CacheConfig, load_preset
from read_env.distillation.models.sources import find_model
from read_env.errors import ReadEnvError, describe_os_error
from read_env.running.batch_requests import ComparisonRequest, TransferRequest
from read_env.running.requests import RunRequest, TrainingRequest
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


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_files_have_the_mode_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        files.write_json(tmp_path / "a.json", {"a": 1})
        files.save_tensors(tmp_path / "a.pt", {"a": 1})
    finally:
        os.umask(before)
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a.json", "a.pt")} == {0o640}


def test_errors_name_the_file_and_a_full_disk_is_one_also_in_safetensors_and_torch(tmp_path: Path) -> None:
    from safetensors import SafetensorError

    with pytest.raises(OSError, match="No space left") as raised, files.naming(tmp_path / "a"):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    assert raised.value.filename == str(tmp_path / "a")
    with pytest.raises(SafetensorError), files.naming(tmp_path / "a"):
        raise SafetensorError("header too large")
    line = describe_os_error(OSError(errno.ENOSPC, "No space left on device", "runs/a/checkpoint/state.pt"))
    assert line.startswith("runs/a/checkpoint/state.pt: No space left on device; make room") and "\n" not in line


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_checkpoint_on_a_full_disk_is_an_error_of_the_operating_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    plain = Path.open
    monkeypatch.setattr(
        Path, "open", lambda path, *args: plain(Path("/dev/full") if path.suffix == ".tmp" else path, *args)
    )
    with pytest.raises(OSError, match="No space left"):
        files.save_tensors(tmp_path / "a.pt", {"weights": torch.zeros(100_000)})


@pytest.mark.skipif(os.name == "nt", reason="Windows has no names of bytes")
def test_names_that_are_not_utf8_keep_their_bytes(tmp_path: Path) -> None:
    text = os.fsdecode(b"read-env run --preset own-\xff.toml")
    files.write_text(tmp_path / "commands.txt", text)
    files.write_json(tmp_path / "a.json", {"path": text})
    files.append_line(tmp_path / "a.jsonl", {"path": text})
    assert files.read_text(tmp_path / "commands.txt") == text
    assert files.read_json(tmp_path / "a.json") == files.read_lines(tmp_path / "a.jsonl")[0] == {"path": text}


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
    for request in (RunRequest, TrainingRequest, ComparisonRequest, TransferRequest):
        assert request(load_preset("micro"), out=Path("~/out")).directory == tmp_path / "out"
    with pytest.raises(ReadEnvError, match="~nobody-of-this-name/a/model"):  # no such user: no home folder
        find_model("~nobody-of-this-name/a/model")
