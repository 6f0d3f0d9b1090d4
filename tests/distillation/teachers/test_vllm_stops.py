"""Answers in vLLM end at the same tokens, and with the same ids, as those of the model in transformers; failures."""

import json
import shutil
import sys
from pathlib import Path

import fake_vllm
import pytest
from micro import micro_config

import read_env
from read_env.distillation.loading import load_student, load_teacher
from read_env.errors import ReadEnvError

FOLDER = Path(read_env.__file__).parent / "assets" / "micro" / "teacher"
PROMPTS = ["2+3", "say big fish in spanish", "spell box with /"]


@pytest.fixture
def complete(tmp_path, monkeypatch):
    """Answers of the micro teacher in vLLM and in transformers, with these ``eos_token_id`` in its generation configuration."""
    monkeypatch.setitem(sys.modules, "vllm", fake_vllm)

    def answers(*eos):
        folder = shutil.copytree(FOLDER, tmp_path / f"teacher{'-'.join(map(str, eos))}")
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": list(eos)}))
        models = {"dtype": "float32", "student": str(folder)}
        configs = [micro_config(models={"teacher": name, **models}) for name in (f"vllm:{folder}", str(folder))]
        teachers = [load_teacher(config, load_student(config)) for config in configs]
        return teachers[0], *([one.token_ids for one in teacher.complete(PROMPTS)] for teacher in teachers)

    return answers


def test_all_stop_tokens_end_an_answer(complete):
    teacher, inside, local = complete(2)
    assert inside == local and all(ids[-1] == 2 for ids in inside)
    # A token within the first answer becomes another end, as <|eot_id|> is one beside <|end_of_text|>.
    other = inside[0][1]
    stopping, inside, local = complete(2, other)
    assert stopping.encoder.stop_ids == tuple(sorted((2, other))) and stopping.identity != teacher.identity
    assert inside == local and inside[0][-1] == other
    assert all(sum(token in (2, other) for token in ids) == 1 and ids[-1] in (2, other) for ids in inside)
    (asked,) = stopping._model.asked
    # generation_config "vllm" reads no file of the model's, and ignore_eos leaves the given tokens alone.
    assert stopping._model.settings["generation_config"] == "vllm"
    assert (asked.ignore_eos, sorted(asked.stop_token_ids)) == (True, sorted((2, other)))


def test_a_failure_of_vllm_names_the_longest_prompt(complete, monkeypatch):
    teacher, *_ = complete(2)

    def generate(*_, **__):
        raise ValueError("The decoder prompt (length 9) is longer than the maximum model length of 8\n  at …")

    monkeypatch.setattr(teacher._model, "generate", generate)
    with pytest.raises(
        ReadEnvError, match=r"maximum model length of 8\); the longest of 2 prompts has \d+ tokens and begins"
    ):
        teacher.complete(PROMPTS[:2])
