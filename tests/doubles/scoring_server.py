"""Inference servers of both kinds in a process of their own, which can be told to go wrong.

python scoring_server.py embedded:micro/teacher    # prints the ports of both, and serves until its input ends
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from scoring_replies import Refusal, ServedModel, sglang_reply, vllm_reply


class ScoringServer:
    """Handle of a server in another process.

    Attributes:
        url: base URL.
        process: the process.
        kind: ``vllm`` or ``sglang``.
    """

    def __init__(self, url: str, process: subprocess.Popen[str], kind: str) -> None:
        self.url = url
        self.process = process
        self.kind = kind

    def fault(self, name: str, count: int = 10**9, after: int = 0) -> None:
        """Make ``count`` requests go wrong, ``after`` so many right ones; an empty name ends it."""
        self._control({"name": name, "count": count, "after": after})

    def seen(self) -> list[dict[str, Any]]:
        """Bodies of the requests since the last call."""
        found: list[dict[str, Any]] = self._control({"seen": True})
        return found

    def _control(self, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(f"{self.url.removesuffix('/v1')}/control", json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=60) as reply:
            return json.load(reply)


@contextmanager
def scoring_servers(*models: str) -> Iterator[dict[str, ScoringServer]]:
    """A server of either kind, by name, for the time of a test: both in one other process.

    Args:
        models: references of the models, named ``m``, ``m1``, ``m2``, …; SGLang's server has the first alone.
    """
    command = [sys.executable, str(Path(__file__)), *(models or ["embedded:micro/teacher"])]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdin is not None
    try:
        ports = json.loads(process.stdout.readline())
        yield {kind: ScoringServer(f"http://127.0.0.1:{port}/v1", process, kind) for kind, port in ports.items()}
    finally:
        process.stdin.close()
        process.terminate()
        process.wait(20)


class _State:
    def __init__(self, kind: str, models: dict[str, ServedModel], lock: threading.Lock) -> None:
        self.kind, self.models, self.lock = kind, models, lock
        self.requests: list[dict[str, Any]] = []
        self.name, self.count, self.after = "", 0, 0

    def next_fault(self) -> str:
        with self.lock:
            if self.after > 0:
                self.after -= 1
                return ""
            self.count -= 1
            return self.name if self.count >= 0 else ""


def _serve(references: list[str]) -> None:
    models = {f"m{i}" if i else "m": ServedModel(reference) for i, reference in enumerate(references)}
    lock, ports = threading.Lock(), {}
    for kind in ("vllm", "sglang"):
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(_State(kind, models, lock)))
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        ports[kind] = server.server_port
    print(json.dumps(ports), flush=True)
    sys.stdin.read()


def _handler(state: _State) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path == "/control":
                with state.lock:
                    seen, state.requests = state.requests, [] if body.get("seen") else state.requests
                    if "name" in body:
                        state.name, state.count, state.after = body["name"], body["count"], body["after"]
                return self.send(200, seen)
            fault = state.next_fault()
            with state.lock:
                state.requests.append(body)
            if fault == "death":
                os._exit(1)
            if fault == "slow":
                time.sleep(2.0)
            if fault == "dropped":
                self.close_connection = True
                return None
            if fault in ("page", "page 502"):  # of a proxy
                page = b"<!doctype html><html><title>Sign in</title></html>"
                return self.send_content(502 if fault == "page 502" else 200, "text/html", page)
            served = {"vllm": "/v1/completions", "sglang": "/generate"}[state.kind]
            if self.path != served or fault == "chat only":
                return self.send(404, {"detail": "Not Found"})
            if fault in ("500", "503"):
                return self.send(int(fault), {"error": {"message": "busy"}})
            try:
                with state.lock:
                    reply = {"vllm": vllm_reply, "sglang": sglang_reply}[state.kind](state.models, body, fault)
            except Refusal as refusal:
                message = {"message": str(refusal), "type": "BadRequestError", "code": refusal.status}
                return self.send(refusal.status, {"error": message})
            return self.send(200, reply, cut=fault == "cut")

        def do_GET(self) -> None:
            if self.path != "/v1/models":
                return self.send(404, {"detail": "Not Found"})
            owner = "somebody" if state.name == "unknown owner" else state.kind
            data = [
                {"id": name, "object": "model", "owned_by": owner, "max_model_len": model.context}
                for name, model in state.models.items()
            ]
            return self.send(200, {"object": "list", "data": data})

        def send(self, status: int, value: Any, cut: bool = False) -> None:
            content = json.dumps(value).encode()
            kind = "text/plain" if state.name == "text" else "application/json"
            self.send_content(status, kind, content[: len(content) // 2] if cut else content)

        def send_content(self, status: int, kind: str, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


if __name__ == "__main__":
    _serve(sys.argv[1:])
