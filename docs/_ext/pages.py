"""Pages that list modules, measured pages and files of the repository."""

from __future__ import annotations

import pkgutil
import re
from importlib import import_module
from pathlib import Path

from fields import code, table

DOCS = Path(__file__).resolve().parent.parent
ROOT = DOCS.parent

#: Pages at the top of docs/ that are written by hand; every other page there is made by a script.
WRITTEN = (
    "README", "agents", "cluster", "index", "install", "models", "records", "related", "results", "scale", "troubleshooting",
    "your_own",
)  # fmt: skip

#: Packages with a page of their own in the reference of the API; their subpackages are on the same page.
PACKAGES = (
    "read_env", "read_env.agents", "read_env.capabilities", "read_env.distillation", "read_env.envs", "read_env.losses",
    "read_env.reporting", "read_env.running", "read_env.surrogate", "read_env.tasks",
)  # fmt: skip


def modules_of(package: str) -> list[str]:
    """Modules of a page: the package, then its modules and subpackages; of ``read_env`` the modules at the top alone."""
    found = pkgutil.walk_packages(import_module(package).__path__, f"{package}.")
    names = [info.name for info in found if not (package == "read_env" and (info.ispkg or info.name.count(".") > 1))]
    return [package, *(name for name in names if not name.rpartition(".")[2].startswith("_"))]


def api(package: str) -> str:
    """Reference of a package's modules by autodoc."""
    part = "## `{0}`\n\n```{{eval-rst}}\n.. automodule:: {0}\n```\n"
    return "\n".join(part.format(name) for name in modules_of(package))


def readme_start() -> str:
    """The commands and the picture of the README, without its introduction."""
    text = repository_file("README.md").partition("\n## ")[0]
    return text[text.index("```") : text.index("\n\n", text.index("![") + 1)] + _caption(text)


def _caption(text: str) -> str:
    """Paragraph below the picture."""
    return "\n\n" + text[text.index("![") :].split("\n\n")[1]


def repository_file(name: str, section: str = "") -> str:
    """Text of a Markdown file at the top of the repository below its title, or of one section; links lead from docs/."""
    text = (ROOT / name).read_text(encoding="utf-8")
    text = text.partition(f"{section}\n")[2].partition("\n## ")[0] if section else text.partition("\n")[2]
    text = re.sub(r"\]\(docs/", "](/", text)
    return re.sub(r"\]\((?!/|#|\w+:)", "](/../", text)


def measured() -> dict[str, str]:
    """Measured pages -> the command that makes each."""
    pages = sorted(path for path in DOCS.glob("*.md") if path.stem not in WRITTEN)
    return {path.stem: _command_of(path) for path in pages}


def _command_of(path: Path) -> str:
    found = re.search(r"python scripts/\w+\.py[^`\n]*", path.read_text(encoding="utf-8"))
    if found:
        return found[0].strip()
    scripts = sorted((ROOT / "scripts").glob("*.py"))
    made = (re.search(rf"python scripts/{one.name}.*{path.stem}\.md", one.read_text()) for one in scripts)
    line = next((match[0] for match in made if match), "")
    named = [one.name for one in scripts if f"docs/{path.stem}.md" in one.read_text(encoding="utf-8")]
    return line.partition("  ")[0].partition("#")[0].strip() or (f"python scripts/{named[0]}" if named else "")


def measured_pages() -> str:
    """The measured pages with the commands that make them, and their entries in the table of contents."""
    commands = measured()
    rows = [[f"[{page}](/{page}.md)", code(command)] for page, command in commands.items()]
    entries = "\n".join(f"/{page}" for page in commands)
    return table(["page", "command"], rows) + f"\n```{{toctree}}\n:hidden:\n\n{entries}\n```\n"
