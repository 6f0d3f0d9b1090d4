"""The report of an identification: the requirement with its intervals, and the interventions that it comes from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from read_env.record_files import RecordError, read_record
from read_env.records import IdentificationRecord
from read_env.reporting import markdown
from read_env.reporting.markdown import count, markdown_table, number
from read_env.reporting.runs import Run, load_many, read_config
from read_env.reporting.style import AFTER, look, readable, save
from read_env.reporting.web_page import write_report

_EXPLAINING = {"scores": "the changes of the scores, Δs (arXiv 2605.11290)", "tokens": "the shares of the tokens, w"}


def load_identification(directory: str | Path) -> IdentificationRecord:
    """The record of a finished identification.

    Raises:
        RecordError: it is missing or malformed.
    """
    return read_record(Path(directory) / "requirement.json", IdentificationRecord)


def identification_report(directory: str | Path) -> Path:
    """Write ``report.md``, ``report.html`` and ``requirement.png`` into the directory of an identification.

    Returns the path of ``report.md``.

    Raises:
        RecordError: records that are missing or malformed, or no finished intervention.
    """
    path = Path(directory)
    record, config = load_identification(path), read_config(path)
    runs = [run for run in load_many(path) if run.summary is not None] if record.interventions else []
    if not runs and record.interventions:
        raise RecordError(f"{path}: no intervention has finished")
    found = record.students["all"]
    level, names = f"{found.level:.0%}", [name for name in record.students if name != "all"]
    top = ", ".join(record.suite[i] for i in np.argsort(-found.mean, kind="stable")[:3] if found.mean[i] > 0)
    enough = (
        "even 16 times as many would not make them sure"
        if found.needed is None
        else "they are sure" if found.needed <= record.interventions
        else f"about {found.needed} interventions would make them sure"
    )  # fmt: skip
    blocks = [
        f"# What {record.task} needs",
        f"Largest needs: **{top}**. "
        + (
            f"They are the same in {found.sure:.0%} of the bootstrap samples; {enough}. Held-out "
            f"interventions: {number(found.explained, 2)} of the variance of ΔU explained. {record.interventions} interventions "
            f"({record.design}), {count(record.tokens)} completion tokens, which are spent before a run with this requirement."
            if runs
            else "Read from the text of the card by an identifier, without interventions."
        ),
        _failures(record),
        _picture(record, path / "requirement.png"),
        "## Requirement",
        f"r̂ by regression of ΔU on {_EXPLAINING[record.regress_on]}; in brackets its {level} bootstrap interval."
        + (
            ""
            if record.prior is None
            else f" Prior: the identifier's, from the text of the card, with weight {found.prior_weight:g}."
        )
        if runs
        else "",
        _requirements(record, names),
    ]
    if not runs:
        return write_report(path, [*blocks, *markdown.provenance(path, config)])
    blocks += [
        "## Interventions",
        "Shares of the tokens, and the change of the utility on the task's probes.",
        _interventions(record, runs),
        *markdown.provenance(path, config, runs[0]),
    ]
    return write_report(path, blocks)


def _failures(record: IdentificationRecord) -> str:
    """Warning about interventions that failed; empty if all have ended."""
    if not record.failed:
        return ""
    asked = record.interventions + len(record.failed)
    errors = [f"- {name}: {markdown.literal(' '.join(error.split()))}" for name, error in record.failed.items()]
    return "\n".join(
        [
            f"**{len(record.failed)} of {asked} interventions failed, and the requirement was inferred without them.** The same "
            "command makes them again and keeps the others.",
            "",
            *errors,
        ]
    )


def _requirements(record: IdentificationRecord, names: list[str]) -> str:
    shown = ["all", *names] if len(names) > 1 else ["all"]
    rows = []
    for i, capability in enumerate(record.suite):
        cells = []
        for name in shown:
            one = record.students[name]
            cells.append(f"{number(one.mean[i], 2)} [{number(one.low[i], 2)}, {number(one.high[i], 2)}]")
        rows.append([capability, *cells, *([] if record.prior is None else [number(record.prior[i], 2)])])
    more = [] if record.prior is None else ["prior"]
    header = ["capability", *(("all students" if name == "all" else name) for name in shown)]
    return markdown_table([*(header if len(shown) > 1 else ["capability", "r̂"]), *more], rows)


def _interventions(record: IdentificationRecord, runs: list[Run]) -> str:
    rows = []
    for run in runs:
        assert run.summary is not None, "others are left out"
        shares = run.steps[-1].allocation if run.steps else np.zeros(len(record.suite))
        given = " ".join(f"{n}={share:.2f}" for n, share in zip(record.suite, shares, strict=True) if share > 0)
        gain = run.summary.utility - run.summary.utility_start
        rows.append([run.path.name, given, number(gain, 4, signed=True)])
    return markdown_table(["intervention", "allocation", "ΔU"], rows, text_columns=2)


@look()
def _picture(record: IdentificationRecord, path: Path) -> str:
    found, places = record.students["all"], np.arange(len(record.suite))
    picture = Figure(figsize=(7, 0.6 + 0.32 * len(places)), layout="constrained")
    axes = picture.subplots()
    ends = [np.maximum(found.mean - found.low, 0), np.maximum(found.high - found.mean, 0)]
    axes.barh(places, found.mean, xerr=ends, color=AFTER, error_kw={"lw": 1, "capsize": 2})
    axes.set_yticks(places, [readable(name) for name in record.suite])
    axes.invert_yaxis()
    axes.set_xlabel(f"requirement r̂, {found.level:.0%} bootstrap interval")
    axes.set_title(record.task)
    return save(picture, path, "requirement by capability, with intervals")
