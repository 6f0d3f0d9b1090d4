"""Kill runs, trainings and comparisons at random moments, resume them, and compare them with uninterrupted ones.

    python scripts/kill_runs.py --kills 200

Each command is run on the micro models with a small budget, in a process group of its own. The group gets SIGKILL at a
random moment, and the same command is started again, to be killed again, until it ends before its moment. Moments are uniform
over the processor time of an uninterrupted run, from its first line to the report, so that the load of the machine does not
move them. Every eighth process is a fresh interpreter, whose moments include the import of the libraries; the others are forks
of this one, which has imported them. Every fourth run begins with an empty cache of the teacher's answers. The runs that all
others are compared with are made by fresh interpreters.

Every kill and every end is a line of ``log.jsonl`` in the folder of results. After an interruption the same command goes on.
A run that differs is kept there; the others are deleted. ``scripts/reliability.py`` writes the page. Linux only.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

from read_env import files
from read_env.cli import main
from read_env.config import load_preset
from read_env.reporting.markdown import markdown_table

_SMALL = (
    "--budget.total-tokens 3200 --budget.step-tokens 400 --eval.probes 4 --eval.dev 4 --eval.exam 4 "
    "--distill.teacher-batch-size 8"
).split()
#: Command -> its options.
COMMANDS = {
    "run": "--task bookkeeper --agent read-bandit".split(),
    "train": "--tasks tutor agent --agent read-bandit --steps 12".split(),
    "compare": "--agents read-bandit uniform --tasks bookkeeper --seeds 0 --processes 2".split(),
}
#: Command -> share of the kills; a comparison takes two workers and twice the time.
SHARES = {"run": 0.45, "train": 0.45, "compare": 0.1}
#: Stages in which a kill comes; a result is a ``summary.json`` or a ``training.json``.
STAGES = ("before a checkpoint", "with a checkpoint", "after a result")
_JSON = ("start.json", "summary.json", "training.json")
_JSON_LINES = ("steps.jsonl", "episodes.jsonl")
_DIGESTED = ("agent.zip", "runs.csv")
#: Fields that depend on the clock or on earlier runs.
_NO_RESULT = ("seconds", "cache")
_TICKS = os.sysconf("SC_CLK_TCK")


def results(folder: Path) -> dict[str, Any]:
    """Relative path -> content of each file that must not depend on kills: records, weights, saved agents."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.name in _JSON:
            found[name] = _without_clock(files.read_json(path))
        elif path.name in _JSON_LINES:
            found[name] = [_without_clock(record) for record in files.read_lines(path)]
        elif path.name in _DIGESTED or path.suffix == ".safetensors":
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Names of the files that only one of them has or whose contents differ."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def _without_clock(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in _NO_RESULT}


def stage(folder: Path) -> str:
    """Stage of a killed command, by the files that it left."""
    names = {path.name for path in folder.rglob("*")}
    if {"summary.json", "training.json"} & names:
        return STAGES[2]  # the first one of a comparison
    return STAGES[1 if "state.pt" in names else 0]


def start(command: str, folder: Path, cache: Path, log: Path, fresh: bool) -> ForkProcess:
    """Start a command in a process group of its own, with its output in ``log``.

    Args:
        command: name of the command.
        folder: its ``--out``.
        cache: folder of the teacher's answers.
        log: file of the output.
        fresh: start a new interpreter. False: fork this one, which has imported the libraries.
    """
    arguments = [command, *COMMANDS[command], *_SMALL, "--out", str(folder)]

    def child() -> None:
        os.setsid()
        with log.open("wb") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        os.environ["READ_ENV_CACHE"] = str(cache)
        if fresh:
            os.execv(sys.executable, [sys.executable, "-m", "read_env.cli", *arguments])
        sys.exit(main(arguments))

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    return process


def processor_seconds(pid: int) -> float:
    """Processor time of a process and of its children, those that ended included; 0 when it is gone."""
    total = 0.0
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += sum(processor_seconds(int(child)) for child in (task / "children").read_text().split())
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += sum(map(int, fields[11:15])) / _TICKS
    return total


def killed(process: ForkProcess, moment: float) -> tuple[bool, float]:
    """Wait for the end of a process group, or kill it after ``moment`` seconds of processor time.

    Returns:
        True if it was killed; the processor time that was last seen.
    """
    used = 0.0
    try:
        while process.is_alive():
            used = max(used, processor_seconds(process.pid))
            if used >= moment:
                time.sleep(random.random() * 0.03)  # also reaches waits for the disk, which take no processor time
                break
            time.sleep(0.01)
        return process.is_alive(), used
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.join()


class Experiment:
    """Kills of all commands, their log and the uninterrupted runs that results are compared with.

    Args:
        out: folder of the log and of the runs.
        seed: seed of the moments.
    """

    def __init__(self, out: Path, seed: int) -> None:
        self.out, self.seed = out, seed
        self.log = out / "log.jsonl"
        out.mkdir(parents=True, exist_ok=True)
        self.lines = files.read_lines(self.log)
        files.keep_lines(self.log, len(self.lines))  # a line that was cut goes

    def of(self, command: str, event: str) -> list[dict[str, Any]]:
        """Lines of the log."""
        return [line for line in self.lines if (line["command"], line["event"]) == (command, event)]

    def note(self, command: str, event: str, **values: Any) -> None:
        """Add a line to the log."""
        self.lines.append({"command": command, "event": event, **values})
        files.append_line(self.log, self.lines[-1])
        print(*(f"{name}={value}" for name, value in self.lines[-1].items()), flush=True)

    def whole(self, command: str) -> None:
        """Make three uninterrupted runs: the results, and the processor times with a filled cache, fresh and forked."""
        found, used = {}, {}
        for name in ("whole", "fresh", "forked"):
            folder = self.out / f"{command}-{name}"
            shutil.rmtree(folder, ignore_errors=True)
            process = start(command, folder, self.out / "cache", folder.with_suffix(".txt"), name != "forked")
            used[name] = round(killed(process, float("inf"))[1], 2)
            found[name] = results(folder)
            if process.exitcode or not found[name] or differences(found["whole"], found[name]):
                raise SystemExit(f"an uninterrupted run failed or differs from another: see {folder} and its .txt")
        self.note(command, "whole", fresh=used["fresh"], forked=used["forked"], files=len(found["whole"]))

    def next_command(self, kills: int) -> str | None:
        """Command that is most behind its share of the kills; None when all have theirs and no run is under way."""
        missing = {c: SHARES[c] * kills - len(self.of(c, "kill")) for c in COMMANDS}
        command = max(missing, key=lambda c: missing[c] / SHARES[c])
        if missing[command] > 0:
            return command
        return next((c for c in COMMANDS if self.folder(c).exists()), None)

    def folder(self, command: str) -> Path:
        """Folder of the run that is under way."""
        return self.out / f"{command}-{len(self.of(command, 'end'))}"

    def one_process(self, command: str, kills: int) -> None:
        """Start a command once and kill it, or compare its results when it ends before its moment."""
        folder, number = self.folder(command), len(self.of(command, "end"))
        made = self.of(command, "kill")
        cache = self.out / ("cache" if number % 4 else f"cache-{folder.name}")
        output = self.out / f"{folder.name}.txt"
        moment = random.Random(f"{self.seed}/{command}/{len(made)}/{number}").random()
        fresh = (len(made) + number) % 8 == 0
        length = self.of(command, "whole")[-1]["fresh" if fresh else "forked"]
        folder.mkdir(exist_ok=True)
        process = start(command, folder, cache, output, fresh)
        cut, used = killed(process, moment * length if len(made) < SHARES[command] * kills else float("inf"))
        if cut:
            self.note(
                command, "kill", run=number, fresh=fresh, at=round(used, 2), stage=stage(folder),
                writing=any(folder.rglob("*.tmp")),
            )  # fmt: skip
            return
        kept = differences(results(folder), results(self.out / f"{command}-whole"))
        kills_of_it = sum(line["run"] == number for line in made)
        self.note(command, "end", run=number, kills=kills_of_it, code=process.exitcode, differs=kept)
        if cache.name != "cache":
            shutil.rmtree(cache, ignore_errors=True)
        if not kept and process.exitcode == 0:
            shutil.rmtree(folder, ignore_errors=True)
            output.unlink()

    def table(self) -> str:
        """Markdown table of kills, resumes and differences by command."""
        rows = []
        for command in (*COMMANDS, "all"):
            chosen = [line for line in self.lines if command in (line["command"], "all")]
            kills = [line for line in chosen if line["event"] == "kill"]
            ends = [line for line in chosen if line["event"] == "end"]
            stages = [sum(line["stage"] == s for line in kills) for s in STAGES]
            writing = sum(line["writing"] for line in kills)
            whole = [line for line in chosen if line["event"] == "whole"]
            lengths = ["" if command == "all" else f"{whole[-1][name]:.1f}" for name in ("fresh", "forked")]
            failed = sum(line["code"] != 0 for line in ends)
            most = max((line["kills"] for line in ends), default=0)
            differ = sum(bool(line["differs"]) for line in ends)
            counts = (len(kills), *stages, writing, len(ends), most, failed, differ)
            rows.append([command, *lengths, *map(str, counts)])
        head = [
            "command",
            "fresh, s",
            "forked, s",
            "kills",
            *STAGES,
            "in a write",
            "runs",
            "most kills",
            "failed",
            "differ",
        ]
        return markdown_table(head, rows)


def _import_libraries() -> None:
    """Import what the commands use, for the forks."""
    from read_env.distillation.loading import load_student
    from read_env.reporting import comparison_page, run_page  # noqa: F401
    from read_env.running import check, comparison, runner, tensorboard, training  # noqa: F401

    load_student(load_preset("micro"))


def kill_runs() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/reliability/kills"))
    args = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    _import_libraries()
    experiment = Experiment(args.out, args.seed)
    for command in COMMANDS:
        if not experiment.of(command, "whole"):
            experiment.whole(command)
    while (command := experiment.next_command(args.kills)) is not None:
        experiment.one_process(command, args.kills)
    print(experiment.table())


if __name__ == "__main__":
    kill_runs()
