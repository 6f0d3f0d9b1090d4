"""Uploads, against a stand-in of the hub's API on this machine."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from huggingface_hub import constants

from read_env.errors import ReadEnvError
from read_env.running.hub import check_hub, push


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

    def do_GET(self):
        if not self._allowed():
            return
        if self.path.startswith("/api/whoami"):
            self._answer({"type": "user", "name": "me", "auth": {"accessToken": {"role": "write"}}})
        else:
            self._answer({"id": "me/small", "sha": "0" * 40, "siblings": []})

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
