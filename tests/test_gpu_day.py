"""scripts/gpu_day.py where there is no GPU: its parts on small shapes, results that are kept, errors that don't end it."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

Script = Callable[[str], ModuleType]


def command(monkeypatch: pytest.MonkeyPatch, gpu_day: ModuleType, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu_day.py", *arguments])
    gpu_day.main()


@pytest.mark.slow
def test_a_part_runs_on_a_cpu_in_a_process_of_its_own(
    script: Script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    command(monkeypatch, script("gpu_day"), "--device", "cpu", "--tiny", "--parts", "updates", "--out", str(tmp_path))
    ((part,),) = (kept.values() for kept in json.loads((tmp_path / "measured" / "gpu.json").read_text()).values())
    assert "error" not in part
    speeds = {row[0]: float(row[part["header"].index("trained tokens/s")].replace(",", "")) for row in part["rows"]}
    assert {"1B, all weights", "8B, LoRA", "8B, LoRA, gradient checkpointing"} <= set(speeds)
    assert min(speeds.values()) > 0
    assert "8B, LoRA" in (tmp_path / "gpu.md").read_text()


@pytest.mark.slow
def test_profiles_of_two_devices_are_compared(script: Script) -> None:
    table = script("gpu_parts").micro("cpu", tiny=True)
    assert "0.0e+00 after 2" in table.note, "the same device gives the same profiles"


def test_targets_of_random_examples_are_distributions_over_distinct_tokens(script: Script) -> None:
    parts = script("gpu_parts")
    for shape in ("random-tiny", "random-1b-8b"):
        vocabulary = parts.SHAPES[shape][0]
        first = next(parts._groups(shape, vocabulary, 50))
        targets = first[0].targets
        assert all(len(set(row)) == parts.TOP_K for row in targets.top_ids.tolist())
        assert targets.top_ids.min() >= 0 and targets.top_ids.max() < vocabulary
        torch.testing.assert_close(targets.top_mass + targets.log_tail.exp(), torch.ones(len(first[0])))


def test_parts_with_a_result_are_kept_and_others_tried_again(
    script: Script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gpu_day = script("gpu_day")
    tried: list[str] = []
    answers: dict[str, dict[str, Any]] = {
        part: {"header": ["a"], "rows": [["1"]], "note": "", "seconds": 1} for part in gpu_day.PARTS
    }
    answers["vllm"] = {"error": "vllm is not installed", "seconds": 0}

    def answer(part: str, *_: Any) -> dict[str, Any]:
        tried.append(part)
        return answers[part]

    monkeypatch.setattr(gpu_day, "in_own_process", answer)
    here = ["--device", "cpu", "--out", str(tmp_path)]
    command(monkeypatch, gpu_day, *here)
    assert tried == list(gpu_day.PARTS)
    assert "No result: vllm is not installed." in (tmp_path / "gpu.md").read_text()
    tried.clear()
    command(monkeypatch, gpu_day, *here)
    assert tried == ["vllm"]
    command(monkeypatch, gpu_day, *here, "--parts", "micro")
    assert tried == ["vllm", "micro"]


@pytest.mark.slow
def test_a_part_that_fails_or_takes_too_long_has_an_error(script: Script) -> None:
    gpu_day = script("gpu_day")
    late = gpu_day.in_own_process("micro", "cpu", True, limit=0.01)
    assert late == {"error": "not done after 0 s"}
    failed = gpu_day.in_own_process("updates", "tpu", True, limit=300)
    assert failed["error"].startswith("ended with 1") and "rows" not in failed


def test_without_a_gpu_it_says_what_would_be_right(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="no CUDA device; right would be"):
        command(monkeypatch, script("gpu_day"))
