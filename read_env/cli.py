"""Command line: ``read-env distill``, ``run``, ``train``, ``compare``, ``transfer-matrix``, ``identify``,
``train-identifier``, ``check``, ``check-contamination``, ``evaluate``, ``report``, ``export``, ``benchmark``, ``surrogate`` and ``list``.

A preset fills the configuration, options override it::

    read-env run --preset micro --task bookkeeper --agent read-bandit --budget.total-tokens 80000

The commands are in :mod:`read_env.running.commands` and :mod:`read_env.running.tool_commands`.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import os
import shlex
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

import tyro
from pydantic import ValidationError

from read_env.capabilities.splits import fit_splits
from read_env.config import Config, describe, load_preset
from read_env.deprecated import rename_arguments
from read_env.errors import ReadEnvError, describe_os_error
from read_env.output import forgiving_output
from read_env.running import commands, tool_commands
from read_env.running.batch_requests import ComparisonRequest, IdentifyRequest, TransferRequest
from read_env.running.requests import DistillRequest, RunRequest, TrainingRequest
from read_env.running.tool_requests import (
    BenchmarkRequest,
    CheckRequest,
    ContaminationRequest,
    EvaluateRequest,
    ExportRequest,
    ListRequest,
    ReportRequest,
    SurrogateRequest,
    TrainIdentifierRequest,
)


class SharedConfig(Config):
    """Configuration that many runs share: each has its own agent, task and seed, so these are no options."""

    task: Annotated[str, tyro.conf.Suppress] = ""
    agent: Annotated[str, tyro.conf.Suppress] = ""
    agent_options: Annotated[dict[str, str | int | float | bool], tyro.conf.Suppress] = {}
    seed: Annotated[int, tyro.conf.Suppress] = 0


class TrainingConfig(Config):
    """Configuration of a training: a task is drawn for each episode, so it is no option."""

    task: Annotated[str, tyro.conf.Suppress] = ""


class InterventionConfig(Config):
    """Configuration of interventions: their allocations take the place of an agent."""

    agent: Annotated[str, tyro.conf.Suppress] = ""
    agent_options: Annotated[dict[str, str | int | float | bool], tyro.conf.Suppress] = {}
    seed: Annotated[int, tyro.conf.Suppress] = 0


class DistillConfig(Config):
    """Configuration of a distillation for a task of one's own; the task has no default."""

    task: str = ""
    """File of prompts with answers (.jsonl, .csv, …), ``hf:`` data set, path of a .toml card, or name of a task card."""


#: Command -> what is parsed, the class of its configuration, and the function that carries it out.
_COMMANDS: Mapping[str, tuple[Any, type[Config] | None, Any]] = {
    "distill": (DistillRequest, DistillConfig, commands.distill_command),
    "run": (RunRequest, Config, commands.run_command),
    "train": (TrainingRequest, TrainingConfig, commands.train_command),
    "compare": (ComparisonRequest, SharedConfig, commands.compare_command),
    "transfer-matrix": (TransferRequest, SharedConfig, commands.transfer_command),
    "identify": (IdentifyRequest, InterventionConfig, commands.identify_command),
    "train-identifier": (TrainIdentifierRequest, None, tool_commands.train_identifier_command),
    "check": (CheckRequest, Config, tool_commands.check_configuration_command),
    "check-contamination": (ContaminationRequest, None, tool_commands.check_contamination_command),
    "evaluate": (EvaluateRequest, None, tool_commands.evaluate_command),
    "report": (ReportRequest, None, tool_commands.report_command),
    "export": (ExportRequest, None, tool_commands.export_command),
    "benchmark": (BenchmarkRequest, None, commands.benchmark_command),
    "surrogate": (SurrogateRequest, None, tool_commands.surrogate_command),
    "list": (ListRequest, None, tool_commands.list_command),
}

#: Commands that go on after an interruption.
_RESUMED = ("distill", "run", "train", "compare", "transfer-matrix", "identify", "benchmark", "evaluate")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: arguments without the name of the program. None: those of this process.

    Returns:
        Exit code: 0; 1 if some of many runs failed, ``check`` found something missing or ``check-contamination`` found an
        overlap; 2 for a mistake; 130 after Ctrl-C.
    """
    if (
        os.environ.get("TORCHELASTIC_RUN_ID") and os.environ.get("RANK", "0") != "0"
    ):  # a rank of torchrun; asked without torch
        from read_env.distillation.distributed.follower import follow_under_torchrun

        follow_under_torchrun()
        return 0
    with forgiving_output():
        return _main(arguments)


def _main(arguments: Sequence[str] | None) -> int:
    try:
        with _plain_warnings():
            arguments = rename_arguments(sys.argv[1:] if arguments is None else arguments)
            base = load_preset(_preset(arguments))
        parsers = {
            name: functools.partial(request, config=config(**_defaults(base, config))) if config else request
            for name, (request, config, _) in _COMMANDS.items()
        }
        with _plain_field_names():
            request = tyro.extras.subcommand_cli_from_dict(
                parsers,
                prog="read-env",
                description="Budgeted distillation of language models, and agents that allocate the budget.",
                args=arguments,
                config=(tyro.conf.AvoidSubcommands, tyro.conf.FlagCreatePairsOff),
            )
        if isinstance(getattr(request, "config", None), Config):
            request = replace(request, config=fit_splits(request.config))
        execute = next(function for parsed, _, function in _COMMANDS.values() if isinstance(request, parsed))
        return int(execute(request, shlex.join(["read-env", *arguments])))
    except ReadEnvError as error:
        print(f"read-env: {error}", file=sys.stderr)
        return 2
    except ValidationError as error:  # tyro prints those of sections itself
        print(f"read-env: {describe(error, 'command line')}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"read-env: {describe_os_error(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        arguments = sys.argv[1:] if arguments is None else arguments
        again = "; the same command resumes after the last finished step" if _resumes(arguments) else ""
        print(f"\nread-env: interrupted{again}", file=sys.stderr)
        return 130


@contextlib.contextmanager
def _plain_warnings() -> Iterator[None]:
    """Print warnings about old names as lines ``read-env: warning: …``."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        print(f"read-env: warning: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("always", FutureWarning)
        warnings.showwarning = show
        yield


@contextlib.contextmanager
def _plain_field_names() -> Iterator[None]:
    """Remove tyro's prefix of field names and pydantic's links from the errors that tyro prints."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            yield
    finally:
        for line in printed.getvalue().splitlines():
            shown = line.replace("__tyro-dummy-inner__.config.", "")
            if "errors.pydantic.dev" not in line and "For further information visit" not in line:
                # The box keeps its right edge.
                print(shown[:-1] + " " * (len(line) - len(shown)) + shown[-1:], file=sys.stderr)


def _resumes(arguments: Sequence[str] | None) -> bool:
    """True if the command keeps what it has finished."""
    return bool(arguments) and arguments[0] in _RESUMED  # type: ignore[index]


def _defaults(base: Config, kind: type[Config]) -> dict[str, Any]:
    """Fields of a preset, as defaults of a command's options."""
    return {**base.model_dump(), **({"task": ""} if kind is DistillConfig else {})}


def _preset(arguments: Sequence[str]) -> str:
    """Name of the preset: the defaults of the other options come from it."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--preset", nargs="?", default="", const="micro")
    for name in ("teacher", "student"):
        parser.add_argument(f"--{name}", f"--models.{name}", dest=name, nargs="?", default="", const="")
    given = parser.parse_known_args(arguments)[0]
    foreign = any(model and not model.startswith("embedded:micro/") for model in (given.teacher, given.student))
    return str(given.preset) or ("instruct" if foreign and list(arguments[:1]) == ["distill"] else "micro")


if __name__ == "__main__":
    sys.exit(main())
