"""The objectives for two vocabularies: against float64, against those of one vocabulary, and truncated."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from read_env.losses import TeacherTargets, gold, jensen_shannon, sft, uld
from read_env.losses.gold import _two_bins
from read_env.losses.uld import rank_distance

THERE, HERE, SHARED = 9, 11, 5
#: Id here of each token there: tokens 2 to 6 there are 10, 8, 6, 4, 2 here.
IDS = torch.full((THERE,), -1)
IDS[2 : 2 + SHARED] = torch.tensor([10, 8, 6, 4, 2])


def two_vocabularies(teacher, tokens, top_k=THERE, spans=None):
    """Targets at aligned tokens, and merged spans {last token: (tokens, log-probability)} in whose tokens nothing else is known."""
    plain = TeacherTargets.from_logits(teacher, torch.zeros(len(teacher), dtype=torch.int64), top_k)
    ids, log_probs, tail = IDS[plain.top_ids], plain.top_log_probs, plain.log_tail
    lengths, span_log_probs = torch.zeros(len(teacher), dtype=torch.int64), torch.zeros(len(teacher))
    for last, (length, log_prob) in (spans or {}).items():
        inside = slice(last - length + 1, last + 1)
        ids[inside], log_probs[inside], tail[inside] = -1, float("-inf"), 0.0
        lengths[last], span_log_probs[last] = length, log_prob
    unshared = torch.ones(HERE, dtype=torch.bool)
    unshared[IDS[IDS >= 0]] = False
    return TeacherTargets(tokens, ids, log_probs, tail, span_tokens=lengths, span_log_probs=span_log_probs,
                          unshared=unshared)  # fmt: skip


def case(seed, rows=6, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    teacher, student = (scale * torch.randn(rows, n, generator=generator) for n in (THERE, HERE))
    return teacher, student, torch.randint(HERE, (rows,), generator=generator)


def divergence(p, q, beta):
    """Generalised Jensen-Shannon divergence of two lists of probabilities, in Python's float64."""

    def kl(a, b):
        return sum(x * math.log(x / y) for x, y in zip(a, b, strict=True) if x > 0)

    if beta in (0, 1):
        return kl(q, p) if beta else kl(p, q)
    m = [beta * x + (1 - beta) * y for x, y in zip(p, q, strict=True)]
    return beta * kl(p, m) + (1 - beta) * kl(q, m)


def reference(teacher, student, beta, top_k):
    """(matched, unmatched) of one token, from the definitions."""
    p, q = torch.softmax(teacher.double(), -1).tolist(), torch.softmax(student.double(), -1).tolist()
    kept = sorted(range(THERE), key=lambda i: -p[i])[:top_k]
    tail = sum(p) - sum(p[i] for i in kept)
    common = [i for i in kept if IDS[i] >= 0]
    bins_p, bins_q = [p[i] for i in common], [q[IDS[i]] for i in common]
    matched = divergence([*bins_p, 1 - sum(bins_p)], [*bins_q, 1 - sum(bins_q)], beta)
    ranks_p = [p[i] for i in kept if IDS[i] < 0]
    ranks_q = sorted((q[i] for i in range(HERE) if i not in IDS.tolist()), reverse=True)
    paired = [abs(a - b) for a, b in zip(ranks_p, ranks_q, strict=False)]
    alone = sum(ranks_p[len(ranks_q) :])
    return matched, sum(paired) + alone + max(0.0, sum(ranks_q[len(ranks_p) :]) - tail)


@pytest.mark.parametrize("top_k", [1, 3, THERE])
@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_both_parts_are_those_of_the_definition(beta, top_k):
    teacher, student, tokens = case(1)
    loss, metrics = gold(
        student, two_vocabularies(teacher, tokens, top_k), beta, matched_weight=2.0, unmatched_weight=3.0
    )
    expected = [reference(teacher[i], student[i], beta, top_k) for i in range(len(tokens))]
    assert metrics["matched_loss"].tolist() == pytest.approx([a for a, _ in expected], rel=1e-4, abs=1e-6)
    assert metrics["unmatched_loss"].tolist() == pytest.approx([b for _, b in expected], rel=1e-4, abs=1e-6)
    assert loss.tolist() == pytest.approx([2 * a + 3 * b for a, b in expected], rel=1e-4)
    assert metrics["aligned"].tolist() == [1.0] * 6 and metrics["merged"].sum() == 0


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_a_merged_span_compares_the_probability_of_its_bytes(beta):
    """Three tokens here are a span of the teacher's with probability .3; the gradient reaches these three alone."""
    teacher, student, tokens = case(2)
    spans = {3: (3, math.log(0.3)), 5: (1, math.log(0.9))}
    student.requires_grad_()
    loss, metrics = gold(student, two_vocabularies(teacher, tokens, spans=spans), beta)
    log_q = torch.log_softmax(student.double(), -1).gather(-1, tokens[:, None])[:, 0]
    for last, length, p in ((3, 3, 0.3), (5, 1, 0.9)):
        q = log_q[last - length + 1 : last + 1].sum().exp().item()
        assert loss[last].item() == pytest.approx(divergence([p, 1 - p], [q, 1 - q], beta), rel=1e-4)
    assert metrics["merged"].tolist() == [0, 0, 0, 3, 0, 1] and metrics["aligned"].tolist() == [1, 0, 0, 0, 1, 0]
    assert loss[1] == loss[2] == 0
    loss[3].backward()
    assert (student.grad.abs().sum(-1) > 0).tolist() == [False, True, True, True, False, False]


def test_the_gradient_is_that_of_float64():
    teacher, student, tokens = case(3)
    batch = two_vocabularies(teacher, tokens, 4, spans={2: (2, -1.0)})

    def gradient(values):
        values = values.clone().requires_grad_()
        gold(values, batch, 0.4)[0].sum().backward()
        return values.grad

    found = gradient(student)
    for row, column in ((0, 2), (1, int(tokens[1])), (2, 0), (4, 7)):
        step = torch.zeros_like(student)
        step[row, column] = 1e-2
        rise = gold(student + step, batch, 0.4)[0].sum() - gold(student - step, batch, 0.4)[0].sum()
        assert found[row, column].item() == pytest.approx(rise.item() / 2e-2, rel=2e-2, abs=2e-4)


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("top_k", [3, HERE])
def test_with_one_vocabulary_it_is_the_divergence_of_one_vocabulary(beta, top_k):
    """Also where the vocabulary is taken for two: all tokens are shared, and what is compared by rank is nothing."""
    _, student, tokens = case(4)
    teacher = torch.randn(6, HERE, generator=torch.Generator().manual_seed(9))
    plain = TeacherTargets.from_logits(teacher, tokens, top_k)
    nothing = torch.zeros(6, dtype=torch.int64)
    as_two = TeacherTargets(tokens, plain.top_ids, plain.top_log_probs, plain.log_tail, span_tokens=nothing,
                            span_log_probs=nothing.float(), unshared=torch.zeros(HERE, dtype=torch.bool))  # fmt: skip
    values, gradients = [], []
    for loss, batch in ((jensen_shannon, plain), (gold, plain), (gold, as_two)):
        logits = student.clone().requires_grad_()
        per_token, _ = loss(logits, batch, beta)
        per_token.sum().backward()
        values.append(per_token.detach())
        gradients.append(logits.grad)
    assert torch.equal(values[0], values[1])
    torch.testing.assert_close(values[2], values[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradients[2], gradients[0], rtol=1e-5, atol=1e-6)


@given(seed=st.integers(0, 10**6), top_k=st.integers(1, THERE), scale=st.sampled_from([0.1, 2.0, 30.0]))
def test_truncation_never_adds_to_the_loss(seed, top_k, scale):
    teacher, student, tokens = case(seed, rows=3, scale=scale)
    for beta in (0.0, 0.5, 1.0):
        whole, cut = (gold(student, two_vocabularies(teacher, tokens, k), beta)[1] for k in (THERE, top_k))
        for part in ("matched_loss", "unmatched_loss"):
            assert (cut[part] > -1e-6).all()
            assert (cut[part] <= whole[part] * (1 + 1e-4) + 1e-5).all()


@given(seed=st.integers(0, 10**6), scale=st.sampled_from([0.1, 2.0, 60.0]))
def test_no_logits_make_a_gradient_that_is_not_finite(seed, scale):
    teacher, student, tokens = case(seed, rows=5, scale=scale)
    for beta in (0.0, 0.5, 1.0):
        for loss in (lambda *a, b=beta: gold(*a, b), uld):
            logits = student.clone().requires_grad_()
            value, _ = loss(logits, two_vocabularies(teacher, tokens, 3, spans={1: (2, 0.0), 3: (1, -300.0)}))
            value.sum().backward()
            assert torch.isfinite(value).all() and torch.isfinite(logits.grad).all()


def test_two_bins_keep_their_digits():
    for p in (1e-30, 1e-6, 0.3, 0.5, 0.7, 1 - 1e-5):
        found = _two_bins(torch.tensor([math.log(p)]))[0]
        assert found.tolist() == pytest.approx([math.log(p), math.log1p(-p)], rel=2e-2 if p > 0.9 else 1e-4)


def test_uld_is_the_likelihood_and_the_distance_of_sorted_probabilities():
    teacher, student, tokens = case(5)
    batch = two_vocabularies(teacher, tokens)
    loss, metrics = uld(student, batch, weight=2.0)
    p, q = (torch.softmax(x.double(), -1).sort(descending=True).values for x in (teacher, student))
    distance = (torch.nn.functional.pad(p, (0, HERE - THERE)) - q).abs().sum(-1)
    torch.testing.assert_close(metrics["unmatched_loss"].double(), distance, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(loss, sft(student, batch)[0] + 2 * metrics["unmatched_loss"])


def test_ranks_that_one_side_lacks_count():
    batch = TeacherTargets.from_logits(torch.zeros(1, 4), torch.zeros(1, dtype=torch.int64), 4)
    everything = torch.ones(1, 4, dtype=torch.bool)
    assert rank_distance(torch.tensor([[0.5]]), batch, everything).item() == pytest.approx(0.25 + 0.75)
    assert rank_distance(torch.zeros(1, 0), batch, everything).item() == pytest.approx(1.0)
