"""Files for those who meet the project on its page: changelog, citation, templates for issues."""

import re
from pathlib import Path

import pytest
import yaml
from documents import ROOT

import read_env

FORMS = sorted(path for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config")
#: Sections of a version, in the order of Keep a Changelog.
SECTIONS = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")


def versions() -> list[tuple[str, str, str]]:
    """Version, rest of its heading and text, for each version of the changelog."""
    return re.findall(r"^## \[(.+?)\](.*)\n((?:.*\n)*?)(?=^## |\Z)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_the_changelog_begins_with_what_is_unreleased_and_has_the_version_of_the_package():
    names = [name for name, _, _ in versions()]
    assert names[0] == "Unreleased" and names[1] == read_env.__version__ and len(set(names)) == len(names)
    for name, date, _ in versions()[1:]:
        assert re.fullmatch(r" - (\d{4}-\d{2}-\d{2}|unreleased)", date), name
    assert all("unreleased" not in date for _, date, _ in versions()[2:])


def test_the_changelog_has_the_sections_of_keep_a_changelog():
    for name, _, text in versions():
        found = re.findall(r"^### (.+)$", text, re.MULTILINE)
        assert found == [section for section in SECTIONS if section in found], name
        for section in found:
            assert re.search(rf"^### {section}\n\n(.+:\n\n)?- ", text, re.MULTILINE), (name, section)


def test_the_citation_has_what_the_format_asks_for_and_no_second_version():
    found = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(found)
    assert "version" not in found, "the version is in read_env/__init__.py alone"
    assert found["license"] in (ROOT / "pyproject.toml").read_text()
    (paper,) = found["references"]
    assert {"type", "title", "authors", "url"} <= set(paper) and "2605.11290" in paper["url"]


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_forms_for_issues_are_those_that_github_reads(path: Path):
    form = yaml.safe_load(path.read_text())
    assert form["name"] and form["description"] and form["body"]
    ids = [field["id"] for field in form["body"] if field["type"] != "markdown"]
    assert ids and len(set(ids)) == len(ids)
    for field in form["body"]:
        assert field["type"] in {"markdown", "input", "textarea", "dropdown", "checkboxes"}
        assert field["attributes"]["value" if field["type"] == "markdown" else "label"]


@pytest.mark.parametrize("path", [*FORMS, ROOT / ".github/pull_request_template.md"], ids=lambda path: path.stem)
def test_templates_name_commands_and_files_that_are_there(path: Path):
    from read_env.cli import _COMMANDS

    text = path.read_text()
    assert set(re.findall(r"`read-env ([a-z-]+)", text)) <= set(_COMMANDS)
    for name in re.findall(r"\b(?:docs|scripts)/[\w/.-]+\.(?:md|py)\b|\b[A-Z]{4,}\.md\b", text):
        assert (ROOT / name).is_file(), name
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for command in re.findall(r"`make ([a-z ]+)`", text):
        assert set(command.split()) <= set(targets)
