"""One chunk on the real micro models: exact, repeatable, independent of the cache."""

import numpy as np
import pytest
import torch

from read_env.capabilities.stream import held_out
from read_env.config import load_preset
from read_env.distillation.loading import load
from read_env.distillation.process import Distillation
from read_env.distillation.student.evaluation import exam, probe_profile
from read_env.distillation.teachers.base import TeacherCache
from read_env.errors import DivergedError, ReadEnvError
from read_env.losses import OBJECTIVES

BLOCK = {"teacher_batch_size": 8}
SMALL = {
    "budget": {"total_tokens": 1600, "step_tokens": 400},
    "eval": {"probes": 6, "dev": 6, "exam": 6},
    "distill": BLOCK,
}
UNIFORM = np.full(8, 1 / 8)


@pytest.fixture(scope="module")
def distillation():
    return Distillation.load(load_preset("micro", SMALL))


def _play(distillation, allocations, seed=0):
    distillation.reset(seed)
    reports = []
    for allocation in allocations:
        reports.append(distillation.step(allocation))
    return reports


def _same(first, second):
    return all(
        np.array_equal(a.profile, b.profile)
        and a.loss == b.loss
        and np.array_equal(a.tokens_by_capability, b.tokens_by_capability)
        for a, b in zip(first, second, strict=True)
    )


def test_a_run_spends_the_budget_and_says_where(distillation):
    reports = _play(distillation, [UNIFORM] * 4)
    budget = distillation.budget
    assert distillation.exhausted and [r.exhausted for r in reports] == [False, False, False, True]
    assert budget.spent == sum(r.completion_tokens for r in reports) <= 1600
    assert budget.left < 40, "only what no completion fits into may be left"
    tokens = sum(r.tokens_by_capability for r in reports)
    assert tokens.sum() == budget.spent and np.abs(tokens - budget.spent / 8).max() < 40
    assert budget.prompt_tokens == sum(r.prompt_tokens for r in reports) > 0
    with pytest.raises(ReadEnvError, match="the budget is spent"):
        distillation.step(UNIFORM)


def test_tokens_follow_the_allocation(distillation):
    weights = np.array([0, 0, 0, 0.75, 0.25, 0, 0, 0])
    report = _play(distillation, [weights])[0]
    assert set(np.flatnonzero(report.tokens_by_capability)) == {3, 4}
    assert report.tokens_by_capability[3] / report.completion_tokens == pytest.approx(0.75, abs=0.06)
    assert report.trained_tokens == report.completion_tokens + report.prompt_tokens


def test_same_seed_same_bits_and_another_seed_other_prompts(distillation):
    first = _play(distillation, [UNIFORM] * 3, seed=5)
    assert _same(first, _play(distillation, [UNIFORM] * 3, seed=5))
    assert not _same(first, _play(distillation, [UNIFORM] * 3, seed=6))


def test_the_cache_never_changes_a_result(distillation, monkeypatch):
    """Cold, and warmed by runs that asked in other orders: equal to the bit."""
    allocations = [UNIFORM, np.eye(8)[3], np.array([0.5, 0, 0, 0, 0, 0, 0.5, 0])]
    teacher = distillation.cache.teacher
    results = []
    for warming in ([], [np.eye(8)[6], np.eye(8)[3]], [UNIFORM] * 4):
        monkeypatch.setattr(distillation, "cache", TeacherCache(teacher))
        _play(distillation, warming)
        results.append(_play(distillation, allocations))
    assert _same(results[0], results[1]) and _same(results[0], results[2])


def test_the_teacher_is_asked_once_per_prompt(distillation, monkeypatch):
    monkeypatch.setattr(distillation, "cache", TeacherCache(distillation.cache.teacher))
    _play(distillation, [UNIFORM] * 4)
    asked = distillation.cache.asked_tokens
    _play(distillation, [UNIFORM] * 4)
    assert distillation.cache.asked_tokens == asked > 0


def test_a_small_cache_forgets_and_still_answers_the_same(distillation, monkeypatch):
    first = _play(distillation, [UNIFORM] * 2)
    small = TeacherCache(distillation.cache.teacher, max_completion_tokens=500)
    monkeypatch.setattr(distillation, "cache", small)
    assert _same(first, _play(distillation, [UNIFORM] * 2))
    asked = small.asked_tokens
    assert _same(first, _play(distillation, [UNIFORM] * 2))
    assert small.asked_tokens > asked, "what was forgotten is asked again"


def test_snapshot_and_restore_are_exact_also_through_a_file(distillation, tmp_path):
    _play(distillation, [UNIFORM])
    state = distillation.snapshot()
    torch.save(state, tmp_path / "state.pt")
    first = [distillation.step(np.eye(8)[2]), distillation.step(UNIFORM)]
    for restored in (state, torch.load(tmp_path / "state.pt", weights_only=True)):
        distillation.reset(99)
        distillation.restore(restored)
        assert _same(first, [distillation.step(np.eye(8)[2]), distillation.step(UNIFORM)])


def test_what_an_objective_learned_is_in_the_snapshot():
    distill = {**BLOCK, "loss": "arkd", "tokens_per_update": 50}
    distillation = Distillation.load(load_preset("micro", {**SMALL, "distill": distill}))
    _play(distillation, [UNIFORM])
    state = distillation.snapshot()
    first = [distillation.step(UNIFORM), distillation.step(UNIFORM)]
    assert first[0].metrics["alpha"] != first[1].metrics["alpha"]
    distillation.restore(state)
    second = [distillation.step(UNIFORM), distillation.step(UNIFORM)]
    assert _same(first, second) and [r.metrics for r in first] == [r.metrics for r in second]
    assert _same(first, _play(distillation, [UNIFORM] * 3)[1:]), "a reset begins a new objective"


def test_what_an_objective_asks_of_the_dev_split_is_in_the_ledger():
    distill = {**BLOCK, "loss": "arkd", "tokens_per_update": 50}
    distillation = Distillation.load(load_preset("micro", {**SMALL, "distill": distill}))
    once = sum(map(len, distillation.student.validation))
    for _ in range(2):
        distillation.reset(0)
        assert distillation.budget.dev_tokens == once > 0, "the teacher's answers"
        report = distillation.step(UNIFORM)
        # The first update and every fifth after it.
        assert distillation.budget.dev_tokens == once * (1 + 1 + (report.updates - 1) // 5) > 2 * once


def test_another_process_gets_the_same_bits_from_a_snapshot(distillation):
    _play(distillation, [UNIFORM])
    state = distillation.snapshot()
    expected = distillation.step(UNIFORM)
    other = Distillation.load(distillation.config)
    other.restore(state)
    assert _same([expected], [other.step(UNIFORM)])


def _equal(first, second):
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(_equal(first[k], second[k]) for k in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(_equal, first, second))
    return first == second


def test_an_exploding_update_is_refused_and_everything_restored():
    small = {**SMALL, "distill": {**BLOCK, "tokens_per_update": 100}}
    distillation = Distillation.load(load_preset("micro", small))
    expected = _play(distillation, [UNIFORM] * 2)
    _play(distillation, [UNIFORM])
    before = distillation.snapshot()
    calls = []

    def poison(grad):  # the third update explodes, when two have moved the student
        calls.append(1)
        return grad * float("nan") if len(calls) == 3 else grad

    hook = next(distillation.student.model.parameters()).register_hook(poison)
    try:
        with pytest.raises(DivergedError, match=r"diverged: loss .* lower distill.learning_rate"):
            distillation.step(UNIFORM)
    finally:
        hook.remove()
    assert len(calls) == 3
    assert _equal(distillation.snapshot(), before)
    assert _same(expected[1:], [distillation.step(UNIFORM)])


def test_a_loss_above_the_limit_counts_as_exploded():
    distillation = Distillation.load(load_preset("micro", {**SMALL, "distill": {**BLOCK, "max_loss": 1e-3}}))
    before = distillation.snapshot()
    with pytest.raises(DivergedError, match=r"distill.max_loss is 0.001"):
        distillation.step(UNIFORM)
    assert _equal(distillation.snapshot(), before)


def test_no_capability_gets_more_updates_per_token_than_another():
    config = load_preset("micro", {**SMALL, "distill": {**BLOCK, "tokens_per_update": 50}})
    distillation = Distillation.load(config)
    reports = [_play(distillation, [np.eye(8)[c]])[0] for c in range(8)]
    assert {r.updates for r in reports} == {8}
    assert len({r.prompt_tokens for r in reports}) > 4, "prompts of all lengths, and still the same number of updates"


@pytest.mark.parametrize("loss", [name for name, objective in OBJECTIVES.items() if not objective.on_policy])
def test_every_objective_on_the_teachers_answers_teaches_in_a_chunk(loss):
    # The micro teacher has next to no tail: at the published weight tad learns the shape of a millionth.
    budget, distill = {"total_tokens": 4000, "step_tokens": 2000}, {"loss": loss, "teacher_top_k": 16, "tad_beta": 0.01}
    distillation = Distillation.load(load_preset("micro", {**SMALL, "budget": budget, "distill": distill}))
    only_knowledge = np.eye(8)[0]
    first, second = _play(distillation, [only_knowledge] * 2)
    assert second.loss < first.loss and second.profile[0] > first.profile_before[0]
    assert 0 < second.metrics["fkl"] < first.metrics["fkl"] and second.metrics["rkl"] > 0
    if loss in second.metrics:
        assert second.metrics[loss] == pytest.approx(second.loss, rel=1e-4)


def test_the_curriculum_goes_from_easy_to_hard_and_uniform_does_not():
    def cursors_by_step(curriculum):
        distillation = Distillation.load(
            load_preset("micro", {**SMALL, "distill": {**BLOCK, "curriculum": curriculum}})
        )
        found, before = [], np.zeros(3)
        for _ in range(4):
            distillation.step(UNIFORM)
            after = np.array(distillation._stream.state_dict()["cursors"]).sum(axis=0)
            found.append((after - before) / (after - before).sum())
            before = after
        return np.array(found)

    rising, even = cursors_by_step("easy-to-hard"), cursors_by_step("uniform")
    assert rising[0, 0] > 0.5 > rising[-1, 0] and rising[-1, 2] > 0.5 > rising[0, 2]
    assert np.abs(even.mean(axis=0) - 1 / 3).max() < 0.12


@pytest.mark.parametrize("weights", [[-1] + [1] * 7, [0] * 8, [1] * 7, [float("nan")] * 8])
def test_a_bad_allocation_changes_nothing(distillation, weights):
    _play(distillation, [UNIFORM])
    spent = distillation.budget.spent
    with pytest.raises(ReadEnvError, match="allocation"):
        distillation.step(weights)
    assert distillation.budget.spent == spent and distillation.step_index == 1


def test_the_saved_student_is_the_student(distillation, tmp_path):
    _play(distillation, [UNIFORM])
    distillation.save_student(tmp_path)
    model = load(str(tmp_path)).model
    assert np.array_equal(probe_profile(model, distillation._probe_sets["probes"]), distillation.profile)


def test_the_profile_is_the_likelihood_of_the_references(distillation):
    """One capability recomputed prompt by prompt without batching."""
    distillation.reset(0)
    encoder, model = distillation.student.encoder, distillation.student.model
    likelihoods = []
    for p in held_out(distillation.suite["code"], "probes", 6):
        prompt, completion = encoder.prompts([p.text])[0], encoder.completions([p.reference])[0]
        with torch.no_grad():
            log_p = torch.log_softmax(model(torch.tensor([prompt + completion])).logits[0].double(), -1)
        steps = [log_p[len(prompt) - 1 + i, token].item() for i, token in enumerate(completion)]
        likelihoods.append(np.exp(sum(steps)))
    assert distillation.profile[4] == pytest.approx(np.mean(likelihoods), rel=1e-4, abs=1e-7)


def test_a_search_by_exact_match_sees_dev_and_not_the_exam(monkeypatch):
    asked = []

    def spy(capability, split, count, seed=0):
        asked.append((split, count))
        return held_out(capability, split, count, seed)

    monkeypatch.setattr("read_env.distillation.student.evaluation.held_out", spy)
    settings = {**SMALL["eval"], "exam": 5, "exam_split": "dev"}
    searching = Distillation.load(load_preset("micro", {**SMALL, "eval": settings}))
    searching.reset(0)
    asked.clear()
    scores = searching.exam()
    assert set(asked) == {("dev", 5)}
    assert np.array_equal(np.round(scores * 5) / 5, scores)


def test_a_budget_below_one_completion_is_refused():
    with pytest.raises(ReadEnvError, match=r"budget.total_tokens is 3, below one completion"):
        Distillation.load(load_preset("micro", {"budget": {"total_tokens": 3, "step_tokens": 3}}))


def test_missing_and_corrupt_models_are_named(tmp_path):
    with pytest.raises(ReadEnvError, match="'embedded:micro/pupil': no such embedded model"):
        load("embedded:micro/pupil")
    with pytest.raises(ReadEnvError, match="nowhere.* could not be loaded"):
        load(str(tmp_path / "nowhere"))
    loaded = load("embedded:micro/student")
    model, tokenizer = loaded.model, loaded.encoder.tokenizer
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ReadEnvError, match=r"could not be loaded .* \*\.safetensors weights"):
        load(str(tmp_path))


def test_a_snapshot_of_another_budget_is_refused(distillation):
    state = _play(distillation, []) or distillation.snapshot()
    with pytest.raises(ReadEnvError, match=r"budget.total_tokens is 99, the configuration's 1600"):
        distillation.restore({**state, "budget": {**state["budget"], "total": 99}})


def test_weights_in_another_format_than_safetensors_are_refused(tmp_path):
    loaded = load("embedded:micro/student")
    model, tokenizer = loaded.model, loaded.encoder.tokenizer
    model.config.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ReadEnvError, match=r"could not be loaded .* \*\.safetensors weights"):
        load(str(tmp_path))


def test_a_run_from_a_store_that_others_filled_is_the_cold_run(tmp_path):
    """Cold, warm, and partly filled by a run that asked for other things: equal to the bit."""
    kept = {**SMALL, "cache": {"directory": str(tmp_path)}}
    allocations = [UNIFORM, np.eye(8)[3]]
    cold = _play(Distillation.load(load_preset("micro", {**SMALL, "cache": {"directory": "none"}})), allocations)
    _play(Distillation.load(load_preset("micro", kept)), [np.eye(8)[3], np.eye(8)[6]])
    partly = Distillation.load(load_preset("micro", kept))
    assert _same(_play(partly, allocations), cold)
    assert partly.cache.store.stats.hits > 0 and partly.cache.asked_tokens > 0
    warm = Distillation.load(load_preset("micro", kept))
    assert _same(_play(warm, allocations), cold)
    assert warm.cache.asked_tokens == 0


def test_probes_by_exact_match_are_what_the_verifiers_accept():
    settings = {**SMALL["eval"], "score": "exact-match", "eval_batch_size": 16}
    distillation = Distillation.load(load_preset("micro", {**SMALL, "eval": settings}))
    expected, generated = exam(
        distillation.student.model,
        distillation.student.encoder,
        distillation.suite,
        split="probes",
        per_capability=6,
        max_new_tokens=40,
    )
    assert distillation.profile.tolist() == list(expected.values())
    assert distillation.budget.probe_tokens == generated > 0
    assert distillation.step(UNIFORM).profile.max() <= 1


def test_probes_by_token_are_geometric_means():
    settings = {**SMALL["eval"], "score": "token-likelihood"}
    distillation = Distillation.load(load_preset("micro", {**SMALL, "eval": settings}))
    encoder, model = distillation.student.encoder, distillation.student.model
    means = []
    for p in held_out(distillation.suite["code"], "probes", 6):
        prompt, completion = encoder.prompts([p.text])[0], encoder.completions([p.reference])[0]
        with torch.no_grad():
            log_p = torch.log_softmax(model(torch.tensor([prompt + completion])).logits[0].double(), -1)
        means.append(np.exp(np.mean([log_p[len(prompt) - 1 + i, t].item() for i, t in enumerate(completion)])))
    assert distillation.profile[4] == pytest.approx(np.mean(means), rel=1e-4)
