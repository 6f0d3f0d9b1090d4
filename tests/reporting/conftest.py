import pytest


@pytest.fixture
def no_pictures(monkeypatch):
    """Leave out the drawing, which takes nearly all of a report's time; the figures are still built."""
    for module in ("comparison_page", "run_page", "training_page", "transfer_page"):
        monkeypatch.setattr(f"read_env.reporting.{module}.save", lambda picture, path: path)
