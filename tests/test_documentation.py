"""The pages of docs/: each is in the table of contents, links and pictures are there, and quoted errors are those of the code."""

import ast
import doctest
import functools
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from documents import ROOT

DOCS = ROOT / "docs"
PAGES = sorted(str(path.relative_to(ROOT)) for path in DOCS.rglob("*.md"))
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
LARGEST_PICTURES = 1.5 * 2**20
EXTENSION = ("pages", "fields", "generated")


def text_of(page: str) -> str:
    """Text of a page without its code, in which a bracket is no link."""
    return re.sub(r"^```+(?!\{toctree).*?^```+$", "", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def extension(monkeypatch):
    """Function that imports a module of the Sphinx extension."""
    monkeypatch.syspath_prepend(str(DOCS / "_ext"))
    for name in EXTENSION:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module
    for name in EXTENSION:
        sys.modules.pop(name, None)


@pytest.fixture
def pages(extension):
    return extension("pages")


def test_the_references_are_generated_from_the_package(extension):
    made = {name: make() for name, make in extension("generated").PAGES.items()}
    asked = re.findall(r"^```\{generated\} (.+)$", "\n".join((ROOT / page).read_text() for page in PAGES), re.MULTILINE)
    assert set(asked) <= set(made) and all(made[name].strip() for name in asked)
    assert "{confval} budget.total_tokens" in made["configuration"]
    assert all(f"## `read-env {name}`" in made["commands"] for name in ("run", "compare", "distill", "surrogate"))


def test_every_extra_has_a_row(extension):
    project = (
        (ROOT / "pyproject.toml").read_text().partition("[project.optional-dependencies]\n")[2].partition("\n[")[0]
    )
    named = re.findall(r"^([\w-]+) = \[(?!\]$)", project, re.MULTILINE)
    rows = extension("generated").extras().splitlines()[2:]
    assert [re.match(r"\| `([\w-]+)`", row)[1] for row in rows if row.strip()] == named


@pytest.mark.parametrize("module", ["fields", "generated"])
def test_examples_of_the_extension(extension, module):
    result = doctest.testmod(extension(module))
    assert result.attempted and not result.failed


def test_every_page_is_in_the_table_of_contents(pages):
    listed = {"index", *pages.measured()}
    for page in PAGES:
        for entries in re.findall(r"^```\{toctree\}\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL):
            folder = (ROOT / page).parent.relative_to(DOCS)
            listed |= {str(folder / line) for line in entries.splitlines() if line and not line.startswith(":")}
    assert listed == {str(Path(page).relative_to("docs").with_suffix("")) for page in PAGES} - {"README"}


def test_every_measured_page_names_its_command(pages):
    commands = pages.measured()
    assert len(commands) > 10
    for page, command in commands.items():
        script = re.match(r"python (scripts/\w+\.py)", command)
        assert script and (ROOT / script[1]).is_file(), (page, command)


@pytest.mark.parametrize("page", ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", *PAGES])
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        path, _, heading = target.partition("#")
        if "://" in target or path.startswith("mailto:"):
            continue
        where = (ROOT / page).parent / path if path else ROOT / page
        assert where.exists(), f"{page}: {target}"
        if heading and where.suffix == ".md" and not heading.startswith("read_env."):  # Sphinx links objects by name
            assert heading in headings(where), f"{page}: {target}"


def headings(path: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub and MyST make them."""
    titles = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", ["README.md", *PAGES])
def test_pictures_have_an_alternative_text(page):
    assert all(len(alt) > 3 for alt in re.findall(r"!\[(.*?)\]\(", text_of(page)))
    cells = re.findall(r"^```\{code-cell\}.*?\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    assert all("alt: " in cell for cell in cells if re.search(r"plt\.show|^figure$", cell, re.MULTILINE)), page


def test_the_pictures_of_the_concepts_are_small():
    assert sum(path.stat().st_size for path in (DOCS / "images").iterdir()) <= LARGEST_PICTURES


def messages(root: str) -> Iterator[str]:
    """Texts in the sources of a folder, with ``…`` for what is filled in."""
    for path in (ROOT / root).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
                yield "".join(map(str, parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield re.sub(r"%[\d.]*[a-z]|\{\w*\}", "…", node.value)


@functools.cache
def all_messages() -> tuple[str, ...]:
    return tuple(text for root in ("read_env", "envs", "agents") for text in messages(root))


def is_of_the_code(quoted: str) -> bool:
    """True if one text of the sources has the pieces of a quoted message, in order."""
    pieces = [piece for piece in quoted.split("…") if piece.strip()]
    pattern = re.compile(".*".join(map(re.escape, pieces)), re.DOTALL)
    return any(pattern.search(text) for text in all_messages())


def test_the_errors_of_the_troubleshooting_page_are_those_of_the_code():
    quoted = re.findall(r"^\| `(.+?)` \| ", (DOCS / "troubleshooting.md").read_text(), re.MULTILINE)
    assert len(quoted) > 40
    assert not [message for message in quoted if not is_of_the_code(message)]
    assert not is_of_the_code("allocation weights must be finite and positive, got …")


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_use_targets_of_the_makefile_and_supported_pythons(workflow):
    text = workflow.read_text()
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"\bmake ([a-z-]+)", text)) <= set(targets)
    for script in re.findall(r"run: (\.ci/\w+)", text):
        assert (ROOT / script).is_file()
    oldest = re.search(r'requires-python = ">=3\.(\d+)"', (ROOT / "pyproject.toml").read_text())[1]
    assert min(int(minor) for minor in re.findall(r'"3\.(\d+)"', text)) >= int(oldest)
    if workflow.stem == "tests":
        assert f'["3.{oldest}", ' in text
