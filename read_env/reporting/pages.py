"""What all report pages share: where the numbers come from, what is missing, how a page is written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from read_env.files import write_atomic
from read_env.reporting.records import Run
from read_env.reporting.tables import count


def write_page(path: Path, blocks: Sequence[str]) -> Path:
    """Join blocks with blank lines and write them, replacing the page in one move."""
    write_atomic(path, ("\n\n".join(block.strip("\n") for block in blocks if block) + "\n").encode())
    return path


def picture(name: str, alt: str) -> str:
    """A picture that lies beside the page."""
    return f"![{alt}]({name})"


def provenance(directory: Path, config: Mapping[str, Any], first: Run | None = None) -> list[str]:
    """The commands and the configuration that a page came from.

    Args:
        directory: the page's; its ``commands.txt``, if any, is shown as typed.
        config: content of the directory's ``config.json``.
        first: a run to take the configuration from where the directory has none of its own.
    """
    source = config or (first.config if first is not None else {})
    if not source:
        return ["No `config.json` was recorded."]
    where = "`config.json`" if config else f"`runs/{first.path.name}/config.json`" if first is not None else ""
    blocks = []
    commands = directory / "commands.txt"
    if commands.exists():
        blocks.append("Made by\n\n```\n" + commands.read_text(encoding="utf-8").strip() + "\n```")
    blocks.append(
        f"<details><summary>Configuration ({where})</summary>\n\n```json\n"
        + json.dumps(source, indent=2, sort_keys=True, ensure_ascii=False)
        + "\n```\n\n</details>"
    )
    return blocks


def settings(run: Run) -> str:
    """One sentence: preset, budget, step size."""
    budget = dict(run.config.get("budget") or {})
    parts = [f"preset `{run.config['preset']}`"] if "preset" in run.config else []
    if run.budget is not None:
        parts.append(f"budget {count(run.budget)} completion tokens")
    if budget.get("step_tokens"):
        parts.append(f"{count(budget['step_tokens'])} a step")
    return ", ".join(parts)


def missing(lines: Sequence[str]) -> str:
    """The paragraph on runs that are not in the numbers; empty when there are none."""
    if not lines:
        return ""
    head = f"**Unfinished: {len(lines)} run{'s' if len(lines) > 1 else ''}, not in the numbers below.**"
    return "\n".join([head, "", *(f"- {line}" for line in lines)])
