"""Tokenizers of the two common kinds, with a few hundred tokens: byte-level BPE and SentencePiece-like BPE."""

from __future__ import annotations

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA_2 = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token }}[INST] {{ m.content | trim }} [/INST]"
    "{% else %} {{ m.content | trim }} {{ eos_token }}{% endif %}{% endfor %}"
)


def byte_level(template=None, bos="<s>", eos="</s>", merges=(), **settings):
    """Byte-level BPE as GPT-2's, with special tokens."""
    vocabulary = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    vocabulary |= {a + b: 256 + i for i, (a, b) in enumerate(merges)}
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=list(merges)))
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return made(raw, template, bos, eos, **settings)


def metaspace(template=None, bos="<s>", eos="</s>", scheme="first", **settings):
    """SentencePiece-like BPE: a space is a character of its own, and the first one is added."""
    characters = [chr(i) for i in range(33, 127)] + ["\n", "\u2581", "é"]
    pieces = {c: i for i, c in enumerate(["<unk>", *(f"<0x{b:02X}>" for b in range(256)), *characters, "\u25814"])}
    raw = Tokenizer(models.BPE(vocab=pieces, merges=[("\u2581", "4")], unk_token="<unk>", byte_fallback=True))
    raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    raw.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme=scheme)])
    return made(raw, template, bos, eos, unk_token="<unk>", **settings)


def made(raw, template, bos, eos, extra=("<|im_start|>", "<|im_end|>"), **settings):
    raw.add_special_tokens([AddedToken(token, special=True) for token in (bos, eos, *extra)])
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token=bos, eos_token=eos, chat_template=template, **settings
    )


def trained(texts, merges=200, template=CHATML, bos="<s>", eos="</s>"):
    """Byte-level BPE with merges learnt from texts."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=256 + merges, initial_alphabet=alphabet, show_progress=False)
    )
    return made(raw, template, bos, eos)


def gemma_like(texts, merges=600, template=CHATML, bos="<bos>", eos="<eos>"):
    """BPE over characters with byte fallback, in which a space is written as \u2581 and none is added: Gemma's kind."""
    raw = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    raw.normalizer = normalizers.Replace(" ", "\u2581")
    raw.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    raw.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    special = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    raw.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=257 + merges, special_tokens=special, show_progress=False)
    )
    return made(without_special_bytes(raw), template, bos, eos, unk_token="<unk>")


def without_special_bytes(raw):
    """The tokenizer with byte tokens that are ordinary ones, as in a vocabulary that was not trained here."""
    import json

    content = json.loads(raw.to_str())
    content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] == "<unk>"]
    return Tokenizer.from_str(json.dumps(content))
