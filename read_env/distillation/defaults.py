"""Values for the ``auto`` fields of a configuration: by size and kind of the student, and by the lengths of references."""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np
import torch

from read_env.capabilities import get_suite
from read_env.config import AUTO, Config, make_config
from read_env.distillation.models.sources import find_model
from read_env.distillation.models.weights import count_parameters, empty_model, load_encoder, prune_layers
from read_env.distillation.text.encoding import Encoder
from read_env.distillation.text.lengths import Reader, held_out_prompts

_LOG = logging.getLogger(__name__)

#: Learning rates of full fine-tuning: parameters of the student below which a rate is used. From 2 B on it is the default
#: of TRL's SFTConfig and GKDConfig; below, rates grow as sizes shrink, as in the table of Pythia (Biderman et al., 2023).
_RATES = ((50e6, 3e-4), (500e6, 1e-4), (2e9, 5e-5), (math.inf, 2e-5))
#: Students below this size are taken for models whose references show how long answers get.
_SMALL = 50e6
_LARGE_COMPLETION = 256
#: Memory for the activations and logits of a micro-batch, bytes.
_MICRO_BATCH = 4 * 2**30


def resolve(config: Config, model: torch.nn.Module | None = None, encoder: Encoder | None = None) -> Config:
    """Replace every ``auto`` of a configuration by a value; ``config.reasons`` says why. The values depend on files alone.

    Args:
        config: the configuration; one without ``auto`` is returned as it is.
        model: the student, on any device. None: its shapes are read from its files.
        encoder: encoder of the student's tokenizer. None: it is read from the files.

    Raises:
        ReadEnvError: the student's files are not on this machine, or a split has too few prompts.

    >>> from read_env.config import load_preset
    >>> resolve(load_preset("micro", {"distill": {"learning_rate": "auto"}})).distill.learning_rate
    0.0003
    """
    sections = config.model_dump()
    asked = [(s, f) for s in ("budget", "distill") for f, value in sections[s].items() if value == AUTO]
    if not asked:
        return config
    models, trust = config.models, config.models.trust_remote_code
    if model is None:
        source = find_model(models.student)
        model = empty_model(source, trust_remote_code=trust)
        encoder = load_encoder(source, model.config, trust_remote_code=trust)
        if models.student_layers:
            prune_layers(model, models.student_layers)
    assert encoder is not None, "a model comes with its encoder"
    reasons: dict[str, str] = {}
    chosen = _values(sections, model, _lengths(config, encoder), Reader.of("student", encoder, model).context)
    for section, field in asked:
        value, reason = chosen[field]
        sections[section][field] = value
        reasons[f"{section}.{field}"] = f"{value:,} ({reason})" if isinstance(value, int) else f"{value:g} ({reason})"
        _LOG.info("%s.%s: auto is %s", section, field, reasons[f"{section}.{field}"])
    return make_config(sections, "configuration").with_reasons(reasons)
