"""Does the profile mean something? Rank correlation of probe score and exam exact match over students."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from read_env.reporting.statistics import Correlation, spearman
from read_env.reporting.tables import markdown_table, number, p_value


def correlations(
    names: Sequence[str], profiles: Sequence[np.ndarray] | np.ndarray, exams: Sequence[np.ndarray] | np.ndarray
) -> dict[str, Correlation]:
    """Spearman's ρ between probe score and exam exact match, by capability.

    Args:
        names: capabilities, in the suite's order.
        profiles: (students, |C|) probe profiles of student checkpoints.
        exams: (students, |C|) exam exact match of the same checkpoints.

    Raises:
        ValueError: shapes that do not fit each other or the names.
    """
    first, second = np.asarray(profiles, dtype=np.float64), np.asarray(exams, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 2 or first.shape[1] != len(names):
        raise ValueError(
            f"expected profiles and exams of shape (students, {len(names)}), got {first.shape} and {second.shape}"
        )
    return {name: spearman(first[:, c], second[:, c]) for c, name in enumerate(names)}


def correlation_table(found: dict[str, Correlation]) -> str:
    """The correlations as a Markdown table; a capability that does not vary says so."""
    rows = [
        [name, number(entry.rho), p_value(entry.p), str(entry.n), entry.note or ""] for name, entry in found.items()
    ]
    if not any(row[-1] for row in rows):
        return markdown_table(["capability", "Spearman ρ", "p", "students"], [row[:-1] for row in rows])
    return markdown_table(["capability", "Spearman ρ", "p", "students", "note"], rows)
