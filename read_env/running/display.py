"""Progress of runs: bars in a terminal, plain lines anywhere else."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.progress_bar import ProgressBar
from rich.table import Table

from read_env.records import RunStart
from read_env.running.callbacks import Callback
from read_env.tasks import utility_name


class StderrConsole(Console):
    """Console on standard error. A closed pipe silences it; rich by itself would end the process."""

    def __init__(self) -> None:
        super().__init__(stderr=True)

    def on_broken_pipe(self) -> None:
        self.quiet = True


class Pace:
    """Progress towards a total, with the time left at the pace since the start.

    Args:
        total: all the work, in any unit.
        done: work that an earlier call did; it doesn't count for the pace.
        title: text before the bar.
        console: console of the bar. None: there is no bar.

    >>> Pace(total=100).left(done=0)
    '-:--:--'
    """

    def __init__(self, total: int, done: int = 0, title: str = "", console: Console | None = None) -> None:
        columns = (
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"), TextColumn("time left"),
            TimeRemainingColumn(),
        )  # fmt: skip
        # Steps may take minutes: all of them count for the pace, and not only those of the last seconds.
        self.progress = Progress(
            *columns, console=console, disable=console is None, auto_refresh=False, speed_estimate_period=math.inf
        )
        self.task = self.progress.add_task(title, total=total, completed=done, note="")
        self.progress.advance(self.task, 0)  # the start of the pace

    def left(self, done: int) -> str:
        """Time left once ``done`` of the total is done, as ``0:03:07``; ``-:--:--`` before the first progress."""
        self.progress.update(self.task, completed=done)
        return TimeRemainingColumn().render(self.progress.tasks[0]).plain


class RunDisplay(Callback):
    """Budget spent, utility, current allocation and time left of one run.

    Args:
        title: title.
        budget: B, completion tokens.
        console: console. A terminal shows a panel, anything else one line per step. None: standard error.
    """

    def __init__(self, title: str, budget: int, console: Console | None = None) -> None:
        self._title, self._budget, self._console = title, budget, console or StderrConsole()
        self._start: Mapping[str, Any] = {}
        self._live: Live | None = None

    def on_run_start(self, start: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> None:
        self._start = start
        self._utility = utility_name(start["utility_form"], RunStart.model_validate(start).utility_score)
        spent = steps[-1]["budget_spent"] if steps else 0
        self._pace = Pace(self._budget, spent, "budget", self._console)
        if steps:
            self._console.print(f"{self._title}: resumes after step {steps[-1]['step']}", highlight=False)
        elif not self._console.is_terminal:
            self._console.print(
                f"{self._title}: utility {start['utility']:.4f} at the start; utility is the {self._utility}, on the probes",
                highlight=False, soft_wrap=True,
            )  # fmt: skip
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=False)
            self._live.start()
            if steps:
                self._live.update(self._panel(steps[-1]), refresh=True)

    def on_step(self, record: Mapping[str, Any]) -> None:
        if self._live is not None:
            self._live.update(self._panel(record), refresh=True)
            return
        spent, utility = record["budget_spent"], record["utility"]
        self._console.print(
            f"step {record['step']:>3}  {spent:>9,} of {self._budget:,} tokens  utility {utility:.4f} "
            f"({utility - self._start['utility']:+.4f})  left {self._pace.left(spent)}  "
            f"tokens: {largest_shares(self._start['suite'], record['allocation'])}  "
            f"probes: {needed_scores(self._start, record['profile'])}",
            highlight=False, soft_wrap=True,
        )  # fmt: skip

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _panel(self, record: Mapping[str, Any]) -> Group:
        spent, utility = record["budget_spent"], record["utility"]
        note = f"{spent:,} of {self._budget:,} completion tokens ({min(1.0, spent / self._budget):.0%})"
        self._pace.progress.update(self._pace.task, completed=spent, note=note)
        gain = utility - self._start["utility"]
        head = f"step {record['step']}, utility {utility:.4f} ({gain:+.4f} since the start), {self._utility}"
        teacher = self._start.get("teacher_profile") or [math.nan] * len(record["profile"])
        columns = ("capability", "needed", "allocation", "", "probe score", "since the start", "teacher")
        table = Table(*columns, box=None, padding=(0, 2))
        for name, needed, given, score, before, ceiling in zip(
            self._start["suite"], self._start["requirement"], record["allocation"], record["profile"],
            self._start["profile"], teacher, strict=True,
        ):  # fmt: skip
            shares = (f"{share:.2f}" if share > 0 else "·" for share in (needed, given))
            bar = ProgressBar(total=1.0, completed=given, width=24)
            beside = "" if math.isnan(ceiling) else f"{ceiling:.3f}"
            table.add_row(name, *shares, bar, f"{score:.3f}", f"{score - before:+.3f}", beside)
        return Group(f"[bold]{self._title}[/bold]: {head}", self._pace.progress.get_renderable(), table)


class ManyRunsDisplay:
    """Progress of many runs: one bar for all and one for each that is running.

    Args:
        title: title.
        budgets: run name -> completion tokens of the run.
        finished: names of the runs that earlier calls finished.
        console: console. A terminal shows bars, anything else one line per finished run. None: standard error.
    """

    def __init__(
        self, title: str, budgets: Mapping[str, int], finished: Sequence[str] = (), console: Console | None = None
    ) -> None:
        self._console = console or StderrConsole()
        self._budgets = dict(budgets)
        self._spent = {name: (budget if name in finished else 0) for name, budget in self._budgets.items()}
        self._finished = len(finished)
        self._bars: dict[str, TaskID] = {}
        bars = self._console if self._console.is_terminal else None
        self._pace = Pace(sum(self._budgets.values()), sum(self._spent.values()), title, bars)
        if bars is None:
            self._console.print(f"{title}: {len(budgets)} runs, {self._finished} finished already", highlight=False)
        else:
            self._pace.progress.start()
        self._refresh()

    def update(self, name: str, spent: int, utility: float, shares: str = "") -> None:
        """Show a step of a run; ``shares`` is a text of its allocation."""
        self._spent[name] = spent
        progress = self._pace.progress
        if not progress.disable:
            if name not in self._bars:
                self._bars[name] = progress.add_task(f"  {name}", total=self._budgets[name], note="")
            progress.update(self._bars[name], completed=spent, note=f"utility (probes) {utility:.4f}  {shares}")
        self._refresh()

    def finish(self, name: str, note: str) -> None:
        """Show the end of a run; ``note`` is its result or error."""
        self._finished += 1
        self._spent[name] = self._budgets[name]
        if name in self._bars:
            self._pace.progress.remove_task(self._bars.pop(name))
        left = self._refresh()
        place = f"[{self._finished}/{len(self._budgets)}, {left} left]"
        self._console.print(f"{place} {name}: {note}", highlight=False, markup=False, soft_wrap=True)

    def note(self, text: str) -> None:
        """Show a line of text."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        """Stop the display."""
        self._pace.progress.stop()

    def _refresh(self) -> str:
        note = f"{self._finished} of {len(self._budgets)} runs"
        self._pace.progress.update(self._pace.task, note=note)
        left = self._pace.left(sum(self._spent.values()))
        self._pace.progress.refresh()
        return left


def result_rows(start: Mapping[str, Any], summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Utility on probes and exam before and after a run, each with its definition, and the scores of the needed capabilities.

    Args:
        start: content of ``start.json``.
        summary: content of ``summary.json``.
    """
    rows = []
    begun, ungraded = RunStart.model_validate(start), start.get("ungraded") or ()
    score = begun.score or "likelihood"
    splits = (("probes", "", "profile", begun.utility_score), ("exam", "exam_", "exam", begun.exam_score))
    for split, prefix, scores, measure in splits:
        if summary[scores] is None or summary[f"{scores}_start"] is None:
            continue
        before, after = summary[f"{prefix}utility_start"], summary[f"{prefix}utility"]
        rows.append((split, f"utility {before:.4f} -> {after:.4f} ({utility_name(start['utility_form'], measure)})"))
        if split == "exam" and begun.teacher_task_exam is not None:
            rows.append(("", f"teacher {begun.teacher_task_exam:.4f}"))
        teacher = start.get(f"teacher_{scores}") or [None] * len(start["suite"])
        vectors = (start["suite"], start["requirement"], summary[f"{scores}_start"], summary[scores], teacher)
        needs = sorted((one for one in zip(*vectors, strict=True) if one[1] > 0), key=lambda one: -one[1])
        for name, need, first, last, ceiling in needs:
            beside = "" if ceiling is None else f", teacher {ceiling:.3f}"
            kind = score if split == "probes" else "token-likelihood" if name in ungraded else "exact-match"
            rows.append(("", f"{name} {first:.3f} -> {last:.3f} ({_SCORES[kind]}; need {need:.2f}{beside})"))
    if summary.get("left_tokens"):
        more = f", {summary['left_utility']:.4f} on the probes with them" if "left_utility" in summary else ""
        rows.append(("unspent", f"{summary['left_tokens']:,} tokens{more}"))
    return rows


_SCORES = {"likelihood": "likelihood", "token-likelihood": "likelihood per token", "exact-match": "exact match"}


def needed_scores(start: Mapping[str, Any], profile: Sequence[float]) -> str:
    """Text of the probe scores of the three most needed capabilities.

    >>> needed_scores({"suite": ["math", "code"], "requirement": [1.0, 0.0]}, [0.25, 0.5])
    'math 0.250'
    """
    needs = sorted(zip(start["requirement"], start["suite"], profile, strict=True), key=lambda one: -one[0])
    return ", ".join(f"{name} {score:.3f}" for need, name, score in needs[:3] if need > 0)


def largest_shares(names: Sequence[str], allocation: Sequence[float]) -> str:
    """Text of the three largest shares of an allocation.

    >>> largest_shares(["math", "code", "tool_use"], [0.2, 0.3, 0.5])
    'tool_use 50%, code 30%, math 20%'
    """
    most = sorted(zip(allocation, names, strict=True), key=lambda pair: -pair[0])[:3]
    return ", ".join(f"{name} {share:.0%}" for share, name in most if share >= 0.005)
