"""Malformed inputs for ``scripts/reliability.py``: hypothesis strategies by kind, and the code that reads each kind.

An input ends well if it is accepted or refused by a ``ReadEnvError`` or by exit code 1 or 2. Anything else would be a
traceback for the user. Models are loaded only where a snapshot needs them: a command that would load them was accepted.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import shutil
import traceback
import zipfile
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import numpy as np
from gymnasium.error import ResetNeeded
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from read_env import files
from read_env.agents import agent_names, load_agent, make_agent
from read_env.capabilities import get_suite
from read_env.capabilities.contamination import evaluation_hashes
from read_env.cli import main
from read_env.config import Config, load_preset, preset_names
from read_env.envs.distillation import DistillationEnv
from read_env.errors import DivergedError, ReadEnvError
from read_env.running.requests import RunRequest
from read_env.running.runner import run
from read_env.tasks import load_task, task_names

TINY = {
    "budget": {"total_tokens": 240, "step_tokens": 120},
    "eval": {"probes": 1, "dev": 1, "exam": 1},
    "distill": {"teacher_batch_size": 2},
}
_OPTIONS = [f"--{name}.{field}".replace("_", "-") for name in ("models", "budget", "distill", "cache", "eval", "reward")
            for field in type(getattr(Config(), name)).model_fields] + [
    "--preset", "--suite", "--task", "--agent", "--seed", "--agents", "--tasks", "--seeds", "--budgets", "--steps",
    "--capabilities", "--decontamination-files", "--agent-options", "--overwrite", "--reference", "--draws",
]  # fmt: skip
_COMMANDS = [
    "run",
    "train",
    "compare",
    "transfer-matrix",
    "check-contamination",
    "report",
    "list",
    "--help",
    "runn",
    "",
]

_text = st.text(max_size=12) | st.sampled_from(
    ["", "\0", "\udcff", "../x", "~nobody/x", "1e999", "nan", "-1", "a" * 300]
)
_numbers = st.integers() | st.floats() | st.sampled_from([0, -1, 2**32, 2**63, 10**400, 1e308, -0.0])
_leaves = st.none() | st.booleans() | _numbers | _text
_json = st.recursive(
    _leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3), max_leaves=6
)
_names = st.sampled_from([*agent_names(), *task_names(), *preset_names(), "micro", "instruct", "math", "code", "none"])
_values = _text | _numbers.map(str) | _names | st.builds("{},{}={}".format, _names, _text, _text)


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """Commands with options that exist and values that mostly don't fit."""
    arguments = [draw(st.sampled_from(_COMMANDS))]
    for option in draw(st.lists(st.sampled_from(_OPTIONS) | _text, max_size=4)):
        arguments += [option, *draw(st.lists(_values, max_size=2))]
    return arguments


@st.composite
def damaged_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """A file that was cut, has other bytes in the middle, repeats a part, or holds something else."""
    start = draw(st.integers(0, len(content)))
    end = draw(st.integers(start, min(len(content), start + 200)))
    middle = draw(st.binary(max_size=12) | _text.map(lambda text: text.encode("utf-8", "surrogatepass")))
    return draw(st.sampled_from([
        content[:start], content[:start] + middle + content[end:], content[:end] + content[start:], middle, b"",
    ]))  # fmt: skip


@st.composite
def damaged_toml(draw: st.DrawFn, content: str) -> bytes:
    """TOML with one value replaced by another one, a line repeated or removed, or damaged bytes."""
    lines = content.splitlines()
    number = draw(st.integers(0, len(lines) - 1))
    key, equals, _ = lines[number].partition("=")
    value = draw(_json.filter(lambda value: value is not None).map(_toml))
    changed = [f"{key}={value}" if equals else f"{draw(_text)} = {value}"]
    lines[number : number + 1] = draw(st.sampled_from([changed, changed * 2, [], [*changed, lines[number]]]))
    return draw(st.just("\n".join(lines).encode("utf-8", "surrogatepass")) | damaged_bytes(content.encode()))


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return str(value) if isinstance(value, float) else json.dumps(value)


@st.composite
def damaged_values(draw: st.DrawFn, value: Any) -> Any:
    """Nested value with one part replaced or removed."""
    value = copy.deepcopy(value)
    place, depth = value, draw(st.integers(0, 4))
    for level in range(8):
        keys = list(place) if isinstance(place, dict) else list(range(min(len(place), 4)))
        if not keys:
            return draw(_json)
        key = draw(st.sampled_from(keys))
        inner = place[key]
        if level >= depth or not isinstance(inner, dict | list) or not inner:
            break
        place = inner
    if draw(st.booleans()):
        place[key] = draw(_json)
    else:
        del place[key]
    return value


_rows = st.fixed_dictionaries({}, optional={
    "prompt": _json | st.text(min_size=5), "answer": _json | st.lists(_text), "difficulty": _json, "question": _json,
    "messages": _json, "extra": _json,
})  # fmt: skip
_PROMPTS = [
    {"prompt": f"How much is {i} + {i * i}?", "answer": str(i + i * i), "difficulty": i / 40} for i in range(40)
]


@st.composite
def damaged_prompts(draw: st.DrawFn) -> str:
    """Good lines of prompts, one of which is damaged."""
    rows = draw(damaged_values(_PROMPTS))
    return "\n".join(map(json.dumps, rows if isinstance(rows, list) else [rows]))


_lines = st.lists(_rows.map(json.dumps) | _json.map(json.dumps) | _text, max_size=6).map("\n".join)


class _Accepted(BaseException):
    """Models would be loaded now."""


def _load(env: DistillationEnv) -> Any:
    raise _Accepted


def command(arguments: list[str]) -> bool:
    """Run a command without its models; True if it was refused."""
    quiet = io.StringIO()
    with (
        mock.patch.object(DistillationEnv, "load_distillation", _load),
        mock.patch("read_env.running.pool.cores", lambda: 1),  # no worker process, where nothing is patched
        contextlib.redirect_stdout(quiet),
        contextlib.redirect_stderr(quiet),
    ):
        try:
            code = main(arguments)
        except SystemExit as error:  # help, or tyro's own message
            code = error.code
        except _Accepted:
            return False
    if code not in (0, 1, 2):
        raise AssertionError(f"exit code {code!r}")
    return code != 0


class Kinds:
    """Kinds of inputs: a strategy for each, and a function that reads one input and returns True if it was refused.

    Args:
        folder: scratch folder, which is the working directory meanwhile.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.suite = get_suite("micro")

    def all(self) -> dict[str, tuple[Callable[[], st.SearchStrategy[Any]], Callable[[Any], bool]]]:
        """Kind -> function that makes the strategy, and reader."""
        preset = "\n".join(f"[{name}]\n" + "\n".join(f"{key} = {value}" for key, value in part.items())
                           for name, part in TINY.items())  # fmt: skip
        card = (Path(str(load_task.__code__.co_filename)).parent / "cards" / "bookkeeper.toml").read_text("utf-8")
        toml = 'task = "math"\nagent = "uniform"\n' + preset
        return {
            "command line": (command_lines, command),
            "preset (TOML)": (lambda: damaged_toml(toml), self.preset),
            "task card (TOML)": (lambda: damaged_toml(card), self.card),
            "prompts (JSONL)": (lambda: damaged_prompts() | _lines, self.prompts),
            "evaluation prompts (JSONL)": (lambda: damaged_prompts() | _lines, self.evaluation),
            "snapshot": (lambda: damaged_values(self.snapshot), self.restore),
            "saved agent": (self.saved_agents, self.agent),
            "report of a damaged folder": (lambda: self.damaged_folder("finished"), self.report),
            "resume of a damaged folder": (lambda: self.damaged_folder("cut"), self.resume),
            "damaged checkpoint": (lambda: damaged_values(self.checkpoint), self.resume_from),
        }

    def _written(self, name: str, content: bytes) -> str:
        path = self.folder / name
        path.write_bytes(content)
        return str(path)

    def preset(self, content: bytes) -> bool:
        """Run a preset's file."""
        shutil.rmtree(self.folder / "runs", ignore_errors=True)
        return command(["run", "--preset", self._written("preset.toml", content)])

    def card(self, content: bytes) -> bool:
        """Load a task card."""
        return refused(load_task, self._written("card.toml", content), self.suite)

    def prompts(self, text: str) -> bool:
        """Load a suite with a file."""
        return refused(get_suite, f"own={self._written('own.jsonl', text.encode('utf-8', 'surrogatepass'))}")

    def evaluation(self, text: str) -> bool:
        """Load evaluation prompts."""
        return refused(evaluation_hashes, [self._written("eval.jsonl", text.encode("utf-8", "surrogatepass"))])

    # --- snapshots ------------------------------------------------------------------------------------------------

    @cached_property
    def env(self) -> DistillationEnv:
        """Environment on the micro models, after a step."""
        env = DistillationEnv(overrides=TINY)
        env.reset(seed=0)
        env.step(np.ones(len(self.suite)))
        return env

    @cached_property
    def snapshot(self) -> dict[str, Any]:
        """State of the environment; the weights are left out of what is drawn from."""
        return self.env.snapshot()

    def restore(self, state: Any) -> bool:
        """Restore a snapshot; a refused one must leave the environment as it was."""
        self.env.restore(copy.deepcopy(self.snapshot))
        was_refused = refused(self.env.restore, state)
        if not was_refused:
            with contextlib.suppress(ResetNeeded, DivergedError):
                self.env.step(np.ones(len(self.suite)))
        elif repr(self.env.snapshot()["distillation"]) != repr(self.snapshot["distillation"]):
            raise AssertionError("a refused snapshot changed the environment")
        return was_refused

    # --- saved agents ---------------------------------------------------------------------------------------------

    def saved_agents(self) -> st.SearchStrategy[bytes]:
        """Zip files with damaged bytes, or with a damaged document."""

        @st.composite
        def one(draw: st.DrawFn) -> bytes:
            path = self.folder / "agent.zip"
            name = draw(
                st.sampled_from(["read-bandit", "uniform", "one-hot", "grid-searched", "read-bandit-published"])
            )
            options = {"capability": "math"} if name == "one-hot" else {}
            make_agent(name, capabilities=self.suite.names, options=options).save(path)
            if draw(st.booleans()):
                return draw(damaged_bytes(path.read_bytes()))
            with zipfile.ZipFile(path) as archive:
                members = {member: archive.read(member) for member in archive.namelist()}
            members["agent.json"] = json.dumps(draw(damaged_values(json.loads(members["agent.json"])))).encode()
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w") as archive:
                for member, content in members.items():
                    archive.writestr(member, content)
            return buffer.getvalue()

        return one()

    def agent(self, content: bytes) -> bool:
        """Load a saved agent and let it act."""

        def act(path: str) -> None:
            load_agent(path)
            observation = {
                name: np.full(space.shape, 1 / len(self.suite)) for name, space in self.env.observation_space.items()
            }
            make_agent(path, capabilities=self.suite.names).predict(observation)

        return refused(act, self._written("damaged.zip", content))

    # --- run folders ----------------------------------------------------------------------------------------------

    @cached_property
    def request(self) -> RunRequest:
        """Run of two steps."""
        config = load_preset("micro", {**TINY, "agent": "read-bandit", "task": "bookkeeper"})
        return RunRequest(config, self.folder / "run")

    @cached_property
    def folders(self) -> dict[Literal["finished", "cut"], Path]:
        """Folders of a finished run and of one that was cut after its first step."""
        finished, cut = self.folder / "finished", self.folder / "cut"

        class Copy(mock.Mock):
            def on_step(self, record: Mapping[str, Any]) -> None:
                if record["step"] == 2:
                    shutil.copytree(finished, cut)

        request = RunRequest(self.request.config, finished)
        run(request, env=self.env, callbacks=[Copy()], checkpoint_share=1e9)
        return {"finished": finished, "cut": cut}

    @cached_property
    def checkpoint(self) -> dict[str, Any]:
        """Content of the checkpoint of the run that was cut."""
        return files.load_tensors(self.folders["cut"] / "checkpoint" / "state.pt", "")

    def damaged_folder(self, kind: Literal["finished", "cut"]) -> st.SearchStrategy[tuple[str, bytes | None]]:
        """Name of a file and its new content; None where it is deleted."""
        folder = self.folders[kind]
        names = [str(p.relative_to(folder)) for p in sorted(folder.rglob("*.json*")) if "student" not in p.parts]
        names += ["checkpoint/state.pt"] if kind == "cut" else []

        @st.composite
        def one(draw: st.DrawFn) -> tuple[str, bytes | None]:
            name = draw(st.sampled_from(names))
            content = (folder / name).read_bytes()
            damaged = [st.none(), damaged_bytes(content)]
            if name.endswith(".json"):
                damaged += [damaged_values(json.loads(content)).map(lambda value: json.dumps(value).encode())]
            if name.endswith(".jsonl"):
                rows = [json.loads(line) for line in content.splitlines()]
                damaged += [damaged_values(rows).map(lambda rows: "".join(json.dumps(r) + "\n" for r in rows).encode())]
            return name, draw(st.one_of(damaged[-1], *damaged))

        return one()

    def _damage(self, kind: Literal["finished", "cut"], name: str, content: bytes | None) -> Path:
        folder = self.request.directory
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.folders[kind], folder)
        (folder / name).unlink() if content is None else (folder / name).write_bytes(content)
        return folder

    def report(self, damage: tuple[str, bytes | None]) -> bool:
        """Make the report of a damaged folder again."""
        return command(["report", str(self._damage("finished", *damage))])

    def resume(self, damage: tuple[str, bytes | None]) -> bool:
        """Resume in a damaged folder."""
        self._damage("cut", *damage)
        return refused(lambda: run(self.request, env=self.env))

    def resume_from(self, state: Any) -> bool:
        """Resume from a checkpoint with a damaged value."""
        folder = self._damage("cut", "checkpoint/state.pt", None)
        with contextlib.suppress(Exception):  # a number that no file holds is left out
            files.save_tensors(folder / "checkpoint" / "state.pt", state)
        return refused(lambda: run(self.request, env=self.env))


def refused(function: Callable[..., Any], *arguments: Any) -> bool:
    """True if a function raises a ``ReadEnvError``."""
    try:
        function(*arguments)
    except ReadEnvError:
        return True
    return False


def tried(strategy: st.SearchStrategy[Any], read: Callable[[Any], bool], count: int, number: int) -> dict[str, Any]:
    """Read ``count`` inputs of a strategy.

    Args:
        strategy: of the inputs.
        read: reads one and returns True if it was refused.
        count: number of inputs.
        number: seed of the inputs.

    Returns:
        ``tried``, ``refused``, and ``tracebacks``: kind and message of each error, where it arose, and the input.
    """
    found: dict[str, Any] = {"tried": 0, "refused": 0, "tracebacks": []}

    @seed(number)
    @settings(max_examples=count, database=None, deadline=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(strategy)
    def each(value: Any) -> None:
        found["tried"] += 1
        try:
            found["refused"] += read(value)
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-4:]
            place = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(where))
            found["tracebacks"].append([f"{type(error).__name__}: {error}"[:200], place, repr(value)[:300]])

    each()
    return found
