"""One chunk on the real micro models: exact, repeatable, independent of the cache."""

import json
import shutil

import numpy as np
import pytest
import torch
from micro import micro_config, same_state, saved
from safetensors.torch import load_file

from read_env.capabilities.base import Prompt
from read_env.capabilities.stream import held_out
from read_env.distillation.loading import load
from read_env.distillation.process import Distillation
from read_env.distillation.student.evaluation import exam, probe_profile
from read_env.distillation.teachers.base import TeacherCache
from read_env.errors import DivergedError, ReadEnvError
from read_env.losses import OBJECTIVES

UNIFORM = np.full(10, 1 / 10)
ARKD = {"loss": "arkd", "tokens_per_update": 50}


def loaded(total=1600, step=400, distill=None, **sections):
    settings = {"teacher_batch_size": 8, **(distill or {})}
    return Distillation.load(micro_config(total, step, 6, distill=settings, **sections))


@pytest.fixture(scope="module")
def distillation():
    return loaded()


def _play(distillation, allocations, seed=0):
    distillation.reset(seed)
    return [distillation.step(allocation) for allocation in allocations]


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
    assert tokens.sum() == budget.spent and np.abs(tokens - budget.spent / len(tokens)).max() < 40
    assert budget.prompt_tokens == sum(r.prompt_tokens for r in reports) > 0
    with pytest.raises(ReadEnvError, match="the budget is spent"):
        distillation.step(UNIFORM)


def test_tokens_follow_the_allocation(distillation):
    weights = np.array([0, 0, 0, 0.75, 0.25, 0, 0, 0, 0, 0])
    report = _play(distillation, [weights])[0]
    assert set(np.flatnonzero(report.tokens_by_capability)) == {3, 4}
    assert report.tokens_by_capability[3] / report.completion_tokens == pytest.approx(0.75, abs=0.06)
    assert report.trained_tokens == 3 * (report.completion_tokens + report.prompt_tokens)
    trained = report.tokens_by_capability > 0
    assert (np.isfinite(report.loss_by_capability) == trained).all()
    share = report.tokens_by_capability[trained] / report.completion_tokens
    assert share @ report.loss_by_capability[trained] == pytest.approx(report.loss)
    assert np.allclose(report.divergence_by_capability, report.loss_by_capability, equal_nan=True), "the loss is fkl"


def test_same_seed_same_bits_and_another_seed_other_prompts(distillation):
    first = _play(distillation, [UNIFORM] * 3, seed=5)
    assert _same(first, _play(distillation, [UNIFORM] * 3, seed=5))
    assert not _same(first, _play(distillation, [UNIFORM] * 3, seed=6))


def test_the_cache_never_changes_a_result(distillation, monkeypatch):
    """Cold, and warmed by runs that asked in other orders: equal to the bit."""
    allocations = [UNIFORM, np.eye(10)[3], np.array([0.5, 0, 0, 0, 0, 0, 0.5, 0, 0, 0])]
    teacher = distillation.cache.teacher
    results = []
    for warming in ([], [np.eye(10)[6], np.eye(10)[3]], [UNIFORM] * 4):
        monkeypatch.setattr(distillation, "cache", TeacherCache(teacher))
        _play(distillation, warming)
        results.append(_play(distillation, allocations))
    assert _same(results[0], results[1]) and _same(results[0], results[2])


@pytest.mark.parametrize(("settings", "asked_again"), [({}, False), ({"max_bytes": 80_000}, True)])
def test_the_teacher_is_asked_once_per_prompt_unless_a_cache_forgot(distillation, monkeypatch, settings, asked_again):
    cache = TeacherCache(distillation.cache.teacher, **settings)
    monkeypatch.setattr(distillation, "cache", cache)
    first = _play(distillation, [UNIFORM] * 4)
    asked = cache.asked_tokens
    assert _same(first, _play(distillation, [UNIFORM] * 4))
    assert (cache.asked_tokens > asked) == asked_again and asked > 0


@pytest.mark.parametrize("answered", [True, False])
def test_a_stream_keeps_the_prompts_of_the_blocks_in_use_alone(distillation, answered):
    """Host memory must not grow with the length of a run; going back reads the same prompts again."""
    distillation.reset(0)
    stream = distillation._new_stream()
    start, take = stream.state_dict(), stream.take if answered else stream.take_prompt
    seen = [take(3) for _ in range(60)]
    kept = [len(prompts) for _, (prompts, _, _) in stream._prompts.values()]
    assert len(kept) <= 3 and set(kept) == {8}, "of 8 blocks read, one for each tertile"
    stream.load_state_dict(start)
    again = [take(3) for _ in range(60)]
    assert [one if isinstance(one, Prompt) else (one.prompt, one.prompt_ids, one.token_ids) for one in again] == [
        one if isinstance(one, Prompt) else (one.prompt, one.prompt_ids, one.token_ids) for one in seen
    ]


def test_snapshot_and_restore_are_exact_also_through_a_file_and_in_another_process(distillation, tmp_path):
    _play(distillation, [UNIFORM])
    state = distillation.snapshot()
    torch.save(state, tmp_path / "state.pt")
    from_file = torch.load(tmp_path / "state.pt", weights_only=True)
    first = [distillation.step(np.eye(10)[2]), distillation.step(UNIFORM)]
    distillation.reset(99)
    for one, restored in ((distillation, state), (distillation, from_file), (loaded(), from_file)):
        one.restore(restored)
        assert _same(first, [one.step(np.eye(10)[2]), one.step(UNIFORM)])


def test_what_an_objective_learned_is_in_the_snapshot():
    distillation = loaded(distill=ARKD)
    _play(distillation, [UNIFORM])
    state = distillation.snapshot()
    first = [distillation.step(UNIFORM), distillation.step(UNIFORM)]
    assert first[0].metrics["alpha"] != first[1].metrics["alpha"]
    distillation.restore(state)
    second = [distillation.step(UNIFORM), distillation.step(UNIFORM)]
    assert _same(first, second) and [r.metrics for r in first] == [r.metrics for r in second]
    assert _same(first, _play(distillation, [UNIFORM] * 3)[1:]), "a reset begins a new objective"


def test_what_an_objective_asks_of_the_dev_split_is_in_the_ledger():
    distillation = loaded(distill=ARKD)
    once = sum(map(len, distillation.student.validation))
    for _ in range(2):
        distillation.reset(0)
        assert distillation.budget.dev_tokens == once > 0, "the teacher's answers"
        report = distillation.step(UNIFORM)
        # The first update and every fifth after it.
        assert distillation.budget.dev_tokens == once * (1 + 1 + (report.updates - 1) // 5) > 2 * once


def test_an_exploding_update_is_refused_and_everything_restored():
    distillation = loaded(distill={"tokens_per_update": 100})
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
    assert len(calls) >= 3
    assert same_state(distillation.snapshot(), before)
    assert _same(expected[1:], [distillation.step(UNIFORM)])


def test_a_loss_above_the_limit_counts_as_exploded():
    distillation = loaded(distill={"max_loss": 1e-3})
    before = distillation.snapshot()
    with pytest.raises(DivergedError, match=r"distill.max_loss is 0.001"):
        distillation.step(UNIFORM)
    assert same_state(distillation.snapshot(), before)


def test_no_capability_gets_more_updates_per_token_than_another():
    distillation = loaded(distill={"tokens_per_update": 50})
    reports = [_play(distillation, [np.eye(10)[c]])[0] for c in range(10)]
    assert {r.updates for r in reports} == {3 * 8}
    assert len({r.prompt_tokens for r in reports}) > 4, "prompts of all lengths, and still the same number of updates"


@pytest.mark.parametrize("loss", [name for name, objective in OBJECTIVES.items() if not objective.on_policy])
def test_every_objective_on_the_teachers_answers_teaches_in_a_chunk(loss):
    # The micro teacher has next to no tail: at the published weight tad learns the shape of a millionth.
    distillation = loaded(4000, 2000, distill={"loss": loss, "teacher_top_k": 16, "tad_beta": 0.01})
    prices = distillation.suite.names.index("prices")  # learnt within the budget
    first, second = _play(distillation, [np.eye(10)[prices]] * 2)
    assert second.loss < first.loss and second.profile[prices] > first.profile_before[prices] + 0.2
    assert 0 < second.metrics["fkl"] < first.metrics["fkl"] and second.metrics["rkl"] > 0
    if loss in second.metrics:
        assert second.metrics[loss] == pytest.approx(second.loss, rel=1e-4)


def test_the_curriculum_goes_from_easy_to_hard_and_uniform_does_not():
    def cursors_by_step(curriculum):
        distillation = loaded(distill={"curriculum": curriculum})
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


def test_the_saved_student_is_the_student(tmp_path):
    distillation = loaded(eval={"ema_decay": 0.0})
    _play(distillation, [UNIFORM])
    distillation.save_student(tmp_path)
    model = load(str(tmp_path)).model
    assert np.array_equal(
        probe_profile(model, distillation.measurement._probe_sets["micro", "probes"]), distillation.profile
    )


@pytest.mark.parametrize(("score", "over_tokens"), [("likelihood", np.sum), ("token-likelihood", np.mean)])
def test_the_profile_is_the_likelihood_of_the_references(score, over_tokens):
    """One capability recomputed prompt by prompt without batching."""
    distillation = loaded(eval={"score": score})
    encoder, model = distillation.student.encoder, distillation.student.model
    likelihoods = []
    for p in held_out(distillation.suite["code"], "probes", 6):
        prompt, completion = encoder.prompts([p.text])[0], encoder.completions([p.reference])[0]
        with torch.no_grad():
            log_p = torch.log_softmax(model(torch.tensor([prompt + completion])).logits[0].double(), -1)
        steps = [log_p[len(prompt) - 1 + i, token].item() for i, token in enumerate(completion)]
        likelihoods.append(np.exp(over_tokens(steps)))
    assert distillation.profile[4] == pytest.approx(np.mean(likelihoods), rel=1e-4, abs=1e-7)


def test_probes_by_exact_match_are_what_the_verifiers_accept():
    distillation = loaded(eval={"score": "exact-match", "eval_batch_size": 16})
    student, settings = distillation.student, {"split": "probes", "per_capability": 6, "max_new_tokens": 40}
    expected, generated = exam(student.model, student.encoder, distillation.suite, **settings)
    assert distillation.profile.tolist() == list(expected.values())
    assert distillation.budget.probe_tokens == generated > 0
    assert distillation.step(UNIFORM).profile.max() <= 1


def test_a_search_by_exact_match_sees_dev_and_not_the_exam(monkeypatch):
    asked = []

    def spy(capability, split, count, seed=0):
        asked.append((split, count))
        return held_out(capability, split, count, seed)

    monkeypatch.setattr("read_env.distillation.student.evaluation.held_out", spy)
    searching = loaded(eval={"exam": 5, "exam_split": "dev"})
    searching.reset(0)
    asked.clear()
    scores = searching.exam()
    assert set(asked) == {("dev", 5)}
    assert np.array_equal(np.round(scores * 5) / 5, scores)


def test_a_budget_below_one_completion_is_refused():
    with pytest.raises(ReadEnvError, match=r"budget.total_tokens is 1, below one completion"):
        loaded(1, 1)


def test_a_snapshot_of_another_budget_is_refused(distillation):
    distillation.reset(0)
    state = distillation.snapshot()
    with pytest.raises(ReadEnvError, match=r"budget.total_tokens is 99, the configuration's 1600"):
        distillation.restore({**state, "budget": {**state["budget"], "total": 99}})


def cut(weights):
    weights.write_bytes(weights.read_bytes()[:-1000])


def pickled(weights):
    torch.save(load_file(weights), weights.with_name("pytorch_model.bin"))
    weights.unlink()


@pytest.mark.parametrize("damage", [cut, pickled, lambda weights: shutil.rmtree(weights.parent)])
def test_models_that_cannot_be_loaded_are_named(tmp_path, damage):
    saved(tmp_path / "model")
    damage(tmp_path / "model" / "model.safetensors")
    with pytest.raises(ReadEnvError, match=r"model.* (could not be loaded|no such folder).* \*\.safetensors"):
        load(str(tmp_path / "model"))


def test_an_unknown_embedded_model_is_named():
    with pytest.raises(ReadEnvError, match="'embedded:micro/pupil': no such embedded model"):
        load("embedded:micro/pupil")


def test_a_run_from_a_store_that_others_filled_is_the_cold_run(tmp_path):
    """Cold, warm, and partly filled by a run that asked for other things: equal to the bit."""
    kept = {"directory": str(tmp_path)}
    allocations = [UNIFORM, np.eye(10)[3]]
    cold = _play(loaded(cache={"directory": "none"}), allocations)
    _play(loaded(cache=kept), [np.eye(10)[3], np.eye(10)[6]])
    partly = loaded(cache=kept)
    assert _same(_play(partly, allocations), cold)
    assert partly.cache.store.stats.hits > 0 and partly.cache.asked_tokens > 0
    warm = loaded(cache=kept)
    assert _same(_play(warm, allocations), cold)
    assert warm.cache.asked_tokens == 0


def test_an_objective_that_validates_takes_the_dev_prompts_that_a_small_file_has(tmp_path):
    path = tmp_path / "small.jsonl"
    path.write_text(
        "".join(json.dumps({"prompt": f"{a}+{b}=", "answer": a + b}) + "\n" for a in range(6) for b in range(8))
    )
    sizes = {"probes": 1, "dev": 1, "exam": 1}
    distillation = loaded(400, 200, ARKD, suite=f"small={path}", task="small", eval=sizes)
    distillation.reset(0)
    assert len(distillation.student.validation) == 1 and distillation.step([1.0]).completion_tokens > 0
