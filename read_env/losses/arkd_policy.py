"""Policy network of both forms of ARKD."""

from __future__ import annotations

import torch

_INPUTS = 6
_HIDDEN = 16


def policy_network(outputs: int, generator: torch.Generator) -> torch.nn.Sequential:
    """Three-layer network; the paper's has 525 parameters with one output, and no widths are given.

    Example:
        >>> sum(parameter.numel() for parameter in policy_network(1, torch.Generator()).parameters())
        401
    """
    network = torch.nn.Sequential(
        torch.nn.Linear(_INPUTS, _HIDDEN), torch.nn.Tanh(), torch.nn.Linear(_HIDDEN, _HIDDEN), torch.nn.Tanh(),
        torch.nn.Linear(_HIDDEN, outputs),
    )  # fmt: skip
    with torch.no_grad():
        for parameter in network.parameters():
            bound = parameter.shape[-1] ** -0.5 if parameter.dim() == 2 else 0.0
            parameter.uniform_(-bound, bound, generator=generator)
    return network
