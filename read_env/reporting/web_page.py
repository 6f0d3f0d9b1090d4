"""Reports as web pages: one HTML file without requests to anywhere, made from the Markdown page and its pictures.

Text of prompts, completions and names stays text: raw HTML is escaped, pictures are those of the report's own directory, and the
page's Content-Security-Policy allows its own style sheet and script alone, by hash. Tables are sorted by the buttons in their
headers; without JavaScript they are plain tables.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_block import StateBlock
from markdown_it.rules_core import StateCore
from markdown_it.token import Token

from read_env.files import write_atomic
from read_env.reporting.markdown import write_page

_FOLDED = re.compile(r"<details><summary>(.*)</summary>")

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
{body}</main>
<script>{script}</script>
</body>
</html>
"""


def write_report(directory: Path, blocks: Sequence[str], figures: Mapping[str, str] | None = None) -> Path:
    """Write ``report.md`` and, from it, ``report.html``; returns the path of the Markdown page.

    Args:
        directory: the directory, which holds the pictures that the blocks show.
        blocks: blocks of Markdown.
        figures: name of a picture → HTML that the web page shows in its place, see ``web_pictures``.
    """
    page = write_page(directory / "report.md", blocks)
    html = web_page(page.read_text("utf-8"), directory, figures or {})
    write_atomic(page.with_suffix(".html"), html.encode("utf-8", "backslashreplace"))
    return page


def web_page(text: str, directory: Path, figures: Mapping[str, str]) -> str:
    """The HTML of a Markdown page; for the arguments see :func:`write_report`."""
    markdown = MarkdownIt("commonmark", {"html": False, "xhtmlOut": False}, renderer_cls=_Renderer).enable("table")
    markdown.block.ruler.before("paragraph", "folded", _folded, {"alt": ["paragraph"]})
    markdown.core.ruler.push("classes", _classes)
    env = {"directory": directory, "figures": figures}
    tokens = markdown.parse(text, env)
    heading = next((after for token, after in zip(tokens, tokens[1:], strict=False) if token.tag == "h1"), None)
    title = _plain(heading.children) if heading else "Report"
    own = files("read_env.reporting")
    style, script = (own.joinpath(f"report.{kind}").read_text("utf-8") for kind in ("css", "js"))
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    body = markdown.renderer.render(tokens, markdown.options, env)
    return _PAGE.format(policy=policy, title=escape(title), style=style, script=script, body=body)


def _plain(tokens: Sequence[Token] | None) -> str:
    """Text without its markup; the renderer's own function leaves code out before markdown-it-py 4."""
    return "".join(token.content for token in tokens or ())


def _hash(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def _folded(state: StateBlock, first: int, _last: int, silent: bool) -> bool:
    """Block rule for the two lines of HTML that reports contain, which fold a part away; all other HTML is text."""
    line = state.src[state.bMarks[first] + state.tShift[first] : state.eMarks[first]]
    summary = _FOLDED.fullmatch(line)
    if not summary and line != "</details>":
        return False
    if not silent:
        html = f"<details><summary>{state.md.renderInline(summary[1])}</summary>\n" if summary else "</details>\n"
        state.push("html_block", "", 0).content = html
        state.line = first + 1
    return True


def _classes(state: StateCore) -> None:
    """Replace the style attributes of columns of numbers, which the policy forbids, and paragraphs around pictures."""
    for before, token, after in zip(state.tokens, state.tokens[1:], state.tokens[2:], strict=False):
        if token.type == "inline" and [child.type for child in token.children or ()] == ["image"]:
            before.hidden = after.hidden = True
    for token in state.tokens:
        if style := token.attrs.pop("style", None):
            token.attrs["class"] = str(style).replace("text-align:", "")


class _Renderer(RendererHTML):
    def image(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        """A figure in place of the picture, or the picture itself, or its description where there is no such file."""
        token = tokens[idx]
        name, alt = unquote(str(token.attrs["src"])), _plain(token.children)
        if name in env["figures"]:
            return f"{env['figures'][name]}\n"
        path = env["directory"] / name
        if Path(name).name != name or path.suffix != ".png" or not path.is_file():
            return f"<em>{escape(alt)}</em>"
        data = base64.b64encode(path.read_bytes()).decode()
        return f'<figure class="picture" tabindex="0"><img alt="{escape(alt)}" src="data:image/png;base64,{data}"></figure>\n'

    def table_open(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return '<div class="table"><table>\n'

    def table_close(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        return "</table></div>\n"
