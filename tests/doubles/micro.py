"""The preset ``micro`` with a small budget and few held-out prompts, and its models in folders."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from read_env.capabilities import get_suite
from read_env.config import Config, load_preset
from read_env.distillation.loading import Loaded, load
from read_env.distillation.text.completion import Answer

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


def same_answers(first: Sequence[Answer], second: Sequence[Answer]) -> bool:
    """Equality of greedy answers up to near-ties, which depend on the CPU and on the shape of the batch.

    Two answers are compared up to the first token that leads by less than 0.01 nats; most tokens must be compared.
    """
    compared = 0
    for one, other in zip(first, second, strict=True):
        lead = (one.targets.top_log_probs[:, 0] - one.targets.top_log_probs[:, 1]).tolist()
        sure = next((i for i, gap in enumerate(lead) if gap < 0.01), len(one))
        if one.token_ids[:sure] != other.token_ids[:sure]:
            return False
        compared += sure
    return 2 * compared > sum(map(len, first))


def same_state(first: Any, second: Any) -> bool:
    """Equality of two snapshots, with tensors compared to the bit."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same_state(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same_state, first, second))
    return first == second
