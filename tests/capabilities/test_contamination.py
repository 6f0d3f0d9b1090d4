"""Evaluation prompts that a suite would train on are found, others are not."""

import json

import pytest

from read_env.capabilities import get_suite, split_of
from read_env.capabilities.base import Suite
from read_env.capabilities.contamination import Overlap, overlaps
from read_env.capabilities.stream import PromptStream, held_out
from read_env.errors import ReadEnvError

SUITE = Suite("part", (get_suite("instruct")["math"], get_suite("instruct")["reasoning"]))


def test_training_prompts_are_found_by_line_whatever_their_case_and_space(tmp_path):
    math, reasoning = (PromptStream(c, 4).slice(0, 0, 1)[0].text for c in SUITE)
    rows = [{"question": "What is love?"}, {"prompt": f"  {math.upper()} "}, {"question": reasoning, "id": 3}]
    path = tmp_path / "exam.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    found = overlaps(SUITE, path, draws=500, seeds=(3, 4))
    assert found == [Overlap(2, f"  {math.upper()} ", "math", 4), Overlap(3, reasoning, "reasoning", 4)]
    assert overlaps(SUITE, path, draws=500, seeds=(5,)) == []


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_text_and_json_are_read_line_by_line_without_a_byte_order_mark(tmp_path, encoding):
    text = next(p.text for p in PromptStream(SUITE["math"], 0).slice(1, 0, 9) if "\n" not in p.text)
    for name, line in (("exam.txt", text), ("exam.jsonl", json.dumps({"prompt": text}))):
        (tmp_path / name).write_text(f"{line}\n\n{line}\n", encoding=encoding)
        found = [(o.line, o.capability) for o in overlaps(SUITE, tmp_path / name, draws=500)]
        assert found == [(1, "math"), (3, "math")]


def test_held_out_prompts_are_no_training_prompts(tmp_path):
    path = tmp_path / "exam.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": p.text}) for p in held_out(SUITE["math"], "exam", 30)))
    assert overlaps(SUITE, path, draws=2000) == []


@pytest.mark.parametrize("line", ["{", "[]", '{"text": "x"}', '{"prompt": 3}', '{"prompt": "half \\ud800"}'])
def test_a_malformed_line_is_named(tmp_path, line):
    path = tmp_path / "exam.jsonl"
    path.write_text(f'{{"prompt": "x"}}\n{line}\n')
    with pytest.raises(ReadEnvError, match=r"exam\.jsonl, line 2: "):
        overlaps(SUITE, path, draws=1)


def test_all_prompts_of_a_file_are_looked_at_however_few_draws(tmp_path):
    rows = [{"prompt": f"Question {i}", "answer": "x"} for i in range(60)]
    own = tmp_path / "own.jsonl"
    own.write_text("\n".join(map(json.dumps, rows)))
    training = [i for i in range(60) if split_of(f"Question {i}") == "stream"]
    found = overlaps(get_suite(f"own={own}"), own, draws=1, seeds=(5, 6))
    assert [(o.line - 1, o.seed) for o in found] == [(i, 5) for i in training]


def test_bad_arguments_are_refused(tmp_path):
    with pytest.raises(ReadEnvError, match="can't be read"):
        overlaps(SUITE, tmp_path / "none.txt")
    with pytest.raises(ValueError, match="draws must be at least 1"):
        overlaps(SUITE, tmp_path / "none.txt", draws=0)
