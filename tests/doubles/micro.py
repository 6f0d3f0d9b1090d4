"""The preset ``micro`` with a small budget and few held-out prompts."""

from typing import Any

from read_env.capabilities import get_suite
from read_env.config import Config, load_preset

SUITE = get_suite("micro")


def micro_config(total: int = 900, step: int = 300, held_out: int = 4, **sections: Any) -> Config:
    """Configuration with a budget of ``total`` tokens, and ``held_out`` prompts per capability and split."""
    budget = {"total_tokens": total, "step_tokens": step}
    split_sizes = {"probes": held_out, "dev": held_out, "exam": held_out}
    return load_preset("micro", {"budget": budget, "eval": split_sizes, **sections})
