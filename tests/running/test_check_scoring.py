"""``read-env check`` of a remote teacher that may give probabilities: the handshake, line by line."""

import pytest
from scoring_server import scoring_servers

from read_env.config import load_preset
from read_env.distillation.teachers.remote_requests import ServerClient
from read_env.running.check import check

pytest.importorskip("openai")


@pytest.fixture(scope="module")
def servers():
    with scoring_servers() as both:
        yield both


@pytest.fixture(params=["vllm", "sglang"])
def server(servers, request, monkeypatch):
    monkeypatch.setenv("READ_ENV_API_KEY", "x")
    monkeypatch.setattr(ServerClient, "pause", lambda self, seconds: None)
    found = servers[request.param]
    found.fault("")
    return found


def checked(server, loss="gkd", **models):
    where = {"teacher": "remote:m", "remote_base_url": server.url, **models}
    found, ready, _ = check(load_preset("micro", {"models": where, "distill": {"loss": loss}}))
    return dict(found), ready


def test_a_server_with_probabilities_serves_every_loss(server):
    shown, ready = checked(server)
    assert ready
    title = {"vllm": "vLLM", "sglang": "SGLang"}[server.kind]
    assert shown["probabilities"] == f"yes, from {title}: every loss works"
    assert (shown["ids echoed"], shown["top-K"]) == ("yes", "8 of 8 granted")
    assert shown["tokenizer"].startswith("agrees in ") and shown["two answers"] == "0.0e+00 nats apart at most"
    assert "of 159 tokens" in shown["lengths (teacher)"]


def test_two_answers_that_differ_are_shown_in_nats(server):
    server.fault("noise")
    shown, ready = checked(server)
    assert ready and 1e-3 < float(shown["two answers"].split()[0]) < 1e-1


@pytest.mark.parametrize(
    ("fault", "row", "text"),
    [
        ("silently capped", "top-K", "4 of 8 granted"),
        ("other ids", "ids echoed", "no"),
        ("tokenizer", "tokenizer", "differs: token "),
        ("chat only", "probabilities", "no, text alone: a request for probabilities"),
        ("unknown owner", "probabilities", "no, text alone: its list of models names neither"),
    ],
)
def test_what_is_wrong_is_shown_and_missing_for_a_loss_that_needs_it(server, fault, row, text):
    server.fault(fault)
    shown, ready = checked(server)
    assert not ready and text in shown[row]
    assert "probabilities for 'gkd', where there is only text" in shown["missing (objective)"]
    shown, ready = checked(server, "sft")
    assert ready and shown["probabilities"].startswith("no, text alone: ")
