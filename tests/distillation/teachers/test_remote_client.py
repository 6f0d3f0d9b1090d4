"""Requests to servers that refuse parameters, fail in passing, lie elsewhere, or need more than a key."""

import email.utils
import logging
import socket
import threading
import time

import pytest
from chat_server import answer, serving

from read_env.config import ModelConfig, make_config
from read_env.distillation.teachers.remote import RemoteTeacher, Utf8
from read_env.distillation.teachers.remote_client import ChatClient
from read_env.distillation.teachers.remote_endpoint import look, redacted
from read_env.errors import ReadEnvError

pytest.importorskip("openai")

SECRET = "sk-very-secret-0123456789"
MESSAGES = {
    "max_tokens": "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
    "temperature": "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is supported.",
    "top_p": "Unsupported parameter: 'top_p' is not supported with this model.",
    "seed": "Extra inputs are not permitted",
}


@pytest.fixture(autouse=True)
def pauses(monkeypatch):
    waited = []
    monkeypatch.setattr(ChatClient, "pause", lambda self, seconds: waited.append(seconds))
    monkeypatch.setenv("READ_ENV_API_KEY", SECRET)
    for name in ("OPENAI_API_KEY", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return waited


def teacher_at(url, **changes):
    models = ModelConfig(**{"remote_base_url": url, "remote_max_retries": 2, "remote_timeout": 5.0, **changes})
    return RemoteTeacher("m", models, max_completion_tokens=24)


def said(teacher, *texts):
    return [Utf8().text(one.token_ids) for one in teacher.complete(texts or ["a"])]


def refusing(server, *names, form="openai"):
    """A reply that refuses the first of these parameters that a request has."""

    def reply(number, prompt):
        for name in names:
            if name in server.requests[-1]:
                error = {"message": MESSAGES[name], "param": name, "code": "unsupported_parameter"}
                fastapi = {"detail": [{"loc": ["body", name], "msg": MESSAGES[name]}]}
                return (400, {"error": error}) if form == "openai" else (422, fastapi)
        return 200, answer("fine")

    return reply


@pytest.mark.parametrize("form", ["openai", "fastapi"])
def test_refused_parameters_are_renamed_or_left_out_once_and_for_all(form, caplog):
    extra = {"top_p": 0.9, "seed": 1, "reasoning_effort": "low"}
    with serving(lambda n, prompt: None) as server:
        server.reply = refusing(server, "max_tokens", "temperature", "top_p", "seed", form=form)
        teacher = teacher_at(server.url, remote_extra_body=extra, remote_concurrency=1)
        assert said(teacher, "a", "b", "c") == ["fine"] * 3
    assert len(server.requests) == 4 + 3
    for request in server.requests[-3:]:
        sent = {name: value for name, value in request.items() if name not in ("messages", "model")}
        assert sent == {"max_completion_tokens": 24, "reasoning_effort": "low"}
    assert [caplog.text.count(f"refuses {name}") for name in (*MESSAGES, "reasoning_effort")] == [1, 1, 1, 1, 0]


def test_many_requests_at_once_find_out_together(caplog):
    with serving(lambda n, prompt: None) as server:
        server.reply = refusing(server, "max_tokens", "temperature")
        assert said(teacher_at(server.url), *map(str, range(40))) == ["fine"] * 40
    assert caplog.text.count("refuses") == 2


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        (b"max_tokens is not supported, use max_output_tokens instead", {"temperature": 0, "max_output_tokens": 24}),
        ({"error": "litellm.UnsupportedParamsError: does not support {'temperature': 0}"}, {"max_tokens": 24}),
        ({"error": {"message": "invalid temperature: only 1 is allowed for this model"}}, {"max_tokens": 24}),
        ({"message": "`temperature` must be strictly positive"}, {"max_tokens": 24}),
    ],
)
def test_refusals_in_other_forms(body, sent):
    with serving(lambda n, prompt: (400, body) if n == 1 else (200, answer("fine"))) as server:
        assert said(teacher_at(server.url)) == ["fine"]
    assert {name: value for name, value in server.requests[1].items() if name not in ("messages", "model")} == sent


@pytest.mark.parametrize(
    ("error", "changes", "message"),
    [
        ({"message": "max_tokens is too large: 24. This model supports at most 16"}, {}, "HTTP 400 max_tokens is too large"),
        ({"message": "Invalid 'temperature': at most 1"}, {"remote_temperature": 1.5}, "HTTP 400 Invalid 'temperature'"),
        ({"message": "unknown parameter: think", "param": "think"}, {"remote_extra_body": {"think": 1}}, "unknown parameter: think"),
        ({"message": "max_tokens and max_completion_tokens are unsupported"}, {}, "are unsupported"),
        ({"message": "bad request"}, {}, "HTTP 400 bad request; the prompt was 'why'"),
    ],
)  # fmt: skip
def test_other_refusals_are_errors_that_name_the_prompt(error, changes, message):
    with (
        serving(lambda n, prompt: (400, {"error": error})) as server,
        pytest.raises(ReadEnvError, match=message) as raised,
    ):
        said(teacher_at(server.url, **changes), "why")
    assert len(server.requests) <= 3 and "\n" not in str(raised.value)


def test_settings_of_the_request():
    extra = {"max_tokens": None, "max_completion_tokens": 4096, "chat_template_kwargs": {"enable_thinking": False}}
    with serving(lambda n, prompt: (200, answer("fine"))) as server:
        teacher = teacher_at(
            f"{server.url}/", remote_extra_body=extra, remote_extra_query={"api-version": "2024-10-21"},
            remote_extra_headers={"api-key": "$READ_ENV_API_KEY", "x-title": "mine"}, remote_temperature=0.6,
        )  # fmt: skip
        said(teacher)
    (request,) = server.requests
    assert "max_tokens" not in request and request["temperature"] == 0.6
    assert request["max_completion_tokens"] == 4096 and request["chat_template_kwargs"] == {"enable_thinking": False}
    assert server.paths == ["/v1/chat/completions?api-version=2024-10-21"]
    assert server.headers["api-key"] == SECRET and server.headers["x-title"] == "mine"


def test_settings_that_change_answers_are_another_teacher():
    changes = [
        {}, {"remote_extra_body": '{"top_p": 0.9}'}, {"remote_temperature": 1}, {"remote_reasoning": "keep"},
        {"remote_max_tokens": 99}, {"remote_extra_query": {"a": "b"}}, {"remote_revision": "2"},
    ]  # fmt: skip
    identities = [teacher_at("http://localhost:1/v1", **one).identity for one in changes]
    assert identities[0] == "remote/http://localhost:1/v1/m@/greedy/24" and len(set(identities)) == len(changes)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("remote_extra_body", "[1]", "is no JSON object"),
        ("remote_extra_body", "{top_p: 1}", "is no JSON object"),
        ("remote_extra_body", {"stream": True, "n": 2}, "sets n, stream, which read-env itself decides"),
        ("remote_extra_headers", {"api-key": SECRET}, "'api-key' that looks like a secret"),
        ("remote_extra_query", {"sig": SECRET}, "'sig' that looks like a secret"),
        ("remote_base_url", "http://host/v1/chat/completions", "right would be http://host/v1"),
        ("remote_base_url", f"https://host/v1?key={SECRET}", "a query in models.remote_extra_query"),
    ],
)
def test_settings_that_make_no_sense(field, value, message):
    with pytest.raises(ReadEnvError, match=f"models.{field}: .*{message}") as error:
        make_config({"models": {field: value}}, "test")
    assert SECRET not in str(error.value)


def test_a_header_of_a_variable_that_is_not_set():
    with pytest.raises(ReadEnvError, match=r"\$NO_SUCH_KEY, which models.remote_extra_headers .* is not set"):
        teacher_at("http://localhost:1/v1", remote_extra_headers={"api-key": "$NO_SUCH_KEY"})


LIMITED = {"error": {"message": "slow down"}}


@pytest.mark.parametrize(
    ("trouble", "pause"),
    [
        ((429, LIMITED, {"Retry-After": "17"}), 17),
        ((429, LIMITED, {"Retry-After": "200"}), 200),
        ((503, b"busy", {"Retry-After": 100}), 100),
        ((429, LIMITED, {"Retry-After": -100}), 0),
        ((429, LIMITED, {"retry-after-ms": "2500"}), 2.5),
        ((429, LIMITED, {"Retry-After": "soon"}), 0.5),
        ((529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}), 0.5),
        ((500, b""), 0.5),
        ((502, b"<html><title>502 Bad Gateway</title>"), 0.5),
        ((408, b""), 0.5),
        ((200, {"error": {"message": "Internal Server Error", "code": 500}, "choices": None}), 0.5),
        ((200, {"error": "upstream"}), 0.5),
        ((200, {"id": None, "choices": None}), 0.5),
        ((200, {"choices": []}), 0.5),
        ((200, answer("half", "error")), 0.5),
        ((200, b'{"choices": [{"mess'), 0.5),
        ((200, b""), 0.5),
    ],
)
def test_passing_trouble_is_waited_out(trouble, pause, pauses):
    status, body, headers = (*trouble, {})[:3]
    # A number stands for a date that many seconds from now.
    dates = {
        name: email.utils.formatdate(time.time() + at, usegmt=True)
        for name, at in headers.items()
        if isinstance(at, int)
    }
    trouble = status, body, headers | dates
    with serving(lambda n, prompt: trouble if n == 1 else (200, answer("fine"))) as server:
        assert said(teacher_at(server.url)) == ["fine"]
    (waited,) = pauses
    assert 0.75 * pause <= waited <= pause if pause == 0.5 else waited == pytest.approx(pause, abs=5)


@pytest.mark.parametrize(
    ("trouble", "message", "requests"),
    [
        (
            (429, LIMITED, {"Retry-After": "86400"}),
            "HTTP 429 slow down; the prompt was 'a'; answers so far are kept",
            1,
        ),
        ((429, {"error": {"message": "pay", "code": "insufficient_quota"}}), "HTTP 429 pay", 1),
        ((501, b"no"), "HTTP 501 no", 1),
        ((200, {"choices": []}), r"no choices.*the prompt was 'a'; answers so far are kept", 3),
        ((401, LIMITED), r"HTTP 401 slow down; the key is read from \$READ_ENV_API_KEY", 1),
    ],
)
def test_lasting_trouble_ends_with_an_error(trouble, message, requests):
    with serving(lambda n, prompt: trouble) as server, pytest.raises(ReadEnvError, match=message):
        said(teacher_at(server.url))
    assert len(server.requests) == requests


def test_an_error_does_not_wait_for_the_pauses_of_other_requests(monkeypatch):
    monkeypatch.undo()
    started = time.monotonic()
    replies = {"slow": (429, LIMITED, {"Retry-After": "30"}), "bad": (400, LIMITED)}

    def reply(number, prompt):
        if prompt == "bad":
            assert slow_asked.wait(10)
        else:
            slow_asked.set()
        return replies[prompt]

    slow_asked = threading.Event()
    with serving(reply) as server, pytest.raises(ReadEnvError, match="HTTP 400"):
        said(teacher_at(server.url), "slow", "bad")
    assert time.monotonic() - started < 15


@pytest.mark.parametrize(
    ("path", "listing", "trouble", "message"),
    [
        ("/v1", {"data": [{"id": "other"}]}, (404, LIMITED), r"HTTP 404 .*'m' is not among the 1 models that it lists \(other\)"),
        ("/v1", {"data": [{"id": "o"}]}, (400, {"message": "Model m does not exist"}), "HTTP 400 .*models that it lists"),
        ("", {"data": [{"id": "m"}]}, (404, b"Not Found"), r"right would be http://127.0.0.1:\d+/v1, which lists models"),
        ("/v2", None, (404, b"Not Found"), "without a list of its models"),
        ("", None, (200, b"<!doctype html><title>Chat</title>"), r"HTML page, 'Chat'.*most likely http://127.*/v1"),
        ("", {"data": []}, (405, b""), r"HTTP 405.*right would be http://127.0.0.1:\d+/v1"),
    ],
)  # fmt: skip
def test_addresses_without_that_model(path, listing, trouble, message):
    models = (404, b"") if listing is None else (200, listing)
    with serving(lambda n, prompt: trouble, models) as server, pytest.raises(ReadEnvError, match=message) as raised:
        said(teacher_at(server.url.removesuffix("/v1") + path))
    assert len(server.requests) == 1 and "\n" not in str(raised.value)


def test_the_check_finds_an_address_without_its_version():
    with serving(lambda n, prompt: (200, answer("fine")), (200, {"data": [{"id": "m"}]})) as server:
        found = look(ModelConfig(remote_base_url=server.url.removesuffix("/v1"), remote_timeout=1))
        assert not found.reached and f"right would be {server.url}, which lists models" in found.text("m")
        assert look(ModelConfig(remote_base_url=server.url)).text("m") == "yes, and has 'm'"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirections_are_followed_or_named(status):
    with serving(lambda n, prompt: (200, answer("fine"))) as target:
        there = {"Location": f"{target.url}/chat/completions"}
        with serving(lambda n, prompt: (status, b"", there)) as server:
            if status >= 307:
                assert said(teacher_at(server.url)) == ["fine"]
                return
            with pytest.raises(ReadEnvError, match=f"it redirects to {target.url}: right would be that address"):
                said(teacher_at(server.url))


def test_a_server_on_this_machine_is_not_asked_through_a_proxy(monkeypatch):
    for name in ("HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with serving(lambda n, prompt: (200, answer("fine"))) as server:
        assert (
            said(teacher_at(server.url)) == said(teacher_at(server.url.replace("127.0.0.1", "localhost"))) == ["fine"]
        )


@pytest.mark.parametrize("variable", ["ALL_PROXY", "SSL_CERT_FILE"])
def test_an_environment_that_cannot_be_used_is_named(variable, monkeypatch):
    monkeypatch.setenv(variable, "nonsense://127.0.0.1:9")
    with pytest.raises(ReadEnvError, match=rf"can't be set up .* it reads .*\${variable}"):
        teacher_at("http://example.invalid/v1")


def test_https_to_a_server_without_it():
    right = pytest.raises(ReadEnvError, match="SSL.*right would be an address that begins with http://")
    with serving(lambda n, prompt: (200, answer("fine"))) as server, right:
        said(teacher_at(server.url.replace("http:", "https:")))


def test_the_address_in_the_environment_is_not_taken(monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:1/v1")
    with pytest.raises(ReadEnvError, match="models.teacher is 'remote:'; right would be remote:NAME"):
        RemoteTeacher("", ModelConfig(remote_base_url="http://localhost:1/v1"), max_completion_tokens=8)
    with pytest.raises(ReadEnvError, match=r"remote_base_url is empty \(\$OPENAI_BASE_URL is not read"):
        teacher_at("")


def test_a_server_that_is_not_there_is_an_error_in_one_line():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        with pytest.raises(ReadEnvError, match="can't be reached.*run the same command again") as raised:
            said(teacher_at(url))
    assert "\n" not in str(raised.value)


def test_unicode_and_chunks_arrive_and_half_a_character_is_refused():
    text = "日本語 😀 é \u2028 \x00"
    with serving(lambda n, prompt: (200, answer(prompt))) as server:
        assert said(teacher_at(server.url), text) == [text]
        with pytest.raises(ReadEnvError, match=r"the prompt 'a \\ud800' is not valid Unicode"):
            said(teacher_at(server.url), "a \ud800")


KEYS = [
    ("x", "max tokens of x exceed 6", "max tokens of x exceed 6"),
    ("x", "wrong key: x!", "wrong key: $READ_ENV_API_KEY!"),
    ("EMPTY", "'Authorization': 'Bearer EMPTY'", "'Authorization': 'Bearer $READ_ENV_API_KEY'"),
    ("EMPTY", "EMPTY prompt", "EMPTY prompt"),
    ("k", "Incorrect API key provided: k.", "Incorrect API key provided: $READ_ENV_API_KEY."),
    ("deepseek", "no deepseek-chat, deepseek", "no deepseek-chat, $READ_ENV_API_KEY"),
    (SECRET, f"x{SECRET}x", "x$READ_ENV_API_KEYx"),
]


@pytest.mark.parametrize(("key", "message", "shown"), KEYS)
def test_a_short_key_garbles_no_message(key, message, shown, monkeypatch):
    monkeypatch.setenv("READ_ENV_API_KEY", key)
    assert redacted(message, ModelConfig()) == shown


def test_the_values_of_headers_are_redacted_as_well(monkeypatch):
    monkeypatch.setenv("AZURE_KEY", "azure-secret-0123456")
    models = ModelConfig(remote_extra_headers={"api-key": "$AZURE_KEY"})
    assert redacted("bad azure-secret-0123456", models) == "bad $AZURE_KEY"


def test_an_unknown_word_for_the_end_is_told_once(caplog):
    caplog.set_level(logging.WARNING)
    with serving(lambda n, prompt: (200, answer("fine", "weird"))) as server:
        assert said(teacher_at(server.url), "a", "b") == ["fine", "fine"]
    assert caplog.text.count("finish_reason 'weird' is none that read-env knows: taken for complete") == 1
