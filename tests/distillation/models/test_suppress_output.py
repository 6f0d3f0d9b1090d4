"""No bars while a model is loaded, and everybody else's as they were."""

import threading

import pytest
from huggingface_hub.utils import are_progress_bars_disabled
from tiny_gguf import write_gguf
from transformers import modeling_gguf_pytorch_utils as gguf_files
from transformers.utils import logging as transformers_logging

from read_env.config import ModelConfig
from read_env.distillation.loading import load
from read_env.distillation.models.placement import place
from read_env.distillation.models.sources import find_model
from read_env.distillation.models.suppress_output import suppress_progress_bars
from read_env.distillation.models.weights import load_model


def drawn(capsys, draw):
    """What is on the terminal after ``draw()``."""
    capsys.readouterr()
    draw()
    return capsys.readouterr().err


@pytest.fixture(params=[gguf_files, transformers_logging], ids=["gguf", "safetensors"])
def bars(request):
    """A module whose ``tqdm`` draws while files are read, and a bar of it."""
    return request.param, lambda: list(request.param.tqdm([1, 2, 3], desc="Converting"))


def test_bars_are_drawn_outside_and_not_inside(bars, capsys):
    _, bar = bars
    assert "Converting" in drawn(capsys, bar), "or this test shows nothing"
    with suppress_progress_bars():
        assert drawn(capsys, bar) == ""
        with suppress_progress_bars():
            assert drawn(capsys, bar) == ""
        assert drawn(capsys, bar) == ""
    assert "Converting" in drawn(capsys, bar)


def test_another_thread_keeps_its_bars(bars, capsys):
    _, bar = bars

    def elsewhere():
        thread = threading.Thread(target=bar)
        thread.start()
        thread.join()

    with suppress_progress_bars():
        assert "Converting" in drawn(capsys, elsewhere)


def test_nothing_is_left_behind_when_loading_fails(bars):
    module, _ = bars
    before = module.tqdm, transformers_logging.is_progress_bar_enabled(), are_progress_bars_disabled()
    with pytest.raises(RuntimeError), suppress_progress_bars():
        raise RuntimeError
    assert (module.tqdm, transformers_logging.is_progress_bar_enabled(), are_progress_bars_disabled()) == before


@pytest.mark.parametrize("shown", [True, False])
def test_the_users_switches_are_not_touched(shown, monkeypatch, capsys):
    monkeypatch.setattr(transformers_logging, "_tqdm_active", shown)
    with suppress_progress_bars():
        assert transformers_logging.is_progress_bar_enabled() is shown
        assert drawn(capsys, lambda: load("embedded:micro/student")) == ""
    assert transformers_logging.is_progress_bar_enabled() is shown


def test_a_gguf_file_is_read_without_a_bar(capsys, tmp_path):
    pytest.importorskip("gguf")
    source = find_model(str(write_gguf(tmp_path / "tiny.gguf")))
    placement = place(ModelConfig(), 1000, trained=False)
    read = []
    assert drawn(capsys, lambda: read.append(load_model(source, placement))) == ""
    assert read[0].get_input_embeddings().weight[3, 4].item() == 0.5
