"""The exchange with a server that misbehaves on demand: tries, waits, messages, and where the key goes."""

import random
import re
import socket
import threading
import time
from email.utils import formatdate
from typing import Any

import pytest
from support.judge_server import ITEM, KEY, Reply, Server, one

from monoglot.editor.errors import JudgeError
from monoglot.editor.measures import endpoint as http
from monoglot.editor.measures.judge import (
    Verdict,
    check,
    judge,
)


def failure(server: Server, **options: Any) -> str:
    """The message of a run that must fail; the key is neither in it nor in what it came from."""
    with pytest.raises(JudgeError) as raised:
        one(server, **options)
    error: BaseException | None = raised.value
    while error:
        assert KEY not in repr(error) and not (error.__context__ and not error.__suppress_context__)
        error = error.__cause__
    assert server.url in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(server: Server, waits: list[float], status: int) -> None:
    server.replies = [Reply(status=status)] * 3
    assert one(server) == Verdict(4)
    assert waits == [1, 2, 4]
    server.replies = [Reply(status=status)] * 3
    assert str(status) in (said := failure(server, retries=2)) and said.endswith("It was tried 3 times.")
    assert len(server.requests) == 7


def test_no_wait_is_longer_than_a_minute(server: Server, waits: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    server.replies = [Reply(status=500)] * 9
    assert one(server, retries=9) == Verdict(4)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    monkeypatch.undo()
    assert all(0.5 <= random.uniform(0.5, 1) <= 1 for _ in range(9))


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [
        ("7", 7, 7),
        ("0", 0, 0),
        ("86400", 60, 60),
        (5.0, 2, 5),
        (3600.0, 60, 60),
        (-60.0, 0, 0),
        ("soon", 1, 1),
        ("", 1, 1),
    ],
)
def test_retry_after(server: Server, waits: list[float], value: str | float, least: float, most: float) -> None:
    """Seconds, or a date so many seconds from now; what is neither is passed over."""
    after = value if isinstance(value, str) else formatdate(time.time() + value, usegmt=True)
    server.replies = [Reply(status=429, headers={"Retry-After": after})]
    assert one(server) == Verdict(4)
    assert len(waits) == 1 and least <= waits[0] <= most


@pytest.mark.parametrize(
    ("status", "step"),
    [(400, "does not take this request"), (401, "key is missing or wrong"), (403, "may not use this model"),
     (404, r"no such model, or the path is wrong: does the URL end in /v1\?"), (405, "end in /v1"), (418, "URL right")],
)  # fmt: skip
def test_what_will_not_pass_is_said_at_once(server: Server, waits: list[float], status: int, step: str) -> None:
    echo = f'{{"error": "no \x1b[31m{KEY} here"}}'.encode()
    server.replies = [Reply(status=status, body=echo)]
    said = failure(server)
    assert re.search(step, said) and str(status) in said and "'tiny'" in said and "*** here" in said
    assert said.isprintable() and not waits and len(server.requests) == 1


def test_a_cut_connection(server: Server, waits: list[float]) -> None:
    server.replies = [Reply(cut=True), Reply(cut=True, body=b"x" * 100)]
    assert one(server) == Verdict(4) and len(waits) == 2
    server.reply_to = lambda _: Reply(cut=True)
    assert "cut the connection" in failure(server, retries=1)


def test_a_connection_that_is_closed_without_a_word(waits: list[float]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def close() -> None:
            for _ in range(2):
                listener.accept()[0].close()

        thread = threading.Thread(target=close, daemon=True)
        thread.start()
        with pytest.raises(JudgeError, match="cut the connection"):
            judge(f"http://127.0.0.1:{port}/v1", "tiny", [ITEM], retries=1)
        thread.join()


@pytest.mark.parametrize("slow", [Reply(hang=9), Reply(drip=True)])
def test_a_slow_reply(server: Server, waits: list[float], slow: Reply) -> None:
    """One that doesn't begin, and one that doesn't end."""
    server.replies = [slow]
    assert one(server, timeout=0.2) == Verdict(4) and len(waits) == 1
    server.reply_to = lambda _: slow
    assert "no reply within 0.2 s" in failure(server, timeout=0.2, retries=0)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(server: Server, waits: list[float], status: int) -> None:
    with Server() as other:
        threading.Thread(target=other.serve_forever, args=(0.01,), daemon=True).start()
        server.reply_to = lambda _: Reply(status=status, headers={"Location": f"{other.url}?key={KEY}"})
        said = failure(server)
        assert f"redirects to {other.url}?key=***" in said and "give its URL" in said
        server.models = Reply(status=status, headers={"Location": other.url})
        with pytest.raises(JudgeError, match="redirects"):
            check(server.url, "tiny", KEY)
        other.shutdown()
        assert not other.requests and not waits


@pytest.mark.parametrize(
    "body",
    [b"<html>sk-Very/Secret</html>", b"", b"[]", b"{}", b'{"choices": []}', b'{"choices": [3]}', b'{"choices": {"a": 1}}',
     b'{"choices": [{}]}', b'{"choices": [{"message": []}]}', b'{"choices": [{"message": {"content": ["4"]}}]}', b"\xff\xfe",
     b"[" * 100_000, b'{"error": {"message": "sk-Very\\/Secret"}}', b'{"choices": [{"message": {"content": 4}}]}'],
)  # fmt: skip
def test_malformed_replies(server: Server, waits: list[float], body: bytes) -> None:
    server.replies = [Reply(body=body)]
    said = failure(server)
    assert "no chat completion" in said and "end in /v1" in said and not waits and len(said) < 500
    assert "Secret" not in said and (b"Secret" not in body or "***" in said)


def test_a_reply_without_end(server: Server, waits: list[float]) -> None:
    server.replies = [Reply("4" * (1 << 20))]
    assert "longer than 1048576 bytes" in failure(server) and not waits
    server.replies = [Reply("4" * (1 << 20), headers={"Content-Length": "999999999"}, stay=True)]
    assert "longer than 1048576 bytes" in failure(server, timeout=2) and not waits  # the rest is not waited for
    server.replies = [Reply("4" + " " * ((1 << 20) - 200))]
    assert one(server) == Verdict(4)


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_nobody_there(waits: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"http://127.0.0.1:{closed_port()}/v1"
    for ask in (lambda: check(url, "tiny", KEY), lambda: judge(url, "tiny", [ITEM], key=KEY)):
        with pytest.raises(JudgeError, match=rf"{url} cannot be reached: .*refused.* host and port") as error:
            ask()
        assert error.value.__suppress_context__  # what was sent is in it

    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(JudgeError, match=r"cannot be reached: .*Name or service not known"):
        check("http://127.0.0.1:9/v1", "tiny")
    assert not waits


def test_where_the_base_of_a_url_is() -> None:
    for url in (
        "http://h:8080/v1",
        "http://h:8080/v1/",
        "http://h:8080/v1/chat/completions",
        "http://h:8080/v1/chat/completions/",
        "http://h:8080/v1//chat/completions",
    ):
        assert http.base_url(url) == "http://h:8080/v1"
    assert http.base_url("https://example.org") == http.base_url("https://example.org/") == "https://example.org"


@pytest.mark.parametrize(
    "url",
    ["", "h:8080/v1", "ftp://h/v1", "file:///etc/passwd", "http://", "http:///v1", "http://h:port/v1", "http://h:99999/v1",
     "http://h/v 1", "http://h/v1\n", "http://[::1/v1", "http://hé/v1", "data:,4", "http://h:0/v1"],
)  # fmt: skip
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(JudgeError, match="such as http"):
        judge(url, "tiny", [ITEM])


@pytest.mark.parametrize(
    "url", ["http://me:hush@h/v1", "http://hush@h/v1", "https://h/v1?key=hush", "https://h/v1#hush"]
)
def test_a_url_with_a_secret_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(JudgeError, match="Leave that out") as error:
        check(url, "tiny")
    assert "hush" not in str(error.value)


def test_a_proxy_is_not_asked_for_this_machine(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port()}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert one(server) == Verdict(4)
