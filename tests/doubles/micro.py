"""The preset ``micro`` with a small budget and few held-out prompts, and its models in folders."""

from pathlib import Path
from typing import Any

import torch

from read_env.capabilities import get_suite
from read_env.config import Config, load_preset
from read_env.distillation.loading import Loaded, load

SUITE = get_suite("micro")


def micro_config(total: int = 900, step: int = 300, held_out: int = 4, **sections: Any) -> Config:
    """Configuration with a budget of ``total`` tokens, and ``held_out`` prompts per capability and split."""
    budget = {"total_tokens": total, "step_tokens": step}
    split_sizes = {"probes": held_out, "dev": held_out, "exam": held_out}
    return load_preset("micro", {**sections, "budget": budget, "eval": {**split_sizes, **sections.get("eval", {})}})


def saved(folder: Path, model: Any = None, name: str = "student") -> Loaded:
    """Saves an embedded model, or ``model`` with its tokenizer, to a folder."""
    loaded = load(f"embedded:micro/{name}")
    (model or loaded.model).save_pretrained(folder)
    loaded.encoder.tokenizer.save_pretrained(folder)
    return loaded


def same_state(first: Any, second: Any) -> bool:
    """Equality of two snapshots, with tensors compared to the bit."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same_state(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same_state, first, second))
    return first == second
