"""Speak to the Hub: one place that tries again, and one that says in a sentence what went wrong.

- Tried again, at most TRIES times: 429, 500, 502, 503, 504, a cut connection, a reply that is no JSON (a gateway's error
  page), a failure of Xet's storage; after 1, 2, 4 … s with jitter, or what Retry-After (or the rate limit's own header)
  says, at most WAIT s. huggingface_hub does so itself for some requests, but not for those that make a repository, a branch
  or a tag, nor for the commit after an LFS upload. The first request of all is not repeated when there is no connection:
  then there is no network.
- All else, and the last failed try, is a PublishError: what was being done, why it failed, what to do. The errors of
  huggingface_hub, of Xet and of the network stay out of its chain, as their objects hold the token.
- The token is read once, from where `hf auth login` or HF_TOKEN put it. Where a server repeats it, *** stands in messages.
"""

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ..certificates import check_certificates
from ..errors import AbsentError, ConflictError, PublishError, reason_of
from ..retry import WAIT, pause, retry_after

AGAIN = {429, 500, 502, 503, 504}
TRIES = 5
BEGINNING = 300  # characters of what a server said, in a message
LOGIN = "Log in with `hf auth login`, or set HF_TOKEN"

KINDS = {409: "conflict", 412: "conflict", 413: "large", 429: "often"}
SENTENCES = {
    "token": f"the Hub does not accept the token (401, while {{doing}}). {LOGIN} to a valid one; HF_TOKEN comes first where "
    "it is set.",
    "absent": "the Hub has no such repository, or none that {user} may see ({status}, while {doing}). Check its name and "
    "the token.",
    "revision": "the Hub has no such revision ({status}, while {doing}). Check `revision`.",
    "full": "the Hub has no room for it ({status}, while {doing}): {said}. Make room in that account, or push to another.",
    "forbidden": "{user} may not do that ({status}, while {doing}): {said}. Use a token with the write scope there (`hf auth "
    "login`), a repository of your own, or `create_pr`.",
    "conflict": "the repository was changed while it was written to ({status}, while {doing}): {said}. Look at what changed "
    "there, then push again.",
    "large": "the Hub takes nothing that large (413, while {doing}): {said}. Start from a base in smaller shards.",
    "often": "these are too many requests for the Hub (429, while {doing}): {said}.{times} Push again in a few minutes: it "
    "goes on where it stopped.",
    "server": "the Hub answered {status} while {doing}: {said}.{times} Push again later: it goes on where it stopped.",
    "refused": "the Hub refused ({status}, while {doing}): {said}. Put that right, and push again.",
    "xet": "Xet's storage failed while {doing}: {said}.{times} Push again, it goes on where it stopped; HF_HUB_DISABLE_XET=1 "
    "does without it.",
    "network": "the Hub at {url} cannot be reached while {doing}: {said}.{times} Check the network, and push again: it goes "
    "on where it stopped.",
    "malformed": "what answers at {url} does not speak as the Hub does ({said}, while {doing}). Check HF_ENDPOINT, and "
    "whether a proxy or a login page stands between, then push again.",
    "other": "{said}, while {doing}. Put that right, and push again.",
}

Answer = TypeVar("Answer")


@dataclass
class Connection:
    """The Hub as one user sees it. `told` gets a line for every wait; `user` and `role` are known after `open_hub`."""

    api: Any
    token: str = field(repr=False)
    told: Callable[[str], None]
    user: str = ""
    role: str = ""
    reached: bool = False

    @property
    def url(self) -> str:
        return str(self.api.endpoint)


def open_hub(
    endpoint: str | None = None, token: str | None = None, told: Callable[[str], None] = lambda line: None
) -> Connection:
    """Open the Hub and learn who is logged in there, in one request. Default: huggingface_hub's own endpoint and token.

    Raises PublishError offline, without a token, with one that the Hub does not accept, and without a network.
    """
    from huggingface_hub import HfApi, constants, get_token

    from ..version import VERSION

    if constants.HF_HUB_OFFLINE:
        raise PublishError(
            "HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE) is set, so the Hub is not asked. Unset it, and push again."
        )
    check_certificates(PublishError)
    token = token or get_token()
    if not token:
        raise PublishError(f"nobody is logged in to the Hub: there is no token. {LOGIN}.")
    if not re.fullmatch("[!-~]+", token):  # the HTTP library would repeat it in its own error
        raise PublishError(
            f"the token for the Hub has a space, a line break or another character in it that no token has. {LOGIN} anew."
        )
    api = HfApi(endpoint=endpoint, token=token, library_name="monoglot", library_version=VERSION)
    hub = Connection(api, token, told)
    found = ask(hub, "asking who is logged in", api.whoami)
    hub.user = str(found.get("name", ""))
    hub.role = str((found.get("auth", {}).get("accessToken") or {}).get("role", ""))
    return hub


def ask(hub: Connection, doing: str, call: Callable[[], Answer], *, tries: int = TRIES) -> Answer:
    """Return what `call` returns. `doing` says in messages what it is for: "making ann/model".

    Raises ConflictError for 409 and 412, AbsentError for a repository that isn't there, PublishError for all else.
    """
    for tried in range(1, tries + 1):
        try:
            answer = call()
        except Exception as error:
            if not _theirs(error):
                raise
            failed: Exception = error
        else:
            hub.reached = True
            return answer
        status = status_of(failed)
        hub.reached = hub.reached or status is not None
        passing = status in AGAIN if status else hub.reached and (_connection(failed) or _malformed(failed))
        if tried == tries or not passing:
            break
        wait = pause(tried, _asked_to_wait(failed))
        hub.told(f"{_cause(hub, failed)} while {doing}. Trying again in {wait:.0f} s ({tried} of {tries - 1}).")
        _wait(wait)
    raise explained(hub, doing, failed, tried)


def _wait(seconds: float) -> None:
    time.sleep(seconds)


def _theirs(error: Exception) -> bool:
    """Whether it comes from huggingface_hub, from Xet or from the network, and not from a mistake here or a local file."""
    if isinstance(error, OSError) and getattr(error, "filename", None) is not None:
        return False
    if isinstance(error, OSError | RuntimeError | ValueError | KeyError):  # KeyError: of a reply that lacks something
        return True
    return type(error).__module__.split(".")[0] in ("huggingface_hub", "httpx", "httpx2", "requests", "hf_xet")


def _chain(error: BaseException) -> list[BaseException]:
    """Return an error and what caused it: huggingface_hub wraps that of an LFS upload in a RuntimeError."""
    found: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in found:
        found.append(at)
        at = at.__cause__
    return found


def _response(error: BaseException) -> Any:
    for one in _chain(error):
        found = getattr(one, "response", None)
        if found is not None:
            return found
    return None


def status_of(error: BaseException) -> int | None:
    """Return the status of the reply that an error is about; Xet says it in words alone."""
    response = _response(error)
    if response is not None:
        return int(response.status_code)
    said = re.search(r"status (?:client|server) error \((\d{3})|\bHTTP status (?:code:? )?(\d{3})", str(error))
    return int(said[1] or said[2]) if said else None


def _connection(error: BaseException) -> bool:
    """Whether no reply came. huggingface_hub has changed its HTTP library twice, so names of classes are what there is."""
    named = re.compile("Connect|Network|Timeout|Protocol|ReadError|WriteError|Transport|ChunkedEncoding|RuntimeError")
    return any(
        isinstance(one, ConnectionError | TimeoutError) or named.search(type(one).__name__) for one in _chain(error)
    )


def _malformed(error: BaseException) -> bool:
    """Whether a reply came that isn't what it should be: no JSON, or without what huggingface_hub looks for in it."""
    return isinstance(error, KeyError | json.JSONDecodeError)


def _asked_to_wait(error: BaseException) -> float | None:
    response = _response(error)
    if response is None:
        return None
    if (seconds := retry_after(response.headers.get("Retry-After"))) is not None:
        return seconds
    limit = re.search(r"\br=0;t=(\d{1,9})", response.headers.get("RateLimit") or "")
    return min(WAIT, float(limit[1])) if limit else None


def said_by(hub: Connection, error: BaseException) -> str:
    """Return what the server says, or else the error: one line, nothing that a terminal obeys, without the token."""
    texts = [getattr(one, "server_message", None) for one in _chain(error)]
    if (
        isinstance(error, ValueError) and getattr(error, "response", None) is None
    ):  # it says what the server's words are about
        texts.insert(0, str(error))
    text = next(filter(None, texts), None) or str(_chain(error)[-1]) or reason_of(error)
    text = str(text).replace(hub.token, "***")
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())[:BEGINNING].rstrip(
        ". "
    )


def _cause(hub: Connection, error: BaseException) -> str:
    status = status_of(error)
    return f"the Hub answered {status}" if status else f"the connection failed ({said_by(hub, error)})"


def explained(hub: Connection, doing: str, error: BaseException, tried: int = 1) -> PublishError:
    """Make the error to raise for one of theirs: what was being done, why it failed, what to do about it."""
    status, said = status_of(error), said_by(hub, error)
    kind = _kind(error, status, said)
    category = {"absent": AbsentError, "conflict": ConflictError}.get(kind, PublishError)
    times = f" It was tried {tried} times." if tried > 1 else ""
    return category(
        SENTENCES[kind].format(doing=doing, status=status, said=said, times=times, user=hub.user, url=hub.url)
    )


def _kind(error: BaseException, status: int | None, said: str) -> str:
    """Which of SENTENCES an error is a case of."""
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    if _xet(error) and (status is None or status >= 500):
        return "xet"
    if status is None:
        return "malformed" if _malformed(error) else "network" if _connection(error) else "other"
    if status == 401:  # huggingface_hub calls it RepositoryNotFoundError on some routes
        return "token"
    if isinstance(error, RepositoryNotFoundError | RevisionNotFoundError):
        return "absent" if isinstance(error, RepositoryNotFoundError) else "revision"
    if status in (402, 403, 507):
        full = re.search("storage|quota|space left|billing", said, re.IGNORECASE)
        return "full" if full or status == 507 else "forbidden"
    return KINDS.get(status, "server" if status >= 500 else "refused")


def _xet(error: BaseException) -> bool:
    """Xet raises the builtin RuntimeError and ConnectionError, caused by nothing, and classes of its own module."""
    own = type(error).__module__.split(".")[0] == "hf_xet"
    return own or (type(error) in (RuntimeError, ConnectionError) and error.__cause__ is None)
