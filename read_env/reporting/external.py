"""Evaluations on tasks of lm-eval: a DataFrame, and the part of a run's report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from read_env.record_files import read_external
from read_env.records import ExternalEvaluation
from read_env.reporting.markdown import ABSENT, count, literal, markdown_table, number
from read_env.reporting.runs import IDENTITY, Run, Source, identity_of, load_sources

_TEXTS = ("folder", "asked", "external_task", "version", "metric", "lm_eval")
_COUNTS = ("step", "num_fewshot", "limit", "samples", "samples_in_all")
_COLUMNS = (
    "folder", "step", "asked", "external_task", "version", "metric", "value", "stderr", "num_fewshot", "limit",
    "chat_template", "samples", "samples_in_all", "lm_eval",
)  # fmt: skip


def load_external(*sources: Source) -> pd.DataFrame:
    """One row per evaluated student, task of lm-eval and metric of every run."""
    rows = [
        {**identity_of(run), **row}
        for run in load_sources(sources) if isinstance(run, Run)
        for one in read_external(run.path).evaluations
        for row in _rows(one)
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=[*IDENTITY, *_COLUMNS])
    whole = dict.fromkeys(["seed", "budget", "step_tokens", *_COUNTS], "Int64")
    return frame.astype({**whole, "value": float, "stderr": float, "chat_template": bool})


def _rows(one: ExternalEvaluation) -> Iterator[dict[str, Any]]:
    for task, result in one.results.items():
        for metric, score in result.metrics.items():
            yield {
                "folder": one.student, "external_task": task, "metric": metric, **score.model_dump(),
                **one.model_dump(exclude={"student", "results"}), **result.model_dump(exclude={"num_fewshot", "metrics"}),
                "num_fewshot": result.num_fewshot,
            }  # fmt: skip


def external_blocks(run: Run) -> list[str]:
    """Blocks of the report with the evaluations of a run; empty without any."""
    evaluations = read_external(run.path).evaluations
    if not evaluations:
        return []
    rows = []
    for one in sorted(evaluations, key=lambda one: (one.asked, one.step)):
        for row in _rows(one):
            samples = ABSENT if row["samples"] is None else count(row["samples"])
            if row["samples"] != row["samples_in_all"]:
                samples += f" of {count(row['samples_in_all'])}"
            stderr = "" if row["stderr"] is None else f" ± {number(row['stderr'])}"
            shots = ABSENT if row["num_fewshot"] is None else count(row["num_fewshot"])
            rows.append([
                literal(row["external_task"]), literal(row["version"]), f"`{row['metric']}`", f"`{one.student}`", count(one.step),
                "yes" if one.chat_template else "no", shots, samples, f"{number(row['value'])}{stderr}",
            ])  # fmt: skip
    versions = ", ".join(sorted({one.lm_eval for one in evaluations}))
    header = [
        "task", "version", "metric", "student", "after steps", "chat template", "examples", "samples", "value ± standard error"
    ]  # fmt: skip
    return [
        "## External evaluation",
        f"By the LM Evaluation Harness (`lm-eval` {versions}). The method neither saw nor was judged by these tasks.",
        markdown_table(header, rows, text_columns=4),
    ]
