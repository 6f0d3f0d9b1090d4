"""Computations of scripts/remote.py, on a stand-in server whose answers are those of the same model."""

import sys

import pytest
from scoring_server import scoring_servers

pytest.importorskip("openai")


def test_the_comparison_finds_what_is_equal_and_what_differs(script, monkeypatch):
    remote = script("remote")
    monkeypatch.setattr(remote, "PROMPTS", 1)
    monkeypatch.setenv("READ_ENV_API_KEY", "x")
    with scoring_servers() as servers:
        server = servers["vllm"]
        configs = remote.config_of("micro", "remote:m", server.url), remote.config_of("micro", "embedded:micro/teacher")
        equal = remote.compare(*configs)
        server.fault("noise")
        noisy = remote.compare(*configs)
    assert equal[0][0] == "greedy answers equal to the last token: 10 of 10"
    for (label, mean, largest), (_, _, other) in zip(equal[1:5], noisy[1:5], strict=True):
        assert label.endswith("apart") and float(mean) <= float(largest) < 5e-5
        # The teacher is nearly certain of its own tokens, so that the noise shows in the less likely ones.
        assert "top" not in label or 1e-4 < float(other) < 1


def test_a_server_that_does_not_start_is_named_with_its_log(script, tmp_path):
    remote = script("remote")
    (tmp_path / "python").write_text(f"#!/bin/sh\n{sys.executable} -c 'import no_such_package'\n")
    (tmp_path / "python").chmod(0o755)
    with (
        pytest.raises(SystemExit, match="(?s)the server did not start:.*No module named 'no_such_package'"),
        remote.server(str(tmp_path / "python"), tmp_path, tmp_path / "log", 8),
    ):
        pass
