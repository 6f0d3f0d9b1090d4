"""A teacher over HTTP: what it says, what goes wrong on the way, and what must never be written down."""

import json
import logging
import os
import socket
import subprocess
import sys
import time
import urllib.request

import numpy as np
import pytest
import torch
from chat_server import answer, serving
from micro import micro_config, saved
from pydantic import ValidationError

from read_env.cli import main
from read_env.config import ModelConfig, make_config
from read_env.distillation.loading import load, load_student, load_teacher
from read_env.distillation.process import Distillation
from read_env.distillation.teachers.base import TeacherCache
from read_env.distillation.teachers.remote import RemoteTeacher, Utf8
from read_env.distillation.teachers.remote_client import ChatClient
from read_env.distillation.teachers.remote_endpoint import redacted
from read_env.distillation.teachers.store import BlockStore
from read_env.distillation.text.alignment import align, through_text
from read_env.errors import ReadEnvError

pytest.importorskip("openai")

SECRET = "sk-very-secret-0123456789"


@pytest.fixture(autouse=True)
def pauses(monkeypatch):
    """Seconds that the client would have waited between retries; it doesn't."""
    waited = []
    monkeypatch.setattr(ChatClient, "pause", lambda self, seconds: waited.append(seconds))
    monkeypatch.setenv("READ_ENV_API_KEY", SECRET)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    return waited


def teacher_at(server, **changes):
    settings = {"remote_base_url": server.url, "remote_max_retries": 3, "remote_timeout": 1.0, **changes}
    return RemoteTeacher("m", ModelConfig(**settings), max_completion_tokens=24)


def texts_of(answers):
    return [Utf8().text(a.token_ids) for a in answers]


def fine(number, prompt):
    return 200, answer("fine")


def test_answers_come_in_order_and_cut_ones_stay_open():
    with serving(lambda n, prompt: (200, answer(f"so {prompt} é", "length" if prompt == "b" else "stop"))) as server:
        answers = teacher_at(server).complete(["a", "b", "c"])
        assert texts_of(answers) == ["so a é", "so b é", "so c é"]
        assert [a.token_ids[-1] == Utf8.eos_id for a in answers] == [True, False, True]
        assert server.requests[0]["temperature"] == 0 and server.requests[0]["max_tokens"] == 24


@pytest.mark.parametrize("trouble", [(429, {"error": {"message": "slow down"}}), (503, b"down"), "drop", "cut", "hang"])
def test_passing_trouble_is_waited_out(trouble, pauses):
    with serving(lambda n, prompt: trouble if n <= 3 else fine(n, prompt)) as server:
        assert texts_of(teacher_at(server, remote_concurrency=1).complete(["a"])) == ["fine"]
        assert len(server.prompts) == 4
    # Each is about twice the one before, less a random quarter at most.
    assert len(pauses) == 3 and 0.3 < pauses[0] < pauses[1] < pauses[2] <= 2.0


def test_a_server_that_says_how_long_to_wait_is_believed(pauses):
    limited = 429, {"error": {"message": "slow down"}}, {"Retry-After": "17"}
    with serving(lambda n, prompt: limited if n == 1 else fine(n, prompt)) as server:
        assert texts_of(teacher_at(server).complete(["a"])) == ["fine"]
    assert pauses == [17]


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        (
            (401, {"error": {"message": f"wrong key {SECRET}"}}),
            r"teacher 'm' at http://127.* refused a prompt: HTTP 401",
        ),
        ((404, {"error": {"message": "no such model"}}), "HTTP 404 .*no such model"),
        ((429, {"error": {"message": "slow down"}}), "HTTP 429"),
        ("drop", "can't be reached .* run the same command again"),
        ("hang", "did not answer within models.remote_timeout = 0.2, 2 times"),
        ((200, b"{"), "sent an answer that is no chat completion"),
        ((200, {"choices": []}), "without text in choices"),
        ((200, b"<html>"), "no chat completion: an HTML page"),
        ("cut", "can't be reached"),
        (
            (200, f"your key is {SECRET}".encode(), {"Content-Type": "text/plain"}),
            "no chat completion: your key is",
        ),
        ((404, {"error": {"message": "x" * 168 + SECRET}}), "HTTP 404"),
    ],
)
def test_lasting_trouble_ends_with_an_error_that_names_it_and_not_the_key(trouble, message, caplog):
    caplog.set_level(logging.DEBUG)
    with serving(lambda n, prompt: trouble) as server, pytest.raises(ReadEnvError, match=message) as error:
        teacher_at(server, remote_max_retries=1, remote_timeout=0.2).complete(["a"])
    assert SECRET not in str(error.value) and SECRET[:12] not in str(error.value)
    assert any(not record.name.startswith("read_env") for record in caplog.records), "the client's own are looked at"
    assert all(SECRET not in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r", "  "])
def test_a_line_end_on_the_key_is_taken_off(end, monkeypatch):
    monkeypatch.setenv("READ_ENV_API_KEY", SECRET + end)
    with serving(fine) as server:
        assert texts_of(teacher_at(server).complete(["a"])) == ["fine"]
        assert server.keys == {f"Bearer {SECRET}"}


@pytest.mark.parametrize("key", [f"{SECRET}\r{SECRET}", f"{SECRET}\n#", f"{SECRET}é", f"{SECRET}\x7f"])
def test_a_key_that_cannot_be_sent_is_refused_and_not_shown(key, monkeypatch):
    monkeypatch.setenv("READ_ENV_API_KEY", key)
    with pytest.raises(ReadEnvError, match=r"\$READ_ENV_API_KEY has a line break or another character") as error:
        RemoteTeacher("m", ModelConfig(remote_base_url="http://localhost:1/v1"), max_completion_tokens=8)
    assert SECRET not in str(error.value)


def test_a_message_that_quotes_the_key_in_any_form_is_redacted(monkeypatch):
    monkeypatch.setenv("READ_ENV_API_KEY", f"{SECRET}\\\r\n")
    for form in (f"{SECRET}\\\r\n", f"{SECRET}\\", repr(f"{SECRET}\\\r\n"), repr(f"Bearer {SECRET}\\")):
        assert SECRET not in redacted(f"no: {form}.", ModelConfig())
    monkeypatch.setenv("READ_ENV_API_KEY", " ")
    assert redacted("a b", ModelConfig()) == "a b", "a blank is no key"


def test_an_empty_answer_that_is_whole_ends_at_once(caplog):
    with serving(lambda n, prompt: (200, answer(""))) as server:
        (said,) = teacher_at(server).complete(["a"])
    assert said.token_ids == (Utf8.eos_id,) and said.targets.tokens.dtype == torch.int64
    assert "gave an empty answer" in caplog.text


def test_what_arrived_before_a_server_died_is_not_asked_again(tmp_path):
    prompts = [f"prompt {i}" for i in range(12)]
    with serving(lambda n, prompt: (200, answer(prompt.upper())) if n <= 7 else "drop") as server:
        teacher = teacher_at(server, remote_max_retries=0, remote_concurrency=2)
        with pytest.raises(ReadEnvError, match="can't be reached"):
            TeacherCache(teacher, store=BlockStore(tmp_path, 10**9)).complete(prompts)
        server.reply, asked = lambda n, prompt: (200, answer(prompt.upper())), len(server.prompts)
        answers = TeacherCache(teacher, store=BlockStore(tmp_path, 10**9)).complete(prompts)
        assert texts_of(answers) == [prompt.upper() for prompt in prompts]
        assert len(server.prompts) - asked == 12 - 7


def test_a_prompt_that_occurs_twice_is_asked_once():
    with serving(lambda n, prompt: (200, answer(f"{n}"))) as server:
        answers = TeacherCache(teacher_at(server)).complete(["a", "b", "a"])
        assert len(server.prompts) == 2 and answers[0] == answers[2] and len(answers) == 3


def test_another_revision_is_another_teacher(tmp_path):
    with serving(lambda n, prompt: (200, answer(f"{n}"))) as server:
        first, second = (
            TeacherCache(teacher_at(server, remote_revision=r), store=BlockStore(tmp_path, 10**9)).complete(["a"])
            for r in ("1", "2")
        )
        assert texts_of(first) == ["1"] and texts_of(second) == ["2"]


def test_the_key_comes_from_the_environment_and_goes_nowhere_else(tmp_path, monkeypatch):
    monkeypatch.setenv("READ_ENV_CACHE", str(tmp_path / "cache"))
    arguments = "--agent uniform --distill.loss sft --models.teacher remote:m --budget.total-tokens 600".split()
    arguments += "--budget.step-tokens 300 --eval.probes 2 --eval.dev 2 --eval.exam 2".split()
    with serving(lambda n, prompt: (200, answer("2+2=4 so 4"))) as server:
        assert main(["run", *arguments, "--models.remote-base-url", server.url, "--out", str(tmp_path / "run")]) == 0
        assert server.keys == {f"Bearer {SECRET}"}
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 8
    assert all(SECRET.encode() not in path.read_bytes() for path in written)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("localhost:8000", r"models.remote_base_url: is 'localhost:8000'; right would be http\(s\)://HOST/v1"),
        ("http://[::1/v1", "right would be"),
        ("http://host:port/v1", "right would be"),
        (f"https://user:{SECRET}@host/v1", r"has a user, a password or a query in it.*the key in \$READ_ENV_API_KEY"),
        (f"{SECRET}@host/v1", "has a user, a password or a query"),
        (f"https://host/v1?key={SECRET}", "has a user, a password or a query"),
    ],
)
def test_addresses_that_make_no_sense(url, message):
    with pytest.raises(ReadEnvError, match=message) as error:
        make_config({"models": {"remote_base_url": url}}, "test")
    assert SECRET not in str(error.value)
    with pytest.raises(ValidationError) as raw:
        ModelConfig(remote_base_url=url)
    assert SECRET not in str(raw.value)


def test_without_an_address_nothing_can_be_asked():
    with pytest.raises(ReadEnvError, match="models.remote_base_url is empty"):
        RemoteTeacher("m", ModelConfig(), max_completion_tokens=8)


def test_a_secret_in_an_address_is_refused_before_anything_is_written(tmp_path, capsys):
    preset = tmp_path / "own.toml"
    url = f"https://user:{SECRET}@host/v1"
    preset.write_text(f'[models]\nteacher = "remote:m"\nremote_base_url = "{url}"\n')
    assert main(["run", "--preset", str(preset), "--out", str(tmp_path / "run")]) == 2
    with pytest.raises(SystemExit):
        main(["run", "--models.teacher", "remote:m", "--models.remote-base-url", url, "--out", str(tmp_path / "run")])
    assert list(tmp_path.iterdir()) == [preset]
    printed = capsys.readouterr()
    assert "has a user, a password" in printed.err and SECRET not in printed.out + printed.err


def test_without_the_client_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ReadEnvError, match=r"pip install 'read-env\[remote\]'"):
        RemoteTeacher("m", ModelConfig(remote_base_url="http://localhost:1/v1"), max_completion_tokens=8)


def test_probabilities_of_a_remote_teacher_are_not_to_be_had():
    student = load("embedded:micro/student").encoder
    assert align(Utf8(), student, "sft").func is through_text
    with pytest.raises(ReadEnvError, match=r"a remote teacher gives text alone.*distill.loss 'fkl'"):
        align(Utf8(), student, "fkl")


@pytest.mark.slow
def test_a_real_server_with_the_micro_teacher_teaches_as_the_teacher_in_process(tmp_path):
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    pytest.importorskip("accelerate")
    tokenizer = saved(tmp_path / "teacher", name="teacher").encoder.tokenizer
    # The prompt format of the embedded models, as a chat template for the server.
    tokenizer.chat_template = "{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}\n"
    tokenizer.save_pretrained(tmp_path / "teacher")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(tmp_path / "teacher")]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32"]
    with (tmp_path / "server.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ)
    try:
        url = f"http://127.0.0.1:{port}"
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{url}/health", timeout=1).read()
                break
            except OSError:
                assert server.poll() is None, (tmp_path / "server.log").read_text()[-2000:]
                time.sleep(0.5)
        models = {"teacher": f"remote:{tmp_path / 'teacher'}", "remote_base_url": f"{url}/v1", "remote_concurrency": 2}
        distill = {"loss": "sft", "teacher_batch_size": 4}
        config, local = (micro_config(600, 300, 2, models=where, distill=distill) for where in (models, {}))
        asked = ["2+3+4", "say big fish in spanish", "spell box with /"]
        said = texts_of(load_teacher(config, load_student(config)).complete(asked))
        here = load_teacher(local, load_student(local))
        assert said == [here.encoder.text(a.token_ids) for a in here.complete(asked)]
        remote, inside = (Distillation.load(one).step(np.ones(10)) for one in (config, local))
        assert remote.completion_tokens == inside.completion_tokens
        np.testing.assert_allclose(remote.profile, inside.profile, atol=1e-6)
    finally:
        server.terminate()
        server.wait(20)
        print(json.dumps((tmp_path / "server.log").read_text()[-1500:]))
