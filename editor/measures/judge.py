"""The quality of answers, 1 to 5, by a judge model behind any endpoint that speaks OpenAI's chat completions.

The rubric and the rest of what the judge reads is `judge.md`. Question and answer stand in it between lines of more
backticks than either has in a row, so that neither can end its own part, and the judge is told to follow nothing in them.

- One item is one request: POST {url}/chat/completions with one message of the user (not every model has a system role),
  temperature 0, seed 0 and max_tokens SHORT: a judge that just says its digit stops after it. Where all of that went into
  thinking, it is asked again with max_tokens LONG.
- The score is the digit that the first line consists of, else the last lone digit 1 … 5, after any <think> … </think> and
  without "/5", "out of 5" and "1 to 5". A number such as 10 or 4.5 is no score, and neither is a digit in a reply that was
  cut off. A reply without a score, and a refusal, is a verdict without one and with the reason.

How the server is asked, and what becomes of the key, is in `endpoint`.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import JudgeError
from ..progress import Progress
from .confusion import SYLLABIC
from .endpoint import Endpoint, beginning, each, exchange, open_endpoint, parsed, refused

PROMPT = Path(__file__).parent / "judge.md"
SHORT, LONG = 64, 1024  # max_tokens
TOKEN_RULE = "one per Han, kana or Hangul character, and one per 4 other characters"  # noqa: S105
OF_FIVE = re.compile(r"(?:/|\b(?:out )?of)\s*(?:5|five)\b|\b1\s*(?:-|–|to)\s*5\b", re.IGNORECASE)
LONE = re.compile(r"(?<![\d.,])[1-5](?!\d|[.,]\d|%|\s*/\s*\d)")
WIDE = str.maketrans("１２３４５", "12345")

Item = tuple[str, str, str]  # prompt, answer, wanted language: its English name, or its code


@dataclass(frozen=True)
class Verdict:
    """`score` is 1 … 5, or None; then `reason` says why there is none."""

    score: int | None
    reason: str | None = None


def key_from_environment(variable: str = "MONOGLOT_JUDGE_KEY") -> str | None:
    """Return the key in an environment variable, without white space around it; None where it is not set or empty."""
    return os.environ.get(variable, "").strip() or None


def judge(
    url: str,
    model: str,
    items: Sequence[Item],
    *,
    key: str | None = None,
    timeout: float = 60,
    retries: int = 4,
    workers: int = 4,
    progress: Progress | None = None,
) -> list[Verdict]:
    """Return a verdict on each item, in their order.

    `url` is the base, such as http://127.0.0.1:8080/v1; `timeout` is in seconds a try; `workers` requests are under way at a
    time. On an error, and on Ctrl-C, no further request is sent.

    Raises JudgeError for a URL or key that can't be one, an unreachable or failing server, and malformed replies.
    """
    endpoint = open_endpoint(url, model, key, timeout, retries)
    done = 0

    def told(number: int, verdict: Verdict) -> None:
        nonlocal done
        done += 1
        if progress:
            progress("judge", done, len(items))

    return each(endpoint, items, _verdict, workers=workers, told=told)


def check(url: str, model: str, key: str | None = None, *, timeout: float = 20, retries: int = 2) -> None:
    """Raise JudgeError when the judge can't be asked, before there is any work to lose.

    It asks for GET {url}/models. Where there is no such thing, or the model is not listed (some servers take any name), a
    completion of one token decides.
    """
    endpoint = open_endpoint(url, model, key, timeout, retries)
    status, body = exchange(endpoint, "/models", None)
    if status not in (200, 404, 405):
        raise refused(endpoint, status, body)
    listed = parsed(body).get("data") if status == 200 else None
    rows = listed if isinstance(listed, list) else []
    if not any(isinstance(row, dict) and row.get("id") == model for row in rows):
        _completion(endpoint, "Say 1.", 1)


def dry_run(items: Sequence[Item], model: str) -> dict[str, Any]:
    """Describe what `judge` would send at the least, without sending it.

    It has the number of requests, their characters, about how many tokens these are and by which rule, the settings, and the
    full text of the first request (None without items).
    """
    texts = [request_text(item) for item in items]
    syllables = sum(len(SYLLABIC.findall(text)) for text in texts)
    characters = sum(map(len, texts))
    return {
        "requests": len(texts),
        "characters": characters,
        "tokens": syllables + -(-(characters - syllables) // 4),
        "token_rule": TOKEN_RULE,
        "settings": {key: value for key, value in _request(model, "", SHORT).items() if key != "messages"},
        "first": texts[0] if texts else None,
    }


def mean_quality(verdicts: Sequence[Verdict]) -> tuple[float | None, int, int]:
    """Return the mean of the scores (None where there is none), how many verdicts have a score, and how many don't."""
    scores = [verdict.score for verdict in verdicts if verdict.score is not None]
    return sum(scores) / len(scores) if scores else None, len(scores), len(verdicts) - len(scores)


def request_text(item: Item) -> str:
    """Write what the judge reads of one item."""
    question, answer, language = item
    longest = max(map(len, re.findall("`+", question + "\n" + answer)), default=0)
    fence = "`" * max(3, longest + 1)
    template = PROMPT.read_text(encoding="utf-8")
    return template.format(language=language, question=question, answer=answer, fence=fence)


def score_of(reply: str) -> int | None:
    """Return the score in a reply, as the module says; None where there is none."""
    said = _said(reply)
    if first := _first_line_digit(said):
        return int(first)
    digits = LONE.findall(said)
    return int(digits[-1]) if digits else None


def _said(reply: str) -> str:
    """Return a reply after its thinking, without the scale; nothing of a reply that still thinks."""
    after = reply.rpartition("</think>")[2].partition("<think>")[0]
    return OF_FIVE.sub(" ", after.translate(WIDE)).strip()


def _first_line_digit(said: str) -> str | None:
    first = re.sub(r"[\s*_`'\"“”.:]", "", said.split("\n")[0])
    return first if re.fullmatch("[1-5]", first) else None


def _verdict(endpoint: Endpoint, item: Item) -> Verdict:
    for tokens in (SHORT, LONG):
        choice = _completion(endpoint, request_text(item), tokens)
        message, finished = choice["message"], choice.get("finish_reason")
        if message.get("refusal") or finished == "content_filter":
            return Verdict(None, f"refused: {beginning(endpoint, str(message.get('refusal') or finished))}")
        said = _said(message["content"])
        cut = finished == "length" and not _first_line_digit(said)
        if said or not cut:
            break
    score = None if cut else score_of(message["content"])
    if score is None:
        place = f"the first {tokens} tokens of its reply" if cut else "its reply"
        return Verdict(None, f"no score in {place}: {beginning(endpoint, message['content'])!r}")
    return Verdict(score)


def _request(model: str, text: str, tokens: int) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"model": model, "messages": messages, "temperature": 0, "seed": 0, "max_tokens": tokens}


def _completion(endpoint: Endpoint, text: str, tokens: int) -> dict[str, Any]:
    """Return the first choice of a chat completion; its message has a content, "" where the server gives none."""
    status, body = exchange(endpoint, "/chat/completions", _request(endpoint.model, text, tokens))
    if status != 200:
        raise refused(endpoint, status, body)
    choices = parsed(body).get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    content = message.get("content", "") if isinstance(message, dict) else False
    if not isinstance(choice, dict) or not isinstance(message, dict) or not isinstance(content, str | None):
        raise JudgeError(
            f"the judge at {endpoint.url} replied with what is no chat completion: {beginning(endpoint, body)!r}. Does it "
            "speak OpenAI's chat completions, and does the URL end in /v1?"
        )
    return {**choice, "message": {**message, "content": content or ""}}
