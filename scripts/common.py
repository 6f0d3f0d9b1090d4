"""Shared parts of the scripts: their options, runs that go on after an interruption, and pages of docs/."""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from read_env import files
from read_env.capabilities import Suite
from read_env.config import Config
from read_env.distillation.report import ChunkReport
from read_env.reporting import RecordError, load_run
from read_env.reporting.runs import Run
from read_env.running.comparison import run_many
from read_env.running.identity import RunIdentity
from read_env.running.pool import Ended, Report, map_jobs
from read_env.running.requests import RunRequest
from read_env.running.runner import make_env
from read_env.tasks import TaskCard, load_task, task_names

DOCS = Path(__file__).resolve().parent.parent / "docs"

_PICTURE = re.compile(r"^!\[[^\]]*\]\(([^)]+)\)$", re.MULTILINE)


def parser_of(doc: str | None, out: str, *, processes: bool = True) -> argparse.ArgumentParser:
    """Parser with ``--out`` (a folder, ``out`` by default) and ``--processes``; ``doc`` is the script's docstring."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(out))
    if processes:
        parser.add_argument("--processes", type=int, default=2)
    return parser


def run_all(title: str, requests: Mapping[str, RunRequest], processes: int, tolerated: str = "") -> dict[str, Run]:
    """Make the missing runs and load all; their students and curves are not kept.

    A failure ends the script. Where its message begins with ``tolerated``, the run is absent from the result.
    """
    failures = run_many(title, requests, processes, Console(), make_env)
    for request in requests.values():
        for folder in ("student", "tensorboard"):
            shutil.rmtree(request.directory / folder, ignore_errors=True)
    fatal = {name: error for name, error in failures.items() if not (tolerated and error.startswith(tolerated))}
    if fatal:
        raise SystemExit("\n".join(f"{name}: {error}" for name, error in fatal.items()))
    return {name: load_run(request.directory) for name, request in requests.items() if name not in failures}


def kept_results(
    jobs: Mapping[str, tuple[Any, ...]], work: Callable[..., Any], path: Path, processes: int, made_with: str = ""
) -> dict[str, Any]:
    """Results of jobs, each kept as a line of a JSON-lines file; those without a line are made in worker processes.

    Args:
        jobs: name -> arguments of ``work``.
        work: function of a module, whose result is a JSON value.
        path: the file. It is small enough for the repository, so that a page can be made again, or completed, from it.
        processes: worker processes.
        made_with: :func:`digest_of` of what the results depend on, kept in the first line.

    Raises:
        SystemExit: the file's results were made with something else.
        ReadEnvError: a job failed; the results of those before it are kept.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        files.append_line(path, {"made_with": made_with})
    first, *lines = files.keep_lines(path, len(files.read_lines(path)))  # without a line that a kill cut short
    if first["made_with"] != made_with:
        raise SystemExit(
            f"{path} was made with other settings or models ({first['made_with']!r}, not {made_with!r}); delete it, or give another --out"
        )
    found = {line["name"]: line["result"] for line in lines}
    missing = {name: arguments for name, arguments in jobs.items() if name not in found}
    begun, before = time.monotonic(), len(found)

    def keep(name: str, event: Ended) -> None:
        found[name] = event.value(name)
        files.append_line(path, {"name": name, "result": found[name]})
        print(f"{len(found) - before} of {len(missing)} after {time.monotonic() - begun:,.0f} s: {name}", flush=True)

    map_jobs(partial(call, work), missing, keep, processes=processes)
    return {name: found[name] for name in jobs}


def call(work: Callable[..., Any], arguments: tuple[Any, ...], report: Report) -> Any:
    """Job of ``map_jobs`` that reports nothing: ``work`` with its arguments."""
    return work(*arguments)


def digest_of(config: Config) -> str:
    """Digest of a configuration and of the files that it names: suite, models."""
    identity = RunIdentity.of_many("results", config)
    text = json.dumps([identity.settings, identity.contents], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def recorded(report: ChunkReport) -> dict[str, list[float]]:
    """JSON object of a step: by capability the tokens, the loss before the update (nats; 0 without tokens) and the profile."""
    return {
        "tokens": report.tokens_by_capability.tolist(),
        "loss": np.nan_to_num(report.loss_by_capability).round(3).tolist(),
        "profile": report.profile.round(4).tolist(),
    }


def cards_of_profiles(suite: Suite) -> list[TaskCard]:
    """Tasks that ship and whose utility is a function of the profile."""
    return [card for name in task_names(suite) if not (card := load_task(name, suite)).measured]


def exam_of(run: Run) -> np.ndarray:
    """Exam scores (|C|,) at the end of a run.

    Raises:
        RecordError: a run without an exam.
    """
    if run.ended.exam is None:
        raise RecordError(f"{run.path / 'summary.json'}: exam is null: this run held no exam")
    return run.ended.exam


def write_page(name: str, text: str) -> None:
    """Write ``docs/NAME.md`` and print it."""
    (DOCS / f"{name}.md").write_text(text)
    print(text)


def publish(
    report: Path, name: str, *, title: str, intro: str, pictures: Sequence[str], files: Sequence[str] = ()
) -> Path:
    """Copy a report to ``docs/NAME.md`` and its pictures to ``docs/NAME/``.

    Args:
        report: a ``report.md`` with its pictures beside it.
        name: of the page and of its folder.
        title: replaces the report's own.
        intro: Markdown that comes before the report's first paragraph.
        pictures: the pictures that are kept; the page drops the others.
        files: further files beside the report that the page links to or that readers may compute with.
    """
    folder = DOCS / name
    folder.mkdir(parents=True, exist_ok=True)
    for file in (*pictures, *files):
        shutil.copy(report.with_name(file), folder / file)

    def keep(match: re.Match[str]) -> str:
        return match.group().replace(f"({match[1]})", f"({name}/{match[1]})") if match[1] in pictures else ""

    body = _PICTURE.sub(keep, report.read_text().partition("\n")[2])
    for file in files:
        body = body.replace(f"]({file})", f"]({name}/{file})")
    body = re.sub(r"\n{3,}", "\n\n", body).strip()
    page = DOCS / f"{name}.md"
    page.write_text(f"# {title}\n\n{intro.strip()}\n\n{body}\n")
    return page
