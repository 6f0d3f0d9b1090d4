"""Does the profile mean something? Rank correlation of probe score and exam exact match over students."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from read_env.reporting.statistics import Correlation, spearman
from read_env.reporting.tables import markdown_table, number


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


def correlation_table(found: dict[str, Correlation], exams: Sequence[np.ndarray] | np.ndarray) -> str:
    """The correlations as a Markdown table, with the range of each exam; a capability that does not vary says so.

    Without p-values: students along one run are not independent.

    Args:
        found: from :func:`correlations`.
        exams: (students, |C|), as given there.
    """
    low, high = np.min(exams, axis=0), np.max(exams, axis=0)
    rows = [
        [
            name,
            number(entry.rho),
            str(entry.n),
            f"{number(low[c], 2)} – {number(high[c], 2)}",
            entry.note or "",
        ]
        for c, (name, entry) in enumerate(found.items())
    ]
    header = ["capability", "Spearman ρ", "students", "exam from – to", "note"]
    if not any(row[-1] for row in rows):
        header, rows = header[:-1], [row[:-1] for row in rows]
    return markdown_table(header, rows)
