"""A search among several ways, as a table: what each way gains and what it costs; the one that was taken is marked."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ...editor.text import languages
from .amounts import NONE, change, count, number, or_dash, perplexity_figure, share

SEEN = "beginnings"  # the kind of prompts that a search asks
THIS = "this model"
GAINED = {"off": "rise of its own log-loss", "on": "whole answers in the language"}
PAID = {"off": "most that another language loses", "on": "rise of its own text's log-loss"}
UNIT = {"off": "nats a token", "on": "share"}


def title(found: Mapping[str, Any]) -> str:
    """Say what was searched for."""
    named = languages.listed(list(found["languages"]))
    return f"ways to switch {named} off" if found["kind"] == "off" else f"ways to make it answer in {named}"


def columns(found: Mapping[str, Any]) -> tuple[str, ...]:
    """Name the columns; after the first three comes the change of log-loss in each language."""
    more = ("in the language", "answers", "perplexity of the answers") if found["kind"] == "on" else _languages(found)
    return ("way", "neurons", GAINED[found["kind"]], PAID[found["kind"]], *more)


def rows(found: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
    """Write a row for each way."""
    return tuple(
        (
            str(row["name"]),
            count(row.get("neurons")),
            gained(found, row),
            or_dash(row["damage"], change),
            *_more(found, row),
        )
        for row in found["rows"]
    )


def gained(found: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    """Write what a way gains; a share with the interval that chance leaves."""
    if found["kind"] == "off":
        return or_dash(row["gain"], change)
    low, high = (share(end) for end in (row.get("interval") or (None, None)))
    return share(row["gain"]) + (f" ({low} to {high})" if low != NONE else "")


def _more(found: Mapping[str, Any], row: Mapping[str, Any]) -> tuple[str, ...]:
    if found["kind"] == "on":
        return (
            share(row.get("accuracy")), count(row.get("answers")), or_dash(row.get("perplexity"), perplexity_figure),
        )  # fmt: skip
    return tuple(or_dash((row.get("change") or {}).get(code), change) for code in _languages(found))


def note(found: Mapping[str, Any]) -> str:
    """Say what was asked for, whether it was reached, and what text was read."""
    if found["kind"] == "on":
        return _note_of_answers(found)
    read = [f"{code} {count(tokens)}" for code, tokens in (found.get("tokens") or {}).items()]
    asked = (
        f"Asked for: {found.get('target_damage', 0):+g} nats, and no other language more than {found.get('spare', 0):+g}. "
        f"{'Reached' if found['reached'] else 'NOT reached: the way that was taken is the best of these'}."
    )
    text = f"Measured under hooks on text that is not that of the proof (tokens: {', '.join(read)})." if read else ""
    seen = list(found.get("seen") or ())
    also = f"In {languages.listed(seen)} there was no other text than that which neurons were found on." if seen else ""
    return " ".join(filter(None, (asked, text, also)))


def beside(found: Mapping[str, Any] | None, answers: Mapping[str, Any] | None) -> str:
    """Compare what a search saw of the way that it took with answers to prompts of another kind; "" where either lacks.

    The share of answers in the language is compared; what lies outside the interval of the answers is no chance.
    """
    if not found or found["kind"] != "on" or not answers or answers.get("kind") == SEEN:
        return ""
    rows = found["rows"][found["chosen"] :][:1]
    own = (answers.get("all") or {}).get(THIS) or {}
    saw, ends = number(rows[0].get("accuracy") if rows else None), own.get("interval")
    low, high = map(number, ends) if isinstance(ends, (list, tuple)) and len(ends) == 2 else (math.nan, math.nan)
    if any(map(math.isnan, (saw, low, high))):
        return ""
    if low <= saw <= high:
        much = "Chance may be all that is between them"
    elif saw > high:
        much = "The difference is more than chance: expect the second figure or less, and ask with prompts of your own"
    else:
        much = "The difference is more than chance, to the better"
    return (
        f"The search saw {share(saw)} of the answers in the language, by the base under hooks, on prompts of its "
        f"own; the checkpoint itself gives {share(own.get('accuracy'))} on prompts of another kind. {much}."
    )


def _note_of_answers(found: Mapping[str, Any]) -> str:
    asked = (
        "The rule: of the ways that gave most answers, the one with the most whole ones leads; those whose brackets reach "
        "into its own are as good, as chance may be all that is between them; of these the one with the most whole "
        "answers for its damage is taken, one in a hundred weighing as much as 0.01 nats. "
        f"Asked for: {share(found.get('target_accuracy'))} whole answers. "
        f"{'Reached' if found['reached'] else 'NOT reached by any way'}."
    )
    dropped = (
        "The better half of the ways was asked more, half of these again. In brackets: where the share lies in 95 of 100 "
        "draws of as many prompts."
    )
    few = "Only the likeliest way of each kind was tried, as the model is slow." if found.get("subset") else ""
    refused = [f"{kind}: {why}" for kind, why in (found.get("refused") or {}).items()]
    left = list(found.get("untried") or ())
    untried = f"Not tried within the budget: {'; '.join(left)}." if left else ""
    return " ".join(
        filter(None, (asked, dropped, few, untried, f"Not possible here: {' '.join(refused)}" if refused else ""))
    )


def _languages(found: Mapping[str, Any]) -> Sequence[str]:
    return list(dict.fromkeys(code for row in found["rows"] for code in row.get("change") or {}))
