"""Logits at the completion positions alone, for large vocabularies some positions at a time.

The model's own forward pass computes them, with its body's output reduced to these positions, so that the head never sees
a prompt. Changes of the logits after the head, such as scaling or soft-capping, are the model's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch

from read_env.distillation.text.encoding import Batch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

#: Rows of a head up to which the logits of all positions are computed at once.
SMALL_VOCABULARY = 32_768
#: Positions at a time with a larger head. With 49,152 rows their logits take 48 MiB in fp32.
POSITIONS = 256


def positions_at_once(tokens: int, rows: int) -> int:
    """Completion positions whose logits are in memory at once.

    Args:
        tokens: completion tokens of a forward pass.
        rows: rows of the head.

    Example:
        >>> positions_at_once(4_096, rows=32_000), positions_at_once(4_096, rows=128_256)
        (4096, 256)
    """
    return tokens if rows <= SMALL_VOCABULARY else min(tokens, POSITIONS)


def chunks_of(count: int, most: int, joined: torch.Tensor | None = None) -> list[slice]:
    """Consecutive slices of positions that leave joined ones together.

    Args:
        count: number of positions.
        most: positions in a slice; more only where they are all joined.
        joined: (count,) True for positions that must be in the slice of the one before. None: for none.

    Example:
        >>> chunks_of(5, 2, torch.tensor([False, False, True, False, False]))
        [slice(0, 1, None), slice(1, 3, None), slice(3, 5, None)]
    """
    tied = set() if joined is None else set(joined.nonzero()[:, 0].tolist())
    cuts = [0]
    while (start := cuts[-1]) < count:
        end = min(start + most, count)
        earlier = next((at for at in range(end, start, -1) if at not in tied), None)
        cuts.append(earlier or next(at for at in range(end, count + 1) if at not in tied))
    return [slice(start, end) for start, end in zip(cuts, cuts[1:], strict=False)]


def decoder_of(model: PreTrainedModel) -> Any:
    """Model without its head; ``base_model`` of some architectures in transformers 4 is the whole model."""
    return getattr(model, "model", model) if model.base_model is model else model.base_model


def layers_of(model: PreTrainedModel) -> Sequence[torch.nn.Module]:
    """Layers of a model; none for an architecture without ``base_model.layers``, such as GPT-2."""
    layers: Sequence[torch.nn.Module] = getattr(decoder_of(model), "layers", ())
    return layers


def completion_logits(model: PreTrainedModel, batch: Batch, vocabulary: int | None = None) -> torch.Tensor:
    """(m, V) logits at the completion positions, all at once; see :func:`logit_chunks`.

    Args:
        model: causal language model.
        batch: batch on the model's device.
        vocabulary: V, if the model has more rows of logits than there are tokens.

    Example:
        >>> from read_env.distillation.loading import load
        >>> from read_env.distillation.text.encoding import collate
        >>> batch = collate([[5, 6]], [[7, 8, 9]], pad_id=0)
        >>> completion_logits(load("embedded:micro/student").model, batch, vocabulary=50).shape
        torch.Size([3, 50])
    """
    return next(logit_chunks(model, batch, vocabulary, positions=len(batch.rows)))[1]


def logit_chunks(
    model: PreTrainedModel, batch: Batch, vocabulary: int | None = None, *, positions: int | None = None,
    joined: torch.Tensor | None = None, context: Callable[[], AbstractContextManager[Any]] = nullcontext,
    head_only: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Iterator[tuple[slice, torch.Tensor]]:  # fmt: skip
    """Logits at the completion positions, in consecutive chunks; the body runs once.

    With several chunks, the graph of each ends at the body's output. The caller takes a chunk's gradient before it asks
    for the next one, and after the last one the sum of these gradients goes through the body. An architecture whose head
    reads something else computes the logits of all positions: one chunk.

    Args:
        model: causal language model.
        batch: batch on the model's device.
        vocabulary: V, if the model has more rows of logits than there are tokens.
        positions: positions in a chunk; by default :func:`positions_at_once`.
        joined: (m,) positions that must be in the chunk of the one before, see :func:`chunks_of`.
        context: makes the context of each forward pass, such as autocast.
        head_only: makes the context in which the caller takes the gradients of several chunks, before that of the body.

    Yields:
        Slice of the m completion positions, and the (positions, V) logits there.

    Example:
        >>> from read_env.distillation.loading import load
        >>> from read_env.distillation.text.encoding import collate
        >>> model, batch = load("embedded:micro/student").model, collate([[5, 6]], [[7, 8, 9]], pad_id=0)
        >>> [len(logits) for _, logits in logit_chunks(model, batch, positions=2)]
        [2, 1]
    """
    count = len(batch.rows)
    if positions is None:
        positions = positions_at_once(count, model.config.get_text_config().vocab_size)
    body, chunks = decoder_of(model), chunks_of(count, positions, joined)
    found: list[Any] = []

    def reduce(body: torch.nn.Module, args: Any, output: Any) -> Any:
        states = output.last_hidden_state[batch.rows, batch.columns]
        leaves = [states]
        if len(chunks) > 1:
            leaves = list(states.detach().split([part.stop - part.start for part in chunks]))
            for leaf in leaves if states.requires_grad else ():
                leaf.requires_grad_()
        output.last_hidden_state = leaves[0][None]
        found[:] = output, states, leaves
        return output

    def logits() -> torch.Tensor:
        with context():
            return model(input_ids=batch.input_ids, use_cache=False).logits

    hook = body.register_forward_hook(reduce)
    try:
        first = logits()
    finally:
        hook.remove()
    if not found or first.shape[:2] != (1, chunks[0].stop):
        yield slice(0, count), (logits() if found else first)[batch.rows, batch.columns, :vocabulary]
        return
    output, states, leaves = found
    with head_only() if len(chunks) > 1 else nullcontext():
        yield chunks[0], first[0, :, :vocabulary]
        del first
        for part, leaf in zip(chunks[1:], leaves[1:], strict=True):
            output.last_hidden_state = leaf[None]
            with _returning(body, output):
                rest = logits()
            yield part, rest[0, :, :vocabulary]
            del rest
    if len(chunks) > 1 and leaves[0].grad is not None:
        states.backward(torch.cat([leaf.grad for leaf in leaves]))


@contextmanager
def _returning(body: torch.nn.Module, output: Any) -> Iterator[None]:
    """Context in which the body returns ``output`` in place of running."""
    own = vars(body).get("forward")
    body.forward = lambda *args, **kwargs: output
    try:
        yield
    finally:
        del body.forward
        if own is not None:  # a wrapper such as accelerate's
            body.forward = own
