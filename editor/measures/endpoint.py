"""Ask a server, a judge's or an engine's: JSON over HTTP, tried again where that may help, with a key that goes nowhere else.

- Tried again, at most `retries` times: 429, 500, 502, 503, 504, a timeout, a cut connection; after 1, 2, 4 … s with jitter,
  or what Retry-After says, at most WAIT s. All else is an error at once, and so is the last failed try.
- The key goes into the Authorization header of requests to this URL and nowhere else: no redirect is followed, and where a
  server repeats it in a reply, messages have *** in its place.
- A proxy from the environment is used, but not to reach this machine itself.
- Of a reply at most LIMIT bytes are read.
"""

import http.client
import json
import queue
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

from ..certificates import check_certificates
from ..errors import JudgeError, MonoglotError
from ..retry import pause, retry_after

Item = TypeVar("Item")
Found = TypeVar("Found")

LIMIT = 1 << 20  # bytes of a reply
BEGINNING = 200  # characters of a reply in a message
AGAIN = {429, 500, 502, 503, 504}
NEXT_STEP = {
    400: "It does not take this request: see what it says of the model and its settings.",
    401: "The key is missing or wrong: set the right one.",
    403: "The key may not use this model: take another one of the two.",
    404: "Either it has no such model, or the path is wrong: does the URL end in /v1?",
    405: "The path is wrong: does the URL end in /v1?",
    429: "These are too many requests, or nothing is left to spend: try later, or with fewer workers.",
}


@dataclass(frozen=True)
class Endpoint:
    """A server, the model that is asked, and how; `stop` is set when nobody waits for replies any more.

    `who` is what messages call it, `error` what is raised.
    """

    url: str
    model: str
    key: str | None = field(repr=False)
    timeout: float  # s
    retries: int
    opener: urllib.request.OpenerDirector
    stop: threading.Event
    who: str = "the judge"
    error: type[MonoglotError] = JudgeError

    @property
    def place(self) -> str:
        """What messages call it, and where it is."""
        return f"{self.who} at {self.url}"


def base_url(url: str, who: str = "the judge", error: type[MonoglotError] = JudgeError) -> str:
    """Return the URL that /models and /chat/completions are below: without a slash or /chat/completions at its end.

    Raises `error` for what is not the http or https URL of a host, and for one with a user, a password, ? or # in it,
    which is not repeated in the message.
    """
    if re.search("[@?#]", url):
        raise error(
            f"{who}'s URL has a user, a password, or a part after ? or # in it. Leave that out; a key is read from the "
            "environment."
        )
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        good = False
    if not good or not re.fullmatch("[!-~]+", url):
        raise error(f"{who}'s URL is {url!r}. Give one such as http://127.0.0.1:8080/v1.")
    if parts.scheme == "https":
        check_certificates(error)
    return url.rstrip("/").removesuffix("/chat/completions").rstrip("/")


def open_endpoint(
    url: str,
    model: str,
    key: str | None,
    timeout: float,
    retries: int,
    *,
    who: str = "the judge",
    error: type[MonoglotError] = JudgeError,
) -> Endpoint:
    """Make an endpoint, without connecting yet. Raises `error` for a URL or key that can't be one."""
    if key is not None and not re.fullmatch("[!-~]+", key):  # http.client would repeat it in its own error
        raise error(f"{who}'s key has a space, a line break or another character in it that no key has. Set it anew.")
    base = base_url(url, who, error)
    own = urlsplit(base).hostname in ("localhost", "127.0.0.1", "::1")
    opener = urllib.request.OpenerDirector()  # without the handler of redirects
    for handler in (
        urllib.request.ProxyHandler({} if own else None),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
    ):
        opener.add_handler(handler)
    return Endpoint(base, model, key, timeout, retries, opener, threading.Event(), who, error)


def exchange(endpoint: Endpoint, path: str, content: Mapping[str, Any] | None) -> tuple[int, bytes]:
    """Return the status and body of the reply to one request: GET, or POST where there is content.

    Raises the endpoint's error for a server that can't be reached, redirects, or fails at every try, or replies too much.
    """
    for tried in range(1, endpoint.retries + 2):
        after = None
        try:
            status, headers, body = _send(endpoint, path, content)
            if 300 <= status < 400:
                where = beginning(endpoint, headers.get("Location", ""))
                raise endpoint.error(
                    f"{endpoint.place} redirects to {where}. Nothing was sent there: if it is the right place, "
                    "give its URL."
                )
            if status not in AGAIN:
                return status, body
            failed, after = refused(endpoint, status, body), retry_after(headers.get("Retry-After"))
        except (OSError, http.client.HTTPException, ValueError) as error:
            failed = _unreachable(endpoint, error)
        if tried > endpoint.retries:
            break
        if _wait(endpoint.stop, pause(tried, after)):
            break
    raise endpoint.error(f"{failed} It was tried {tried} times." if tried > 1 else str(failed))


def each(
    endpoint: Endpoint,
    items: Sequence[Item],
    one: Callable[[Endpoint, Item], Found],
    *,
    workers: int,
    told: Callable[[int, Found], None] = lambda number, found: None,
) -> list[Found]:
    """Ask for each item, `workers` at a time, and return what `one` makes of it, in the order of the items.

    `told` gets the number of an item and what was found, as soon as it is, on the caller's thread. On an error, and on
    Ctrl-C, no further request is sent.
    """
    todo: queue.SimpleQueue[tuple[int, Item]] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[int, Found | None, BaseException | None]] = queue.SimpleQueue()
    for numbered in enumerate(items):
        todo.put(numbered)

    def work() -> None:
        while not endpoint.stop.is_set():
            try:
                number, item = todo.get_nowait()
            except queue.Empty:
                return
            try:
                done.put((number, one(endpoint, item), None))
            except BaseException as error:  # for the caller's thread
                endpoint.stop.set()
                done.put((number, None, error))

    made: dict[int, Found] = {}
    try:
        for _ in range(min(max(1, workers), len(items))):
            threading.Thread(target=work, daemon=True).start()  # an executor's threads would hold up Ctrl-C
        while len(made) < len(items):
            number, found, error = done.get()
            if error:
                raise error
            made[number] = cast("Found", found)
            told(number, made[number])
    finally:
        endpoint.stop.set()
    return [made[number] for number in range(len(items))]


def _unreachable(endpoint: Endpoint, error: BaseException) -> MonoglotError:
    """Make the error for when this was the last try; it is raised at once where another is no use."""
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return endpoint.error(f"{endpoint.place} gave no reply within {endpoint.timeout:g} s. Allow it more time.")
    cut = isinstance(cause, ConnectionError | http.client.IncompleteRead)
    if cut and not isinstance(cause, ConnectionRefusedError):
        return endpoint.error(f"{endpoint.place} cut the connection. Look at its log.")
    raise endpoint.error(
        f"{endpoint.place} cannot be reached: {beginning(endpoint, str(cause))}. Is the server running, and are "
        "host and port right?"
    ) from None


def _send(endpoint: Endpoint, path: str, content: Mapping[str, Any] | None) -> tuple[int, Mapping[str, str], bytes]:
    """One try: status, headers, body. The timeout is that of the whole reply, not of a piece."""
    data = None if content is None else json.dumps(content).encode()
    request = urllib.request.Request(endpoint.url + path, data, {"User-Agent": "monoglot"})  # noqa: S310  # base_url
    if data is not None:
        request.add_header("Content-Type", "application/json")
    if endpoint.key is not None:
        request.add_unredirected_header("Authorization", f"Bearer {endpoint.key}")
    deadline = time.monotonic() + endpoint.timeout
    with endpoint.opener.open(request, timeout=endpoint.timeout) as reply:
        length, body = reply.length, b""  # None where the server doesn't say
        while len(body) <= LIMIT and (length is None or len(body) < length):
            piece = reply.read1(1 << 16)
            if not piece:
                break
            body += piece
            if time.monotonic() > deadline:
                raise TimeoutError
        if len(body) > LIMIT:
            raise endpoint.error(
                f"the reply of {endpoint.place} is longer than {LIMIT} bytes: {beginning(endpoint, body)!r}. Is "
                "it a chat model?"
            )
        if length is not None and len(body) < length:
            raise http.client.IncompleteRead(body, length - len(body))
        return reply.status, reply.headers, body


def _wait(stop: threading.Event, seconds: float) -> bool:
    """Wait, or until nobody waits for the reply any more; whether that is so."""
    return stop.wait(seconds)


def refused(endpoint: Endpoint, status: int, body: bytes) -> MonoglotError:
    """Make the error for a status that is not 200: the next step, and what the server says itself."""
    step = NEXT_STEP.get(status, "Try later, or another server." if status >= 500 else "Is the URL right?")
    said = beginning(endpoint, body)
    return endpoint.error(
        f"{endpoint.place} answered {status} for the model {endpoint.model!r}. {step}"
        + (f" It says: {said}" if said else "")
    )


def parsed(body: bytes) -> Mapping[str, Any]:
    """Return the JSON object in a body; {} of what isn't one."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def beginning(endpoint: Endpoint, said: bytes | str) -> str:
    """Return the beginning of what a server said, fit for a message.

    It is one line, with nothing that a terminal obeys, and without the key.
    """
    text = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
    for key in {endpoint.key, json.dumps(endpoint.key)[1:-1], endpoint.key.replace("/", r"\/")} if endpoint.key else ():
        text = text.replace(key, "***")
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    return " ".join(text.split())[:BEGINNING]
