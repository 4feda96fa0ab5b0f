"""An engine that answers, and one that misbehaves: what is sent, what is understood, and what is said of it."""

import json
import socket
from collections.abc import Iterator

import pytest
from support.engine_server import KEY, Broken, Engine, running

from monoglot.editor.errors import EngineError
from monoglot.editor.measures.engine import About, Sampling, ask_engine, key_from_environment, open_engine

PLAIN = Sampling(24)


@pytest.fixture
def engine() -> Iterator[Engine]:
    with running() as own:
        yield own


def test_answers_in_order(engine: Engine) -> None:
    prompts = [f"prompt {number}" for number in range(30)]
    seen: dict[int, str] = {}
    found = ask_engine(open_engine(engine.url, "this", PLAIN), prompts, PLAIN, told=seen.__setitem__)
    assert found == [f"this on {prompt}" for prompt in prompts] == [seen[number] for number in range(30)]


def test_what_is_sent(engine: Engine) -> None:
    opened = open_engine(engine.url, "this", PLAIN, key=KEY)
    ask_engine(opened, ["Hi"], Sampling(24, temperature=0.5, seed=7))
    assert engine.asked[-1] == {
        "model": "this", "prompt": "Hi", "max_tokens": 24, "temperature": 0.5, "seed": 7, "stream": False,
        "repetition_penalty": 1.1, "repeat_penalty": 1.1, "repeat_last_n": 4096,
    }  # fmt: skip
    chat = Sampling(24, chat=True, system="Be brief.")
    assert ask_engine(open_engine(engine.url, "this", chat, key=KEY), ["Hi"], chat) == ["this on Hi"]
    path, headers, asked = engine.requests[-1]
    assert path == "/v1/chat/completions" and headers["Authorization"] == f"Bearer {KEY}"
    assert asked["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    ask_engine(opened, ["Hi"], Sampling(24, chat=True))
    assert [message["role"] for message in engine.asked[-1]["messages"]] == ["user"]


def test_a_server_that_takes_no_penalty(engine: Engine) -> None:
    engine.every = lambda asked: Broken(400, b'{"error": "unknown field"}') if "repeat_penalty" in asked else None
    opened = open_engine(engine.url, "this", PLAIN)
    assert not opened.penalty and ask_engine(opened, ["a"], PLAIN) == ["this on a"]
    assert "repetition_penalty" not in engine.asked[-1]


@pytest.mark.parametrize(
    ("pages", "owner", "expected"),
    [
        ({"/version": {"version": "0.32.0"}}, "vllm", About("vLLM", "0.32.0", "said")),
        ({"/props": {"build_info": "b1-abc", "model_ftype": "F16"}}, "llamacpp", About("llama.cpp", "b1-abc", "F16")),
        ({}, "someone", About("someone", None, "said")),
        ({"/version": ["no"], "/props": {"build_info": 3, "model_ftype": ["x"]}}, "x\x1b[31m" * 50, None),
    ],
)
def test_who_answers(engine: Engine, pages: dict[str, object], owner: str, expected: About | None) -> None:
    engine.pages, engine.owner = pages, owner
    about = open_engine(engine.url, "this", PLAIN, dtype="said").about
    if expected:
        assert about == expected
    else:
        assert about.name and about.name.isprintable() and len(about.name) <= 60 and about.version is None


def test_the_only_model(engine: Engine) -> None:
    engine.models = ["alone"]
    assert open_engine(engine.url, None, PLAIN).model == "alone"
    for models, word in ((["a", "b"], "has 'a', 'b'. Say which one is meant"), (None, "does not list its models")):
        engine.models = models
        with pytest.raises(EngineError, match=word):
            open_engine(engine.url, None, PLAIN)
    engine.models = None  # a server that lists none, and takes a name
    assert open_engine(engine.url, "any", PLAIN).model == "any"


def failure(engine: Engine, model: str | None = "this", sampling: Sampling = PLAIN) -> str:
    with pytest.raises(EngineError) as raised:
        open_engine(engine.url, model, sampling, key=KEY)
    said = str(raised.value)
    assert KEY not in said and said.isprintable() and engine.url in said
    return said


def test_a_wrong_name(engine: Engine) -> None:
    assert "has no model 'other'; it has 'this', 'base'" in failure(engine, "other")
    engine.models = [f"m{number}" for number in range(20)]
    assert "and 12 more" in failure(engine, "other")


@pytest.mark.parametrize(
    ("status", "word"), [(401, "key is missing or wrong"), (403, "may not use"), (404, "no such model"), (400, "400")]
)
def test_what_it_refuses(engine: Engine, status: int, word: str) -> None:
    engine.every = lambda asked: Broken(status, json.dumps({"error": f"no, {KEY}!"}).encode())
    said = failure(engine)
    assert word in said and "no, ***!" in said


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_may_pass_is_tried_again(engine: Engine, waits: list[float], status: int) -> None:
    opened = open_engine(engine.url, "this", PLAIN)
    engine.broken = [Broken(status, headers={"Retry-After": "7"}), Broken(cut=True, body=b"x" * 99), Broken(status)]
    assert ask_engine(opened, ["a"], PLAIN) == ["this on a"] and waits[0] == 7 and len(waits) == 3
    engine.every = lambda asked: Broken(status)
    with pytest.raises(EngineError, match=f"answered {status} .* It was tried 5 times"):
        ask_engine(opened, ["a"], PLAIN)


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b'data: {"choices": []}\n\n', "answers as a stream"),
        (b"<html>hello</html>", "no answer that could be read: '<html>"),
        (b'{"choices": []}', "no answer"),
        (b'{"choices": [{"text": 3}]}', "no answer"),
        (b'{"choices": "x"}', "no answer"),
        (b"[]", "no answer"),
    ],
)
def test_replies_that_are_none(engine: Engine, body: bytes, word: str) -> None:
    engine.every = lambda asked: Broken(200, body)
    assert word in failure(engine)
    assert word in failure(engine, sampling=Sampling(24, chat=True))


def test_replies_without_text(engine: Engine) -> None:
    """Nothing is an answer too."""
    opened = open_engine(engine.url, "this", PLAIN)
    engine.every = lambda asked: Broken(200, b'{"choices": [{"text": null}]}')
    assert ask_engine(opened, ["a"], PLAIN) == [""]
    engine.every = lambda asked: Broken(200, '{"choices": [{"text": "ab\ufffd"}]}'.encode())
    assert ask_engine(opened, ["a"], PLAIN) == ["ab"]


@pytest.mark.parametrize(
    ("finish", "usage", "cut"), [("length", 5, [0]), ("length", 24, []), ("stop", 5, []), ("length", None, [])]
)
def test_answers_that_the_server_cut(engine: Engine, finish: str, usage: int | None, cut: list[int]) -> None:
    engine.finish, engine.usage = finish, usage
    seen: list[int] = []
    ask_engine(open_engine(engine.url, "this", PLAIN), ["a"], PLAIN, cut=seen.append)
    assert seen == cut


def test_no_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
    with pytest.raises(EngineError, match=r"the engine at .* cannot be reached: .*refused.* Is the server running"):
        open_engine(f"http://127.0.0.1:{port}/v1", "x", PLAIN)
    with pytest.raises(EngineError, match="the engine's URL is 'nonsense'"):
        open_engine("nonsense", "x", PLAIN)


def test_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MONOGLOT_ENGINE_KEY", raising=False)
    assert key_from_environment() is None
    monkeypatch.setenv("MONOGLOT_ENGINE_KEY", f" {KEY}\n")
    assert key_from_environment() == KEY
