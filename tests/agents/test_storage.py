"""Saved agents: one file, no pickle, damage is noticed."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from read_env.agents import load_agent, make_agent, storage
from read_env.agents.published_bandit import PublishedBandit
from read_env.errors import ReadEnvError

NAMES = ("a", "b", "c")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    document = {"n": None, "big": 2**127, "list": [1, 2.5, {"x": np.arange(6).reshape(2, 3)}], "t": ("a", True)}
    storage.write(tmp_path / "deep" / "file", document)
    back = storage.read(tmp_path / "deep" / "file")
    assert back["big"] == 2**127 and back["n"] is None and back["t"] == ["a", True]
    assert (back["list"][2]["x"] == document["list"][2]["x"]).all()  # type: ignore[index]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["file"], "a temporary file was left"


def test_equal_agents_are_equal_files(tmp_path: Path) -> None:
    for name in "xy":
        make_agent("read-bandit", capabilities=NAMES).save(tmp_path / name)
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()


@pytest.mark.parametrize("value", [object(), {1: 2}, np.array([object()]), {"__array__": 0}])
def test_what_would_need_pickle_is_refused(value: object, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="state.state"):
        storage.write(tmp_path / "file", {"state": value})
    assert not list(tmp_path.iterdir())


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReadEnvError, match="no saved agent at .*gone"):
        load_agent(tmp_path / "gone")


def flipped(data: bytes) -> bytes:
    place = len(data) // 3
    return data[:place] + bytes([data[place] ^ 255]) + data[place + 1 :]


@pytest.mark.parametrize("damage", [*(lambda data, at=at: data[:at] for at in (0, 10, 200, -10)), flipped])
def test_a_cut_file_and_a_flipped_byte_are_noticed(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / "agent"
    make_agent("read-bandit", capabilities=NAMES).save(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ReadEnvError, match="damaged"):
        load_agent(path)


def test_a_newer_format_and_a_foreign_zip_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "agent"
    for header, words in [({"format": 99}, "format 99"), ({"format": 1}, "no saved agent"), ([], "format")]:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("agent.json", json.dumps(header))
        with pytest.raises(ReadEnvError, match=words):
            load_agent(path)


def test_a_pickled_array_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "agent"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("agent.json", json.dumps({"format": 1, "agent": "uniform", "state": {"__array__": 0}}))
        with archive.open("arrays/0.npy", "w") as member:
            np.lib.format.write_array(member, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ReadEnvError, match="damaged"):
        load_agent(path)


def test_a_saved_agent_is_an_agent_name_with_options_to_change(tmp_path: Path) -> None:
    path = tmp_path / "trained"
    make_agent("read-bandit-published", capabilities=NAMES, options={"warmup": 2}, seed=4).save(path)
    agent = make_agent(path, capabilities=NAMES, options={"update": False}, seed=77)
    assert isinstance(agent, PublishedBandit) and agent.seed == 4
    assert (agent.settings.warmup, agent.settings.update) == (2, False)
    with pytest.raises(ReadEnvError, match="saved for the capabilities a, b, c; here they are a, b"):
        make_agent(path, capabilities=["a", "b"])
    with pytest.raises(ReadEnvError, match="'kapa'"):
        load_agent(path, {"kapa": 1})


def test_a_state_of_another_agent_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "agent"
    for state in ({}, {"rng": 3}, make_agent("uniform", capabilities=NAMES).state_dict()):
        storage.write(path, {"agent": "greedy", "capabilities": list(NAMES), "options": {}, "seed": 0, "state": state})
        with pytest.raises(ReadEnvError, match="state of agent"):
            load_agent(path)
