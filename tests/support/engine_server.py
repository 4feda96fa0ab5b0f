"""An engine of our own: an OpenAI-compatible server that answers as a test tells it to, and breaks on demand."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-Engine/Secret"


@dataclass
class Broken:
    """What comes in place of an answer."""

    status: int = 200
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False


class Engine(ThreadingHTTPServer):
    """Serves `models`; `write` answers (model, prompt, request), and `broken` comes first, one a request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.models: list[str] | None = ["this", "base"]
        self.pages: dict[str, Any] = {}
        self.owner = "tests"
        self.write: Callable[[str, str, dict[str, Any]], str] = lambda model, prompt, asked: f"{model} on {prompt}"
        self.broken: list[Broken] = []
        self.every: Callable[[dict[str, Any]], Broken | None] = lambda asked: None
        self.usage: int | None = None
        self.finish = "stop"
        self.requests: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"

    @property
    def asked(self) -> list[dict[str, Any]]:
        """The requests for answers."""
        return [content for path, _, content in self.requests if path.endswith("completions")]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The client left: as intended."""


class Handler(BaseHTTPRequestHandler):
    server: Engine

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        engine = self.server
        with engine.lock:
            engine.requests.append((self.path, dict(self.headers), {}))
        if self.path == "/v1/models" and engine.models is not None:
            self.send(200, {"data": [{"id": name, "owned_by": engine.owner} for name in engine.models]})
        elif self.path in engine.pages:
            self.send(200, engine.pages[self.path])
        else:
            self.send(404, {"error": "no such page"})

    def do_POST(self) -> None:
        engine, asked = self.server, json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with engine.lock:
            engine.requests.append((self.path, dict(self.headers), asked))
            broken = engine.every(asked) or (engine.broken.pop(0) if engine.broken else None)
        if broken:
            self.send(broken.status, broken.body or b"{}", broken.headers, cut=broken.cut)
            return
        if engine.models is not None and asked["model"] not in engine.models:
            self.send(404, {"error": {"message": f"no model {asked['model']}"}})
            return
        prompt = asked["prompt"] if "prompt" in asked else asked["messages"][-1]["content"]
        text = engine.write(asked["model"], prompt, asked)
        choice = {"text": text} if "prompt" in asked else {"message": {"role": "assistant", "content": text}}
        usage = {} if engine.usage is None else {"usage": {"completion_tokens": engine.usage}}
        self.send(200, {"choices": [{**choice, "finish_reason": engine.finish}], **usage})

    def send(self, status: int, content: Any, headers: dict[str, str] | None = None, *, cut: bool = False) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)


@contextmanager
def running() -> Iterator[Engine]:
    with Engine() as own:
        threading.Thread(target=own.serve_forever, args=(0.01,), daemon=True).start()
        yield own
        own.shutdown()
