"""What a run looks like while it goes on: a live panel in a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table

if TYPE_CHECKING:
    from rich.console import RenderableType

_BAR = 24


class Eta:
    """Time left, from the pace since the clock was started; work done before that doesn't count.

    Args:
        total: all the work, in any unit.
        done: what was done when the clock starts.
    """

    def __init__(self, total: float, done: float = 0.0) -> None:
        self._total = total
        self._first = done
        self._started = time.monotonic()

    def left(self, done: float) -> float | None:
        """Seconds, or None before the first progress."""
        if done <= self._first:
            return None
        return (time.monotonic() - self._started) * max(self._total - done, 0.0) / (done - self._first)


def duration(seconds: float | None) -> str:
    """``42 s``, ``3:07`` or ``2:05:00``; an ellipsis where it isn't known yet."""
    if seconds is None:
        return "…"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


class RunDisplay:
    """Follows one run: budget spent, utility, current allocation, time left.

    Args:
        title: shown above it.
        budget: B, completion tokens.
        console: where to; a terminal gets the panel, anything else one line a step.
    """

    def __init__(self, title: str, budget: int, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._title = title
        self._budget = budget
        self._start: Mapping[str, Any] = {}
        self._eta = Eta(budget)
        self._live: Live | None = None

    def started(self, start: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> None:
        """Shows where the run begins, or goes on."""
        self._start = start
        self._eta = Eta(self._budget, steps[-1]["budget_spent"] if steps else 0)
        if steps:
            self._console.print(f"{self._title}: goes on after step {steps[-1]['step']}", highlight=False)
        elif not self._console.is_terminal:
            self._console.print(f"{self._title}: utility {start['utility']:.4f} at the start", highlight=False)
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=False)
            self._live.start()
            if steps:
                self._live.update(self._panel(steps[-1]), refresh=True)

    def stepped(self, record: Mapping[str, Any]) -> None:
        """Shows a step."""
        if self._live is not None:
            self._live.update(self._panel(record), refresh=True)
        else:
            self._console.print(self._line(record), highlight=False, soft_wrap=True)

    def finished(self, summary: Mapping[str, Any]) -> None:
        """Nothing more than the last step: the command prints the result."""

    def close(self) -> None:
        """Gives the terminal back."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _line(self, record: Mapping[str, Any]) -> str:
        spent = record["budget_spent"]
        shares = largest_shares(self._start["suite"], record["allocation"])
        return (
            f"step {record['step']:>3}  {spent:>9,} of {self._budget:,} tokens  utility {record['utility']:.4f} "
            f"({record['utility'] - self._start['utility']:+.4f})  left {duration(self._eta.left(spent))}  {shares}"
        )

    def _panel(self, record: Mapping[str, Any]) -> RenderableType:
        spent = record["budget_spent"]
        head = Table.grid(padding=(0, 2))
        head.add_row("step", str(record["step"]))
        share = min(1.0, spent / self._budget)
        head.add_row("budget", f"{_bar(share)} {spent:,} of {self._budget:,} completion tokens ({share:.0%})")
        gain = record["utility"] - self._start["utility"]
        head.add_row("utility", f"{record['utility']:.4f} ({gain:+.4f} since the start)")
        head.add_row("time left", duration(self._eta.left(spent)))
        table = Table("capability", "needed", "allocation", "", "profile", "since the start", box=None, padding=(0, 2))
        for name, needed, given, score, before in zip(
            self._start["suite"], self._start["requirement"], record["allocation"], record["profile"],
            self._start["profile"], strict=True,
        ):  # fmt: skip
            table.add_row(name, _share(needed), _share(given), _bar(given), f"{score:.3f}", f"{score - before:+.3f}")
        return Group(f"[bold]{self._title}[/bold]", head, table)


class ManyRunsDisplay:
    """Follows many runs at once: one bar for all, one for each that is under way.

    Args:
        title: of the whole.
        budgets: run name -> completion tokens it will spend.
        finished: names of the runs that are done already.
        console: where to; a terminal gets bars, anything else one line a finished run.
    """

    def __init__(
        self, title: str, budgets: Mapping[str, int], finished: Sequence[str] = (), console: Console | None = None
    ) -> None:
        self._console = console or Console(stderr=True)
        self._budgets = dict(budgets)
        self._spent = {name: (budget if name in finished else 0) for name, budget in self._budgets.items()}
        self._done = len(finished)
        self._total = sum(self._budgets.values())
        self._eta = Eta(self._total, sum(self._spent.values()))
        self._bars: dict[str, TaskID] = {}
        self._progress: Progress | None = None
        if self._console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"))
            self._progress = Progress(*columns, console=self._console)
            self._progress.start()
            self._all = self._progress.add_task(title, total=self._total, note="")
        else:
            self._console.print(f"{title}: {len(self._budgets)} runs, {self._done} finished already", highlight=False)
        self._refresh()

    def stepped(self, name: str, spent: int, utility: float, shares: str = "") -> None:
        """A run made a step; ``shares`` says where its tokens went."""
        self._spent[name] = spent
        if self._progress is not None:
            if name not in self._bars:
                self._bars[name] = self._progress.add_task(f"  {name}", total=self._budgets[name], note="")
            self._progress.update(self._bars[name], completed=spent, note=f"utility {utility:.4f}  {shares}")
        self._refresh()

    def ended(self, name: str, note: str) -> None:
        """A run is over, well or not; ``note`` says how."""
        self._done += 1
        self._spent[name] = self._budgets[name]
        if self._progress is not None:
            if name in self._bars:
                self._progress.remove_task(self._bars.pop(name))
            self._progress.console.print(f"{name}: {note}", highlight=False)
        else:
            left = duration(self._eta.left(sum(self._spent.values())))
            self._console.print(
                f"[{self._done}/{len(self._budgets)}, {left} left] {name}: {note}", highlight=False, markup=False,
                soft_wrap=True,
            )  # fmt: skip
        self._refresh()

    def close(self) -> None:
        """Gives the terminal back."""
        if self._progress is not None:
            self._progress.stop()

    def _refresh(self) -> None:
        if self._progress is not None:
            done = sum(self._spent.values())
            note = f"{self._done} of {len(self._budgets)} runs, {duration(self._eta.left(done))} left"
            self._progress.update(self._all, completed=done, note=note)


def largest_shares(names: Sequence[str], allocation: Sequence[float]) -> str:
    """The three largest shares of an allocation: ``tool_use 50%, code 30%, math 20%``."""
    most = sorted(zip(allocation, names, strict=True), key=lambda pair: -pair[0])[:3]
    return ", ".join(f"{name} {share:.0%}" for share, name in most if share >= 0.005)


def _share(value: float) -> str:
    return f"{value:.2f}" if value > 0 else "·"


def _bar(share: float) -> str:
    full = round(_BAR * min(max(share, 0.0), 1.0))
    return "█" * full + "░" * (_BAR - full)
