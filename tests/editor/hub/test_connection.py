"""What is tried again and how long is waited, and what is said of each failure. The token never shows."""

import traceback
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from support import fake_hub as server

from monoglot.editor.errors import AbsentError, ConflictError, PublishError
from monoglot.editor.hub import connection as hub_module
from monoglot.editor.hub.connection import Connection, ask, open_hub


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    waited: list[float] = []
    monkeypatch.setattr(hub_module, "_wait", waited.append)
    return waited


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits: list[float]) -> Iterator[server.Hub]:
    with server.running(tmp_path / "hub") as running, server.in_this_process(running, monkeypatch):
        yield running


def shown(error: BaseException) -> str:
    """All that could be printed of an error: its message, its chain, its traceback without the source."""
    texts, at = [], error
    while at is not None:
        texts += [str(at), repr(at), repr(at.args)]
        at = at.__cause__ or at.__context__  # type: ignore[assignment]
    return "\n".join([*texts, *traceback.format_exception(error)])


def test_who_is_logged_in(hub: server.Hub) -> None:
    found = open_hub()
    assert (found.user, found.role, found.url) == ("ann", "write", hub.url)
    assert server.OWNER not in repr(found)
    assert hub.count("whoami") == 1


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ("", "nobody is logged in to the Hub: there is no token. Log in with `hf auth login`, or set HF_TOKEN."),
        ("hf_wrongwrong", "the Hub does not accept the token (401, while asking who is logged in)."),
        ("hf_no good", "has a space, a line break or another character in it"),
        ("hf_né", "has a space, a line break or another character in it"),
    ],
)
def test_tokens_that_are_none(hub: server.Hub, monkeypatch: pytest.MonkeyPatch, token: str, message: str) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(PublishError) as error:
        open_hub()
    assert message in str(error.value)
    assert not token or token not in shown(error.value)


def test_offline(hub: server.Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(PublishError, match=r"HF_HUB_OFFLINE \(or TRANSFORMERS_OFFLINE\) is set"):
        open_hub()
    assert hub.requests == []


def test_without_a_network_the_first_request_fails_at_once(hub: server.Hub, waits: list[float]) -> None:
    with pytest.raises(PublishError, match=r"the Hub at http://127\.0\.0\.1:9 cannot be reached while asking who is"):
        open_hub("http://127.0.0.1:9")
    assert waits == []


@pytest.mark.parametrize("fault", [{"status": 503}, {"status": 500}, {"status": 429}, {"cut": True}])
def test_what_is_tried_again(hub: server.Hub, waits: list[float], fault: dict[str, bool]) -> None:
    told: list[str] = []
    connection = open_hub(told=told.append)
    hub.fault("repos/create", times=3, **fault)  # type: ignore[arg-type]
    ask(connection, "making ann/m", lambda: connection.api.create_repo("ann/m", private=True))
    assert hub.count("repos/create") == 4
    assert [0.5 * 2**n <= wait <= 2**n for n, wait in enumerate(waits)] == [True] * 3
    assert "while making ann/m. Trying again in" in told[0] and "(3 of 4)" in told[2]


def test_it_is_not_tried_for_ever(hub: server.Hub, waits: list[float]) -> None:
    connection = open_hub()
    hub.fault("repos/create", 503, times=99, message="down for repairs")
    with pytest.raises(PublishError) as error:
        ask(connection, "making ann/m", lambda: connection.api.create_repo("ann/m"))
    assert str(error.value) == (
        "the Hub answered 503 while making ann/m: down for repairs. It was tried 5 times. Push again later: it goes on where "
        "it stopped."
    )
    assert hub.count("repos/create") == 5 and len(waits) == 4
    assert server.OWNER not in shown(error.value)


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "100000"}, 60.0),
        ({"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0),
        ({"RateLimit": '"api";r=0;t=12'}, 12.0),
    ],
)
def test_a_server_says_how_long_to_wait(
    hub: server.Hub, waits: list[float], headers: dict[str, str], wait: float
) -> None:
    connection = open_hub()
    hub.fault("repos/create", 429, headers=headers)
    ask(connection, "making ann/m", lambda: connection.api.create_repo("ann/m"))
    assert waits == [wait]


@pytest.mark.parametrize(
    ("status", "said", "message"),
    [
        (400, "bad name", "the Hub refused (400, while making ann/m): bad name. Put that right, and push again."),
        (
            401,
            "Invalid credentials",
            "the Hub does not accept the token (401, while making ann/m). Log in with `hf auth",
        ),
        (
            403,
            "no rights",
            "ann may not do that (403, while making ann/m): no rights. Use a token with the write scope",
        ),
        (403, "Private storage limit reached", "the Hub has no room for it (403, while making ann/m): Private storage"),
        (402, "Payment required", "ann may not do that (402, while making ann/m): Payment required."),
        (413, "too large", "the Hub takes nothing that large (413, while making ann/m): too large."),
        (404, "", "the Hub refused (404, while making ann/m)"),
    ],
)
def test_what_is_said_of_a_refusal(hub: server.Hub, waits: list[float], status: int, said: str, message: str) -> None:
    connection = open_hub()
    hub.fault("repos/create", status, message=said)
    with pytest.raises(PublishError) as error:
        ask(connection, "making ann/m", lambda: connection.api.create_repo("ann/m"))
    assert message in str(error.value)
    assert "\n" not in str(error.value) and waits == [] and hub.count("repos/create") == 1


def test_absent_and_in_conflict(hub: server.Hub) -> None:
    connection = open_hub()
    with pytest.raises(AbsentError, match="no such repository, or none that ann may see"):
        ask(connection, "looking at ann/m", lambda: connection.api.repo_info("ann/m"))
    hub.put("ann/m", {"a": b"a"})
    for status in (409, 412):
        hub.fault("/tag/", status, message="moved")
        with pytest.raises(
            ConflictError, match=f"was changed while it was written to .{status}, while tagging it.: moved"
        ):
            ask(connection, "tagging it", lambda: connection.api.create_tag("ann/m", tag="v1"))


def test_a_token_that_the_server_repeats_is_hidden(hub: server.Hub) -> None:
    connection = open_hub()
    hub.fault("repos/create", 403, message=f"Bearer {server.OWNER} may not, \x1b[31mannie\nreally")
    with pytest.raises(PublishError) as error:
        ask(connection, "making ann/m", lambda: connection.api.create_repo("ann/m"))
    assert "Bearer *** may not, [31mannie really" in str(error.value)
    assert server.OWNER not in shown(error.value)


def test_mistakes_of_our_own_and_local_files_are_not_explained_away(hub: server.Hub, tmp_path: Path) -> None:
    connection = open_hub()
    with pytest.raises(FileNotFoundError):
        ask(connection, "reading", lambda: (tmp_path / "absent").read_bytes())
    with pytest.raises(TypeError):
        ask(connection, "counting", lambda: len(5))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "message", "tries"),
    [
        (RuntimeError("Data processing error: no space"), "Xet's storage failed while uploading: Data processing", 3),
        (ConnectionError("Network error: sending request"), "Xet's storage failed while uploading: Network error", 3),
        (RuntimeError("Server error: HTTP status server error (503 Service Unavailable)"), "Xet's storage failed", 3),
        (RuntimeError("Network error: HTTP status client error (403 Forbidden)"), "ann may not do that (403", 1),
        (KeyError("url"), "what answers at http://hub does not speak as the Hub does ('url', while uploading).", 3),
        (ValueError("Invalid metadata in README.md.\n- license"), "Invalid metadata in README.md. - license, while", 1),
    ],
)
def test_what_xet_and_the_library_raise(waits: list[float], error: Exception, message: str, tries: int) -> None:
    calls = []

    def call() -> None:
        calls.append(1)
        raise error

    connection = Connection(SimpleNamespace(endpoint="http://hub"), "hf_x", lambda line: None, user="ann", reached=True)
    with pytest.raises(PublishError) as raised:
        ask(connection, "uploading", call, tries=3)
    assert message in str(raised.value) and len(calls) == tries
    assert raised.value.__context__ is None
