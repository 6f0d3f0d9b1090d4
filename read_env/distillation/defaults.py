"""Values for the ``auto`` fields of a configuration: by size and kind of the student, and by the lengths of references."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from read_env.capabilities import get_suite
from read_env.config import AUTO, Config, make_config
from read_env.distillation.models.head import positions_at_once
from read_env.distillation.models.sources import find_model
from read_env.distillation.models.weights import count_parameters, empty_model, load_encoder, prune_layers
from read_env.distillation.text.encoding import Encoder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_LOG = logging.getLogger(__name__)

#: Learning rates of full fine-tuning: parameters of the student below which a rate is used. From 2 B on it is the default
#: of TRL's SFTConfig and GKDConfig; below, rates grow as sizes shrink, as in the table of Pythia (Biderman et al., 2023).
_RATES = ((50e6, 3e-4), (500e6, 1e-4), (2e9, 5e-5), (math.inf, 2e-5))
#: Students below this size are taken for models whose references show how long answers get.
_SMALL = 50e6
_LARGE_COMPLETION = 256
#: Prompts per capability whose lengths are measured.
_DRAWS = 256
#: Memory for the activations and logits of a micro-batch, bytes.
_MICRO_BATCH = 4 * 2**30


def resolve(config: Config, model: PreTrainedModel | None = None, encoder: Encoder | None = None) -> Config:
    """Replace every ``auto`` of a configuration by a value; ``config.reasons`` says why. The values depend on files alone.

    Args:
        config: the configuration; one without ``auto`` is returned as it is.
        model: the student, on any device. None: its shapes are read from its files.
        encoder: encoder of the student's tokenizer. None: it is read from the files; with a ``model``, a token is taken for
            three characters.

    Raises:
        ReadEnvError: the student's files can't be read, or an unknown suite.

    >>> from read_env.config import load_preset
    >>> resolve(load_preset("micro", {"distill": {"learning_rate": "auto"}})).distill.learning_rate
    0.0003
    """
    if config.resolved:
        return config
    sections = config.model_dump()
    asked = [(s, f) for s in ("budget", "distill") for f, value in sections[s].items() if value == AUTO]
    models, trust = config.models, config.models.trust_remote_code
    if model is None:
        source = find_model(models.student)
        model = empty_model(source, trust_remote_code=trust)
        encoder = load_encoder(source, model.config, trust_remote_code=trust)
        if models.student_layers:
            prune_layers(model, models.student_layers)
    reasons: dict[str, str] = {}
    chosen = _values(sections, model, _lengths(config, encoder))
    for section, field in asked:
        value, reason = chosen[field]
        sections[section][field] = value
        reasons[f"{section}.{field}"] = f"{value:,} ({reason})" if isinstance(value, int) else f"{value:g} ({reason})"
        _LOG.info("%s.%s: auto is %s", section, field, reasons[f"{section}.{field}"])
    return make_config(sections, "configuration").with_reasons(reasons)


def _lengths(config: Config, encoder: Encoder | None) -> tuple[np.ndarray, np.ndarray]:
    """Lengths of prompts and of their references, tokens."""
    draws = [capability.draws(random.Random(f"lengths/{capability.name}")) for capability in get_suite(config.suite)]
    prompts = [prompt for drawn in draws for prompt in islice(drawn, _DRAWS)]
    texts, references = [p.text for p in prompts], [p.reference for p in prompts]
    if encoder is None:
        pairs: Sequence[tuple[Sequence[Any], Sequence[Any]]] = [
            (p[::3], r[::3]) for p, r in zip(texts, references, strict=True)
        ]
    else:
        pairs = encoder.pairs(texts, references)
    # The completions of a file without answers are the teacher's, of unknown length.
    of_references = [len(ids) if text else _LARGE_COMPLETION for text, (_, ids) in zip(references, pairs, strict=True)]
    return np.array([len(prompt) for prompt, _ in pairs]), np.array(of_references)


def _values(
    sections: dict[str, Any], model: PreTrainedModel, lengths: tuple[np.ndarray, np.ndarray]
) -> dict[str, tuple[float, str]]:
    """Value and reason of every field that can be ``auto``."""
    size, shape, models = count_parameters(model), model.config.get_text_config(), sections["models"]
    prompts, references = lengths
    longest, mean, parameters = int(references.max()), float(references.mean()), f"{size / 1e6:,.1f} M parameters"
    found: dict[str, tuple[float, str]] = {}

    cut, reason = _rounded_up(1.5 * longest), f"1.5 times the longest reference, {longest} tokens"
    if size >= _SMALL and cut < _LARGE_COMPLETION:
        cut, reason = _LARGE_COMPLETION, f"the longest reference has {longest} tokens, answers of models may be longer"
    context = getattr(shape, "max_position_embeddings", None)
    room = cut if context is None else max(context - int(prompts.max()), context // 4)
    if room < cut:
        cut, reason = room, f"left of the student's context of {context:,} tokens"
    found["max_completion_tokens"] = cut, reason

    total = sections["budget"]["total_tokens"]
    step = min(total, max(total // 20, _rounded_up(16 * mean)))
    found["step_tokens"] = step, f"a twentieth of B, at least 16 completions of {mean:.1f} tokens"

    step = sections["budget"]["step_tokens"] if sections["budget"]["step_tokens"] != AUTO else step
    update = max(1, min(_rounded_up(32 * mean), step // 4))
    found["tokens_per_update"] = update, f"32 completions of {mean:.1f} tokens, at most a quarter of a step"

    rate, kind = next(rate for below, rate in _RATES if size < below), f"all of {parameters} are trained"
    if models["lora_r"]:
        rate, kind = min(10 * rate, 1e-3), f"LoRA on {parameters}: ten times the rate of all weights"
    if (loss := sections["distill"]["loss"]) in ("grpo", "rlad"):
        rate, kind = rate / 10, f"{kind}; a tenth for the policy gradient of {loss}"
    found["learning_rate"] = float(f"{rate:.1g}"), kind

    # As for ``read-env check``: 34 times the hidden size a layer (Korthikanti et al., 2022), and three copies of the logits.
    sizes, rows = [2**power for power in range(9, 15)], shape.vocab_size
    if not (hasattr(shape, "hidden_size") and hasattr(shape, "num_hidden_layers")):
        reason = f"the smallest: {type(shape).__name__} has no hidden_size or no num_hidden_layers"
        return found | {"micro_batch_tokens": (sizes[0], reason)}
    kept = 34 + shape.num_hidden_layers if models["gradient_checkpointing"] else 34 * shape.num_hidden_layers
    needed = [4 * (n * shape.hidden_size * kept + 3 * positions_at_once(n, rows) * rows) for n in sizes]
    fitting = max(sum(size <= _MICRO_BATCH for size in needed) - 1, 0)
    reason = f"about {needed[fitting] / 2**30:.1f} GiB of activations and logits"
    found["micro_batch_tokens"] = sizes[fitting], reason
    return found


def _rounded_up(tokens: float) -> int:
    return 8 * math.ceil(tokens / 8)
