"""Blocks of code in the repository's documents, which tests run as they are printed."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def blocks(document: str, name: str) -> list[str]:
    """The code blocks under a comment ``<!-- test: NAME -->``, in order."""
    found = re.findall(rf"<!-- test: {re.escape(name)} -->\n```\w*\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)
    assert found, f"{document} has no block marked 'test: {name}'"
    return found
