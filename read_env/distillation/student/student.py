"""Student: model, optimizer and one optimizer step at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from read_env.config import DistillConfig, ModelConfig
from read_env.distillation.examples.batching import forward_passes
from read_env.distillation.models.decoding import sample
from read_env.distillation.models.head import logit_chunks
from read_env.distillation.models.memory import release_memory, run_with_halving
from read_env.distillation.models.placement import Placement
from read_env.distillation.models.weights import add_adapters, count_parameters, save_student
from read_env.distillation.student.average import WeightAverage
from read_env.distillation.student.compiled import CompiledLayers
from read_env.distillation.student.evaluation import ProbeSet, answer, probe_profile
from read_env.distillation.student.schedule import learning_rate_factor
from read_env.distillation.text.completion import Example
from read_env.distillation.text.encoding import Encoder, collate
from read_env.errors import DivergedError, ReadEnvError
from read_env.losses import (
    Controller,
    Loss,
    StepState,
    TeacherTargets,
    forward_kl,
    get_objective,
    jensen_shannon,
    reverse_kl,
    step_state,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_LOG = logging.getLogger(__name__)

_Result = TypeVar("_Result")

#: Names under which the parts of a step's state are summed.
_STATE = tuple(f"state_{name}" for name in StepState._fields)


@dataclass(frozen=True)
class UpdateStats:
    """Statistics of one optimizer step.

    Attributes:
        loss: mean of the objective, nats per completion token.
        tokens: completion tokens.
        by_capability: sums over the completion tokens of each capability, before the step: ``tokens``, ``loss`` and, with
            teacher probabilities, ``fkl``, in nats.
        metrics: ``grad_norm`` before clipping. With teacher probabilities also means over the tokens before the step:
            ``topk_mass`` (teacher's probability of its kept tokens), ``overlap`` (share of the teacher's kept tokens
            among as many of the student's most likely), ``fkl`` and ``rkl`` (divergences, for any objective). With
            objectives that have them: ``alpha``, ``clip_fraction``, ``ratio``, ``reward``, and with two vocabularies, in
            place of the four, ``matched_loss``, ``unmatched_loss``, ``aligned``, ``merged``.
    """

    loss: float
    tokens: int
    metrics: dict[str, float]
    by_capability: dict[str, dict[str, float]]


class Student:
    """Hugging Face model that is trained on examples.

    Args:
        model: model, trained in place; with LoRA its weights are frozen and adapters are trained.
        encoder: encoder of its tokenizer.
        config: objective, learning rate, clipping.
        placement: device and dtypes of the model.
        models: LoRA and gradient checkpointing.
        ema_decay: decay of ``average`` by update; 0: no average.

    Attributes:
        objective: registered objective of ``config.loss``.
        adapted: peft model around ``model``; None without LoRA.
        average: average of the trained weights, for measuring.
        micro_batch_tokens: padded tokens per forward pass; halved on out-of-memory.
        validation: held-out examples for an objective that validates.
        validated_tokens: completion tokens of these scored so far.
    """

    def __init__(
        self, model: PreTrainedModel, encoder: Encoder, config: DistillConfig, placement: Placement,
        models: ModelConfig | None = None, ema_decay: float = 0.0,
    ) -> None:  # fmt: skip
        models = models or ModelConfig()
        self.model = model
        self.encoder = encoder
        self.config = config
        self.placement = placement
        self.micro_batch_tokens = config.micro_batch_tokens
        self.adapted = add_adapters(model, models) if models.lora_r else None
        if models.gradient_checkpointing:
            checkpoint_gradients(model)
        self._distribute()
        mode = models.torch_compile_mode
        self._compiled = CompiledLayers(model, mode) if mode != "off" else None
        self.validation: Sequence[Example] = ()
        self.validated_tokens = 0
        self.objective = get_objective(config.loss)
        self._loss = self.objective.bind(config)
        self._controller = self._new_controller(seed=0)
        self._trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._initial = self._initial_weights()
        self.average = WeightAverage(self._trained, ema_decay)
        self.optimizer = self._new_optimizer()

    def _distribute(self) -> None:
        """Divide the model, with its adapters, between processes; the student of one process stays as it is."""

    def _initial_weights(self) -> Mapping[str, torch.Tensor]:
        """Copy of the weights of S_0, which a reset restores."""
        return self.weights()

    @contextmanager
    def configured(self, config: DistillConfig) -> Iterator[None]:
        """Other settings during the block. The optimizer is new in it and after it, and the weights stay as trained."""
        before = self.config
        self.configure(config)
        try:
            yield
        finally:
            self.configure(before)

    def configure(self, config: DistillConfig) -> None:
        """Take other settings, with a new optimizer; the weights stay as trained."""
        self.config, self.objective = config, get_objective(config.loss)
        self._loss = self.objective.bind(config)
        self._controller = self._new_controller(seed=0)
        self.micro_batch_tokens = config.micro_batch_tokens
        self.optimizer = self._new_optimizer()

    def take_validation(self, examples: Sequence[Example]) -> None:
        """Take the held-out examples of an objective that validates."""
        self.validation = examples

    @property
    def trained_parameters(self) -> int:
        """Number of parameters that updates change."""
        return sum(parameter.numel() for parameter in self._trained.values())

    @property
    def validates(self) -> bool:
        """True if the objective learns from held-out examples."""
        return self._controller is not None and self._controller.validates

    def reset(self, seed: int = 0, weights: Mapping[str, torch.Tensor] | None = None) -> None:
        """Restore the initial student S_0 with a new optimizer.

        Args:
            seed: seed of the objective's controller.
            weights: trained weights of S_0, as in ``state_dict()["model"]``. None: those that were loaded.
        """
        self._load(self._initial if weights is None else weights)
        self.optimizer = self._new_optimizer()
        self._controller = self._new_controller(seed)
        self.micro_batch_tokens = self.config.micro_batch_tokens

    def update(self, examples: Sequence[Example], progress: float = 0.0, *, observe: bool = True) -> UpdateStats:
        """One optimizer step on the completion tokens of ``examples``, every token weighted the same.

        On out-of-memory the step is repeated with half the micro-batch size: same gradient, more time.

        Args:
            examples: at least one; the student's own samples if the objective is on-policy.
            progress: share of the budget spent so far, in [0, 1]. With a warm-up the learning rate at 0 is 0.
            observe: report all metrics; False: the loss and what the objective itself computes, which takes less time.

        Raises:
            DivergedError: loss or gradient is not finite, or the loss exceeds ``max_loss``.
            ReadEnvError: a single example doesn't fit into memory.
        """
        loss = self._loss_of_step(examples, progress)
        by_capability = self._retry_with_less_memory(examples, partial(self._accumulate, examples, loss, observe))
        sums = {name: sum(of[name] for of in by_capability.values()) for name in next(iter(by_capability.values()))}
        norm = self._clip_gradient()
        tokens = int(sums.pop("tokens"))
        means = {name: value / tokens for name, value in sums.items()}
        mean_loss, state = means.pop("loss"), [means.pop(name) for name in _STATE if name in means]
        if not (mean_loss <= self.config.max_loss and norm < float("inf")):  # NaN fails both comparisons
            raise DivergedError(
                f"the student update diverged: loss {mean_loss} nats per token (distill.max_loss is "
                f"{self.config.max_loss}), gradient norm {norm}; lower distill.learning_rate (now "
                f"{self.config.learning_rate})"
            )
        rate = self.config.learning_rate * learning_rate_factor(
            self.config.lr_scheduler_type, progress, self.config.warmup_ratio
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        if norm > 0:  # with a zero gradient, Adam would still move along the momentum of earlier steps
            self.optimizer.step()
        self.average.update()
        if self._controller is not None:
            means["alpha"] = self._controller.alpha(progress)
            validate = partial(self._retry_with_less_memory, self.validation, self._validate)
            self._controller.learn(StepState(*state), validate)
        shown = ("tokens", "loss", "fkl")
        kept = {name: {key: of[key] for key in shown if key in of} for name, of in by_capability.items()}
        return UpdateStats(mean_loss, tokens, {"grad_norm": norm, "learning_rate": rate, **means}, kept)

    def _clip_gradient(self) -> float:
        """Clip the gradient; its norm before."""
        return torch.nn.utils.clip_grad_norm_(self._trained.values(), self.config.max_grad_norm).item()

    def profile(self, probes: ProbeSet, *, per_token: bool = False, averaged: bool = False) -> np.ndarray:
        """(|C|,) capability profile, see :func:`probe_profile`.

        Args:
            probes: held-out set to score.
            per_token: geometric mean over a reference's tokens in place of their product.
            averaged: score the average of the weights.
        """
        with self.placement.autocast(), self._measured(averaged):
            return probe_profile(self.model, probes, per_token=per_token)

    def answer(self, texts: Sequence[str], max_new_tokens: int, *, averaged: bool = False) -> list[list[int]]:
        """Token ids of the greedily decoded answers to a batch of prompts, which is halved on out-of-memory.

        Args:
            texts: prompts.
            max_new_tokens: maximum length of an answer, tokens.
            averaged: decode with the average of the weights.
        """
        with self.placement.autocast(), self._measured(averaged):
            return answer(self.model, self.encoder, texts, max_new_tokens)

    def sample(self, prompt_ids: Sequence[Sequence[int]], max_new_tokens: int, seed: int) -> list[list[int]]:
        """Token ids of one completion per prompt, drawn at temperature 1; the batch is halved on out-of-memory.

        Args:
            prompt_ids: token ids of the prompts.
            max_new_tokens: maximum length of a completion, tokens.
            seed: seed of the draws.
        """
        encoder = self.encoder

        def draw(rows: Sequence[int]) -> list[list[int]]:
            return sample(
                self.model, [prompt_ids[row] for row in rows], max_new_tokens=max_new_tokens,
                stop_ids=encoder.stop_ids, pad_id=encoder.pad_id, vocabulary=encoder.vocabulary, seed=seed + rows[0],
            )  # fmt: skip

        with self.placement.autocast():
            return run_with_halving(
                draw, range(len(prompt_ids)), "sampling completions of the student",
                "a smaller distill.max_completion_tokens",
            )  # fmt: skip

    def _measured(self, averaged: bool) -> AbstractContextManager[None]:
        """Context in which the model has the weights to be measured."""
        return self.average.in_place() if averaged else nullcontext()

    def _loss_of_step(self, examples: Sequence[Example], progress: float) -> Loss:
        """Loss with the arguments that are the same for all micro-batches of the step."""
        arguments = {
            name: statistic(TeacherTargets.concatenate([example.targets for example in examples]), self.config)
            for name, statistic in self.objective.step_statistics.items()
        }
        if self._controller is not None:
            arguments["alpha"] = self._controller.alpha(progress)
        return partial(self._loss, **arguments)

    def _accumulate(self, examples: Sequence[Example], loss: Loss, observe: bool) -> dict[str, dict[str, float]]:
        """Accumulate the gradient of the mean loss; by capability, the sums of tokens, loss and metrics."""
        tokens = sum(len(example) for example in examples)
        passes = forward_passes(examples, self.micro_batch_tokens)
        self.optimizer.zero_grad(set_to_none=self._compiled is None)
        if self._compiled is None:
            return self._backward(passes, tokens, loss, observe, examples)
        for parameter in self._trained.values():
            if parameter.grad is None:  # sums of gradients in memory of their own, which no CUDA graph overwrites
                parameter.grad = torch.zeros_like(parameter)
        with self._compiled.in_place():
            return self._backward(passes, tokens, loss, observe, examples)

    def _backward(
        self, passes: Sequence[Sequence[Example]], tokens: float, loss: Loss, observe: bool, examples: Sequence[Example]
    ) -> dict[str, dict[str, float]]:
        """Add the gradient of some forward passes over ``examples``, whose loss is divided by ``tokens``; the sums by capability."""
        capabilities = list(dict.fromkeys(example.prompt.capability for example in examples))
        sums: dict[str, dict[str, float]] = {name: {} for name in capabilities}
        tables = []
        for part in passes:
            found = []
            for logits, batch in self._forward(part):
                per_token, metrics = loss(logits, batch)
                (per_token.sum() / tokens).backward()
                values = self._metrics(logits, batch, per_token, metrics, observe)
                found.append(torch.stack([torch.ones_like(per_token), *values.values()]).detach())
            tables.append(torch.cat(found, dim=1))
        for part, table in zip(passes, tables, strict=True):  # read after the last pass: a GPU need not wait in between
            owners = [capabilities.index(e.prompt.capability) for e in part for _ in range(len(e))]
            owned = torch.nn.functional.one_hot(torch.tensor(owners), len(capabilities)).double()
            for key, row in zip(("tokens", *values), (table.cpu().double() @ owned).tolist(), strict=True):
                for name, value in zip(capabilities, row, strict=True):
                    sums[name][key] = sums[name].get(key, 0.0) + value
        return sums

    def _forward(self, part: Sequence[Example]) -> Iterator[tuple[torch.Tensor, TeacherTargets]]:
        """(m, V) logits at the completion positions, in chunks as from :func:`logit_chunks`, and the targets there."""
        device, shape = self.placement.device, None
        if self._compiled is not None:
            self._compiled.begin_pass()
            shape = self._compiled.shape
        sequences = [e.prompt_ids for e in part], [e.token_ids for e in part]
        inputs = collate(*sequences, self.encoder.pad_id, shape).to(device)
        targets = TeacherTargets.concatenate([e.targets for e in part])
        joined, targets = targets.joined, targets.to(device)
        # Dropout stays off: it would draw from a generator that no snapshot contains.
        chunks = logit_chunks(
            self.model, inputs, self.encoder.vocabulary, joined=joined, context=self.placement.autocast,
            head_only=self._head_only,
        )  # fmt: skip
        for positions, logits in chunks:
            yield logits, targets[positions]

    def _head_only(self) -> AbstractContextManager[None]:
        """Context in which the gradients of a forward pass reach the head and not yet the layers."""
        return nullcontext()

    @torch.no_grad()
    def _metrics(
        self,
        logits: torch.Tensor,
        batch: TeacherTargets,
        per_token: torch.Tensor,
        metrics: dict[str, torch.Tensor],
        observe: bool,
    ) -> dict[str, torch.Tensor]:
        """Loss and metrics of each token, (m,) each: the objective's own and, if observed, those of every objective."""
        found = {"loss": per_token}
        if observe and batch.unshared is None and (kept := batch.top_ids.shape[-1]):
            found["topk_mass"] = batch.top_mass
            of_teacher = torch.zeros_like(logits, dtype=torch.bool).scatter_(-1, batch.top_ids, True)
            found["overlap"] = of_teacher.gather(-1, logits.topk(kept, dim=-1).indices).float().mean(-1)
            for name, divergence in (("fkl", forward_kl), ("rkl", reverse_kl)):
                found[name] = metrics[name] if name in metrics else divergence(logits, batch)[0]
        if self._controller is not None:
            found |= dict(zip(_STATE, step_state(logits, batch), strict=True))
        found |= metrics
        if batch.rewards is not None:
            found["reward"] = batch.rewards
        return found

    @torch.no_grad()
    def _validate(self) -> float:
        """Jensen-Shannon divergence from the teacher on the validation examples, nats per token."""
        total = 0.0
        for part in forward_passes(self.validation, self.micro_batch_tokens):
            total += sum(jensen_shannon(*chunk)[0].sum().item() for chunk in self._forward(part))
        tokens = sum(len(example) for example in self.validation)
        self.validated_tokens += tokens
        return total / tokens

    def _retry_with_less_memory(self, examples: Sequence[Example], function: Callable[[], _Result]) -> _Result:
        """Result of ``function``; on out-of-memory, retry with half the micro-batch size."""
        while True:
            try:
                return function()
            except torch.OutOfMemoryError as error:
                message = str(error)
            # Outside the handler, where the traceback no longer holds the tensors of the attempt.
            self._halve_micro_batches(examples, message)
            release_memory()

    def _halve_micro_batches(self, examples: Sequence[Example], error: str) -> None:
        parts = forward_passes(examples, self.micro_batch_tokens)
        if all(len(part) == 1 for part in parts):
            longest = max(len(e.prompt_ids) + len(e) for e in examples)
            raise ReadEnvError(
                f"out of memory with a single example of {longest} tokens on {self.placement.device}: try "
                f"models.gradient_checkpointing, models.lora_r or a smaller distill.max_completion_tokens ({error})"
            )
        padded = max(len(part) * max(len(e.prompt_ids) + len(e) for e in part) for part in parts)
        self.micro_batch_tokens = max(1, padded // 2)
        _LOG.warning(
            "out of memory with %d tokens per forward pass on %s: retrying with %d", padded, self.placement.device,
            self.micro_batch_tokens,
        )  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """Trained weights, optimizer and controller state, micro-batch size; tensors copied to the CPU."""
        return {
            "model": _copied(self._trained),
            "average": _copied(self.average.state_dict()),
            "optimizer": _copied(self.optimizer.state_dict()),
            "controller": self._controller.state_dict() if self._controller is not None else {},
            "micro_batch_tokens": self.micro_batch_tokens,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a ``state_dict``, exactly."""
        self._load(state["model"])
        self.average.load_state_dict(state.get("average", {}))
        self.optimizer = self._new_optimizer()
        self.optimizer.load_state_dict(_copied(state["optimizer"]))
        if self._controller is not None:
            self._controller.load_state_dict(state["controller"])
        self.micro_batch_tokens = max(1, int(state["micro_batch_tokens"]))

    def weights(self) -> Mapping[str, torch.Tensor]:
        """Trained weights by name, copied to the CPU."""
        copied: dict[str, torch.Tensor] = _copied(self._trained)
        return copied

    def load_weights(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Set the trained weights."""
        self._load(weights)

    def save(self, path: Path | str) -> None:
        """Save model and tokenizer in Hugging Face form, adapters merged into the weights."""
        save_student(self.model, self.encoder.tokenizer, path)

    def close(self) -> None:
        """Release what is outside this process: nothing, for a student of one."""

    def __str__(self) -> str:
        of = f"{count_parameters(self.model) / 1e6:,.1f} M parameters"
        return f"{self.trained_parameters / 1e6:,.1f} M trained of {of}; {self.placement}"

    @torch.no_grad()
    def _load(self, weights: Mapping[str, torch.Tensor]) -> None:
        for name, parameter in self._trained.items():
            parameter.copy_(weights[name])
        self.average.reset()

    def _new_controller(self, seed: int) -> Controller | None:
        make = self.objective.controller
        return make(self.config, seed) if make is not None else None

    def _new_optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            self._trained.values(), lr=self.config.learning_rate, weight_decay=self.config.weight_decay,
            betas=(self.config.adam_beta1, self.config.adam_beta2), fused=True,
        )  # fmt: skip


def checkpoint_gradients(model: PreTrainedModel) -> None:
    """Enable gradient checkpointing. It needs train mode, so dropout is set to 0."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for name in ("attention_dropout", "dropout", "attn_dropout", "resid_dropout", "hidden_dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    if hasattr(model, "activation_checkpointing_enable"):  # its name from transformers 5 on
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    else:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()


def _copied(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_copied(item) for item in value]
    return value
