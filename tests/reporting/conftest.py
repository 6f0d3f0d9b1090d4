import importlib.util
from pathlib import Path

import pytest

_SPEC = importlib.util.spec_from_file_location("reporting_records", Path(__file__).with_name("records.py"))
assert _SPEC is not None and _SPEC.loader is not None
_RECORDS = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_RECORDS)


@pytest.fixture(scope="session")
def synthetic():
    """The writers of synthetic record directories (tests/reporting/records.py)."""
    return _RECORDS


@pytest.fixture
def no_pictures(monkeypatch):
    """Leave out the drawing, which takes nearly all of a report's time; the figures are still built."""
    for kind in ("comparison", "run", "training", "transfer"):
        monkeypatch.setattr(f"read_env.reporting.report_{kind}.save", lambda picture, path: path)
