"""Loading and saving of models; adapters and layer pruning before training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from read_env.config import ModelConfig
from read_env.digests import content_digest
from read_env.distillation.models.generation import valid_generation
from read_env.distillation.models.head import decoder_of
from read_env.distillation.models.placement import Placement
from read_env.distillation.models.sources import ModelSource
from read_env.distillation.models.suppress_output import suppress_progress_bars
from read_env.distillation.text.encoding import Encoder
from read_env.errors import ReadEnvError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


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

    Example:
        >>> from read_env.distillation.models.sources import find_model
        >>> load_tokenizer(find_model("embedded:micro/student")).eos_token
        '<eos>'
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

    Example:
        >>> from read_env.distillation.models.sources import find_model
        >>> empty_model(find_model("embedded:micro/student")).device
        device(type='meta')
    """
    from transformers import AutoModelForCausalLM

    config = load_config(source, trust_remote_code=trust_remote_code)
    with _explained(source), torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    return model


def model_of_shape(source: ModelSource, placement: Placement, *, trust_remote_code: bool = False) -> PreTrainedModel:
    """Model whose weights are on the meta device, and whose buffers, which its configuration determines, are on the CPU.

    Raises:
        ReadEnvError: no configuration, or an unknown architecture.
    """
    from accelerate import init_empty_weights
    from transformers import AutoModelForCausalLM

    config = load_config(source, trust_remote_code=trust_remote_code)
    with _explained(source), init_empty_weights(include_buffers=False):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            config,
            dtype=placement.weights,
            attn_implementation=placement.attention,
            trust_remote_code=trust_remote_code,
        )
    model.tie_weights()  # each empty parameter is one of its own
    model.eval()
    return model


def load_config(source: ModelSource, *, trust_remote_code: bool = False) -> PretrainedConfig:
    """Load the configuration of a model.

    Raises:
        ReadEnvError: no configuration, or an unknown architecture.

    Example:
        >>> from read_env.distillation.models.sources import find_model
        >>> load_config(find_model("embedded:micro/student")).num_hidden_layers
        4
    """
    from transformers import AutoConfig

    with _explained(source):
        config: PretrainedConfig = AutoConfig.from_pretrained(
            source.location, trust_remote_code=trust_remote_code, **source.arguments
        )
    return config


def load_encoder(source: ModelSource, config: PretrainedConfig, *, trust_remote_code: bool = False) -> Encoder:
    """Load a model's tokenizer with all tokens that end its answers: the tokenizer's and the generation configuration's.

    Args:
        source: location of the files.
        config: configuration of the model.
        trust_remote_code: run Python code that comes with the model.

    Raises:
        ReadEnvError: no tokenizer, one without an end, or one with more tokens than the model has embeddings; a generation
            configuration that transformers refuses.

    Example:
        >>> from read_env.distillation.models.sources import find_model
        >>> source = find_model("embedded:micro/student")
        >>> load_encoder(source, load_config(source)).stop_ids
        (2,)
    """
    from transformers import GenerationConfig

    tokenizer = load_tokenizer(source, trust_remote_code=trust_remote_code)
    text = config.get_text_config()
    with _explained(source):
        try:
            generation: Any = GenerationConfig.from_pretrained(source.location)
        except OSError:  # no such file: as in ``generate``, the model's configuration says where an answer ends
            generation = text
    ends = generation.eos_token_id
    return Encoder(tokenizer, [ends] if isinstance(ends, int) else ends or (), text.vocab_size)


def count_parameters(model: torch.nn.Module) -> int:
    """Number of parameters; tied ones count once.

    Example:
        >>> count_parameters(torch.nn.Linear(2, 3))
        9
    """
    return sum(parameter.numel() for parameter in model.parameters())


def has_fused_attention(model: PreTrainedModel) -> bool:
    """True if the architecture can use ``torch.nn.functional.scaled_dot_product_attention``; Gemma 2 can't.

    Example:
        >>> from read_env.distillation.loading import load
        >>> has_fused_attention(load("embedded:micro/student").model)
        True
    """
    return bool(getattr(model, "_supports_sdpa", True))


def load_model(
    source: ModelSource, placement: Placement, *, trust_remote_code: bool = False, device_map: str = ""
) -> PreTrainedModel:
    """Load a causal language model in evaluation mode, from safetensors or GGUF only.

    Args:
        source: location of the files.
        placement: device and dtypes.
        trust_remote_code: run Python code that comes with the model.
        device_map: ``device_map`` of transformers, which distributes the layers over the GPUs; empty: the placement's device.

    Raises:
        ReadEnvError: it doesn't exist, or its files can't be read.
    """
    from transformers import AutoModelForCausalLM

    kind: dict[str, Any] = {**source.arguments, **_dequantized()} if source.gguf else {"use_safetensors": True}
    if device_map:
        kind["device_map"] = device_map
    with _explained(source):
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            source.location, dtype=placement.weights, attn_implementation=placement.attention,
            trust_remote_code=trust_remote_code, **kind,
        )  # fmt: skip
        if not device_map:
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


#: Fields of configurations that list indices of layers.
_LAYER_INDICES = ("mlp_only_layers", "moe_layers")
#: Types of a module's settings.
_SETTING = (bool, int, float, str, tuple, list, type(None))


def prune_layers(model: PreTrainedModel, kept: Sequence[int]) -> None:
    """Keep some layers of a model, in place: a shallower student, to be healed by training.

    Args:
        model: the model.
        kept: indices of the layers to keep, in their new order.

    Raises:
        ReadEnvError: unknown layers, a model without ``base_model.layers``, or one whose configuration can't describe the
            kept layers.

    Example:
        >>> from read_env.distillation.loading import load
        >>> prune_layers(model := load("embedded:micro/student").model, kept=[0, 3])
        >>> model.config.num_hidden_layers
        2
    """
    body = decoder_of(model)
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
    _keep_layers_in_config(model.config.get_text_config(), kept, len(layers))
    _check_reload(model)


def _keep_layers_in_config(config: PretrainedConfig, kept: Sequence[int], total: int) -> None:
    """Reduce a configuration's lists to the kept layers: those with one entry per layer, and those of layer indices."""
    config.num_hidden_layers = len(kept)
    for name, value in list(vars(config).items()):
        if not isinstance(value, (list, tuple)) or "token" in name or name == "architectures":
            continue
        if name in _LAYER_INDICES:
            setattr(config, name, [new for new, old in enumerate(kept) if old in value])
        elif len(value) == total:
            setattr(config, name, [value[index] for index in kept])


def _check_reload(model: PreTrainedModel) -> None:
    """Check that a model's configuration alone builds the same layers, so that a saved copy computes the same logits."""
    with torch.device("meta"):
        try:
            again: Any = type(model)(type(model.config).from_dict(model.config.to_dict()))
        except Exception as error:
            problem = f"its configuration can't describe them ({type(error).__name__}: {error})"
            raise _pruning_error(model, problem) from error
    layers: Any = (decoder_of(model).layers, decoder_of(again).layers)
    for (name, module), (_, other) in zip(layers[0].named_modules(), layers[1].named_modules(), strict=False):
        settings = [
            {key: value for key, value in vars(m).items() if key[0] != "_" and isinstance(value, _SETTING)}
            for m in (module, other)
        ]
        settings[0]["training"] = settings[1]["training"]
        shapes = [
            {key: tuple(value.shape) for key, value in m.named_parameters(recurse=False)} for m in (module, other)
        ]
        if type(module) is not type(other) or shapes[0] != shapes[1] or settings[0] != settings[1]:
            changed = [key for key in settings[0] if settings[0][key] != settings[1].get(key)]
            raise _pruning_error(
                model, f"layers.{name} would be built differently ({', '.join(changed) or 'other parts'})"
            )


def _pruning_error(model: PreTrainedModel, problem: str) -> ReadEnvError:
    return ReadEnvError(
        f"models.student_layers: {type(model).__name__} sets up a layer by its position, and the kept layers can't be saved: "
        f"{problem}; right would be layers that keep their positions' kinds, or all layers"
    )


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
    which may be a GGUF file, be pruned, or be missing on another machine. ``generation_config.json`` is that of the model
    without settings that contradict each other, such as a temperature without ``do_sample``.

    Args:
        model: the model, with its adapters inside; it is not changed.
        tokenizer: its tokenizer.
        path: folder to write.
    """
    weights, config = _merged_weights(model), model.config.get_text_config()
    tied, generation = config.tie_word_embeddings, getattr(model, "generation_config", None)
    try:
        if generation is not None:
            model.generation_config = valid_generation(generation)
        if weights is not None and tied:  # an adapter on one of the two parts them
            config.tie_word_embeddings = not _embeddings_adapted(model)
        with suppress_progress_bars():
            model.save_pretrained(path, state_dict=weights)
            tokenizer.save_pretrained(path)
        for file in Path(path).glob("*.safetensors"):  # safetensors lets the owner alone read them
            with suppress(OSError):
                file.chmod((Path(path) / "config.json").stat().st_mode & 0o777)
    finally:
        config.tie_word_embeddings = tied
        if generation is not None:
            model.generation_config = generation


def _embeddings_adapted(model: PreTrainedModel) -> bool:
    """True if the input embeddings or the output head have adapters."""
    return any(hasattr(m, "get_delta_weight") for m in (model.get_input_embeddings(), model.get_output_embeddings()))


@torch.no_grad()
def _merged_weights(model: PreTrainedModel) -> dict[str, torch.Tensor] | None:
    """Weights with the adapters merged, by their names without adapters; None for a model without adapters.

    Merging in place and unmerging would change the last digits.
    """
    adapted: dict[str, Any] = {name: m for name, m in model.named_modules() if hasattr(m, "get_delta_weight")}
    if not adapted:
        return None
    # An adapter on a parameter that isn't a weight, such as those of experts, wraps its module, possibly in another adapter.
    changed = {f"{_plain(name)}.{getattr(m, 'parameter_name', 'weight')}": m for name, m in adapted.items()}
    weights = {}
    for name, value in model.state_dict().items():
        if any(name.startswith(f"{one}.") and not name.startswith(f"{one}.base_layer.") for one in adapted):
            continue
        if (layer := changed.get(_plain(name))) is not None:
            change = sum(layer.get_delta_weight(adapter).float() for adapter in layer.active_adapters)
            # Added in fp32 and rounded once; kept on the CPU, which has memory for a second copy.
            value = (value.float() + change).to("cpu", value.dtype)
        weights[_plain(name)] = value
    return weights


def _plain(name: str) -> str:
    """Name of a parameter or module in the model without adapters."""
    return name.replace(".base_layer", "")


def weights_identity(
    source: ModelSource, model: PreTrainedModel, placement: Placement, memory: Path | None, *, code: bool = False
) -> str:
    """Identity of a model's answers to the last digit: its files and its placement.

    Args:
        source: location of the model's files.
        model: the loaded model.
        placement: device and dtypes.
        memory: file in which digests of large files are cached.
        code: Python files of the model are run.
    """
    return f"{files_identity(source, model.config, memory, code=code)}/{placement.identity}"


def files_identity(source: ModelSource, config: Any, memory: Path | None, *, code: bool = False) -> str:
    """Identity of a set of weights: the digest of its files, or the commit on the hub.

    Args:
        source: location of the files.
        config: configuration of the model; from the hub it contains the commit.
        memory: file in which digests of large files are cached.
        code: Python files of the model are run.
    """
    path = Path(source.location)
    if path.exists():
        return content_digest(path / source.gguf if source.gguf else path, memory, code=code)
    return f"{source.location}/{source.gguf}@{getattr(config, '_commit_hash', None)}"
