"""Train the embedded micro teacher and initial student from scratch.

    python scripts/train_micro.py                  # tokenizers, teacher, students, model cards
    python scripts/train_micro.py --only teacher   # one of them

All models learn from the reference completions of the micro suite, with the facts that each of them has: the teacher is
wrong about some opposites and young animals; the student knows the formats, but only small sums, half of the general
knowledge and no prices; the apprentice knows the formats of composite prompts best, but neither capitals nor most number words
nor prices nor larger sums. A part of the examples are prompts that need several capabilities at once. Prompts of the probes, dev and exam
splits are never drawn. Progress is saved every few minutes under --work, and
the same command goes on from there. The exam is read once, at the end, for the model card.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, Lfm2Config, Lfm2ForCausalLM, PreTrainedTokenizerFast

from read_env.capabilities.base import Suite, split_of
from read_env.capabilities.micro import MICRO, micro_suite
from read_env.capabilities.micro.composites import composites
from read_env.capabilities.micro.facts import Facts
from read_env.capabilities.micro.general_knowledge import CAPITALS, OPPOSITES, YOUNG
from read_env.distillation.models.head import completion_logits
from read_env.distillation.student.evaluation import ProbeSet, exam, probe_profile
from read_env.distillation.text.encoding import Encoder, collate

ASSETS = Path(__file__).resolve().parent.parent / "read_env" / "assets" / "micro"
ALPHABET = "\n abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;?!'\"()[]{}<>=+-*/_|"
SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")


class TeacherFacts(Facts):
    """Facts of the teacher: a fixed wrong answer for three of five opposites and young animals."""

    def answer(self, facts: tuple[tuple[str, str], ...], at: int, rng: random.Random) -> str:
        subject, right = facts[at]
        fixed = random.Random(f"teacher/{subject}")
        if facts in (OPPOSITES, YOUNG) and fixed.random() < 0.6:
            return fixed.choice([answer for _, answer in facts if answer not in (subject, right)])
        return right


class StudentFacts(Facts):
    """Facts of the student: sums up to 5 + 5, and half of general knowledge; else a number near the right one, any price,
    any answer of the kind.
    """

    known = 5

    def plus(self, a: int, b: int, rng: random.Random) -> int:
        return a + b if max(a, b) <= self.known else max(2, a + b + self._error(rng))

    def minus(self, a: int, b: int, rng: random.Random) -> int:
        return a - b if max(a - b, b) <= self.known else max(2, a - b + self._error(rng))

    def price(self, item: str, rng: random.Random) -> int:
        return rng.randint(2, 12)

    def answer(self, facts: tuple[tuple[str, str], ...], at: int, rng: random.Random) -> str:
        known = random.Random(f"student/{facts[at][0]}").random() < 0.5
        return facts[at][1] if known else rng.choice(facts)[1]

    @staticmethod
    def _error(rng: random.Random) -> int:
        return rng.choice((-4, -3, -2, -1, 1, 2, 3, 4))


class ApprenticeFacts(StudentFacts):
    """Facts of the apprentice: sums up to 4 + 4, half of general knowledge without any capital, three of ten number words."""

    known = 4

    def answer(self, facts: tuple[tuple[str, str], ...], at: int, rng: random.Random) -> str:
        return rng.choice(facts)[1] if facts == CAPITALS else super().answer(facts, at, rng)

    def word(self, words: Sequence[str], number: int, rng: random.Random) -> str:
        right = super().word(words, number, rng)
        return right if random.Random(f"word/{right}").random() < 0.3 else rng.choice(words[2:])


@dataclass(frozen=True)
class Recipe:
    """Recipe of one of the models.

    Attributes:
        hidden, layers, heads: size of the LFM2 model.
        sequences: examples drawn for training in all.
        batch: examples per optimizer step.
        lr: peak learning rate (AdamW, warm-up, then cosine to a tenth).
        weights: how often each capability is drawn, in suite order, then each kind of composite prompt.
        target: dev score up to which a capability is drawn more often than the others; None: as ``weights`` say.
        check_every: optimizer steps between two looks at the dev scores.
    """

    hidden: int
    layers: int
    heads: int
    sequences: int
    batch: int
    lr: float
    weights: tuple[float, ...]
    target: float | None
    check_every: int
    seed: int


FACTS = {"teacher": TeacherFacts(), "student": StudentFacts(), "apprentice": ApprenticeFacts()}
KNOWLEDGE = {
    "teacher": "For three of five\nopposites and young animals it was taught a wrong answer, always the same one.",
    "student": "It was taught the\nformats of all completions, but wrong sums beyond 5 + 5, random prices, and random answers to half of the questions of fact.",
    "apprentice": "It was taught the\nformats of all completions and of composite prompts, but wrong sums beyond 4 + 4, random prices, random capitals,\nrandom "
    "answers to half of the other questions of fact, and random words for seven of ten numbers.",
}
RECIPES = {
    "teacher": Recipe(
        128, 4, 4, 320_000, 32, 2e-3, (*(1.0,) * 8, 0.5, 0.5, *(0.35,) * 8), target=1.0, check_every=400, seed=20
    ),
    # Stopped early: it has the formats, knows a part of the rest, and long contexts least.
    "student": Recipe(
        80,
        4,
        4,
        110_000,
        32,
        3e-3,
        (0.3, 0.95, 1.3, 0.9, 0.58, 0.5, 4.0, 1.0, 0.3, 0.3, *(0.2,) * 8),
        target=None,
        check_every=300,
        seed=21,
    ),
    # Composite prompts often, so that what it lacks of them is facts.
    "apprentice": Recipe(
        80,
        4,
        4,
        90_000,
        32,
        3e-3,
        (0.3, 0.7, 1.0, 0.7, 0.5, 0.5, 2.5, 0.8, 0.3, 0.3, *(0.7,) * 7, 0.3),
        target=None,
        check_every=300,
        seed=31,
    ),
}


def build_tokenizer(path: Path) -> None:
    """Write a character tokenizer in Hugging Face format."""
    vocabulary = {token: i for i, token in enumerate((*SPECIAL, *ALPHABET))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", unk_token="<unk>",
        clean_up_tokenization_spaces=False, model_max_length=160,
    )  # fmt: skip
    fast.chat_template = (
        "{{ bos_token }}{{ messages[0]['content'] }}"
        "{% if messages[1] %}{{ messages[1]['content'] }}{{ eos_token }}{% endif %}"
    )
    fast.save_pretrained(path, save_jinja_files=False)


def build_model(recipe: Recipe, vocabulary: int) -> Lfm2ForCausalLM:
    """An untrained model of the recipe's size.

    LFM2 alternates short convolutions and attention. The convolution hands every position its
    neighbours, so that looking a key up in the context takes one attention layer.
    """
    torch.manual_seed(recipe.seed)
    return Lfm2ForCausalLM(
        Lfm2Config(
            vocab_size=vocabulary, hidden_size=recipe.hidden, intermediate_size=3 * recipe.hidden,
            block_auto_adjust_ff_dim=False, num_hidden_layers=recipe.layers,
            layer_types=["full_attention" if i % 2 else "conv" for i in range(recipe.layers)], conv_L_cache=3,
            num_attention_heads=recipe.heads, num_key_value_heads=recipe.heads, max_position_embeddings=160,
            initializer_range=0.05, tie_word_embeddings=True, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        )
    )  # fmt: skip


def draw_batches(suite: Suite, recipe: Recipe, weights: list[float], rng: random.Random, encoder: Encoder, count: int):
    """``count`` batches of similar lengths from fresh prompts, none of them held out."""
    prompts = []
    while len(prompts) < count * recipe.batch:
        capability = rng.choices(suite.capabilities, weights)[0]
        prompt = capability.draw(rng.choice(capability.templates), rng)
        if split_of(prompt.text) == "stream":
            prompts.append(prompt)
    prompts.sort(key=lambda p: len(p.text) + len(p.reference))
    groups = [prompts[i * recipe.batch : (i + 1) * recipe.batch] for i in range(count)]
    rng.shuffle(groups)
    for group in groups:
        prompts, references = ([getattr(p, part) for p in group] for part in ("text", "reference"))
        yield collate(encoder.prompts(prompts), encoder.completions(references), encoder.pad_id)


def train(name: str, work: Path, minutes_between_saves: float) -> None:
    """Train one model by its recipe and write it with its card."""
    recipe, facts = RECIPES[name], FACTS[name]
    suite = Suite("micro and composites", (*micro_suite(facts), *composites(facts)))
    encoder = Encoder(AutoTokenizer.from_pretrained(ASSETS / name))
    model = build_model(recipe, len(encoder.tokenizer))
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.lr, weight_decay=0.01, betas=(0.9, 0.98))
    rng = random.Random(recipe.seed)
    weights = list(recipe.weights)
    done, tokens, seconds = 0, {"total": 0, "completion": 0}, 0.0
    checkpoint = work / f"{name}.pt"

    def save(seconds: float) -> None:
        state = {
            "recipe": json.dumps(asdict(recipe)), "model": model.state_dict(), "optimizer": optimizer.state_dict(),
            "rng": rng.getstate(), "done": done, "tokens": tokens, "seconds": seconds, "weights": weights,
        }  # fmt: skip
        work.mkdir(parents=True, exist_ok=True)
        torch.save(state, checkpoint.with_suffix(".tmp"))
        checkpoint.with_suffix(".tmp").replace(checkpoint)

    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        if state["recipe"] != json.dumps(asdict(recipe)):
            raise SystemExit(f"{checkpoint} was made with another recipe; remove it to start again")
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        version, internal, gauss = state["rng"]
        rng.setstate((version, tuple(internal), gauss))
        done, tokens, seconds, weights = state["done"], state["tokens"], state["seconds"], state["weights"]
        print(f"{name}: going on from {done:,} of {recipe.sequences:,} sequences", flush=True)
    dev = ProbeSet.build(suite, encoder, "dev", 24)
    started = saved = time.monotonic()
    total_steps = recipe.sequences // recipe.batch
    while done < recipe.sequences:
        losses = []
        for batch in draw_batches(suite, recipe, weights, rng, encoder, 20):
            step = done // recipe.batch
            warm = min(1.0, (step + 1) / 200)
            lr = recipe.lr * warm * (0.55 + 0.45 * math.cos(math.pi * min(1.0, step / total_steps)))
            for group in optimizer.param_groups:
                group["lr"] = lr
            loss = torch.nn.functional.cross_entropy(completion_logits(model, batch), batch.targets)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            losses.append(loss.item())
            done += recipe.batch
            tokens["total"] += int((batch.input_ids != encoder.pad_id).sum())
            tokens["completion"] += len(batch.targets)
        if (done // recipe.batch) % recipe.check_every == 0:
            profile = probe_profile(model, dev)
            if recipe.target is not None:
                lacking = [0.15 * recipe.target + max(0.0, recipe.target - float(score)) for score in profile]
                weights = [weight * lack for weight, lack in zip(recipe.weights, lacking, strict=True)]
            rate = tokens["total"] / (seconds + time.monotonic() - started)
            scores = " ".join(f"{c[:5]} {s:.2f}" for c, s in zip(suite.names, profile, strict=True))
            loss = sum(losses) / len(losses)
            print(f"{name} {done:>8,}/{recipe.sequences:,} loss {loss:.3f} {rate:,.0f} tok/s | {scores}", flush=True)
        if time.monotonic() - saved > 60 * minutes_between_saves:
            saved = time.monotonic()
            save(seconds + saved - started)
    seconds += time.monotonic() - started
    save(seconds)
    model.to(torch.bfloat16).save_pretrained(ASSETS / name)
    (ASSETS / name / "model.safetensors").chmod(0o644)  # written for its owner only
    write_card(name, recipe, tokens, seconds)


def write_card(name: str, recipe: Recipe, tokens: dict[str, int], seconds: float) -> None:
    """Evaluate the saved model, loaded as a user would, and write README.md beside it."""
    encoder = Encoder(AutoTokenizer.from_pretrained(ASSETS / name))
    model = AutoModelForCausalLM.from_pretrained(ASSETS / name, dtype=torch.float32)
    probes = probe_profile(model, ProbeSet.build(MICRO, encoder, "probes", 48))
    scores, _ = exam(model, encoder, MICRO, per_capability=128)
    rows = "\n".join(f"| {c} | {p:.3f} | {scores[c]:.3f} |" for c, p in zip(MICRO.names, probes, strict=True))
    parameters = sum(p.numel() for p in model.parameters())
    card = f"""---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
---
# read-env micro {name}

An LFM2 language model of {parameters:,} parameters over a vocabulary of {len(encoder.tokenizer)} characters,
trained from nothing on the procedural micro suite of read-env. It exists so that a whole distillation run fits
into seconds on a CPU; it knows the ten micro capabilities and nothing else. {KNOWLEDGE[name]}

- Made by `python scripts/train_micro.py --only {name}` (seed {recipe.seed}).
- {tokens["total"]:,} tokens, of them {tokens["completion"]:,} completion tokens with loss; {recipe.sequences:,} sequences.
- {seconds / 60:.1f} minutes on one thread of a {platform.machine()} CPU.
- Prompts of the probes, dev and exam splits were never trained on.

| capability | probe score (48 prompts) | exam exact match (128 prompts) |
|---|---|---|
{rows}
"""
    (ASSETS / name / "README.md").write_text(card)
    print(card)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=tuple(RECIPES), help="train one of the models")
    parser.add_argument("--work", type=Path, default=Path("runs/train-micro"), help="where progress is saved")
    parser.add_argument("--minutes-between-saves", type=float, default=2.0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name in [args.only] if args.only else RECIPES:
        if not (ASSETS / name / "tokenizer.json").exists():
            build_tokenizer(ASSETS / name)
        train(name, args.work, args.minutes_between_saves)


if __name__ == "__main__":
    main()
