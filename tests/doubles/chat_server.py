"""An OpenAI-compatible server on loopback that does what a test wants it to do wrong."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def answer(text: Any, finish: str | None = "stop") -> dict[str, Any]:
    """A well-formed reply."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}


class ChatServer:
    """Counts requests and answers each with what ``reply(number, prompt)`` says.

    A reply is (status, JSON value or bytes), with a dict of headers as a third if they are to be others, or
    ``"hang"``, ``"drop"`` (the connection is closed) or ``"cut"`` (it is closed in the middle of an answer).
    ``listing`` is the reply to whoever asks for the models.
    """

    def __init__(self, reply: Callable[[int, str], Any], listing: Any) -> None:
        self.reply = reply
        self.listing = listing
        self.prompts: list[str] = []
        self.requests: list[dict[str, Any]] = []
        self.keys: set[str] = set()
        self.headers: dict[str, str] = {}
        self.paths: list[str] = []
        self.lock = threading.Lock()
        self.url = ""


@contextmanager
def serving(reply: Callable[[int, str], Any], listing: Any = (404, b"")) -> Iterator[ChatServer]:
    """A server for the time of a test."""
    state = ChatServer(reply, listing)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            prompt = request["messages"][-1]["content"]
            with state.lock:
                state.prompts.append(prompt)
                state.requests.append(request)
                state.keys.add(self.headers.get("Authorization", ""))
                state.headers = {name.lower(): value for name, value in self.headers.items()}
                state.paths.append(self.path)
                number = len(state.prompts)
            self.send(state.reply(number, prompt))

        def do_GET(self) -> None:
            with state.lock:
                state.keys.add(self.headers.get("Authorization", ""))
            self.send(state.listing if self.path.partition("?")[0] == "/v1/models" else (404, b""))

        def send(self, found: Any) -> None:
            if found == "hang":
                time.sleep(3)
                return
            if found == "drop":
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            status, value, *others = (200, answer("what was cut")) if found == "cut" else found
            body = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
            for name, content in {**headers, **(others[0] if others else {})}.items():
                self.send_header(name, content)
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if found == "cut" else body)
            if found == "cut":
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
