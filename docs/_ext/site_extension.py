"""Sphinx extension of the documentation: generated text, docstrings in Markdown, and a check of every internal link."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from docutils import nodes
from generated import PAGES
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from read_env.envs import ENVIRONMENTS
from read_env.imports import import_attribute

_LOG = logging.getLogger(__name__)
#: Made before autodoc runs, which changes the annotations of classes.
_TEXTS = {name: make() for name, make in PAGES.items()}
_MARKDOWN = {where.replace(":", "."): name for name, where in ENVIRONMENTS.items()}


class Generated(SphinxDirective):
    """``{generated} NAME``: text that ``generated.PAGES`` makes from the package."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        if name not in PAGES:
            raise self.error(f"unknown generated text {name!r}; known: {', '.join(PAGES)}")
        self.env.note_reread()
        folder = Path(self.env.doc2path(self.env.docname)).parent
        text = _linked(_TEXTS[name], Path(self.env.srcdir), folder)
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def escape_sizes(app: Sphinx, what: str, name: str, object_: Any, options: Any, lines: list[str]) -> None:
    """Escape ``|C|`` outside of code, which reStructuredText takes for a substitution."""
    for index, line in enumerate(lines):
        parts = re.split(r"(``[^`]*``|`[^`]*`)", line)
        lines[index] = "".join(part if part.startswith("`") else part.replace("|", "\\|") for part in parts)


def refer_to_the_page(app: Sphinx, what: str, name: str, object_: Any, options: Any, lines: list[str]) -> None:
    """Replace the docstring of an environment, which is in Markdown and a page of its own, by its first sentence."""
    if name in _MARKDOWN:
        page = "distillation" if "Distillation" in _MARKDOWN[name] else "surrogate"
        first = " ".join(
            (import_attribute(name[::-1].replace(".", ":", 1)[::-1]).__doc__ or "").split("\n\n")[0].split()
        )
        lines[:] = [f"{first} Specification: :doc:`/environments/{page}`.", ""]


class _Anchors(HTMLParser):
    """Ids of a page, and what its links and pictures refer to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.targets: list[str] = []
        self.without_alt: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids.update(value for key in ("id", "name") if (value := given.get(key)))
        target = given.get("href") if tag in ("a", "link") else given.get("src")
        if target:
            self.targets.append(target)
        if tag == "img" and not given.get("alt"):
            self.without_alt.append(str(given.get("src")))


def check_links(app: Sphinx, error: Exception | None) -> None:
    """Warn of links between pages that lead nowhere, fragments included, and of pictures without an alternative text."""
    if error is not None or app.builder.format != "html":
        return
    root = Path(app.outdir)
    pages = {path: _Anchors(path.read_text(encoding="utf-8")) for path in sorted(root.rglob("*.html"))}
    for path, page in pages.items():
        for target in page.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            where = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            missing = not where.exists() or (
                parts.fragment and where in pages and unquote(parts.fragment) not in pages[where].ids
            )
            if missing:
                _LOG.warning("%s: the link %r leads nowhere", path.relative_to(root), target)
        for picture in page.without_alt:
            _LOG.warning("%s: the picture %r has no alternative text", path.relative_to(root), picture)


def link_to_sources(app: Sphinx, docname: str, source: list[str]) -> None:
    """Make links to files of the repository that are no pages downloads, and those to folders code."""
    source[0] = _linked(source[0], Path(app.srcdir), Path(app.srcdir, docname).parent)


def _linked(text: str, docs: Path, folder: Path) -> str:
    def replaced(match: re.Match[str]) -> str:
        label, target = match.groups()
        path = (docs / target[1:] if target.startswith("/") else folder / target).resolve()
        if path.is_dir():
            return f"`{label.strip('`')}`"
        if path.suffix == ".md" and path.is_file() and docs not in path.parents:
            return f"{{download}}`{label.strip('`')} <{target}>`"
        return match[0]

    return re.sub(r"(?<!!)\[([^\]]+)\]\(([^)#\s:]+)\)", replaced, text)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_directive("generated", Generated)
    app.connect("autodoc-process-docstring", refer_to_the_page)
    app.connect("autodoc-process-docstring", escape_sizes)
    app.connect("source-read", link_to_sources)
    app.connect("build-finished", check_links)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
