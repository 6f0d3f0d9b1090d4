"""Loading and saving of models; adapters and layer pruning before training."""

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
from read_env.distillation.models.suppress_output import suppress_progress_bars
from read_env.errors import ReadEnvError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from read_env.distillation.text.encoding import Encoder


@contextmanager
def _explained(source: ModelSource) -> Iterator[None]:
    """Convert errors of the libraries into a ReadEnvError that says what was expected."""
    try:
        with suppress_progress_bars():
            yield
    except Exception as error:  # many types, among them safetensors' own
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
    """Load the tokenizer of a model.

    Raises:
        ReadEnvError: it doesn't exist, or its files can't be read.
    """
    from transformers import AutoTokenizer

    with _explained(source):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            source.location, trust_remote_code=trust_remote_code, **source.arguments
        )
    return tokenizer


def empty_model(source: ModelSource, *, trust_remote_code: bool = False) -> PreTrainedModel:
    """Model without weights, on the meta device: shapes and sizes at no cost in memory.

    Raises:
        ReadEnvError: no configuration, or an unknown architecture.
    """
    from transformers import AutoModelForCausalLM

    config = load_config(source, trust_remote_code=trust_remote_code)
    with _explained(source), torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    return model


def load_config(source: ModelSource, *, trust_remote_code: bool = False) -> PretrainedConfig:
    """Load the configuration of a model.

    Raises:
        ReadEnvError: no configuration, or an unknown architecture.
    """
    from transformers import AutoConfig

    with _explained(source):
        config: PretrainedConfig = AutoConfig.from_pretrained(
            source.location, trust_remote_code=trust_remote_code, **source.arguments
        )
    return config


def count_parameters(model: torch.nn.Module) -> int:
    """Number of parameters; tied ones count once."""
    return sum(parameter.numel() for parameter in model.parameters())


def load_model(source: ModelSource, placement: Placement, *, trust_remote_code: bool = False) -> PreTrainedModel:
    """Load a causal language model in evaluation mode, from safetensors or GGUF only.

    Raises:
        ReadEnvError: it doesn't exist, or its files can't be read.
    """
    from transformers import AutoModelForCausalLM

    kind: dict[str, Any] = {**source.arguments, **_dequantized()} if source.gguf else {"use_safetensors": True}
    with _explained(source):
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            source.location, dtype=placement.weights, attn_implementation=placement.attention,
            trust_remote_code=trust_remote_code, **kind,
        )  # fmt: skip
        model.to(placement.device)  # type: ignore[arg-type]  # its decorator hides the signature
    if source.gguf and (quantizer := getattr(model, "hf_quantizer", None)) is not None:
        quantizer.remove_quantization_config(model)  # the weights are dequantized: they can be trained and saved
    model.eval()
    return model


def _dequantized() -> dict[str, Any]:
    """Argument that makes transformers dequantize a GGUF file; older versions always do."""
    import transformers

    kind = getattr(transformers, "GgufConfig", None)
    return {} if kind is None else {"quantization_config": kind(dequantize=True)}


def prune_layers(model: PreTrainedModel, kept: Sequence[int]) -> None:
    """Keep some layers of a model, in place: a shallower student, to be healed by training.

    Args:
        model: the model.
        kept: indices of the layers to keep, in their new order.

    Raises:
        ReadEnvError: unknown layers, or a model without ``base_model.layers``.
    """
    body: Any = model.base_model
    layers = getattr(body, "layers", None)
    if not isinstance(layers, torch.nn.ModuleList):
        raise ReadEnvError(f"models.student_layers: {type(model).__name__} has no module list base_model.layers")
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
    """Add LoRA adapters to a model and freeze its own weights.

    Args:
        model: the model, changed in place.
        config: rank, alpha and target modules.

    Returns:
        The peft model around it.

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
        # The initial adapters must not depend on earlier draws from torch's generator.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            return get_peft_model(model, lora)
    except ValueError as error:
        raise ReadEnvError(f"models.lora_target_modules is {list(config.lora_target_modules)}: {error}") from error


def save_student(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: Path | str) -> None:
    """Save a student in Hugging Face form, self-contained.

    Adapters are merged into the weights, in the dtype of the weights: saved alone they would need the base model,
    which may be a GGUF file, be pruned, or be missing on another machine.

    Args:
        model: the model, with its adapters inside; it is not changed.
        tokenizer: its tokenizer.
        path: folder to write.
    """
    with suppress_progress_bars():
        model.save_pretrained(path, state_dict=_merged_weights(model))
        tokenizer.save_pretrained(path)


@torch.no_grad()
def _merged_weights(model: PreTrainedModel) -> dict[str, torch.Tensor] | None:
    """Weights with the adapters merged, by their names without adapters; None for a model without adapters.

    Merging in place and unmerging would change the last digits.
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
                # Added in fp32 and rounded once; kept on the CPU, which has memory for a second copy.
                value = (value.float() + change).to("cpu", value.dtype)
            weights[f"{module}.{own}"] = value
        elif not any(name.startswith(f"{one}.") for one in adapted):
            weights[name] = value
    return weights


@torch.inference_mode()
def check_logits(model: PreTrainedModel, encoder: Encoder, role: str) -> None:
    """Check that body and head alone give the model's logits: some architectures scale or cap them afterwards.

    Args:
        model: the model; call this in its placement's autocast context.
        encoder: encoder of its tokenizer.
        role: ``student`` or ``teacher``, for the message.

    Raises:
        ReadEnvError: the logits differ, so training would use wrong ones.
    """
    from read_env.distillation.text.encoding import collate, completion_logits

    prompt = encoder.prompts(["1 2 3"])[0]
    batch = collate([prompt], [[encoder.eos_id]], encoder.pad_id).to(next(model.parameters()).device)
    used, full = completion_logits(model, batch)[0], model(input_ids=batch.input_ids).logits[0, len(prompt) - 1]
    if not torch.allclose(used.float(), full.float(), rtol=1e-2 if used.dtype == torch.bfloat16 else 1e-3, atol=1e-3):
        raise ReadEnvError(
            f"models.{role}: {type(model).__name__} changes its logits after the head (by up to "
            f"{(used - full).abs().max().item():.3g}), which this engine leaves out; choose a {role} of another architecture"
        )


def weights_identity(source: ModelSource, model: PreTrainedModel, placement: Placement, memory: Path | None) -> str:
    """Identity of a model's answers to the last digit: its files and its placement.

    Args:
        source: location of the model's files.
        model: the loaded model.
        placement: device and dtypes.
        memory: folder in which digests of large files are cached.
    """
    return f"{files_identity(source, model.config, memory)}/{placement.identity}"


def files_identity(source: ModelSource, config: Any, memory: Path | None) -> str:
    """Identity of a set of weights: the digest of its files, or the commit on the hub.

    Args:
        source: location of the files.
        config: configuration of the model; from the hub it contains the commit.
        memory: folder in which digests of large files are cached.
    """
    path = Path(source.location)
    if path.exists():
        return content_digest(path / source.gguf if source.gguf else path, memory)
    return f"{source.location}/{source.gguf}@{getattr(config, '_commit_hash', None)}"
