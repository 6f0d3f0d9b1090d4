import pytest


@pytest.fixture
def no_pictures(monkeypatch):
    """Leave out the drawing, which takes nearly all of a report's time; the figures are still built."""
    for kind in ("comparison", "run", "training", "transfer"):
        monkeypatch.setattr(f"read_env.reporting.report_{kind}.save", lambda picture, path: path)
