"""Alignment of two vocabularies: token by token where they agree, through the text or its bytes where they differ."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

import torch

from read_env.capabilities.base import Prompt
from read_env.distillation.text.completion import Answer, Example
from read_env.distillation.text.encoding import Encoder
from read_env.distillation.text.spans import Span, spans_of
from read_env.distillation.text.token_bytes import SharedVocabulary
from read_env.errors import ReadEnvError
from read_env.losses import get_objective
from read_env.losses.targets import TeacherTargets

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_LOG = logging.getLogger(__name__)


class AnswerText(Protocol):
    """Vocabulary of a teacher's answers: decoding alone."""

    @property
    def stop_ids(self) -> Sequence[int]:
        """Ids of the tokens that end an answer."""
        ...

    def text(self, ids: Sequence[int]) -> str:
        """Text of an answer's token ids."""
        ...


#: Conversion of a teacher's answer: prompt, prompt ids in the student's vocabulary, answer -> example for the student.
Alignment = Callable[[Prompt, list[int], Answer], Example]


def same_vocabulary(prompt: Prompt, prompt_ids: list[int], answer: Answer) -> Example:
    """Example with the token ids and probabilities of the answer."""
    return Example(prompt, tuple(prompt_ids), answer.token_ids, answer.targets)


def with_students_end(
    teacher: AnswerText, student: Encoder, prompt: Prompt, prompt_ids: list[int], answer: Answer
) -> Example:
    """Example whose answer ends with the token that ends the student's turns; the two tokens' probabilities are swapped."""
    last = answer.token_ids[-1:]
    if not last or last[0] not in teacher.stop_ids or last[0] == student.eos_id:
        return same_vocabulary(prompt, prompt_ids, answer)
    token_ids = (*answer.token_ids[:-1], student.eos_id)
    return Example(prompt, tuple(prompt_ids), token_ids, answer.targets.swap_ids(last[0], student.eos_id))


def through_text(
    teacher: AnswerText, student: Encoder, max_completion_tokens: int | None, prompt: Prompt, prompt_ids: list[int],
    answer: Answer,
) -> Example:  # fmt: skip
    """Example with the answer's text in the student's tokens; the probabilities are dropped.

    An answer that was cut, or whose bytes are not UTF-8, has no end: the student must not learn to stop there. Of a cut
    answer, no token may be left.
    """
    _, prompt_ids, ids = _in_students_tokens(teacher, student, max_completion_tokens, prompt, answer)
    targets = TeacherTargets.from_tokens(torch.tensor(ids, dtype=torch.int64))
    return Example(prompt, tuple(prompt_ids), tuple(ids), targets)


def through_spans(
    shared: SharedVocabulary, teacher: Encoder, student: Encoder, max_completion_tokens: int | None, prompt: Prompt,
    prompt_ids: list[int], answer: Answer,
) -> Example:  # fmt: skip
    """Example with the tokens of :func:`through_text`, and the teacher's probabilities at spans of equal bytes.

    At a span of one token on either side, the student's token has the teacher's distribution, its ids those of the student
    and -1 for tokens that the student lacks. At any other span, the student's last token has the span's log-probability
    under the teacher, the sum over its tokens. The end of the teacher's turn is aligned with the end of the student's.
    """
    text, prompt_ids, ids = _in_students_tokens(teacher, student, max_completion_tokens, prompt, answer)
    theirs, ours = ([i for i in answer.token_ids], ids)
    ended = bool(ours) and ours[-1] == student.eos_id
    if ended:
        theirs, ours = theirs[:-1], ours[:-1]
    spans = spans_of(text, [shared.teacher[i] for i in theirs], [shared.student[i] for i in ours])
    if ended:
        spans.append(Span((len(theirs), len(theirs) + 1), (len(ours), len(ours) + 1)))
    return Example(
        prompt, tuple(prompt_ids), tuple(ids), _at_spans(spans, shared, teacher, student, ids, answer.targets)
    )


def _in_students_tokens(
    teacher: AnswerText, student: Encoder, max_completion_tokens: int | None, prompt: Prompt, answer: Answer
) -> tuple[str, list[int], list[int]]:
    """Text of an answer, and prompt and completion in the student's tokens."""
    text, undecodable, _ = teacher.text(answer.token_ids).partition("\ufffd")
    prompt_ids, ids = student.pairs([prompt.text], [text])[0]
    if undecodable or answer.token_ids[-1:] == () or answer.token_ids[-1] not in teacher.stop_ids:
        ids = ids[:-1]
    return text, prompt_ids, ids[:max_completion_tokens]


def _at_spans(
    spans: Sequence[Span], shared: SharedVocabulary, teacher: Encoder, student: Encoder, ids: Sequence[int],
    answer: TeacherTargets,
) -> TeacherTargets:  # fmt: skip
    """Targets of the student's tokens from the teacher's, through spans."""
    kept, count = answer.top_ids.shape[-1], len(ids)
    top_ids, top_log_probs = torch.full((count, kept), -1), torch.full((count, kept), float("-inf"))
    log_tail, span_tokens, span_log_probs = (
        torch.zeros(count),
        torch.zeros(count, dtype=torch.int64),
        torch.zeros(count),
    )
    pairs = [(span.teacher[0], span.student[0]) for span in spans if span.one_to_one]
    there, here = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).unbind(1)
    top_log_probs[here] = _ends_together(answer.top_log_probs[there], answer.top_ids[there], teacher.stop_ids)
    top_ids[here] = torch.where(top_log_probs[here] > float("-inf"), shared.ids[answer.top_ids[there]], -1)
    log_tail[here] = answer.log_tail[there]
    of_tokens = _log_probs(answer)
    for span in spans:
        log_prob = float(of_tokens[slice(*span.teacher)].sum())
        if not span.one_to_one and log_prob > float("-inf"):
            last = span.student[1] - 1
            span_tokens[last], span_log_probs[last] = span.student[1] - span.student[0], log_prob
    return TeacherTargets(
        torch.tensor(ids, dtype=torch.int64), top_ids, top_log_probs, log_tail, span_tokens=span_tokens,
        span_log_probs=span_log_probs, unshared=shared.unshared,
    )  # fmt: skip


def _log_probs(answer: TeacherTargets) -> torch.Tensor:
    """(m,) log-probability of each of the teacher's tokens; ``-inf`` if it is none of the K most likely."""
    is_token = answer.top_ids == answer.tokens[:, None]
    return answer.top_log_probs.masked_fill(~is_token, float("-inf")).amax(-1)


def _ends_together(log_probs: torch.Tensor, ids: torch.Tensor, stop_ids: Sequence[int]) -> torch.Tensor:
    """Log-probabilities with all tokens that end a turn added up in the first of them, and ``-inf`` at the others."""
    ends = torch.isin(ids, torch.tensor(stop_ids))
    total = log_probs.masked_fill(~ends, float("-inf")).logsumexp(-1, keepdim=True)
    first = ends & (ends.cumsum(-1) == 1)
    return torch.where(first, total, log_probs.masked_fill(ends, float("-inf")))


def align(teacher: AnswerText, student: Encoder, loss: str, max_completion_tokens: int | None = None) -> Alignment:
    """Alignment from the teacher's vocabulary to the student's for an objective.

    Vocabularies are compared by content: logits padded to different sizes count as equal.

    Args:
        teacher: vocabulary of the teacher's answers.
        student: encoder of the student's tokenizer.
        loss: name of the objective.
        max_completion_tokens: length in the student's tokens at which answers of another vocabulary are cut.

    Raises:
        ReadEnvError: the vocabularies differ and the objective compares probabilities token by token, or aligns spans
            and the tokens of one side don't spell a text. The message names the first token that differs.

    Example:
        >>> from read_env.distillation.loading import load
        >>> teacher, student = (load(f"embedded:micro/{name}").encoder for name in ("teacher", "student"))
        >>> align(teacher, student, "fkl") is same_vocabulary
        True
    """
    if isinstance(teacher, Encoder):
        difference = first_difference(teacher.tokenizer, student.tokenizer)
        if teacher.eos_token != student.eos_token:
            _LOG.warning(
                "the teacher ends its answers with %r and the student with %r: answers are given the student's end",
                teacher.eos_token, student.eos_token,
            )  # fmt: skip
    else:
        difference = "a remote teacher gives text alone"
    if isinstance(teacher, Encoder) and not difference:
        teacher.vocabulary = student.vocabulary = min(teacher.vocabulary, student.vocabulary)
        same_end = set(teacher.stop_ids) <= {student.eos_id}
        return same_vocabulary if same_end else partial(with_students_end, teacher, student)
    objective = get_objective(loss)
    if objective.aligns_spans and isinstance(teacher, Encoder):
        shared = SharedVocabulary.of(teacher, student)
        common = int((~shared.unshared).sum())
        _LOG.info(
            "the tokenizers differ (%s): answers are aligned by bytes; %s of the student's %s tokens are shared", difference,
            f"{common:,}", f"{student.vocabulary:,}",
        )  # fmt: skip
        return partial(through_spans, shared, teacher, student, max_completion_tokens)
    if objective.needs_probabilities:
        compared = "compares probabilities" if objective.aligns_spans else "compares probabilities token by token"
        others = (
            "" if objective.aligns_spans else "; 'gold' or 'uld', which compare probabilities at spans of equal bytes"
        )
        raise ReadEnvError(
            f"models.student: its tokenizer differs from the teacher's ({difference}), and distill.loss {loss!r} {compared}; "
            "right would be a student with the teacher's tokenizer, or distill.loss 'sft', which learns from the "
            f"text{others}"
        )
    _LOG.info("the tokenizers differ (%s): answers are tokenized again for the student", difference)
    return partial(through_text, teacher, student, max_completion_tokens)


def first_difference(teacher: PreTrainedTokenizerBase, student: PreTrainedTokenizerBase) -> str:
    """Description of the first difference between two vocabularies; empty if they are equal.

    Example:
        >>> from read_env.distillation.loading import load
        >>> teacher, student = (load(f"embedded:micro/{name}").encoder for name in ("teacher", "student"))
        >>> first_difference(teacher.tokenizer, student.tokenizer)
        ''
    """
    theirs, ours = teacher.get_vocab(), student.get_vocab()
    if ours == theirs:
        return ""
    # By id, so that the message names an ordinary token and not the last of the added ones.
    token = min(
        (token for token in ours.keys() | theirs.keys() if ours.get(token) != theirs.get(token)),
        key=lambda token: (min(ours.get(token, 1 << 60), theirs.get(token, 1 << 60)), token),
    )
    return (
        f"{len(theirs)} tokens there and {len(ours)} here; token {token!r} has id {theirs.get(token)} there and "
        f"{ours.get(token)} here"
    )
