"""Student whose weights are divided between ranks. All ranks make the same calls, with the same arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

from read_env.config import Config
from read_env.distillation.distributed.build import build
from read_env.distillation.distributed.shards import fill, gathered, gradients_kept, shard, whole
from read_env.distillation.examples.batching import forward_passes
from read_env.distillation.models.head import logit_chunks
from read_env.distillation.student.evaluation import ProbeSet
from read_env.distillation.student.student import Student
from read_env.distillation.text.completion import Example
from read_env.distillation.text.encoding import collate
from read_env.losses import Loss, jensen_shannon

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class ShardedStudent(Student):
    """Student of which every rank has a shard. An update's gradient is that of one process, up to the order of the sums.

    Args:
        config: the resolved configuration.
        mesh: the ranks.
    """

    def __init__(self, config: Config, mesh: DeviceMesh) -> None:
        self._mesh = mesh
        self._rank, self._ranks = mesh.get_local_rank(), mesh.size()
        self._offload = config.models.offload_optimizer
        model, encoder, placement = build(config, mesh)
        super().__init__(model, encoder, config.distill, placement, config.models, config.eval.ema_decay)

    def _distribute(self) -> None:
        shard(self.model, self._mesh, self.placement, offload=self._offload)
        with torch.no_grad():
            self._empty_pass()  # the hooks set themselves up in the first forward pass
        model: Any = self.model
        model.reshard()

    # --- an update ------------------------------------------------------------------------------

    def _accumulate(self, examples: Sequence[Example], loss: Loss, observe: bool) -> dict[str, dict[str, float]]:
        self.optimizer.zero_grad(set_to_none=True)
        passes = self.passes(examples)
        own = passes[self._rank]
        # fully_shard takes the mean of the ranks' gradients, and the loss of a step is a sum over all of its tokens.
        tokens = sum(map(len, examples)) / self._ranks
        sums = self._backward(own, tokens, loss, observe, examples)
        for _ in range(max(map(len, passes)) - len(own)):
            self._empty_pass().backward()
        return _added(self._exchange(sums))

    def passes(self, examples: Sequence[Example]) -> list[list[list[Example]]]:
        """Forward passes of every rank over its share of the examples, the same on every rank."""
        order = sorted(examples, key=lambda e: -len(e.prompt_ids) - len(e))
        # There and back again: the sums of lengths differ little.
        turns = [min(at % (2 * self._ranks), -1 - at % (2 * self._ranks) + 2 * self._ranks) for at in range(len(order))]
        shares = [[e for e, turn in zip(order, turns, strict=True) if turn == rank] for rank in range(self._ranks)]
        return [forward_passes(share, self.micro_batch_tokens) if share else [] for share in shares]

    def _empty_pass(self) -> torch.Tensor:
        """Loss of zero for a forward pass that keeps step with those of other ranks."""
        inputs = collate([[self.encoder.pad_id]], [[self.encoder.pad_id]], self.encoder.pad_id)
        inputs = inputs.to(self.placement.device)
        ((_, logits),) = logit_chunks(self.model, inputs, positions=1, context=self.placement.autocast)
        return logits.float().sum() * 0.0

    def _head_only(self) -> AbstractContextManager[None]:
        return gradients_kept(self.model)

    def _clip_gradient(self) -> float:
        norm: Any = torch.nn.utils.clip_grad_norm_(self._trained.values(), self.config.max_grad_norm)
        return float((norm.full_tensor() if isinstance(norm, DTensor) else norm).item())

    def _retry_with_less_memory(self, examples: Sequence[Example], function: Callable[[], _Result]) -> _Result:
        return function()  # one rank can't decide it: rank 0 starts the ranks again

    @torch.no_grad()
    def _validate(self) -> float:
        parts = forward_passes(self.validation[self._rank :: self._ranks], self.micro_batch_tokens)
        with gathered(self.model):
            total = sum(jensen_shannon(*chunk)[0].sum().item() for part in parts for chunk in self._forward(part))
        tokens = sum(map(len, self.validation))
        self.validated_tokens += tokens
        return sum(self._exchange(total)) / tokens

    # --- measuring ------------------------------------------------------------------------------

    def profile(self, probes: ProbeSet, *, per_token: bool = False, averaged: bool = False) -> np.ndarray:
        part = probes.part(slice(self._rank, None, self._ranks))
        with self._measured(averaged), gathered(self.model):
            found = super().profile(part, per_token=per_token)
        return np.sum(self._exchange(found), axis=0)

    def answer(self, texts: Sequence[str], max_new_tokens: int, *, averaged: bool = False) -> list[list[int]]:
        own = texts[self._rank :: self._ranks]
        with self._measured(averaged), gathered(self.model):
            found = super().answer(own, max_new_tokens) if own else []
        return _dealt_back(self._exchange(found), len(texts))

    def sample(self, prompt_ids: Sequence[Sequence[int]], max_new_tokens: int, seed: int) -> list[list[int]]:
        own = prompt_ids[self._rank :: self._ranks]
        with gathered(self.model):
            # Seeds of one rank are consecutive: those of the next one begin far away.
            found = super().sample(own, max_new_tokens, seed + 1_000_003 * self._rank) if own else []
        return _dealt_back(self._exchange(found), len(prompt_ids))

    # --- state ----------------------------------------------------------------------------------

    def take_micro_batch(self, tokens: int) -> None:
        """Set ``micro_batch_tokens``."""
        self.micro_batch_tokens = tokens

    def state_dict(self) -> dict[str, Any]:
        first = self._rank == 0
        return {
            "model": whole({name: p.detach() for name, p in self._trained.items()}, first),
            "average": whole(self.average.state_dict(), first),
            "optimizer": whole(self.optimizer.state_dict(), first),
            "controller": self._controller.state_dict() if self._controller is not None else {},
            "micro_batch_tokens": self.micro_batch_tokens,
        }

    def weights(self) -> Mapping[str, torch.Tensor]:
        """Trained weights by name on the CPU of rank 0; None for each on the others."""
        found: dict[str, torch.Tensor] = whole(self._trained, self._rank == 0)
        return found

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a ``state_dict`` of rank 0; the others are called with None for each of its tensors."""
        state = {**state, "optimizer": self._divided(state["optimizer"])}
        self._load(state["model"])
        self.average.reset()
        for name, value in self.average.state_dict().items():
            if name in state.get("average", {}):
                fill(value, state["average"][name])
        self.optimizer = self._new_optimizer()
        self.optimizer.load_state_dict(state["optimizer"])
        if self._controller is not None:
            self._controller.load_state_dict(state["controller"])
        self.micro_batch_tokens = max(1, int(state["micro_batch_tokens"]))

    def _divided(self, optimizer: Mapping[str, Any]) -> dict[str, Any]:
        """State of an optimizer with the shards of this rank."""
        parameters, found = list(self._trained.values()), dict[Any, dict[str, Any]]()
        for index, values in optimizer["state"].items():
            found[index] = {}
            for key, value in values.items():
                if key == "step":
                    steps = [value]
                    dist.broadcast_object_list(steps, src=0)
                    found[index][key] = steps[0]
                else:
                    found[index][key] = torch.zeros_like(parameters[int(index)], requires_grad=False)
                    fill(found[index][key], value)
        return {**optimizer, "state": found}

    @torch.no_grad()
    def _load(self, weights: Mapping[str, torch.Tensor | None]) -> None:
        for name, parameter in self._trained.items():
            if weights is self._initial:
                parameter.to_local().copy_(weights[name])  # type: ignore[attr-defined]
            else:
                fill(parameter, weights[name])
        self.average.reset()

    def _initial_weights(self) -> dict[str, torch.Tensor]:
        return {name: p.detach().to_local().to("cpu", copy=True) for name, p in self._trained.items()}  # type: ignore[attr-defined]

    # --- between ranks --------------------------------------------------------------------------

    def _exchange(self, value: _Item) -> list[_Item]:
        """Values of all ranks, in their order."""
        values: list[Any] = [None] * self._ranks
        dist.all_gather_object(values, value)
        return values


def _dealt_back(parts: Sequence[Sequence[_Item]], count: int) -> list[_Item]:
    """Items that were dealt to the ranks one by one, in their order.

    >>> _dealt_back([["a", "c"], ["b"]], 3)
    ['a', 'b', 'c']
    """
    return [parts[index % len(parts)][index // len(parts)] for index in range(count)]


def _added(of_ranks: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """Sums over the ranks of the sums by capability.

    >>> _added([{"math": {"tokens": 1.0}, "code": {}}, {"math": {"tokens": 2.0}, "code": {"tokens": 3.0}}])
    {'math': {'tokens': 3.0}, 'code': {'tokens': 3.0}}
    """
    found: dict[str, dict[str, float]] = {}
    for sums in of_ranks:
        for capability, values in sums.items():
            into = found.setdefault(capability, {})
            for key, value in values.items():
                into[key] = into.get(key, 0.0) + value
    return found
