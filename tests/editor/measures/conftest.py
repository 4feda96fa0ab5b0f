"""The judge's server, and waits that are written down instead of waited for."""

import random
import threading
from collections.abc import Iterator

import pytest
from support.judge_server import Server

from monoglot.editor.measures import endpoint as http


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as own:
        threading.Thread(target=own.serve_forever, args=(0.01,), daemon=True).start()
        yield own
        own.released.set()
        own.shutdown()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that would have been waited between tries."""
    found: list[float] = []
    monkeypatch.setattr(http, "_wait", lambda _, seconds: found.append(seconds))
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    return found
