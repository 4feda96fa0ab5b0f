"""What was measured of answers, as tables: in which language they are, whether they are whole, what leaked.

Each function takes one part of an evaluation, as it stands in a manifest, and gives the tables that show it. What is
missing or no number is a dash.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ...editor.text import languages
from .amounts import NONE, count, number, or_dash, perplexity_figure, share
from .table import Table, diagonal, matrix, present

RANDOM, REAL = "random neurons", "real text"
MODELS = ("base", "this model", RANDOM)
EACH = {
    "accuracy": "answers in the prompt's language",
    "whole": "answers in the prompt's language that are whole",
    "lcpr": "LCPR by the prompt's language",
    "quality": "quality, 1–5, by the prompt's language",
}
ENOUGH = 200  # answers, behind a figure that is to be relied on
KEPT = {"none": "nothing", "random": RANDOM}  # rows of `deactivate_each` that are no languages

# What is measured of answers: the label, how it is written, and what it means where the label doesn't say it.
ANSWERS: dict[str, tuple[str, Callable[[Any], str], str]] = {
    "accuracy": ("in the language", share, "In the language: as a language identifier sees it; undetermined counts against."),
    "whole": ("and whole", share, "And whole: neither word salad nor loops besides."),
    "interval": (
        "by chance", lambda ends: between(ends),
        "By chance: where the share lies in 95 of 100 draws of as many prompts.",
    ),
    "leaks": ("leaks", share, "Leaks: share of answers with a letter of a script that the language is not written in."),
    "relevance": (
        "relevance", lambda value: or_dash(value, "{:+.2f}".format),
        "Relevance: nats a token that answers are likelier after their own prompt than after another, to the base.",
    ),
    "lpr": ("LPR", share, "LPR: share of the answers all of whose lines are in the language."),
    "wpr": ("WPR", share, "WPR: of those, the share without an English word; for languages not in Latin script."),
    "lcpr": ("LCPR", share, "LCPR: the harmonic mean of LPR and WPR, LPR where there is no WPR."),
    "perplexity": ("perplexity", lambda value: or_dash(value, perplexity_figure), "Perplexity: the base's, of the answers."),
    "repetition": ("repeated 3-grams", share, ""),
    "quality": ("quality, 1–5", lambda value: or_dash(value, "{:.1f}".format), "Quality: the mean mark of a judge model."),
}  # fmt: skip


def generation(found: Mapping[str, Any]) -> list[Table]:
    """Answers, a row for each language of the prompts and each model; those of this model are marked."""
    by_language = found["by_language"]
    keys = present(ANSWERS, (row for by in by_language.values() for row in by.values()))
    answered = [(code, name, row) for code, by in by_language.items() for name, row in by.items()]
    rows = tuple(
        (_asked_in(found, code), name, *(ANSWERS[key][1](row.get(key)) for key in keys)) for code, name, row in answered
    )
    head = ("prompts in", "model", *(ANSWERS[key][0] for key in keys))
    this = [number for number, (_, name, _) in enumerate(answered) if name == MODELS[1]]
    marked = frozenset((row, column) for row in this for column in range(1, len(head)))
    asked = ", asked for in so many words" if found.get("answer_in") else ""
    prompts = [f"{code} {count(number)}" for code, number in (found.get("prompts") or {}).items()]
    note = f"Prompts: {', '.join(prompts)}. {_legend(keys)}" if prompts else _legend(keys)
    note = " ".join(filter(None, (overall(found), answered_by(found), note)))
    return [Table(f"answers in {wanted(found)}{asked}", head, rows, note, marked)]


def between(ends: Any) -> str:
    """Write the ends of an interval of shares."""
    if not isinstance(ends, (list, tuple)) or len(ends) != 2:
        return NONE
    return f"{share(ends[0])} to {share(ends[1])}"


def overall(found: Mapping[str, Any]) -> str:
    """Say in a sentence what all answers of this model come to; nothing where that was not recorded."""
    whole = found.get("all") or {}
    own, base = whole.get(MODELS[1]) or {}, whole.get(MODELS[0]) or {}
    if not number(own.get("answers")) > 0:
        return ""
    few = f" Fewer than {ENOUGH}: take it as a first look." if own["answers"] < ENOUGH else ""
    about = [f"{name} {ANSWERS['relevance'][1](row['relevance'])}" for name, row in (("this model", own), ("the base", base))
             if row.get("relevance") is not None]  # fmt: skip
    return (
        f"In all: {share(own.get('accuracy'))} of {count(own['answers'])} answers ({between(own.get('interval'))} by "
        f"chance), {share(own.get('whole'))} whole besides, {share(own.get('leaks'))} with a letter of another script.{few}"
        + (f" By hundred tokens: {', '.join(map(share, drift))}." if (drift := own.get("by_hundred")) else "")
        + (f" Relevance, in nats a token: {', '.join(about)}." if about else "")
    )


def answered_by(found: Mapping[str, Any]) -> str:
    """Say which engine wrote the answers, of which version and dtype, and how it was asked; nothing of transformers."""
    engines = found.get("engine")
    if not isinstance(engines, Mapping) or not engines:
        return ""
    said = {name: _engine(about) for name, about in engines.items() if isinstance(about, Mapping)}
    who = said.get(MODELS[1]) or next(iter(said.values()), "an engine")
    others = [f"{name} by {other}" for name, other in said.items() if other != who]
    asked = [f"temperature {found['temperature']:g}"] if found.get("temperature") else ["greedy"]
    asked += [f"seed {found.get('seed')}"] * bool(found.get("temperature"))
    asked += ["in its chat template"] * bool(found.get("chat")) + ["after a system prompt"] * bool(found.get("system"))
    asked += ["without a repetition penalty"] * ("repetition_penalty" in found and found["repetition_penalty"] is None)
    said_of = f"Answers by {'; '.join([who, *others])}, {', '.join(asked)}"
    return f"{said_of}. No neurons can be hooked in an engine, so random ones are missing."


def _engine(about: Mapping[str, Any]) -> str:
    name, version, dtype = (about.get(key) for key in ("name", "version", "dtype"))
    return f"{name or 'an engine that does not say its name'}{f' {version}' if version else ''}" + (
        f" in {dtype}" if dtype else " in a dtype that it does not say"
    )


def wanted(found: Mapping[str, Any]) -> str:
    """Which language counts as right, in words."""
    right = found.get("wanted") or {}
    if not right or all(list(codes) == [code] for code, codes in right.items()):
        return "the prompt's own language"
    if len({tuple(codes) for codes in right.values()}) > 1:
        return "the language that prompts in each are to be answered in"
    named = list(dict.fromkeys(code for codes in right.values() for code in codes))
    return languages.listed(named)


def _asked_in(found: Mapping[str, Any], code: str) -> str:
    """Return the language of some prompts, with that of the answers where prompts in each language have their own."""
    right = found.get("wanted") or {}
    several = len({tuple(codes) for codes in right.values()}) > 1
    return f"{code} → {' or '.join(right[code])}" if several and list(right.get(code, [code])) != [code] else code


def answers(found: Mapping[str, Any]) -> list[Table]:
    """Tabulate the answers, short enough for a card: a row a language; lines, words and quality in a second table."""
    by_language, prompts = found["by_language"], found.get("prompts") or {}
    columns = {
        "base": ("base", "accuracy"), "this model": ("this model", "accuracy"), "and whole": ("this model", "whole"),
        RANDOM: (RANDOM, "accuracy"), "perplexity of the answers": ("this model", "perplexity"),
        "of real text": (REAL, "perplexity"), "repeated 3-grams": ("this model", "repetition"),
    }  # fmt: skip
    if all(RANDOM not in by for by in by_language.values()):
        del columns[RANDOM]
    lines = {
        f"{ANSWERS[key][0]}, {name}": (name, key)
        for key, names in {
            "interval": MODELS[1:2],
            "leaks": MODELS[1:2],
            "relevance": MODELS[:2],
            "lpr": MODELS,
            "wpr": MODELS[1:2],
            "lcpr": MODELS,
            "quality": MODELS,
        }.items()
        for name in names
        if any(by.get(name, {}).get(key) is not None for by in by_language.values())
    }

    def rows(cells: Mapping[str, tuple[str, str]]) -> Iterable[tuple[str, ...]]:
        for code, by in by_language.items():
            yield code, *(ANSWERS[key][1](by.get(name, {}).get(key)) for name, key in cells.values())

    counted = tuple((_asked_in(found, code), count(prompts.get(code)), *cells) for code, *cells in rows(columns))
    made = [Table(f"answers in {wanted(found)}", ("prompts in", "prompts", *columns), counted)]
    if lines:
        note = _legend(dict.fromkeys(key for _, key in lines.values()))
        made.append(Table("by lines and words", ("prompts in", *lines), tuple(rows(lines)), note))
    return made


def deactivate_each(found: Mapping[str, Any]) -> list[Table]:
    """Answers with one language switched off: a matrix for each measure, by language switched off and of the prompt."""
    rows = {KEPT.get(name, name): row for name, row in found["rows"].items()}
    columns = list(dict.fromkeys(code for row in rows.values() for code in row))

    def by(key: str) -> Table:
        _, form, meaning = ANSWERS[key]
        cells = matrix(rows, columns, lambda row, code: form((row.get(code) or {}).get(key)))
        return Table(EACH[key], ("switched off", *columns), cells, meaning, diagonal(rows, columns))

    return [by(key) for key in present(EACH, (one for row in rows.values() for one in row.values()))]


def leaks(found: Mapping[str, Any]) -> list[Table]:
    """Tabulate how often a script was written."""
    head = ["answers by"]
    thinks = any("think" in row for row in found["rows"].values())
    parts = (("think", "thought"), ("answer", "answer")) if thinks else (("answer", "answer"),)
    for _, part in parts:
        head += [f"with a character of it in the {part}", "characters of it in a thousand"]
    rows = []
    for name, by in found["rows"].items():
        cells = []
        for key, _ in parts:
            own = by.get(key) or {}
            cells += [or_dash(own.get("share"), "{:.1%}".format), or_dash(own.get("per_thousand"), "{:.2f}".format)]
        rows.append((name, *cells))
    asked = ", ".join(f"{code} {number}" for code, number in (found.get("prompts") or {}).items())
    note = (
        f"{count(found.get('answers'))} answers of up to {count(found.get('tokens'))} tokens each, drawn at temperature 1, "
        f"to prompts in the language ({asked}). Rows × 0.5 is the base with the script's rows of its output table halved."
    )
    return [Table(f"characters of {', '.join(found['scripts'])}", tuple(head), tuple(rows), note)]


def strength(found: Mapping[str, Any]) -> list[Table]:
    """Tabulate the curve of a strength that was searched for; the last row is what the checkpoint itself does."""
    final = [(f"{point['strength']:g}, this checkpoint", point) for point in found["checkpoint"][-1:]]
    tried = [(f"{point['strength']:g}, by hooks", point) for point in found["points"]]
    rows = tuple(
        (
            name,
            *(ANSWERS[key][1](point.get(key)) for key in ("accuracy", "whole", "perplexity", "repetition")),
            or_dash(point.get("kl"), "{:.2f}".format),
        )
        for name, point in [("0 (the base)", found["base"]), *tried, *final]
    )
    head = (
        "strength", "in the language", "and whole", "perplexity of the answers", "repeated 3-grams", "KL to the base, nats"
    )  # fmt: skip
    marked = frozenset({(len(rows) - 1, 0)} if final else ())
    return [Table(f"strength, for answers in {languages.name(found['language'])}", head, rows, marked=marked)]


def _legend(keys: Iterable[str]) -> str:
    return " ".join(filter(None, (ANSWERS[key][2] for key in keys)))
