"""Hybrid objective of GOLD for two vocabularies: exact on shared tokens, by rank on the others."""

from __future__ import annotations

import torch

from read_env.losses.bins import jsd
from read_env.losses.jensen_shannon import jensen_shannon
from read_env.losses.targets import LossOutput, TeacherTargets
from read_env.losses.uld import rank_distance

#: Log-probability of a bin that is empty: its exponential is 0 in float32, and no gradient through it is NaN.
_EMPTY = -1e4
#: Distance of a span's probability from 1, relative: float32's resolution.
_RESOLUTION = 1e-7


def gold(
    logits: torch.Tensor, batch: TeacherTargets, beta: float = 0.5, matched_weight: float = 1.0,
    unmatched_weight: float = 1.0,
) -> LossOutput:  # fmt: skip
    """``w_M JSD_β(p, q) + w_U Σ_i |p_(i) − q_(i)|`` at tokens with a teacher distribution; at merged spans ``w_M JSD_β``.

    - A token that alone has the bytes of one of the teacher's tokens. JSD_β is the generalised Jensen-Shannon divergence
      over bins: each of the teacher's K tokens that the student's vocabulary shares, and one bin for all other tokens of
      either side. The sum is over the ranks of the tokens that the other vocabulary lacks, see
      :func:`~read_env.losses.uld.rank_distance`.
    - A merged span, whose tokens only together have the bytes of some of the teacher's. Its probability is the product
      of its tokens' on either side, and JSD_β is that between two bins: this span, and anything else. The value stands at
      the span's last token; the gradient reaches all of its tokens.
    - Any other token, such as one after the last common boundary of an answer that was cut: 0.

    Truncation to K tokens: on the shared part, the teacher's tail joins the bin of all other tokens, and so does what the
    student gives to all but the K. On the other part the tail is the most that the teacher's remaining ranks can have. Both
    parts are lower bounds of those for K = V. With one vocabulary the loss is ``jensen_shannon``.

    Two choices differ from TRL's ``ULDLoss``, which is equal otherwise. TRL sums over shared tokens without a bin for the
    others, which is no divergence: it can fall by moving probability to shared tokens. TRL compares whole distributions at
    merged spans, scaled by the probabilities of the span's other tokens; since these distributions follow different
    texts, they are not compared here.

    Args:
        logits: (m, V) student logits at the completion positions; a merged span must be whole.
        batch: teacher's targets at these positions, aligned by spans, or those of one vocabulary.
        beta: weight of the teacher in the mixture, in [0, 1]; 0 is forward KL, 1 is reverse KL.
        matched_weight: w_M. TRL's default is the share of the teacher's vocabulary that is shared, whatever its
            probability.
        unmatched_weight: w_U. TRL's default is the rest of that vocabulary.

    Returns:
        (m,) nats per token, plus w_U times a distance in [0, 2]. With two vocabularies also metrics, (m,) each:
        ``matched_loss`` and ``unmatched_loss``, the two parts without weights; ``aligned``, 1 at tokens with a teacher
        distribution; ``merged``, the number of tokens of the span that ends there. Means over tokens are shares.

    Reference: GOLD (Hugging Face, Unlocking On-Policy Distillation for Any Model Family, 2025), as TRL's ``GOLDTrainer`` has
        it; ULD is arXiv 2402.12030. Two bins for the likelihood of a span: Minixhofer et al. (arXiv 2503.20083).

    Example:
        >>> batch = TeacherTargets(  # two tokens; the teacher's second one is a span of one token here, two there
        ...     tokens=torch.tensor([0, 2]), top_ids=torch.tensor([[0, -1], [-1, -1]]),
        ...     top_log_probs=torch.tensor([[0.5, 0.25], [0.0, 0.0]]).log(), log_tail=torch.tensor([0.25, 1.0]).log(),
        ...     span_tokens=torch.tensor([0, 1]), span_log_probs=torch.tensor([1.0, 0.5]).log(),
        ...     unshared=torch.tensor([False, True, False]))
        >>> gold(torch.zeros(2, 3), batch, beta=0.0)[1]["matched_loss"]  # KL(½, ½ ‖ ⅓, ⅔) twice
        tensor([0.0589, 0.0589])
    """
    if batch.unshared is None:
        return jensen_shannon(logits, batch, beta)
    log_q = torch.log_softmax(logits.float(), dim=-1)
    at_token = jsd(*_shared_bins(log_q, batch), beta)
    ends, of_teacher, of_student = _merged_spans(log_q, batch)
    at_span = jsd(_two_bins(of_teacher), _two_bins(of_student), beta)
    matched = torch.where(batch.known, at_token, 0.0).index_add(0, ends, at_span)
    unmatched = rank_distance(log_q[:, batch.unshared].exp(), batch, batch.top_ids < 0)
    assert batch.span_tokens is not None
    return matched_weight * matched + unmatched_weight * unmatched, {
        "matched_loss": matched,
        "unmatched_loss": unmatched,
        "aligned": batch.known.float(),
        "merged": batch.span_tokens.float(),
    }


def _shared_bins(log_q: torch.Tensor, batch: TeacherTargets) -> tuple[torch.Tensor, torch.Tensor]:
    """(m, K + 1) log-probabilities of teacher and student: shared tokens among the K, and all others in the last bin."""
    shared = batch.top_ids >= 0
    ids = batch.top_ids.clamp_min(0)
    # Tokens without a counterpart are scattered to a column beyond the vocabulary.
    columns = torch.where(shared, ids, log_q.shape[-1])
    others = torch.zeros(len(ids), log_q.shape[-1] + 1, dtype=torch.bool, device=log_q.device).scatter_(
        -1, columns, True
    )
    rest_q = torch.logsumexp(log_q.masked_fill(others[:, :-1], _EMPTY), dim=-1, keepdim=True)
    of_others = torch.where(shared, float("-inf"), batch.top_log_probs)
    rest_p = torch.cat([of_others, batch.log_tail[:, None]], dim=-1).logsumexp(-1, keepdim=True).clamp_min(_EMPTY)
    log_p = torch.where(shared, batch.top_log_probs, _EMPTY)
    return torch.cat([log_p, rest_p], -1), torch.cat([torch.where(shared, log_q.gather(-1, ids), _EMPTY), rest_q], -1)


def _merged_spans(log_q: torch.Tensor, batch: TeacherTargets) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Position of the last token of each of n merged spans, and (n,) log-probabilities of the spans on both sides."""
    assert batch.span_tokens is not None and batch.span_log_probs is not None
    ends = batch.span_tokens.nonzero()[:, 0]
    lengths = batch.span_tokens[ends]
    span = torch.repeat_interleave(torch.arange(len(ends), device=ends.device), lengths)
    within = torch.arange(len(span), device=ends.device) - (lengths.cumsum(0) - lengths)[span]
    tokens = (ends - lengths + 1)[span] + within
    of_tokens = log_q[tokens, batch.tokens[tokens]]
    of_student = torch.zeros(len(ends), device=log_q.device).index_add(0, span, of_tokens)
    return ends, batch.span_log_probs[ends], of_student


def _two_bins(log_prob: torch.Tensor) -> torch.Tensor:
    """(n, 2) log-probabilities of a span and of anything else."""
    log_prob = log_prob.clamp(_EMPTY, -_RESOLUTION)
    # Of two formulas the one that keeps its digits.
    near_one = log_prob > -0.693
    far = torch.where(near_one, -1.0, log_prob)
    near = torch.where(near_one, log_prob, -0.5)
    other = torch.where(near_one, torch.log(-torch.expm1(near)), torch.log1p(-far.exp()))
    return torch.stack([log_prob, other], dim=-1)
