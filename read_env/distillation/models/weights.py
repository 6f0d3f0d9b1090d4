"""Loading models, and changing them before they are trained: adapters, fewer layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from read_env.config import ModelConfig
from read_env.digests import content_digest
from read_env.distillation.models.placement import Placement
from read_env.distillation.models.sources import ModelSource
from read_env.distillation.models.suppress_output import quietly
from read_env.errors import ReadEnvError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from read_env.distillation.text.encoding import Encoder


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
    from transformers import AutoModelForCausalLM

    config = load_config(source, trust_remote_code=trust_remote_code)
    with _explained(source), torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    return model


def load_config(source: ModelSource, *, trust_remote_code: bool = False) -> PretrainedConfig:
    """The configuration of a model.

    Raises:
        ReadEnvError: none there, or of an unknown architecture.
    """
    from transformers import AutoConfig

    with _explained(source):
        config: PretrainedConfig = AutoConfig.from_pretrained(
            source.location, trust_remote_code=trust_remote_code, **source.arguments
        )
    return config


def count_parameters(model: torch.nn.Module) -> int:
    """Parameters, tied ones once."""
    return sum(parameter.numel() for parameter in model.parameters())


def load_model(source: ModelSource, placement: Placement, *, trust_remote_code: bool = False) -> PreTrainedModel:
    """A causal language model in evaluation mode; weights come from safetensors or GGUF only.

    Raises:
        ReadEnvError: nothing there, or the files can't be read.
    """
    from transformers import AutoModelForCausalLM

    kind: dict[str, Any] = {**source.arguments, **_unpacked()} if source.gguf else {"use_safetensors": True}
    with _explained(source):
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            source.location, dtype=placement.weights, attn_implementation=placement.attention,
            trust_remote_code=trust_remote_code, **kind,
        )  # fmt: skip
        model.to(placement.device)  # type: ignore[arg-type]  # its decorator hides what it takes
    if source.gguf and (quantizer := getattr(model, "hf_quantizer", None)) is not None:
        quantizer.remove_quantization_config(model)  # the weights are plain ones: to be trained, and to be saved
    model.eval()
    return model


def _unpacked() -> dict[str, Any]:
    """What tells transformers to turn a GGUF file's blocks into plain weights; older ones do nothing else."""
    import transformers

    kind = getattr(transformers, "GgufConfig", None)
    return {} if kind is None else {"quantization_config": kind(dequantize=True)}


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
        raise ReadEnvError(f"models.lora_r is {config.lora_r}: LoRA needs peft ({error}); pip install peft") from error
    targets: Any = list(config.lora_target_modules)
    lora = LoraConfig(
        r=config.lora_r,
        lora_alpha=config.lora_alpha or 2 * config.lora_r,
        target_modules=targets[0] if targets == ["all-linear"] else targets,
        task_type="CAUSAL_LM",
    )
    try:
        # The first adapters must not depend on what else drew from torch's generator.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            return get_peft_model(model, lora)
    except ValueError as error:
        raise ReadEnvError(f"models.lora_target_modules is {list(config.lora_target_modules)}: {error}") from error


def save_student(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: Path | str) -> None:
    """A student in Hugging Face form that needs no other files.

    Adapters are added into the weights, in the numbers that these have: alone they would need the base, which may
    be a GGUF file, have lost layers since it was read, or lie where the next machine doesn't find it.

    Args:
        model: the model itself; adapters are those inside it. It stays as it is.
        tokenizer: is saved beside it.
        path: a folder.
    """
    with quietly():
        model.save_pretrained(path, state_dict=_merged_weights(model))
        tokenizer.save_pretrained(path)


@torch.no_grad()
def _merged_weights(model: PreTrainedModel) -> dict[str, torch.Tensor] | None:
    """Weights with the adapters added in, by the names that they have without any; None where there are none.

    Merging in place and taking it back would leave the last digits changed.
    """
    adapted: dict[str, Any] = {name: m for name, m in model.named_modules() if hasattr(m, "get_delta_weight")}
    if not adapted:
        return None
    weights = {}
    for name, value in model.state_dict().items():
        module, _, own = name.rpartition(".base_layer.")
        if module in adapted:
            if own == "weight":
                layer = adapted[module]
                change = sum(layer.get_delta_weight(adapter).float() for adapter in layer.active_adapters)
                # Added in fp32 and rounded once; on the CPU, where there is room for a second copy.
                value = (value.float() + change).to("cpu", value.dtype)
            weights[f"{module}.{own}"] = value
        elif not any(name.startswith(f"{one}.") for one in adapted):
            weights[name] = value
    return weights


@torch.inference_mode()
def check_logits(model: PreTrainedModel, encoder: Encoder, role: str) -> None:
    """Whether body and head alone give the model's logits: some architectures scale or cap them afterwards.

    Args:
        model: in the context that it computes in.
        encoder: of its tokenizer.
        role: ``student`` or ``teacher``, for the message.

    Raises:
        ReadEnvError: they don't, so that training would be on other logits than those that the model has.
    """
    from read_env.distillation.text.encoding import collate, completion_logits

    prompt = encoder.prompts(["1 2 3"])[0]
    batch = collate([prompt], [[encoder.eos_id]], encoder.pad_id).to(next(model.parameters()).device)
    ours, own = completion_logits(model, batch)[0], model(input_ids=batch.input_ids).logits[0, len(prompt) - 1]
    if not torch.allclose(ours.float(), own.float(), rtol=1e-2 if ours.dtype == torch.bfloat16 else 1e-3, atol=1e-3):
        raise ReadEnvError(
            f"models.{role}: {type(model).__name__} changes its logits after the head (by up to "
            f"{(ours - own).abs().max().item():.3g}), which this engine leaves out; choose a {role} of another architecture"
        )


def weights_identity(source: ModelSource, model: PreTrainedModel, placement: Placement, memory: Path | None) -> str:
    """What an answer of a model depends on beside the prompt, to the last digit: its files, and how it is computed.

    Args:
        source: where the model came from.
        model: as it was loaded.
        placement: where it is and in which numbers it computes.
        memory: where digests of large files are remembered.
    """
    return f"{files_identity(source, model.config, memory)}/{placement.identity}"


def files_identity(source: ModelSource, config: Any, memory: Path | None) -> str:
    """What tells one set of weights from another: the digest of its files, or the commit of the hub.

    Args:
        source: where they are.
        config: the model's; that of a model of the hub knows its commit.
        memory: where digests of large files are remembered.
    """
    path = Path(source.location)
    if path.exists():
        return content_digest(path / source.gguf if source.gguf else path, memory)
    return f"{source.location}/{source.gguf}@{getattr(config, '_commit_hash', None)}"
