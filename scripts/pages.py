"""Copy a report to docs/, with its pictures."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent / "docs"

_PICTURE = re.compile(r"^!\[[^\]]*\]\(([^)]+)\)$", re.MULTILINE)


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
        return (
            match.group().replace(f"({match.group(1)})", f"({name}/{match.group(1)})")
            if match.group(1) in pictures
            else ""
        )

    body = _PICTURE.sub(keep, report.read_text().partition("\n")[2])
    for file in files:
        body = body.replace(f"]({file})", f"]({name}/{file})")
    body = re.sub(r"\n{3,}", "\n\n", body).strip()
    page = DOCS / f"{name}.md"
    page.write_text(f"# {title}\n\n{intro.strip()}\n\n{body}\n")
    return page
