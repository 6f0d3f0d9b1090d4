"""Sample answers of teacher and student, as rows of a table."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import shorten

from read_env.records import RunStart

#: Characters of a text that are shown.
_SHOWN = 300

HEADER = ("capability", "exam prompt", "reference", "teacher", "student before", "student after")


def sample_rows(start: RunStart, after: Sequence[str] | None) -> list[list[str]]:
    """Cells of ``HEADER`` for each sample of a needed capability and of the task; ``–`` where nothing was recorded.

    Args:
        start: start record, with the samples.
        after: the distilled student's answers to all samples; None for a run that has not finished.
    """
    left_out = {name for name, need in zip(start.suite, start.requirement, strict=True) if need == 0}
    samples = start.samples or ()
    names = ("capability", "prompt", "reference", "teacher", "student")
    return [
        [shorten(text, _SHOWN) or "–" for text in (*(one.get(name, "") for name in names), last)]
        for one, last in zip(samples, after or [""] * len(samples), strict=True)
        if one["capability"] not in left_out
    ]
