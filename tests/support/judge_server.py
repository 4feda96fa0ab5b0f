"""A judge of our own: a server that answers as a test tells it to."""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from monoglot.editor.measures.judge import (
    Verdict,
    judge,
)

KEY = "sk-Very/Secret"
ITEM = ("Why is the sky blue?", "Le ciel est bleu.", "French")


@dataclass
class Reply:
    """What the server does with one request."""

    content: Any = "4"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None  # in place of a chat completion
    finish: str = "stop"
    message: dict[str, Any] = field(default_factory=dict)
    cut: bool = False  # of the body only half is sent
    hang: float = 0.0  # s, before it replies
    drip: bool = False  # one byte, then another, …
    stay: bool = False  # as if there were more to come


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.replies: list[Reply] = []  # in the order of the requests; then 4 to each
        self.reply_to: Callable[[str], Reply] | None = None  # or by what is asked
        self.models: Reply = Reply(body=b'{"data": [{"id": "tiny"}]}')
        self.requests: list[tuple[str, str, dict[str, str], Any]] = []
        self.released = threading.Event()
        self.lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The client left: as intended."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.answer(None, self.server.models)

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = asked["messages"][0]["content"]
        with self.server.lock:
            replies = self.server.replies
            reply = self.server.reply_to(text) if self.server.reply_to else replies.pop(0) if replies else Reply()
        self.answer(asked, reply)

    def answer(self, asked: Any, reply: Reply) -> None:
        with self.server.lock:
            self.server.requests.append((self.command, self.path, dict(self.headers), asked))
        if reply.hang:
            self.server.released.wait(reply.hang)
        choice = {"message": {"content": reply.content, **reply.message}, "finish_reason": reply.finish}
        body = json.dumps({"choices": [choice]}).encode() if reply.body is None else reply.body
        self.send_response(reply.status)
        for name, value in {"Content-Length": str(len(body)), **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if reply.drip:
            for byte in body:
                self.wfile.write(bytes([byte]))
                if self.server.released.wait(0.05):
                    break
        else:
            self.wfile.write(body[: len(body) // 2] if reply.cut else body)
        if reply.stay:
            self.server.released.wait(9)


def one(server: Server, **options: Any) -> Verdict:
    return judge(server.url, "tiny", [ITEM], key=KEY, workers=1, **options)[0]
