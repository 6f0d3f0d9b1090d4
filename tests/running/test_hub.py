"""Uploads, against a stand-in of the hub's API on this machine."""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from huggingface_hub import ModelCard, constants

from read_env.agents import Agent, make_agent
from read_env.agents.custom import adapt
from read_env.agents.static import Uniform
from read_env.errors import ReadEnvError
from read_env.reporting.cards import policy_card
from read_env.running.agents import TRAINING_RECORD, AgentSpec
from read_env.running.hub import check_hub, pull_agent, push

SHA = "0" * 40


class Hub(BaseHTTPRequestHandler):
    """Answers of the hub to what an upload asks; ``server.files`` is what was committed."""

    def log_message(self, *_):
        pass

    def _answer(self, value, status=200):
        text = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _allowed(self):
        if self.headers.get("Authorization") == "Bearer good":
            return True
        self._answer({"error": "Invalid token"}, 401)
        return False

    def do_HEAD(self):
        self.do_GET()

    def _send_file(self, name):
        """A file with the headers by which huggingface_hub caches it."""
        content = self.server.files[name]
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", SHA)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def do_GET(self):
        if not self._allowed():
            return
        if not self.path.startswith(("/api/whoami", "/api/models/me/small", "/me/small/resolve/")):
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif "/resolve/" in self.path:
            self._send_file(self.path.rpartition("/")[2])
        elif "/tree/" in self.path:
            entries = self.server.files.items()
            self._answer([{"type": "file", "path": n, "size": len(c), "oid": "1" * 40} for n, c in entries])
        elif self.path.startswith("/api/whoami"):
            self._answer({"type": "user", "name": "me", "auth": {"accessToken": {"role": "write"}}})
        else:
            self._answer({"id": "me/small", "sha": SHA, "siblings": [{"rfilename": n} for n in self.server.files]})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not self._allowed():
            return
        if self.path == "/api/repos/create":
            self.server.created = json.loads(body)
            self._answer({"url": "https://huggingface.co/me/small", "id": "me/small"})
        elif "/preupload/" in self.path:
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]
            ]
            self._answer({"files": files})
        elif "/commit/" in self.path:
            if self.server.full:
                self._answer({"error": "no space left"}, 507)
                return
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    self.server.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            self._answer(
                {"commitUrl": "https://huggingface.co/me/small/commit/1", "commitOid": "1" * 40, "success": True}
            )
        else:
            self._answer({})


@pytest.fixture
def hub(monkeypatch, tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.files, server.created, server.full = {}, None, False
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_TOKEN", "good")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    yield server
    server.shutdown()
    server.server_close()


def test_a_folder_is_uploaded_to_a_private_repository(hub, tmp_path):
    (tmp_path / "README.md").write_text("# card")
    (tmp_path / "model.bin").write_bytes(bytes(range(256)))
    (tmp_path / "other.txt").write_text("stays here")
    check_hub("small")
    assert "small" in push(tmp_path, "small", ["README.md", "model.bin"])
    private = hub.created.get("private", hub.created.get("visibility") == "private")  # by version of huggingface_hub
    assert hub.created["name"] == "small" and private is True
    assert hub.files == {"README.md": b"# card", "model.bin": bytes(range(256))}


def test_what_the_hub_refuses_is_said_and_the_folder_stays(hub, tmp_path, monkeypatch):
    (tmp_path / "README.md").write_text("# card")
    with pytest.raises(ReadEnvError, match="no name of a repository"):
        check_hub("no such/name/at all")
    hub.full = True
    with pytest.raises(ReadEnvError, match=r"is complete, but was not uploaded to 'small'.*tries again"):
        push(tmp_path, "small")
    monkeypatch.setenv("HF_TOKEN", "bad")
    with pytest.raises(ReadEnvError, match=r"refuses the token \(401\)"):
        check_hub("small")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.hf_api.get_token", lambda: None)
    with pytest.raises(ReadEnvError, match="hf auth login"):
        check_hub("small")


def test_a_hub_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_TOKEN", "good")
    for offline in (False, True):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
        with pytest.raises(ReadEnvError, match="push_to_hub 'small'"):
            check_hub("small")


def trained():
    """Bandit that has drawn from its generator, so that its state differs from that of a new one."""
    agent = make_agent("read-bandit-published", capabilities=("a", "b", "c"), options={"warmup": 2}, seed=4)
    agent.rng.random(5)
    return agent


def test_an_agent_is_pushed_with_a_card_and_loaded_again(hub, tmp_path):
    agent = trained()
    assert "me/small" in agent.push_to_hub("me/small", private=False)
    private = hub.created.get("private", hub.created.get("visibility") == "private")
    assert set(hub.files) == {"agent.zip", "README.md"} and not private
    card = ModelCard(hub.files["README.md"].decode())
    assert card.data.library_name == "read-env" and "warmup = 2" in card.content and "a, b, c" in card.content
    back = Agent.from_pretrained("me/small", options={"kappa": 0.5})
    assert back.rng.random() == agent.rng.random()
    assert (back.name, back.options["warmup"], back.options["kappa"]) == ("read-bandit-published", 2, 0.5)
    with pytest.raises(ReadEnvError, match="holds the agent 'read-bandit-published'.* not a Uniform"):
        Uniform.from_pretrained("me/small")


def test_paths_need_no_hub(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    trained().save(tmp_path / "agent.zip")
    for path in (tmp_path, tmp_path / "agent.zip", str(tmp_path)):
        assert Agent.from_pretrained(path).name == "read-bandit-published"


def test_an_agent_of_the_hub_on_the_command_line_has_the_tokens_of_its_training(hub, tmp_path):
    trained().save(tmp_path / "agent.zip")
    hub.files = {
        "agent.zip": (tmp_path / "agent.zip").read_bytes(),
        TRAINING_RECORD: b'{"label": "bandit-trained", "tokens_before_run": 2000}',
        "large.bin": b"not downloaded",
    }
    spec = AgentSpec.parse("hf:me/small,kappa=0.5")
    assert (spec.label, spec.tokens_before_run, spec.options) == ("bandit-trained,kappa=0.5", 2000, {"kappa": 0.5})
    assert {path.name for path in spec.path.parent.iterdir()} == {"agent.zip", TRAINING_RECORD}


def test_what_the_hub_does_not_have_is_said(hub):
    with pytest.raises(ReadEnvError, match="agent 'me/gone': there is no such file and no such repository"):
        Agent.from_pretrained("me/gone")
    hub.files = {"model.safetensors": b""}
    with pytest.raises(ReadEnvError, match=r"the repository has no agent\.zip"):
        pull_agent("me/small")
    with pytest.raises(ReadEnvError, match="agent 'no such/name' of the hub"):
        pull_agent("no such/name")


def test_the_card_of_a_class_of_ones_own_says_that_it_must_be_trusted(tmp_path):
    mine = adapt(lambda: SimpleNamespace(predict=lambda observation, **_: None), "mine:Agent", ("a", "b"), {}, seed=0)
    assert "--agent .,trust_remote_code=true" in policy_card(mine, tmp_path).read_text()
    assert "trust" not in policy_card(trained(), tmp_path).read_text()
