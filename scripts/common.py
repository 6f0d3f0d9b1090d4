"""Shared parts of the scripts: their options, runs that go on after an interruption, and pages of docs/."""

from __future__ import annotations

import argparse
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from read_env import files
from read_env.capabilities import Suite
from read_env.reporting import RecordError, load_run
from read_env.reporting.runs import Run
from read_env.running.comparison import run_many
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
    jobs: Mapping[str, tuple[Any, ...]], work: Callable[..., Any], directory: Path, processes: int
) -> dict[str, Any]:
    """Results of jobs, each kept as JSON in ``directory/NAME.json``; those without a file are made in worker processes.

    Args:
        jobs: name of the file -> arguments of ``work``.
        work: function of a module, whose result is a JSON value.
        directory: folder of the files.
        processes: worker processes.
    """
    directory.mkdir(parents=True, exist_ok=True)
    paths = {name: directory / f"{name}.json" for name in jobs}
    missing = [name for name, path in paths.items() if not path.exists()]
    begun = time.monotonic()
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(work, *jobs[name]): name for name in missing}
        for done, future in enumerate(as_completed(waiting), 1):
            files.write_json(paths[waiting[future]], future.result())
            seconds = time.monotonic() - begun
            print(f"{done} of {len(missing)} after {seconds:,.0f} s: {waiting[future]}", flush=True)
    return {name: files.read_json(path) for name, path in paths.items()}


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
