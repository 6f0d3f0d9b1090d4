"""The teacher's own scores, the samples, and the count of cut completions, on the micro models."""

import numpy as np
import pytest
from micro import SUITE, micro_config, same_state

from read_env.capabilities.stream import held_out
from read_env.distillation.measurement import scores_teacher
from read_env.distillation.process import Distillation
from read_env.distillation.student.evaluation import ProbeSet, exam, probe_profile
from read_env.distillation.teachers.evaluation import evaluate_teacher

UNIFORM = np.full(10, 1 / 10)


@pytest.fixture(scope="module")
def distillation():
    return Distillation.load(micro_config(900, 300, 6))


def test_the_teacher_is_scored_as_the_student_is(distillation):
    teacher, scores = distillation.cache.teacher, distillation.measurement.teacher_scores
    expected, tokens = exam(teacher.model, teacher.encoder, SUITE, per_capability=6, max_new_tokens=40)
    assert scores.exam.tolist() == list(expected.values()) and scores.tokens == tokens
    assert 0.5 < scores.exam.mean() > distillation.exam().mean()
    for score in ("likelihood", "token-likelihood"):
        probes = ProbeSet.build(SUITE, teacher.encoder, "probes", 6)
        of_teacher = probe_profile(teacher.model, probes, per_token=score == "token-likelihood")
        config = distillation.config.eval.model_copy(update={"score": score})
        assert evaluate_teacher(distillation.cache, SUITE, config).profile == pytest.approx(of_teacher, abs=1e-5)
    config = distillation.config.eval.model_copy(update={"score": "exact-match"})
    matched = evaluate_teacher(distillation.cache, SUITE, config)
    on_probes, _ = exam(teacher.model, teacher.encoder, SUITE, split="probes", per_capability=6, max_new_tokens=40)
    assert matched.profile.tolist() == list(on_probes.values()) and matched.tokens > scores.tokens


def test_scores_and_samples_change_neither_the_run_nor_the_ledger_and_are_asked_once(distillation):
    distillation.reset(0)
    before = distillation.snapshot()
    again = evaluate_teacher(distillation.cache, SUITE, distillation.config.eval)
    asked = distillation.cache.asked_tokens
    evaluate_teacher(distillation.cache, SUITE, distillation.config.eval)
    samples = distillation.measurement.samples()
    assert (
        distillation.cache.asked_tokens == asked
        and again.exam.tolist() == distillation.measurement.teacher_scores.exam.tolist()
    )
    assert same_state(before, distillation.snapshot())
    expected = [prompt for capability in SUITE for prompt in held_out(capability, "exam", 6)[:2]]
    assert [prompt for prompt, _ in samples] == expected
    assert all(prompt.text in again.answers for prompt in expected)
    assert samples == distillation.measurement.samples() and all(answer for _, answer in samples)


@pytest.mark.parametrize(
    ("asked", "teacher", "scored"),
    [("auto", "vllm:m", True), ("auto", "remote:m", False), ("always", "remote:m", True), ("never", "micro", False)],
)
def test_a_remote_teacher_is_scored_only_where_it_is_asked_for(asked, teacher, scored):
    config = micro_config(900, 300, 6)
    models, of_eval = ({"teacher": teacher}, {"score_teacher": asked})
    config = config.model_copy(
        update={"models": config.models.model_copy(update=models), "eval": config.eval.model_copy(update=of_eval)}
    )
    assert scores_teacher(config) == scored


@pytest.mark.parametrize("loss", ["fkl", "grpo"])
def test_cut_completions_are_counted_by_capability(loss):
    settings = {"loss": loss, "max_completion_tokens": 8, "teacher_batch_size": 8, "rollout_batch_size": 4}
    report = Distillation.load(micro_config(900, 300, 2, distill=settings)).step(UNIFORM)
    done, cut = report.examples_by_capability, report.cut_by_capability
    assert (cut <= done).all() and 0 < cut.sum() < done.sum()
    assert (8 * cut <= report.tokens_by_capability).all() and report.completion_tokens <= 8 * done.sum()
    whole = Distillation.load(micro_config(900, 300, 2, distill={"teacher_batch_size": 8})).step(UNIFORM)
    assert whole.cut_by_capability.sum() == 0 < whole.examples_by_capability.sum()
