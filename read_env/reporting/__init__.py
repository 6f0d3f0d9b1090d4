"""Reports, tables, statistics and pictures, computed from the records on disk.

Importing it is light: pandas, scipy, statsmodels, matplotlib and seaborn are imported with the first
name that is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "RecordError": "read_env.record_files",
    **dict.fromkeys(["load_run", "load_training", "load_runs", "load_steps", "load_scores"], "read_env.reporting.runs"),
    "load_external": "read_env.reporting.external",
    "load_transitions": "read_env.reporting.transitions",
    **dict.fromkeys(["load_transfer", "transfer_report"], "read_env.reporting.transfer"),
    **dict.fromkeys(["load_identification", "identification_report"], "read_env.reporting.identification"),
    "load_comparison": "read_env.reporting.comparison",
    "comparison_report": "read_env.reporting.comparison_page",
    **dict.fromkeys(["student_card", "agent_card"], "read_env.reporting.cards"),
    **dict.fromkeys(["run_report", "training_report"], "read_env.reporting.run_page"),
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
