"""Loading models, and changing them before they are trained: adapters, fewer layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from read_env.config import ModelConfig
from read_env.digests import content_digest
from read_env.distillation.placement import Placement
from read_env.distillation.quiet import quietly
from read_env.distillation.sources import ModelSource
from read_env.errors import ReadEnvError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from read_env.distillation.encoding import Encoder


@contextmanager
def _explained(source: ModelSource) -> Iterator[None]:
    """Turns what the libraries below raise into an error that says what was expected."""
    try:
        with quietly():
            yield
    except Exception as error:  # a dozen kinds, safetensors' own among them
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        expected = (
            "the package gguf and a GGUF file of an architecture that transformers knows"
            if source.gguf
            else "a folder or hub id with config.json, tokenizer files and *.safetensors weights"
        )
        raise ReadEnvError(
            f"model {source.reference!r} could not be loaded ({type(error).__name__}: {reason}); expected {expected}"
        ) from error


def load_tokenizer(source: ModelSource, *, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer of a model.

    Raises:
        ReadEnvError: nothing there, or the files can't be read.
    """
    from transformers import AutoTokenizer

    with _explained(source):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            source.location, trust_remote_code=trust_remote_code, **source.arguments
        )
    return tokenizer


def empty_model(source: ModelSource, *, trust_remote_code: bool = False) -> PreTrainedModel:
    """The model without its weights, on the meta device: shapes and sizes at no cost in memory.

    Raises:
        ReadEnvError: no configuration there, or of an unknown architecture.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    with _explained(source):
        config = AutoConfig.from_pretrained(source.location, trust_remote_code=trust_remote_code, **source.arguments)
        with torch.device("meta"):
            model: PreTrainedModel = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    return model


def count_parameters(model: torch.nn.Module) -> int:
    """Parameters, tied ones once."""
    return sum(parameter.numel() for parameter in model.parameters())


def load_model(source: ModelSource, placement: Placement, *, trust_remote_code: bool = False) -> PreTrainedModel:
    """A causal language model in evaluation mode; weights come from safetensors or GGUF only.

    Raises:
        ReadEnvError: nothing there, or the files can't be read.
    """
    from transformers import AutoModelForCausalLM

    kind: dict[str, Any] = source.arguments or {"use_safetensors": True}
    with _explained(source):
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            source.location, dtype=placement.weights, attn_implementation=placement.attention,
            trust_remote_code=trust_remote_code, **kind,
        )  # fmt: skip
        model.to(placement.device)  # type: ignore[arg-type]  # its decorator hides what it takes
    model.eval()
    return model


def prune_layers(model: PreTrainedModel, kept: Sequence[int]) -> None:
    """Leaves a model these of its layers, in this order: a shallower model, to be healed by training.

    Raises:
        ReadEnvError: layers that aren't there, or a model whose layers are not where most have them.
    """
    body: Any = model.base_model
    layers = getattr(body, "layers", None)
    if not isinstance(layers, torch.nn.ModuleList):
        raise ReadEnvError(f"models.student_layers: {type(model).__name__} keeps its layers in another way than most")
    if bad := [index for index in kept if not 0 <= index < len(layers)]:
        raise ReadEnvError(f"models.student_layers has {bad[0]}; the student's layers are 0 to {len(layers) - 1}")
    if len(set(kept)) < len(kept):
        raise ReadEnvError(f"models.student_layers names a layer twice: {list(kept)}")
    body.layers = torch.nn.ModuleList(layers[index] for index in kept)
    for position, layer in enumerate(body.layers):
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = position
    model.config.num_hidden_layers = len(kept)
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = [model.config.layer_types[index] for index in kept]


def add_adapters(model: PreTrainedModel, config: ModelConfig) -> Any:
    """Puts LoRA adapters into a model, whose own weights are frozen; the peft model around it.

    Raises:
        ReadEnvError: peft isn't installed, or no module has one of the names.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise ReadEnvError(
            f"models.lora_rank is {config.lora_rank}: LoRA needs peft ({error}); pip install 'read-env[lora]'"
        ) from error
    targets: Any = list(config.lora_targets)
    lora = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha or 2 * config.lora_rank,
        target_modules=targets[0] if targets == ["all-linear"] else targets,
        task_type="CAUSAL_LM",
    )
    try:
        # The first adapters must not depend on what else drew from torch's generator.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            return get_peft_model(model, lora)
    except ValueError as error:
        raise ReadEnvError(f"models.lora_targets is {list(config.lora_targets)}: {error}") from error


@torch.inference_mode()
def check_logits(model: PreTrainedModel, encoder: Encoder) -> None:
    """Whether body and head alone give the model's logits: some architectures scale or cap them afterwards.

    Raises:
        ReadEnvError: they don't, so that training would be on other logits than those that the model has.
    """
    from read_env.distillation.encoding import collate, completion_logits

    prompt = encoder.prompts(["1 2 3"])[0]
    batch = collate([prompt], [[encoder.eos_id]], encoder.pad_id).to(next(model.parameters()).device)
    ours, own = completion_logits(model, batch)[0], model(input_ids=batch.input_ids).logits[0, len(prompt) - 1]
    if not torch.allclose(ours.float(), own.float(), rtol=1e-2 if ours.dtype == torch.bfloat16 else 1e-3, atol=1e-3):
        raise ReadEnvError(
            f"models.student: {type(model).__name__} changes its logits after the head (by up to "
            f"{(ours - own).abs().max().item():.3g}), which this engine leaves out; choose a student of another architecture"
        )


def weights_identity(source: ModelSource, model: PreTrainedModel, memory: Path | None) -> str:
    """What tells one set of weights from another: the digest of its files, or the commit of the hub.

    Args:
        source: where the model came from.
        model: as it was loaded.
        memory: where digests of large files are remembered.
    """
    return f"{files_identity(source, model.config, memory)}/{model.dtype}"


def files_identity(source: ModelSource, config: Any, memory: Path | None) -> str:
    """The same for files that somebody else loads, in numbers of their choice; ``config`` is the model's."""
    path = Path(source.location)
    if path.exists():
        return content_digest(path / source.gguf if source.gguf else path, memory)
    return f"{source.location}/{source.gguf}@{getattr(config, '_commit_hash', None)}"
