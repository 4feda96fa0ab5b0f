"""Answers by a serving engine behind any OpenAI-compatible server: vLLM, llama.cpp, SGLang, TGI and others.

Without a chat template a prompt goes to POST {url}/completions, with one as a message of the user, after the system prompt if
there is one, to POST {url}/chat/completions, where the server fills in the model's own template. Asked for is what
`live.generate` does: greedy, unless a temperature is given, with a repetition penalty. Engines call that by two names, so
both are sent; a server that takes neither (it answers 400) is asked without, and the record says so.

What engine answered, and which version and dtype, is asked for where servers tell it: /version (vLLM), /props (llama.cpp),
`owned_by` in /models, `system_fingerprint` in a reply.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import EngineError
from ..live.generate import BROKEN, REPETITION_PENALTY
from .endpoint import Endpoint, beginning, each, exchange, open_endpoint, parsed, refused
from .options import ENGINE_KEY_VARIABLE

WHO = "the engine"
WORKERS = 8  # requests at a time: an engine answers them together
TIMEOUT, RETRIES = 300.0, 4
CHECK_TIMEOUT, CHECK_RETRIES = 60.0, 2
LISTED = 8  # models that a message names
PENALTY = {"repetition_penalty": REPETITION_PENALTY, "repeat_penalty": REPETITION_PENALTY, "repeat_last_n": 4096}
STREAM = (b"data:", b"event:", b": ")
OWNERS = {"vllm": "vLLM", "llamacpp": "llama.cpp", "sglang": "SGLang"}


@dataclass(frozen=True)
class Sampling:
    """How answers are asked for. With `chat` the server fills in the model's chat template, after the `system` prompt."""

    tokens: int
    chat: bool = False
    system: str | None = None
    temperature: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class About:
    """Which engine serves a model, its version and the dtype it computes in, as far as its server says."""

    name: str | None = None
    version: str | None = None
    dtype: str | None = None

    def to_data(self) -> dict[str, str | None]:
        return {"name": self.name, "version": self.version, "dtype": self.dtype}


@dataclass(frozen=True)
class Engine:
    """A model behind a server that was seen to answer. `penalty` says whether it takes a repetition penalty."""

    url: str
    model: str
    key: str | None
    about: About
    penalty: bool


def key_from_environment(variable: str = ENGINE_KEY_VARIABLE) -> str | None:
    """Return the key in an environment variable, without white space around it; None where it is not set or empty."""
    return os.environ.get(variable, "").strip() or None


def open_engine(
    url: str,
    model: str | None,
    sampling: Sampling,
    *,
    key: str | None = None,
    dtype: str | None = None,
    argument: str = "served",
) -> Engine:
    """See that a model answers, before there is any work to lose, and who it is.

    `model` None is the only one that the server has. `dtype` is what a person says where the server doesn't,
    `argument` the one that names a model. Raises
    EngineError for a server that can't be reached or refuses, and for a model that it does not have.
    """
    endpoint = _endpoint(url, model or "", key, CHECK_TIMEOUT, CHECK_RETRIES)
    listed, owner = _models(endpoint)
    if model is None:
        if len(listed) != 1:
            has = f"has {_named(listed)}" if listed else "does not list its models"
            raise EngineError(f"{endpoint.place} {has}. Say which one is meant with `{argument}`.")
        model = listed[0]
    elif listed and model not in listed:
        raise EngineError(f"{endpoint.place} has no model {model!r}; it has {_named(listed)}.")
    endpoint = replace(endpoint, model=model)
    one = replace(sampling, tokens=1)
    status, body = exchange(endpoint, _path(sampling), _request(endpoint, "Hello", one, penalty=True))
    penalty = status != 400
    if not penalty:
        status, body = exchange(endpoint, _path(sampling), _request(endpoint, "Hello", one, penalty=False))
    if status != 200:
        raise refused(endpoint, status, body)
    _answer(endpoint, body, sampling)
    about = _about(endpoint, owner, parsed(body))
    return Engine(endpoint.url, model, key, about if about.dtype or not dtype else replace(about, dtype=dtype), penalty)


def ask_engine(
    engine: Engine,
    prompts: Sequence[str],
    sampling: Sampling,
    *,
    told: Callable[[int, str], None] = lambda number, text: None,
    cut: Callable[[int], None] = lambda number: None,
) -> list[str]:
    """Return the answers to prompts, in their order, without the prompts.

    `told` gets each as soon as it is there; `cut` the number of a prompt whose answer the server ended before so many tokens,
    though the model was not at its end. Raises EngineError.
    """
    endpoint = _endpoint(engine.url, engine.model, engine.key, TIMEOUT, RETRIES)

    def one(endpoint: Endpoint, numbered: tuple[int, str]) -> str:
        number, prompt = numbered
        content = _request(endpoint, prompt, sampling, penalty=engine.penalty)
        status, body = exchange(endpoint, _path(sampling), content)
        if status != 200:
            raise refused(endpoint, status, body)
        text, short = _answer(endpoint, body, sampling)
        if short:
            cut(number)
        return text

    return each(endpoint, list(enumerate(prompts)), one, workers=WORKERS, told=told)


def _endpoint(url: str, model: str, key: str | None, timeout: float, retries: int) -> Endpoint:
    return open_endpoint(url, model, key, timeout, retries, who=WHO, error=EngineError)


def _models(endpoint: Endpoint) -> tuple[list[str], str | None]:
    """Return the models that a server lists, none where it lists none, and who it says that it is."""
    status, body = exchange(endpoint, "/models", None)
    if status not in (200, 404, 405):
        raise refused(endpoint, status, body)
    rows = parsed(body).get("data") if status == 200 else None
    found = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    names = [row["id"] for row in found if isinstance(row.get("id"), str)]
    owner = next((row["owned_by"] for row in found if isinstance(row.get("owned_by"), str)), None)
    return names, owner


def _named(models: Sequence[str]) -> str:
    more = f" and {len(models) - LISTED} more" if len(models) > LISTED else ""
    return ", ".join(repr(model[:100]) for model in models[:LISTED]) + more


def _path(sampling: Sampling) -> str:
    return "/chat/completions" if sampling.chat else "/completions"


def _request(endpoint: Endpoint, prompt: str, sampling: Sampling, *, penalty: bool) -> dict[str, Any]:
    asked: dict[str, Any] = {
        "model": endpoint.model,
        "max_tokens": sampling.tokens,
        "temperature": sampling.temperature,
        "seed": sampling.seed,
        "stream": False,
        **(PENALTY if penalty else {}),
    }
    if not sampling.chat:
        return {**asked, "prompt": prompt}
    system = [{"role": "system", "content": sampling.system}] if sampling.system else []
    return {**asked, "messages": [*system, {"role": "user", "content": prompt}]}


def _answer(endpoint: Endpoint, body: bytes, sampling: Sampling) -> tuple[str, bool]:
    """Return the text of a reply, and whether the server cut it. Raises EngineError for a reply that has none."""
    if body.lstrip().startswith(STREAM):
        raise EngineError(
            f"{endpoint.place} answers as a stream, though whole answers were asked for. Switch that off where it is "
            "configured, or ask the engine behind it."
        )
    reply = parsed(body)
    choices = reply.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else None
    message = choice.get("message") if choice and sampling.chat else None
    text = (
        (message.get("content") if isinstance(message, dict) else None) if sampling.chat else (choice or {}).get("text")
    )
    if choice is None or (sampling.chat and not isinstance(message, dict)) or not isinstance(text, str | None):
        raise EngineError(
            f"{endpoint.place} sent no answer that could be read: {beginning(endpoint, body)!r}. Is it OpenAI-compatible, "
            "and is the URL that of its API, with /v1 at its end?"
        )
    usage = reply.get("usage")
    written = usage.get("completion_tokens") if isinstance(usage, dict) else None
    short = choice.get("finish_reason") == "length" and isinstance(written, int) and written < sampling.tokens
    return (text or "").rstrip(BROKEN), short


def _about(endpoint: Endpoint, owner: str | None, reply: Any) -> About:
    """Ask a server who it is, wherever servers tell it."""
    root = replace(endpoint, url=endpoint.url.removesuffix("/v1"), retries=0)
    said = {path: _told(root, path) for path in ("/version", "/props")}
    name = OWNERS.get(owner or "", owner)
    version, props = said["/version"].get("version"), said["/props"]
    if isinstance(build := props.get("build_info"), str):
        name, version = "llama.cpp", build
    if version is None:
        version = reply.get("system_fingerprint")
    dtype = props.get("model_ftype")
    return About(*(_short(root, one) for one in (name, version, dtype)))


def _told(root: Endpoint, path: str) -> Any:
    try:
        status, body = exchange(root, path, None)
    except EngineError:
        return {}
    return parsed(body) if status == 200 else {}


def _short(endpoint: Endpoint, said: Any) -> str | None:
    """Return a name or a version that is fit for a card."""
    return beginning(endpoint, said)[:60] or None if isinstance(said, str) else None
