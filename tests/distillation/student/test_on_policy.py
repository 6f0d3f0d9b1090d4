"""On-policy training: the ledger, the scores, the objectives."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from micro import SUITE, micro_config, same_state

from read_env.capabilities.stream import PromptStream
from read_env.distillation.loading import load_student, load_teacher
from read_env.distillation.models.decoding import sample
from read_env.distillation.process import Distillation
from read_env.distillation.student import on_policy
from read_env.distillation.student.rollouts import sample_rollouts
from read_env.errors import ReadEnvError

UNIFORM = np.full(10, 1 / 10)


def config(total=1200, step=400, **distill):
    settings = {"loss": "grpo", "max_completion_tokens": 24, "rollout_batch_size": 4, **distill}
    return micro_config(total, step, distill=settings)


def loaded(total=1200, step=400, **distill):
    return Distillation.load(config(total, step, **distill))


def samples_of(pair, seed=0, group=4):
    student, teacher, prompts = pair
    student.reset()
    return sample_rollouts(prompts, student, teacher, SUITE, num_generations=group, max_new_tokens=24, seed=seed)


def reward(example):
    (value,) = set(example.targets.rewards.tolist())
    return value


def advantage(example):
    (value,) = set(example.targets.advantages.tolist())
    return value


def with_advantage(example, value):
    targets = replace(example.targets, advantages=torch.full((len(example),), value))
    return replace(example, targets=targets)


def test_samples_come_from_their_seed_and_leave_torch_alone(pair):
    torch.manual_seed(5)
    first = samples_of(pair, seed=1)
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(1))
    again, other = samples_of(pair, seed=1), samples_of(pair, seed=2)
    assert [s.token_ids for s in first] == [s.token_ids for s in again] != [s.token_ids for s in other]
    groups = [{s.token_ids for s in first[i : i + 4]} for i in range(0, len(first), 4)]
    assert max(map(len, groups)) > 1, "a group is several samples of one prompt"


def test_samples_are_drawn_from_the_distribution_itself(pair):
    """How often a first token comes is its probability."""
    student, _, prompts = pair
    encoder = student.encoder
    ids = encoder.prompts([prompts[0].text])
    said = sample(student.model, ids * 600, max_new_tokens=1, stop_ids=encoder.stop_ids, pad_id=encoder.pad_id, seed=3)
    with torch.inference_mode():
        expected = torch.softmax(student.model(input_ids=torch.tensor(ids)).logits[0, -1], -1)
    counts = np.bincount([tokens[0] for tokens in said], minlength=len(expected)) / 600
    assert np.abs(counts - expected.numpy()).max() < 4 * 0.5 / 600**0.5


def test_scores_are_the_teachers_log_probabilities_of_the_sampled_tokens(pair):
    _, teacher, _ = pair
    for one in samples_of(pair)[::5]:
        ids = torch.tensor([[*one.prompt_ids, *one.token_ids]])
        with torch.inference_mode():
            logs = torch.log_softmax(teacher.model(input_ids=ids).logits[0].double(), -1)
        expected = [logs[len(one.prompt_ids) - 1 + i, token].item() for i, token in enumerate(one.token_ids)]
        assert one.targets.teacher_log_probs.tolist() == pytest.approx(expected, abs=1e-3)
        assert one.targets.tokens.tolist() == list(one.token_ids)


def test_rewards_are_the_verifiers_and_advantages_those_of_the_group(pair):
    student, _, _ = pair
    found = samples_of(pair)
    for one in found:
        assert reward(one) == SUITE[one.prompt.capability].verify(one.prompt, student.encoder.text(one.token_ids))
    for start in range(0, len(found), 4):
        group = found[start : start + 4]
        assert len({one.prompt.text for one in group}) == 1
        assert sum(advantage(one) for one in group) == pytest.approx(0, abs=1e-5)
        if len({reward(one) for one in group}) == 1:
            assert all(advantage(one) == 0 for one in group)
    assert {reward(one) for one in found} == {0.0, 1.0}


@pytest.mark.parametrize(("total", "step"), [(1200, 400), (997, 331), (130, 60), (97, 97)])
def test_the_ledger_counts_what_was_sampled_and_is_never_overspent(total, step):
    distillation = loaded(total, step)
    spent = 0
    while not distillation.exhausted:
        report = distillation.step(UNIFORM)
        spent += report.completion_tokens
        assert distillation.budget.spent == spent <= total
        assert report.tokens_by_capability.sum() == report.completion_tokens
        assert distillation.budget.generated_tokens == spent, "every sampled token is trained on"
    assert total - spent < 4 * 24, "what is left is too little for a group of the longest samples"


def test_tokens_follow_the_allocation():
    distillation = loaded(4000, 4000)
    wanted = np.array([0, 0.25, 0, 0.75, 0, 0, 0, 0, 0, 0])
    report = distillation.step(wanted)
    assert report.tokens_by_capability[wanted == 0].sum() == 0
    assert report.tokens_by_capability[3] / report.completion_tokens == pytest.approx(0.75, abs=0.06)


@pytest.fixture
def rollouts(monkeypatch):
    """Prompts and longest completion of every rollout."""
    found = []

    def spy(chosen, *rest, **named):
        found.append((len(chosen), named["max_new_tokens"]))
        return sample_rollouts(chosen, *rest, **named)

    monkeypatch.setattr(on_policy, "sample_rollouts", spy)
    return found


def test_no_update_before_the_last_chunk_is_on_a_few_prompts(rollouts):
    distillation = loaded(2400, 800, rollout_batch_size=6)
    reports = [distillation.step(UNIFORM) for _ in range(2)]
    assert len(rollouts) == sum(report.updates for report in reports) >= 4
    assert min(count for count, _ in rollouts) >= 3
    assert reports[1].completion_tokens > 400, "what the first chunk left over is owed in the second"


def test_where_the_budget_ends_small_rollouts_go_into_one_update(rollouts, monkeypatch):
    distillation = loaded(1600, 1600, rollout_batch_size=8)
    updates, update = [], distillation.student.update
    monkeypatch.setattr(
        distillation.student, "update", lambda samples, *rest: updates.append(len(samples)) or update(samples, *rest)
    )
    report = distillation.step(UNIFORM)
    assert {longest for _, longest in rollouts} == {24}, "no sample is cut to fit into what is left"
    assert min(count for count, _ in rollouts) < 4, "the case is there"
    assert min(updates) >= 4 * 4 and sum(updates) == 4 * sum(count for count, _ in rollouts)
    assert report.updates == len(updates) < len(rollouts)


def test_a_budget_below_one_group_is_refused():
    message = r"total_tokens is 95, below one group .*num_generations \(4\) .*tokens \(24\)"
    with pytest.raises(ReadEnvError, match=message):
        loaded(95, 95)


def test_a_step_whose_teacher_gives_up_leaves_everything_as_it_was(monkeypatch):
    """In the second rollout of a chunk, when the student has learned from the first."""
    distillation = loaded()
    before = distillation.snapshot()
    scored, score = [], distillation.cache.teacher.score

    def fail(*arguments):
        scored.append(1)
        if len(scored) == 2:
            raise ReadEnvError("the teacher gave up")
        return score(*arguments)

    monkeypatch.setattr(distillation.cache.teacher, "score", fail)
    with pytest.raises(ReadEnvError, match="the teacher gave up"):
        distillation.step(UNIFORM)
    assert same_state(distillation.snapshot(), before)
    assert distillation.step(UNIFORM).completion_tokens > 0


def test_samples_without_any_signal_leave_the_student_as_it_is(pair):
    student, *_ = pair
    samples = samples_of(pair)
    student.update(samples)
    learned = student.state_dict()["model"]
    stats = student.update([with_advantage(one, 0.0) for one in samples])
    assert stats.metrics["grad_norm"] == 0
    assert same_state(student.state_dict()["model"], learned)


def test_an_update_on_samples_is_the_same_in_pieces(pair):
    student, *_ = pair
    samples = samples_of(pair)
    found = []
    for tokens in (100_000, 150):
        student.reset()
        student.micro_batch_tokens = tokens
        found.append((student.update(samples), student.state_dict()["model"]))
    (whole, weights), (pieces, others) = found
    assert pieces.metrics == pytest.approx(whole.metrics, rel=1e-3, abs=1e-5)
    mean = sum(len(one) * reward(one) for one in samples) / sum(map(len, samples))
    assert pieces.metrics["reward"] == pytest.approx(mean, rel=1e-5)
    for name, one in weights.items():
        torch.testing.assert_close(others[name], one, rtol=1e-3, atol=2e-5)
    student.reset()


def test_a_run_repeats_and_goes_on_from_a_snapshot():
    distillation = loaded(loss="rlad")
    first = [distillation.step(UNIFORM) for _ in range(2)]
    distillation.reset(0)
    distillation.step(UNIFORM)
    state = distillation.snapshot()
    second = distillation.step(UNIFORM)
    distillation.restore(state)
    third = distillation.step(UNIFORM)
    for other in (second, third):
        assert np.array_equal(other.profile, first[1].profile) and other.metrics == first[1].metrics


def test_rlad_with_alpha_one_is_grpo():
    settings = ({"loss": "grpo"}, {"loss": "rlad", "rlad_alpha": 1.0}, {"loss": "rlad", "rlad_alpha": 0.5})
    grpo, one, half = (loaded(**distill).step(UNIFORM).profile for distill in settings)
    assert np.array_equal(grpo, one) and not np.array_equal(grpo, half)


def test_what_each_objective_reports():
    reported = {loss: loaded(loss=loss).step(UNIFORM).metrics for loss in ("gkd", "grpo", "rlad")}
    for metrics in reported.values():
        assert {"fkl", "rkl", "topk_mass", "overlap", "reward", "grad_norm"} <= set(metrics)
    assert reported["grpo"]["clip_fraction"] == 0 and reported["grpo"]["ratio"] == 1
    assert reported["rlad"]["clip_fraction"] > 0, "the teacher in the ratio clips from the start"
    assert "ratio" not in reported["gkd"]


def test_a_student_gets_better_on_what_it_practises():
    """GKD pulls the student to the teacher where it goes itself."""
    distillation = loaded(3000, 1500, loss="gkd", num_generations=1, learning_rate=1e-3, rollout_batch_size=24)
    only_prices = np.eye(10)[SUITE.names.index("prices")]
    first, second = distillation.step(only_prices), distillation.step(only_prices)
    assert second.metrics["rkl"] < 0.8 * first.metrics["rkl"]
    assert second.metrics["reward"] > first.metrics["reward"] + 0.1


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["grpo", "rlad"])
def test_rewards_rise_on_what_is_practised(loss):
    settings = config(loss=loss, learning_rate=1e-3, lr_scheduler_type="constant", warmup_ratio=0)
    student = load_student(settings)
    teacher = load_teacher(settings, student)
    prompts = PromptStream(SUITE["prices"], 3).slice(0, 0, 8)
    rewards = []
    for number in range(14):
        samples = sample_rollouts(prompts, student, teacher, SUITE, num_generations=6, max_new_tokens=24, seed=number)
        rewards.append(np.mean([reward(one) for one in samples]))
        student.update(samples)
    assert np.mean(rewards[-3:]) > np.mean(rewards[:3]) + 0.2


def test_a_group_of_one_says_nothing_about_its_group():
    with pytest.raises(ReadEnvError, match="distill: with loss 'grpo', num_generations must be at least 2, and is 1"):
        config(num_generations=1)
