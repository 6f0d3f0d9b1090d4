"""The student: model, optimizer, and one optimizer step at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from read_env.config import DistillConfig, ModelConfig
from read_env.distillation.models.memory import release
from read_env.distillation.models.placement import Placement
from read_env.distillation.models.weights import add_adapters, count_parameters, save_student
from read_env.distillation.text.completion import Example, Sample
from read_env.distillation.text.encoding import Encoder, collate, completion_logits
from read_env.errors import DivergedError, ReadEnvError
from read_env.losses import (
    ON_POLICY,
    Controller,
    Objective,
    SampleTokens,
    StepState,
    TeacherTargets,
    forward_kl,
    get_loss,
    jensen_shannon,
    reverse_kl,
    step_state,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_LOG = logging.getLogger(__name__)

_Result = TypeVar("_Result")

#: Loss of every token of a part, (m,), and what else is reported of it, from its logits and the teacher's targets.
_Judge = Callable[[Sequence[Any], torch.Tensor, TeacherTargets], tuple[torch.Tensor, dict[str, torch.Tensor]]]

#: Names under which the parts of a step's state are summed.
_STATE = tuple(f"state_{name}" for name in StepState.__dataclass_fields__)


@dataclass(frozen=True)
class UpdateStats:
    """One optimizer step.

    Attributes:
        loss: mean of the objective, nats per completion token.
        tokens: completion tokens.
        metrics: ``grad_norm`` before clipping; where the teacher's probabilities are known, means over the
            tokens before the step: ``topk_mass`` (of the teacher, on the kept tokens), ``overlap`` (share of the
            teacher's kept tokens among as many of the student's likeliest), ``fkl`` and ``rkl`` (divergences both
            ways, whatever the objective is). ``alpha``, ``clip_fraction``, ``ratio``, ``reward`` where the
            objective has them.
    """

    loss: float
    tokens: int
    metrics: dict[str, float]


class Student:
    """A Hugging Face model that learns from teacher completions.

    Args:
        model: trained in place; with LoRA its own weights are frozen and adapters are trained.
        encoder: its tokenizer.
        config: objective, learning rate, clipping.
        placement: where the model is and in which numbers it computes.
        models: LoRA and gradient checkpointing.

    Attributes:
        adapted: the peft model around ``model``; None without LoRA.
        micro_batch_tokens: padded tokens that go through the model at once; halved when memory runs out.
        validation: held-out examples for an objective that learns from them.
        validated_tokens: of these, completion tokens scored so far.
        on_policy: the objective is for samples of the student's own.
    """

    def __init__(
        self, model: PreTrainedModel, encoder: Encoder, config: DistillConfig, placement: Placement,
        models: ModelConfig | None = None,
    ) -> None:  # fmt: skip
        models = models or ModelConfig()
        self.model = model
        self.encoder = encoder
        self.config = config
        self.placement = placement
        self.micro_batch_tokens = config.micro_batch_tokens
        self.adapted = add_adapters(model, models) if models.lora_r else None
        if models.gradient_checkpointing:
            _checkpoint_gradients(model)
        self.validation: Sequence[Example] = ()
        self.validated_tokens = 0
        self.on_policy = config.loss in ON_POLICY
        self._loss = self._fresh_loss(seed=0)
        self._trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._initial = _copied(self._trained)
        self.optimizer = self._fresh_optimizer()

    @property
    def trained_parameters(self) -> int:
        """Parameters that updates change."""
        return sum(parameter.numel() for parameter in self._trained.values())

    @property
    def validates(self) -> bool:
        """Whether the objective learns from held-out examples."""
        return self._controller is not None and self._controller.validates

    def reset(self, seed: int = 0) -> None:
        """Back to the initial student S_0 with a fresh optimizer and objective; ``seed`` is the objective's."""
        self._load(self._initial)
        self.optimizer = self._fresh_optimizer()
        self._loss = self._fresh_loss(seed)
        self.micro_batch_tokens = self.config.micro_batch_tokens

    def update(self, examples: Sequence[Example | Sample], progress: float = 0.0) -> UpdateStats:
        """One optimizer step on the completion tokens of ``examples``, every token weighted the same.

        Where memory runs out the step is begun again in smaller pieces: same gradient, more time.

        Args:
            examples: one at least; samples of the student's own where the objective is for these.
            progress: share of the budget that is spent, in [0, 1]: some objectives change with it.

        Raises:
            DivergedError: the loss or gradient is not finite, or the loss exceeds ``max_loss``.
            ReadEnvError: a single example doesn't fit into memory.
        """
        # What an objective takes over the whole step must not depend on how the step is cut.
        judge = self._judge_samples if self.on_policy else self._judge_examples(examples, progress)
        sums = self._fitting(examples, lambda: self._accumulate(examples, judge))
        norm = torch.nn.utils.clip_grad_norm_(self._trained.values(), self.config.max_grad_norm).item()
        tokens = sum(len(example) for example in examples)
        means = {name: value / tokens for name, value in sums.items()}
        loss, state = means.pop("loss"), [means.pop(name) for name in _STATE if name in means]
        if not (loss <= self.config.max_loss and norm < float("inf")):  # NaN fails both comparisons
            raise DivergedError(
                f"the student update diverged: loss {loss} nats per token (distill.max_loss is {self.config.max_loss}), "
                f"gradient norm {norm}; lower distill.learning_rate (now {self.config.learning_rate})"
            )
        if norm > 0:  # without a gradient, Adam would go on in the direction of the steps before
            self.optimizer.step()
        if (controller := self._controller) is not None:
            means["alpha"] = controller.alpha(progress)
            controller.learn(StepState(*state), lambda: self._fitting(self.validation, self._validate))
        return UpdateStats(loss, tokens, {"grad_norm": norm, **means})

    @torch.no_grad()
    def _validate(self) -> float:
        """Jensen-Shannon divergence from the teacher on the validation examples, nats per token."""
        total = 0.0
        for part in self._parts(self.validation):
            logits, targets = self._forward(part)
            total += jensen_shannon(logits, targets).sum().item()
        tokens = sum(len(example) for example in self.validation)
        self.validated_tokens += tokens
        return total / tokens

    def _forward(self, part: Sequence[Example | Sample]) -> tuple[torch.Tensor, TeacherTargets]:
        """Logits at the completion positions, (m, V), and what the teacher said there."""
        batch = collate([e.prompt_ids for e in part], [e.token_ids for e in part], self.encoder.pad_id)
        targets = TeacherTargets.concatenate([e.targets for e in part]).to(self.placement.device)
        # Dropout is off: it would draw from a generator that no snapshot holds.
        with self.placement.computing():
            logits = completion_logits(self.model, batch.to(self.placement.device), self.encoder.vocabulary)
        return logits, targets

    def _judge_examples(self, examples: Sequence[Any], progress: float) -> _Judge:
        """The objective for parts of ``examples``."""
        assert self._loss is not None
        objective = self._loss.over(TeacherTargets.concatenate([example.targets for example in examples]), progress)
        return lambda part, logits, targets: (objective(logits, targets), {})

    def _judge_samples(
        self, part: Sequence[Any], logits: torch.Tensor, targets: TeacherTargets
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        device = logits.device
        lengths = torch.tensor([len(sample) for sample in part], device=device)
        tokens = SampleTokens(
            targets,
            torch.cat([sample.log_teacher for sample in part]).to(device),
            torch.tensor([sample.advantage for sample in part], device=device).repeat_interleave(lengths),
        )
        per_token, reported = ON_POLICY[self.config.loss](logits, tokens, self.config)
        reward = torch.tensor([sample.reward for sample in part], device=device).repeat_interleave(lengths)
        return per_token, {**reported, "reward": reward}

    def _accumulate(self, examples: Sequence[Any], judge: _Judge) -> dict[str, float]:
        """Gradients of the mean loss over all tokens; sums over the tokens of what is reported."""
        self.optimizer.zero_grad(set_to_none=True)
        tokens = sum(len(example) for example in examples)
        sums: dict[str, float] = {}
        for part in self._parts(examples):
            logits, targets = self._forward(part)
            per_token, extras = judge(part, logits, targets)
            (per_token.sum() / tokens).backward()
            for name, values in {**self._reported(logits, targets, per_token), **extras}.items():
                sums[name] = sums.get(name, 0.0) + values.sum().item()
        return sums

    @torch.no_grad()
    def _reported(
        self, logits: torch.Tensor, targets: TeacherTargets, per_token: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """What is reported of each token, (m,) each."""
        reported = {"loss": per_token}
        if kept := targets.top_ids.shape[-1]:
            reported["topk_mass"] = targets.top_mass
            theirs = torch.zeros_like(logits, dtype=torch.bool).scatter_(-1, targets.top_ids, True)
            reported["overlap"] = theirs.gather(-1, logits.topk(kept, dim=-1).indices).float().mean(-1)
            for name, divergence in (("fkl", forward_kl), ("rkl", reverse_kl)):
                # One of the two is the objective as a rule, and known already.
                reported[name] = per_token if self.config.loss == name else divergence(logits, targets)
        if self._controller is not None:
            reported |= dict(zip(_STATE, step_state(logits, targets), strict=True))
        return reported

    def _parts(self, examples: Sequence[Example | Sample]) -> Iterator[list[Example | Sample]]:
        """Consecutive examples of at most ``micro_batch_tokens`` padded tokens, one example at least."""
        part: list[Example | Sample] = []
        longest = 0
        for example in examples:
            length = len(example.prompt_ids) + len(example)
            if part and max(longest, length) * (len(part) + 1) > self.micro_batch_tokens:
                yield part
                part, longest = [], 0
            part.append(example)
            longest = max(longest, length)
        yield part

    def _fitting(self, examples: Sequence[Example | Sample], attempt: Callable[[], _Result]) -> _Result:
        """``attempt`` on ``examples``, begun again in smaller pieces as long as memory runs out."""
        while True:
            try:
                return attempt()
            except torch.OutOfMemoryError as error:
                message = str(error)
            # Out here nothing holds the tensors of the attempt any more.
            self._halve(examples, message)
            release()

    def _halve(self, examples: Sequence[Example | Sample], error: str) -> None:
        parts = list(self._parts(examples))
        if all(len(part) == 1 for part in parts):
            longest = max(len(e.prompt_ids) + len(e) for e in examples)
            raise ReadEnvError(
                f"out of memory with a single example of {longest} tokens on {self.placement.device}: try "
                f"models.gradient_checkpointing, models.lora_r or a smaller distill.max_completion_tokens ({error})"
            )
        padded = max(len(part) * max(len(e.prompt_ids) + len(e) for e in part) for part in parts)
        self.micro_batch_tokens = max(1, padded // 2)
        _LOG.warning(
            "out of memory with %d tokens at once on %s: going on with %d", padded, self.placement.device,
            self.micro_batch_tokens,
        )  # fmt: skip

    def snapshot(self) -> dict[str, Any]:
        """Trained weights, optimizer state, what the objective learned and the size of pieces, copied to the CPU."""
        controller = self._controller
        return {
            "model": _copied(self._trained),
            "optimizer": _copied(self.optimizer.state_dict()),
            "objective": controller.state_dict() if controller is not None else {},
            "micro_batch_tokens": self.micro_batch_tokens,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Exactly the weights, optimizer state and objective of a snapshot."""
        self._load(state["model"])
        self.optimizer = self._fresh_optimizer()
        self.optimizer.load_state_dict(_copied(state["optimizer"]))
        if self._controller is not None:
            self._controller.load_state_dict(state["objective"])
        self.micro_batch_tokens = state["micro_batch_tokens"]

    def save(self, path: Path | str) -> None:
        """Model and tokenizer in Hugging Face form; adapters are added into the weights."""
        save_student(self.model, self.encoder.tokenizer, path)

    def __str__(self) -> str:
        of = f"{count_parameters(self.model) / 1e6:,.1f} M parameters"
        return f"{self.trained_parameters / 1e6:,.1f} M trained of {of}; {self.placement}"

    @torch.no_grad()
    def _load(self, weights: dict[str, torch.Tensor]) -> None:
        for name, parameter in self._trained.items():
            parameter.copy_(weights[name])

    @property
    def _controller(self) -> Controller | None:
        return self._loss.controller if self._loss is not None else None

    def _fresh_loss(self, seed: int) -> Objective | None:
        return None if self.on_policy else get_loss(self.config.loss, self.config, seed)

    def _fresh_optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            self._trained.values(), lr=self.config.learning_rate, weight_decay=self.config.weight_decay, fused=True
        )


def _checkpoint_gradients(model: PreTrainedModel) -> None:
    """Gradient checkpointing, which transformers does in train mode alone; dropout is taken out for it."""
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
