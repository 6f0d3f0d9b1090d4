"""Cards of what a run or a training leaves: ``README.md`` of a distilled student or a saved agent, in the hub's form.

All figures come from the records. The licences of the parent models are those that their own cards or packages state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub import ModelCardData, metadata_load, try_to_load_from_cache

import read_env
from read_env import files
from read_env.agents.base import Agent
from read_env.agents.registry import TRUST, is_announced
from read_env.diagnosis import diagnose
from read_env.distillation.models.sources import PACKAGE, ModelSource, find_model
from read_env.errors import ReadEnvError
from read_env.record_files import read_record
from read_env.records import TrainingSummary
from read_env.reporting.markdown import ABSENT, count, markdown_table, number, write_page
from read_env.reporting.runs import Run, load_run
from read_env.running.agents import TRAINING_RECORD
from read_env.tasks import utility_name

CARD = "README.md"
_UNKNOWN = "not stated"


def student_card(directory: str | Path) -> Path:
    """Write the card of a finished run's student into its folder, and return its path.

    Args:
        directory: directory of the run.

    Raises:
        RecordError: the run has not finished, or its records are malformed.
    """
    run = load_run(directory)
    start, end, models = run.begun, run.ended, run.section("models")
    folder = run.path / "student"
    teachers, student = _teachers(models), str(models.get("student", ""))
    licences = {reference: licence_of(reference) for reference in (student, *teachers)}
    records = [step.to_json() for step in run.steps]
    problems = diagnose(start.to_json(), records, run.config, finished=True)
    described = f": {start.description.rstrip('.')}" if start.description else ""
    past = "" if start.student in (None, "even") else f" with the past `{start.student}`"
    blocks = [
        _front_matter(licences.get(student), _on_hub(student), ("distillation", "read-env")),
        f"# Student distilled for {run.task}",
        f"`{student}`{past}, distilled from {_named(teachers)} for the task *{run.task}*{described}.",
        "## Use",
        _snippet(folder, bool(models.get("trust_remote_code"))),
        "## Training",
        _training(run),
        "Completion tokens by capability:",
        _tokens(run),
        "## Evaluation",
        _utilities(run),
        f"Scores by capability ({_exam_name(run)}), on prompts that were never trained on:",
        _scores(run),
        *(f"**Warning:** {text}." for text in problems.values()),
        "## Licences of the models that it comes from",
        markdown_table(
            ["model", "role", "licence"],
            [
                [f"`{reference}`", role, licences[reference] or _UNKNOWN]
                for reference, role in ((student, "student"), *teachers.items())
            ],
            text_columns=3,
        ),
        "Where none is stated, look it up with the model. Some licences of teachers restrict what may be trained on their "
        "answers.",
        f"Seed {end.seed}. Made with read-env {read_env.__version__}; `config.json` of the run holds every setting.",
    ]
    return write_page(folder / CARD, blocks)


def _teachers(models: Mapping[str, Any]) -> dict[str, str]:
    """Role of each teacher by its reference, the one of all other capabilities first."""
    found = {str(models.get("teacher", "")): "teacher"}
    for capability, reference in (models.get("teachers") or {}).items():
        role = found.get(reference)
        found[reference] = f"{role}, {capability}" if role else f"teacher of {capability}"
    return found


def _named(teachers: Mapping[str, str]) -> str:
    """Text that names all teachers.

    >>> _named({"a": "teacher", "b": "teacher of math"})
    'the teacher `a` and `b` (teacher of math)'
    """
    first, *others = teachers
    return " and ".join([f"the teacher `{first}`", *(f"`{one}` ({teachers[one]})" for one in others)])


def agent_card(directory: str | Path) -> Path:
    """Write the card of a finished training's agent into its directory, and return its path.

    Args:
        directory: directory of the training.

    Raises:
        RecordError: the training has not finished, or its records are malformed.
    """
    path = Path(directory)
    done, config = read_record(path / TRAINING_RECORD, TrainingSummary), files.read_json(path / "config.json")
    models = config.get("models", {})
    facts = {
        "agent": f"`{done.agent}`",
        "options": _options(done.options),
        "suite": f"`{config.get('suite', '')}`",
        "tasks": ", ".join(done.tasks),
        "starting students": ", ".join(config.get("students") or [models.get("start", "even")]),
        "teacher": ", ".join(f"`{one}`" for one in _teachers(models)),
        "student": f"`{models.get('student', '')}`",
        "environment steps": count(done.steps),
        "finished episodes": count(done.episodes),
        "completion tokens": count(done.tokens_before_run),
    }
    return _policy_page(path / CARD, done.agent, done.label, "Training", facts)


def policy_card(agent: Agent, directory: str | Path) -> Path:
    """Write the card of an agent alone, without the record of a training, into a directory, and return its path.

    Args:
        agent: the agent.
        directory: directory of the card.
    """
    facts = {
        "agent": f"`{agent.name}`",
        "options": _options(agent.options),
        "capabilities": ", ".join(agent.capabilities),
        "completion tokens spent for it": count(agent.tokens_before_run),
    }
    return _policy_page(Path(directory) / CARD, agent.name, agent.name, "Agent", facts)


def _options(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in options.items()) or "none"


def _policy_page(path: Path, agent: str, title: str, heading: str, facts: Mapping[str, str]) -> Path:
    """Write the card of an agent: what it is, how it is loaded, and a table of facts."""
    option, argument = ("", "") if is_announced(agent) else (f",{TRUST}=true", f', options={{"{TRUST}": True}}')
    blocks = [
        _front_matter("", "", ("reinforcement-learning", "distillation", "read-env"), library="read-env"),
        f"# Allocation policy {title}",
        f"Agent `{agent}` for `ReadEnv/Distillation-v0`: it allocates the token budget of a distillation over the "
        "capabilities of a suite.",
        "## Use",
        "With this folder, or `hf:` and its name on the hub:",
        f"```\nread-env run --agent .{option} --task TASK\n```",
        "```python\nfrom read_env.agents import Agent\n\n"
        f'agent = Agent.from_pretrained("."{argument})  # this folder, or its name on the hub\n```',
        f"## {heading}",
        markdown_table(["", ""], [list(row) for row in facts.items()], text_columns=2),
        f"Made with read-env {read_env.__version__}.",
    ]
    return write_page(path, blocks)


def licence_of(reference: str) -> str:
    """Licence that the card of a model, or the package it is in, states; empty if there is none on this machine.

    Args:
        reference: model reference, as in ``models.student``.

    >>> licence_of("embedded:micro/student"), licence_of("remote:some-model")
    ('apache-2.0', '')
    """
    if reference.startswith(PACKAGE):
        try:
            about = metadata.metadata(reference.removeprefix(PACKAGE).partition("/")[0])
        except metadata.PackageNotFoundError:
            return ""
        named = [about[field] for field in ("License-Expression", "License") if field in about]
        return str(named[0]).partition("\n")[0] if named else ""
    if reference.startswith("remote:"):
        return ""
    try:
        source = find_model(reference.removeprefix("vllm:"))
    except ReadEnvError:
        return ""
    card = _card_of(source)
    if card is None:
        return ""
    try:
        stated = (metadata_load(card) or {}).get("license")
    except (OSError, ValueError, UnicodeDecodeError):  # no metadata, or malformed ones
        return ""
    return stated if isinstance(stated, str) else ""


def _card_of(source: ModelSource) -> Path | None:
    if source.folder is not None:
        card = source.folder / CARD
        return card if card.is_file() else None
    cached = try_to_load_from_cache(source.location, CARD)
    return Path(cached) if isinstance(cached, str) else None


def _on_hub(reference: str) -> str:
    """Hub id of a model reference; empty for anything else."""
    try:
        source = find_model(reference)
    except ReadEnvError:
        return ""
    return source.location if source.folder is None and "/" in source.location else ""


def _front_matter(licence: str | None, base: str, tags: Sequence[str], library: str = "transformers") -> str:
    values: dict[str, Any] = {"library_name": library, "tags": list(tags)}
    if licence:
        values["license"] = licence
    if base:
        values |= {"base_model": base, "base_model_relation": "finetune"}
    if library == "transformers":
        values["pipeline_tag"] = "text-generation"
    return f"---\n{ModelCardData(**values).to_yaml().strip()}\n---"


def _snippet(folder: Path, trusted: bool) -> str:
    """Python that loads the student and completes a prompt, by its chat template if it has one."""
    more = ", trust_remote_code=True" if trusted else ""
    files_of = [*folder.glob("chat_template*"), *folder.glob("tokenizer_config.json")]
    chats = any(
        "template" in one.name or '"chat_template"' in one.read_text("utf-8", "replace") for one in sorted(files_of)
    )
    encode = (
        'ids = tokenizer.apply_chat_template(\n    [{"role": "user", "content": prompt}], add_generation_prompt=True, '
        'return_tensors="pt", return_dict=True\n)'
        if chats
        else 'ids = tokenizer(prompt, return_tensors="pt")'
    )
    return (
        "```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        'path = "."  # this folder, or its name on the hub\n'
        f"tokenizer = AutoTokenizer.from_pretrained(path{more})\n"
        f"model = AutoModelForCausalLM.from_pretrained(path{more})\n"
        f'prompt = "…"\n{encode}\n'
        'completion = model.generate(**ids, max_new_tokens=64)[0, ids["input_ids"].shape[1] :]\n'
        "print(tokenizer.decode(completion, skip_special_tokens=True))\n```"
    )


def _training(run: Run) -> str:
    end, distill, models = run.ended, run.section("distill"), run.section("models")
    facts = {
        "objective": f"`{distill.get('loss', '')}`",
        "allocation": f"agent `{end.agent}`, {end.steps} steps",
        "completion tokens of the teacher": f"{count(end.spent)} of {count(end.budget)}",
        "passes over them": str(distill.get("epochs", 1)),
        "tokens spent before the run (inference of needs, training of the agent)": count(end.tokens_before_run),
        "learning rate": f"{distill.get('learning_rate')}, {distill.get('lr_scheduler_type', 'constant')}",
        "trained": f"LoRA, rank {models['lora_r']}, merged" if models.get("lora_r") else "all weights",
    }
    if models.get("student_layers"):
        facts["layers kept of the student"] = ", ".join(map(str, models["student_layers"]))
    return markdown_table(["", ""], [[name, value] for name, value in facts.items()], text_columns=2)


def _tokens(run: Run) -> str:
    start = run.begun
    total = np.sum([np.zeros(len(start.suite)), *(step.tokens_by_capability for step in run.steps)], axis=0)
    rows = [
        [name, number(need, 2) if need > 0 else ABSENT, count(float(tokens))]
        for name, need, tokens in zip(start.suite, start.requirement, total, strict=True)
        if need > 0 or tokens > 0
    ]  # fmt: skip
    return markdown_table(["capability", "needed", "completion tokens"], rows)


def _utilities(run: Run) -> str:
    start, end = run.begun, run.ended
    rows = []
    splits = (
        ("exam", end.exam_utility_start, end.exam_utility, start.exam_score, start.teacher_task_exam),
        ("probes", end.utility_start, end.utility, start.utility_score, None),
    )
    for split, before, after, score, teacher in splits:
        if before is not None and after is not None:
            ceiling = ABSENT if teacher is None else number(teacher)
            rows.append([f"{split}: {utility_name(start.utility_form, score)}", number(before), number(after), ceiling])
    return markdown_table(["utility for the task", "before", "after", "teacher"], rows)


def _exam_name(run: Run) -> str:
    ungraded = run.begun.ungraded
    return (
        f"exact match on the exam; likelihood per token for {', '.join(ungraded)}"
        if ungraded
        else "exact match on the exam"
    )


def _scores(run: Run) -> str:
    start, end = run.begun, run.ended
    before, after = (end.exam_start, end.exam)
    if before is None or after is None:
        before, after = end.profile_start, end.profile
    teacher = start.teacher_exam
    rows = [
        [name, number(before[i]), number(after[i]), ABSENT if teacher is None else number(teacher[i])]
        for i, name in enumerate(start.suite)
    ]
    return markdown_table(["capability", "before", "after", "teacher"], rows)
