"""Reports, tables, statistics and pictures, computed from the records on disk.

Importing it needs numpy only: scipy and matplotlib are imported where a number or a picture asks
for them, torch never.
"""

from __future__ import annotations

from read_env.reporting.correlations import correlation_table, correlations
from read_env.reporting.gaps import fixed_allocation_profiles, gap_markdown, gap_table
from read_env.reporting.records import RecordError, load_comparison, load_run, load_training, load_transfer
from read_env.reporting.reports import comparison_report, run_report, training_report, transfer_report

__all__ = [
    "RecordError",
    "comparison_report",
    "correlation_table",
    "correlations",
    "fixed_allocation_profiles",
    "gap_markdown",
    "gap_table",
    "load_comparison",
    "load_run",
    "load_training",
    "load_transfer",
    "run_report",
    "training_report",
    "transfer_report",
]
