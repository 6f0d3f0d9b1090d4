"""Reports from records: a Markdown page, its pictures and the numbers as files, beside the records.

Equal records give equal pages, to the byte: nothing here looks at a clock or a random state.
"""

from __future__ import annotations

from read_env.reporting.report_comparison import comparison_report
from read_env.reporting.report_run import run_report
from read_env.reporting.report_training import training_report
from read_env.reporting.report_transfer import transfer_report

__all__ = ["comparison_report", "run_report", "training_report", "transfer_report"]
