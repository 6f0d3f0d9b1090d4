"""All pictures in one place. Each function takes loaded records and returns a matplotlib ``Figure``.

Importing this module does not import matplotlib; calling a function does.
"""

from __future__ import annotations

from read_env.reporting.figures_comparison import (
    comparison_dots,
    harm_bands,
    overview,
    profile_changes,
    utility_bands,
)
from read_env.reporting.figures_run import run_allocation, run_costs, run_profile, run_utility
from read_env.reporting.figures_training import learning_curve
from read_env.reporting.figures_transfer import transfer_heatmaps, waste_panels
from read_env.reporting.style import save

__all__ = [
    "comparison_dots",
    "harm_bands",
    "learning_curve",
    "overview",
    "profile_changes",
    "run_allocation",
    "run_costs",
    "run_profile",
    "run_utility",
    "save",
    "transfer_heatmaps",
    "utility_bands",
    "waste_panels",
]
