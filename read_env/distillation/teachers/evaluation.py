"""Evaluation of a teacher on the splits that its student is judged on: the ceiling beside the student's scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from read_env.capabilities.base import Split, Suite
from read_env.capabilities.stream import held_out
from read_env.config import EvalConfig
from read_env.distillation.teachers.base import TeacherCache, Teachers, scoring
from read_env.distillation.text.choices import other_tokens
from read_env.losses.targets import TeacherTargets


@dataclass(frozen=True)
class TeacherScores:
    """Scores of a teacher.

    Attributes:
        exam: (|C|,) exact match on the exam, in [0, 1]; without answers to compare with, the likelihood of the references
            per token.
        profile: (|C|,) score of the probes, measured as the student's, in [0, 1]; None where the teacher gives no
            probabilities of references.
        tokens: completion tokens of its answers. They are not part of B.
        answers: answers to the exam: prompt -> text.
    """

    exam: np.ndarray
    profile: np.ndarray | None
    tokens: int
    answers: dict[str, str]


def evaluate_teacher(cache: TeacherCache, suite: Suite, config: EvalConfig) -> TeacherScores | None:
    """Scores of a cache's teachers; the cache keeps their answers, so that further runs don't ask again.

    None where capabilities have no answers to compare with, and a teacher gives no probabilities of references.
    """
    if not all(capability.graded for capability in suite) and not cache.teachers.score_completions:
        return None
    exam, tokens, answers = _exact_match(cache, suite, config.exam_split, config.exam, config.eval_batch_size)
    profile = None
    if config.score == "exact-match":
        profile, more, _ = _exact_match(cache, suite, "probes", config.probes, config.eval_batch_size)
        tokens += more
    elif cache.teachers.score_completions:
        per_token = config.score == "token-likelihood"
        profile = _likelihood(cache.teachers, suite, "probes", config.probes, per_token=per_token)
    return TeacherScores(exam, profile, tokens, answers)


def _exact_match(
    cache: TeacherCache, suite: Suite, split: Split, per_capability: int, block: int
) -> tuple[np.ndarray, int, dict[str, str]]:
    """(|C|,) scores on a split, as the student's exam has them; tokens of all answers; and prompt -> answer."""
    prompts = [prompt for capability in suite for prompt in held_out(capability, split, per_capability)]
    prompts.sort(key=lambda prompt: len(prompt.text))  # less padding
    texts, names = [prompt.text for prompt in prompts], [prompt.capability for prompt in prompts]
    parts = [slice(i, i + block) for i in range(0, len(texts), block)]
    found = [answer for part in parts for answer in cache.complete(texts[part], names[part])]
    answers = [
        cache.teachers.of(name).encoder.text(answer.token_ids) for name, answer in zip(names, found, strict=True)
    ]
    right = dict.fromkeys(suite.names, 0)
    for prompt, answer in zip(prompts, answers, strict=True):
        right[prompt.capability] += suite[prompt.capability].verify(prompt, answer)
    scores = np.array([right[name] / per_capability for name in suite.names])
    graded = np.array([capability.graded for capability in suite])
    if not graded.all() and cache.teachers.score_completions:
        scores = np.where(graded, scores, _likelihood(cache.teachers, suite, split, per_capability, per_token=True))
    return scores, sum(map(len, found)), dict(zip(texts, answers, strict=True))


def _likelihood(teachers: Teachers, suite: Suite, split: Split, per_capability: int, *, per_token: bool) -> np.ndarray:
    """(|C|,) mean likelihood of the references of a split."""
    prompts = [prompt for capability in suite for prompt in held_out(capability, split, per_capability)]
    means = np.empty(len(prompts))
    for teacher, indices in teachers.parts([prompt.capability for prompt in prompts]):
        scorer = scoring(teacher)
        texts, references = [prompts[i].text for i in indices], [prompts[i].reference for i in indices]
        ids = [ids for _, ids in scorer.encoder.pairs(texts, references)]
        for index, reference, targets in zip(indices, ids, scorer.score(texts, ids), strict=True):
            one = _log_right(targets, other_tokens(scorer.encoder, prompts[index], list(reference)))
            means[index] = (one.mean() if per_token else one.sum()).exp().item()
    return means.reshape(len(suite), per_capability).mean(1)


def _log_right(targets: TeacherTargets, others: list[tuple[int, int]]) -> torch.Tensor:
    """(m,) log-probability of a right token under the teacher; other right tokens count if they are among its top K."""
    if targets.teacher_log_probs is None:
        raise AssertionError("a scoring teacher gives the probabilities of the tokens that it scores")
    p = targets.teacher_log_probs.double().exp()
    top_p = targets.top_log_probs.double().exp()
    for at, token in others:
        p[at] += (top_p[at] * (targets.top_ids[at] == token)).sum()
    return p.log()
