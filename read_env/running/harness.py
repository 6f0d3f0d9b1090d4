"""Evaluation of one model on tasks of the LM Evaluation Harness (package ``lm-eval``).

The values are those of ``lm_eval.simple_evaluate`` with its default seeds.
"""

from __future__ import annotations

import io
import logging
import math
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from typing import TYPE_CHECKING, Any

import numpy as np

from read_env.errors import ReadEnvError
from read_env.records import ExternalResult, ExternalScore
from read_env.running.harness_tasks import HarnessTasks, quiet, reason_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

#: Requests per batch. On out-of-memory it is halved.
BATCH_SIZE = 8


def check_template(tasks: HarnessTasks, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise a ReadEnvError for a tokenizer without the chat template that the tasks ask for."""
    if tasks.chat_template and not tokenizer.chat_template:
        raise ReadEnvError(
            "the student's tokenizer has no chat template, and the evaluation on tasks of lm-eval was to use it; right would "
            "be a chat_template in its tokenizer_config.json, or an evaluation without one"
        )


def evaluate(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tasks: HarnessTasks, loaded: Mapping[str, Any],
    batch_size: int = BATCH_SIZE,
) -> dict[str, ExternalResult]:  # fmt: skip
    """Evaluate a model on a task, a group or a tag.

    Args:
        model: the model, on its device.
        tokenizer: its tokenizer.
        tasks: the settings.
        loaded: value of :func:`load_tasks`.
        batch_size: requests per batch; on out-of-memory it is halved.

    Returns:
        Task -> result; of a group also its members, of a tag its members alone.

    Raises:
        ReadEnvError: no chat template where one is asked for, or a model that the task can't be run on.
    """
    check_template(tasks, tokenizer)
    names = ", ".join(loaded["groups"] or loaded["tasks"])
    import torch
    from lm_eval import evaluate as run_harness
    from lm_eval.models.huggingface import HFLM

    from read_env.distillation.models.memory import release_memory

    while True:
        try:
            with quiet():
                lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)
            with _seeded():
                found = run_harness(
                    lm, loaded, limit=tasks.limit, log_samples=False, apply_chat_template=tasks.chat_template,
                    fewshot_as_multiturn=True, confirm_run_unsafe_code=False,
                )  # fmt: skip
            return _results(found)
        except torch.OutOfMemoryError as error:
            message = reason_of(error)
        except Exception as error:  # of lm-eval, its tasks and metrics
            raise ReadEnvError(
                f"task {names} of lm-eval could not be evaluated ({type(error).__name__}: {reason_of(error)})"
            ) from error
        # Outside the handler, where the traceback no longer holds the tensors of the attempt.
        release_memory()
        if batch_size == 1:
            raise ReadEnvError(f"out of memory in task {names} of lm-eval with batch size 1 ({message})")
        batch_size //= 2


def _results(found: Mapping[str, Any]) -> dict[str, ExternalResult]:
    """Results of lm-eval, whose keys are ``METRIC,FILTER`` and ``METRIC_stderr,FILTER``."""
    results = {}
    for task, values in {**found["results"], **found.get("groups", {})}.items():
        scores = {}
        for key, value in values.items():
            metric, comma, chosen = key.partition(",")
            if comma and not metric.endswith("_stderr"):
                name = metric if chosen == "none" else key
                stderr = _number(values.get(f"{metric}_stderr,{chosen}"))
                scores[name] = ExternalScore(value=_number(value), stderr=stderr)
        of, shots = found["n-samples"].get(task), found["n-shot"].get(task)
        results[task] = ExternalResult(
            version=str(found["versions"].get(task, "")), num_fewshot=shots if isinstance(shots, int) else None,
            samples=of and of["effective"], samples_in_all=of and of["original"], metrics=scores,
        )  # fmt: skip
    return results


def _number(value: Any) -> float | None:
    """Value as a finite number; lm-eval writes ``N/A`` for a missing one."""
    number = float(value) if isinstance(value, int | float | np.number) else math.nan
    return number if math.isfinite(number) else None


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Hide the progress bars of lm-eval, which would disturb a display; its warnings are still shown."""
    handler, logger = (
        logging.StreamHandler(),
        logging.getLogger("lm_eval"),
    )  # the handler keeps standard error as it is now
    logger.addHandler(handler)
    try:
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.removeHandler(handler)


@contextmanager
def _seeded() -> Iterator[None]:
    """Seeds of ``lm_eval.simple_evaluate``; the states of all generators are restored afterwards."""
    import torch

    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        random.seed(0)
        np.random.seed(1234)
        torch.manual_seed(1234)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
