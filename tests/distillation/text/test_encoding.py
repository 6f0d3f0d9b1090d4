"""Token ids of conversations: those of ``apply_chat_template``, whatever the template and the tokenizer do."""

import copy
import re
from datetime import datetime

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_tokenizers import CHATML, LLAMA_2, byte_level, metaspace

from read_env.capabilities.base import Prompt
from read_env.distillation.loading import load
from read_env.distillation.text import chat
from read_env.distillation.text.alignment import align, with_students_end
from read_env.distillation.text.completion import Answer
from read_env.distillation.text.encoding import Encoder
from read_env.errors import ReadEnvError
from read_env.losses.targets import TeacherTargets


def whole(tokenizer, text, answer):
    turns = [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]
    return list(tokenizer.apply_chat_template(turns, tokenize=True, return_dict=True)["input_ids"])


def asked(tokenizer, text):
    turns = [{"role": "user", "content": text}]
    return list(tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=True)["input_ids"])


plain_text = st.text(st.characters(codec="utf-8", exclude_characters="<>[]"), max_size=12)


@pytest.mark.parametrize("make", [byte_level, metaspace])
@pytest.mark.parametrize(
    "template",
    [
        CHATML,
        LLAMA_2,
        CHATML.replace("m.content", "m.content | trim"),
        CHATML.replace("m.content", "m.content | e"),
        CHATML.replace("{{ m.content }}", "{{ m.content }} ({{ m.content | length }}, {{ m.content }})"),
        "{{ bos_token }}{% for m in messages %}{{ m.content }}{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}\n{% endfor %}",
        "{{ bos_token }}Question: {{ messages[0].content }} Answer:{% if messages[1] %} {{ messages[1].content }}{{ eos_token }}{% endif %}",
    ],
)
@given(text=plain_text, answer=plain_text)
def test_ids_are_those_of_the_chat_template(make, template, text, answer):
    tokenizer = make(template)
    encoder = Encoder(tokenizer)
    ((prompt, completion),) = encoder.pairs([text], [answer])
    ids = prompt + completion
    assert encoder.prompts([text])[0] == asked(tokenizer, text)
    assert whole(tokenizer, text, answer)[: len(ids)] == ids and ids[-1] == encoder.eos_id
    assert asked(tokenizer, text)[: len(prompt)] == prompt


def test_a_first_token_with_a_prefix_space_is_the_templates():
    encoder = Encoder(metaspace(CHATML))
    alone = encoder.tokenizer("4", add_special_tokens=False)["input_ids"]
    assert encoder.completions(["4"])[0][:-1] != alone and encoder.tokenizer.decode(alone) == "4"


def test_a_token_across_the_border_belongs_to_the_completion():
    tokenizer = byte_level("{{ messages[0].content }}:{% if messages[1] %}{{ messages[1].content }}{{ eos_token }}{% endif %}",
                           merges=[(":", ":")])  # fmt: skip
    ((prompt, completion),) = Encoder(tokenizer).pairs(["a"], [":b"])
    assert tokenizer.convert_ids_to_tokens(completion) == ["::", "b", "</s>"] and len(prompt) == 1


def test_a_turn_ends_with_the_templates_token_and_every_stop_token_counts():
    tokenizer = byte_level(CHATML)
    end, eos = tokenizer.convert_tokens_to_ids(["<|im_end|>", "</s>"])
    encoder = Encoder(tokenizer, stop_ids=[eos, end, 10**6])
    assert encoder.eos_id == end and encoder.stop_ids == tuple(sorted((end, eos)))
    assert encoder.completions(["4"])[0][-1] == end
    assert encoder.text([*encoder.completions(["4"])[0][:-1], eos]) == "4"
    open_ended = Encoder(
        byte_level("{{ messages[0].content }}\n{% if messages[1] %}{{ messages[1].content }}\n\n{% endif %}")
    )
    assert open_ended.tokenizer.convert_ids_to_tokens(open_ended.completions(["4"])[0]) == ["4", "</s>"]


@pytest.mark.parametrize("make", [byte_level, metaspace])
@pytest.mark.parametrize("template", [None, CHATML])
@given(
    parts=st.lists(st.sampled_from(["<s>", "</s>", "<|im_end|>", "<|im_start|>", "a<", " ", "é", "\ue000"]), max_size=6)
)
def test_control_tokens_in_a_text_stay_text(make, template, parts):
    encoder, text = Encoder(make(template)), "".join(parts)
    control = set(encoder.tokenizer.all_special_ids) | set(encoder.tokenizer.added_tokens_decoder)

    def count(ids):
        return sum(i in control for i in ids)

    ((prompt, completion),), ((plain, short),) = encoder.pairs([text], [text]), encoder.pairs(["a"], ["a"])
    assert count(prompt) == count(plain) and count(completion) == count(short) == 1
    assert encoder.text(completion).lstrip() == text.lstrip()


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{{ bos_token }}hello", "does not contain the user's message"),
        ("{{ raise_exception('a system message is needed') }}", "a system message is needed"),
        ("{{ messages[0].content | upper }}", "does not contain the user's message"),
        ({"tool_use": CHATML}, "can't be used"),
    ],
)
def test_templates_that_cannot_ask_are_refused(template, problem):
    with pytest.raises(ReadEnvError, match=f"the chat template of .*{problem}"):
        Encoder(byte_level(template))


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{{ messages[-1].content }}", "does not contain the user's message"),
        ("{{ messages[0].content }}:", "does not contain the answer"),
        (
            "{% if messages[1] %}{{ raise_exception('no answers here') }}{% endif %}{{ messages[0].content }}",
            "no answers",
        ),
    ],
)
def test_templates_that_lose_a_turn_are_refused_where_answers_are_encoded(template, problem):
    encoder = Encoder(byte_level(template))
    assert encoder.text(encoder.prompts(["hi"])[0]).startswith("hi")
    with pytest.raises(ReadEnvError, match=f"the chat template of .*{problem}"):
        encoder.completions(["4"])


def test_content_in_parts_and_named_templates():
    plain = Encoder(byte_level(CHATML)).pairs(["hi"], ["yes"])
    for parts in ("{% for part in m.content %}{{ part.text }}{% endfor %}", "{{ m.content[0]['text'] + '' }}"):
        assert Encoder(byte_level(CHATML.replace("{{ m.content }}", parts))).pairs(["hi"], ["yes"]) == plain
    assert Encoder(byte_level({"default": CHATML, "tool_use": "x"})).pairs(["hi"], ["yes"]) == plain


def test_an_answer_follows_the_prompt_where_the_conversation_has_another_header(caplog):
    encoder = Encoder(byte_level(CHATML.replace("<|im_start|>assistant", "<|im_start|>model")))
    assert "begins an answer with 'assistant\\n' in a conversation and with 'model\\n' in a prompt" in caplog.text
    ((prompt, completion),) = encoder.pairs(["hi"], ["yes"])
    assert prompt == encoder.prompts(["hi"])[0] and encoder.text(completion) == "yes"


def test_a_template_that_asks_for_the_day_gets_the_same_one_every_day(monkeypatch):
    """Otherwise the prompts, and with them the keys of all answers, would change daily."""
    # Templates ask with a default where nobody tells them, and from within a macro.
    template = (
        "{% macro day() %}{{ strftime_now('%d %b %Y') if strftime_now is defined else 'no day' }}{% endmacro %}"
        "{{ day() }} {{ strftime_now('%A, %H') }} {{ messages[0]['content'] }}"
    )
    asked = Encoder(byte_level(template))
    assert asked.text(asked.prompts(["?"])[0]) == "26 Jul 2024 Friday, 00 ?"
    assert datetime.now().year > 2024
    monkeypatch.setattr(chat, "_TODAY", datetime(2024, 7, 27))
    assert Encoder(byte_level(template)).fingerprint != asked.fingerprint


def test_a_pad_token_beyond_the_models_rows_is_not_used_and_other_tokens_are_refused():
    tokenizer = copy.deepcopy(load("embedded:micro/student").encoder.tokenizer)
    rows = len(tokenizer)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    encoder = Encoder(tokenizer, rows=rows)
    assert encoder.pad_id == encoder.eos_id and encoder.vocabulary == rows
    assert Encoder(tokenizer).pad_id == rows
    tokenizer.add_tokens(["[NEW]"])
    with pytest.raises(ReadEnvError, match=rf"has {rows + 2} tokens and the model {rows} embeddings; '\[NEW\]' has id"):
        Encoder(tokenizer, rows=rows)


@pytest.mark.parametrize("make", [byte_level, metaspace])
def test_a_special_token_beyond_the_models_rows_is_never_produced(make):
    # As in a Gemma 3 that reads text alone: <image_soft_token> has the id after the last embedding.
    tokenizer = make(CHATML)
    rows = len(tokenizer)
    plain = Encoder(make(CHATML), rows=rows)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image_soft_token>"]})
    assert tokenizer("<image_soft_token>", add_special_tokens=False)["input_ids"] == [rows]
    encoder = Encoder(tokenizer, rows=rows)
    assert encoder.vocabulary == rows
    for text in ("3+4", "an <image_soft_token>, twice <image_soft_token>"):
        assert encoder.prompts([text]) == plain.prompts([text])
        assert encoder.completions([text]) == plain.completions([text])


@pytest.mark.parametrize("needed", ["<s>", "<|im_end|>", "<|im_start|>"])
def test_a_special_token_that_every_text_needs_must_have_a_row(needed):
    tokenizer = byte_level(CHATML if needed != "<s>" else None, eos="<s>", bos="</s>")
    last = tokenizer.convert_tokens_to_ids(needed)
    with pytest.raises(ReadEnvError, match=rf"the model {last} embeddings; '{re.escape(needed)}' has id {last}"):
        Encoder(tokenizer, rows=last)


# --- answers of a teacher that ends differently ------------------------------------------------------------


def _answer(ids):
    logits = torch.randn(len(ids), 300, generator=torch.Generator().manual_seed(0))
    return Answer(tuple(ids), TeacherTargets.from_logits(logits, torch.tensor(ids), 299))


def test_an_answer_gets_the_students_end(caplog):
    plain, student = byte_level(None), byte_level(CHATML)
    teacher, student = Encoder(plain), Encoder(student)
    alignment = align(teacher, student, "fkl")
    assert alignment.func is with_students_end
    assert "ends its answers with '</s>' and the student with '<|im_end|>'" in caplog.text
    answer = _answer([20, teacher.eos_id])
    example = alignment(Prompt("math", "t", "1", "4", 0.0), [1], answer)
    assert example.token_ids == (20, student.eos_id) == tuple(example.targets.tokens.tolist())

    def probability(targets, token):
        return targets.top_log_probs[-1][targets.top_ids[-1] == token]

    assert probability(example.targets, student.eos_id) == probability(answer.targets, teacher.eos_id)
    assert alignment(Prompt("math", "t", "1", "4", 0.0), [1], _answer([20, 21])).token_ids == (20, 21), "cut"


def test_an_answer_cut_inside_a_character_never_teaches_the_replacement_character():
    teacher, student = Encoder(byte_level(None)), Encoder(metaspace(None))
    ids = teacher.completions(["né"])[0][:-2]  # without the end and the second byte of é
    assert teacher.text(ids) == "n\ufffd"
    for cut in (ids, [*ids, teacher.eos_id]):
        example = align(teacher, student, "sft")(Prompt("math", "t", "1", "4", 0.0), [1], _answer(cut))
        assert student.text(example.token_ids) == "n" and student.eos_id not in example.token_ids
