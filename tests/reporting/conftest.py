import pytest


@pytest.fixture
def no_pictures(monkeypatch):
    """Leave out the drawing, which takes nearly all of a report's time; the figures are still built."""
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda picture, path, **options: None)
