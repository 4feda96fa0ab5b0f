"""What was measured, as tables of text: the same ones for the console, the card and the page.

Each function takes one part of an evaluation, as it stands in a manifest, and gives the tables that show it. What is
missing or no number is a dash.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ...editor.edits.certificate import Certificate
from ...editor.edits.manifest import Carrier
from ...editor.edits.recipe import REDIRECT, VECTOR, Edit, Recipe
from ...editor.neurons.profile import ends
from ...editor.text import languages
from . import candidates as ways
from .amounts import NONE, change, count, number, or_dash, perplexity_figure, share
from .amounts import perplexity as of_log_loss
from .foreign import cell
from .wording import operation, script_operation

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


@dataclass(frozen=True)
class Table:
    """A table of text.

    The first column names the row, the others hold figures. `marked` are the cells (row, column) to be set apart, such as
    those where a language meets itself.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    marked: frozenset[tuple[int, int]] = frozenset()


class Edited(Protocol):
    """A checkpoint or a GGUF file as its record says what was done: the recipe, and how many neurons of each language."""

    @property
    def recipe(self) -> Recipe: ...
    @property
    def edited(self) -> Mapping[str, int]: ...
    @property
    def kept(self) -> Mapping[str, int]: ...
    @property
    def neurons_edited(self) -> int: ...


def every(evaluation: Mapping[str, Any], strength: Mapping[str, Any] | None = None) -> list[Table]:
    """All tables of what was measured; `strength` is the manifest's curve."""
    found = {**evaluation, "strength": strength}
    return [table for name, made in MEASURES.items() if found.get(name) for table in made(found[name])]


def perplexity(found: Mapping[str, Any]) -> list[Table]:
    """Tabulate the matrix, then the perplexities.

    The matrix is the change of log-loss by language switched off and language of the text."""
    base, off, counts = found["base"], found["change"], found.get("neurons") or {}
    columns = list(base)
    rows = {**off, RANDOM: found["random"]} if found.get("random") else dict(off)
    changes = _matrix(rows, columns, lambda row, code: or_dash(row.get(code), change))
    reached = _matrix(
        {"nothing": dict.fromkeys(columns, 0.0), **rows},
        columns,
        lambda row, code: or_dash(number(base[code]) + number(row.get(code)), of_log_loss),
    )
    return [
        Table(
            "change of log-loss, nats, on text in each language",
            ("switched off", "neurons", *columns),
            tuple((name, count(counts.get(name)), *cells) for name, *cells in changes),
            dominance(found),
            _diagonal(rows, columns, right=2),
        ),
        Table(
            "perplexity on text in each language",
            ("switched off", *columns),
            reached,
            marked=_diagonal(["nothing", *rows], columns),
        ),
    ]


def dominance(found: Mapping[str, Any]) -> str:
    """Say in words how much of the damage lies on the matrix's diagonal."""
    told = found.get("dominance") or {}
    sentences = []
    if (part := share(told.get("share"))) != NONE:
        even = share(1 / max(1, len(found["base"])))
        sentences.append(f"{part} of the damage falls on the language switched off; evenly spread it would be {even}.")
    means = (
        ("diagonal", "on the language switched off"),
        ("elsewhere", "on the others"),
        ("random", "by random neurons"),
    )
    written = [(or_dash(told.get(key), change), where) for key, where in means]
    if known := [f"{figure} {where}" for figure, where in written if figure != NONE]:
        sentences.append(f"Mean change: {', '.join(known)}.")
    return " ".join(sentences)


def profile(found: Mapping[str, Any]) -> list[Table]:
    """Neurons per layer and language."""
    layers = found["layers"]
    columns = list(layers)
    depth = max(map(len, layers.values()), default=0)
    rows = [
        (str(layer), *(count(layers[code][layer]) if layer < len(layers[code]) else NONE for code in columns))
        for layer in range(depth)
    ]
    rows.append(("all", *(count(sum(map(number, layers[code]))) for code in columns)))
    outer = {code: ends([int(count or 0) for count in layers[code]]) for code in columns}
    known = [f"{code} {share(part)}" for code, part in outer.items() if part is not None]
    even = share(ends([1] * depth))
    notes = (
        [f"In the first and the last quarter of the layers lie {', '.join(known)}; evenly spread {even}."]
        if known
        else []
    )
    if found.get("width"):
        notes.append(f"A layer has {found['width']:,} neurons in all.")
    return [Table("neurons per layer", ("layer", *columns), tuple(rows), " ".join(notes))]


def overlap(found: Mapping[str, Any]) -> list[Table]:
    """Shared neurons of each pair of languages."""
    counts, shared, jaccard = found["neurons"], found["shared"], found.get("jaccard") or {}
    columns = list(counts)

    def both_of(one: str, other: str) -> str:
        both = shared.get(one, {}).get(other)
        alike = or_dash(jaccard.get(one, {}).get(other), "{:.2f}".format)
        return NONE if one == other or both is None else f"{count(both)} ({alike})"

    rows = tuple((one, count(counts[one]), *(both_of(one, other) for other in columns)) for one in columns)
    note = "In brackets Jaccard: of the neurons that are of either language, the share that is of both."
    return [Table("shared neurons", ("language", "neurons", *columns), rows, note)]


def similarity(found: Mapping[str, Any]) -> list[Table]:
    """SES per layer: the mean over pairs of languages, the control, and the pairs at both ends."""
    pairs = found.get("pairs") or {}
    curves = {
        label: curve
        for label, key in {
            "mean": "mean", "unrelated texts": "unrelated", "centred": "centred", "unrelated, centred": "centred_unrelated"
        }.items()
        if (curve := found.get(key))
    }  # fmt: skip
    rows = []
    for layer in range(len(found.get("mean") or [])):
        here = {name: number(own[layer]) for name, own in pairs.items() if layer < len(own)}
        known = sorted((one, name) for name, one in here.items() if not math.isnan(one))
        ends = [f"{name} {one:.3f}" for one, name in known[:1] + known[-1:]] or [NONE, NONE]
        means = (or_dash(curve[layer], "{:.3f}".format) if layer < len(curve) else NONE for curve in curves.values())
        rows.append((str(layer), *means, *ends))
    texts = f"{count(found['texts'])} texts. " if found.get("texts") else ""
    return [
        Table(
            "mean cosine of the pooled hidden states of a text in two languages (SES)",
            ("layer", *curves, "least alike", "most alike"),
            tuple(rows),
            f"{texts}Layer 0 is the embeddings. {' '.join(CURVES[label] for label in curves if label in CURVES)}".strip(),
        )
    ]


CURVES = {
    "unrelated texts": "Unrelated texts, which are no translations of each other, are the control.",
    "centred": "Centred: without what all texts of a language have in common.",
}


def generation(found: Mapping[str, Any]) -> list[Table]:
    """Answers, a row for each language of the prompts and each model; those of this model are marked."""
    by_language = found["by_language"]
    keys = _present(ANSWERS, (row for by in by_language.values() for row in by.values()))
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

    def matrix(key: str) -> Table:
        _, form, meaning = ANSWERS[key]
        cells = _matrix(rows, columns, lambda row, code: form((row.get(code) or {}).get(key)))
        return Table(EACH[key], ("switched off", *columns), cells, meaning, _diagonal(rows, columns))

    return [matrix(key) for key in _present(EACH, (one for row in rows.values() for one in row.values()))]


def methods(found: Mapping[str, Any]) -> list[Table]:
    """How many neurons each method finds, what switching them off does, and how alike the methods are."""
    by_method, alike = found["methods"], found.get("overlap") or {}
    codes = list(dict.fromkeys(code for row in by_method.values() for code in row.get("languages") or {}))
    told = {name: (row.get("perplexity") or {}).get("dominance") or {} for name, row in by_method.items()}
    labels = {
        "share": "damage on the diagonal",
        "diagonal": "change there",
        "elsewhere": "elsewhere",
        "random": "by random",
    }
    damage = _present(labels, told.values())
    rows = tuple(
        (
            name,
            count(row.get("neurons")),
            *(count((row.get("languages") or {}).get(code)) for code in codes),
            *(share(told[name].get(key)) if key == "share" else or_dash(told[name].get(key), change) for key in damage),
        )
        for name, row in by_method.items()
    )
    cut = [f"{what} {or_dash(found.get(what), '{:g}'.format)}" for what in ("rate", "quantile") if what in found]
    notes = [f"Cut at {', '.join(cut)}."] if cut else []
    if damage:
        notes.append("Changes are of log-loss, in nats, with the neurons of one language switched off.")
    made = [
        Table(
            "neurons by method", ("method", "neurons", *codes, *(labels[key] for key in damage)), rows, " ".join(notes)
        )
    ]
    if alike:

        def alike_of(one: str, other: str) -> str:
            both = alike.get(one, {}).get(other) or alike.get(other, {}).get(one) or {}
            figures = [or_dash(both.get(key), "{:.2f}".format) for key in ("pairs", "neurons")]
            return NONE if one == other or set(figures) == {NONE} else " / ".join(figures)

        shared = tuple((one, *(alike_of(one, other) for other in by_method)) for one in by_method)
        note = "Jaccard, of (language, neuron) pairs / of neurons whatever their language."
        made.append(Table("overlap of the methods", ("method", *by_method), shared, note))
    return made


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


def candidates(found: Mapping[str, Any]) -> list[Table]:
    """Tabulate the ways that a search has tried, numbered, with the one that was taken marked."""
    rows = tuple((f"{at}. {name}", *cells) for at, (name, *cells) in enumerate(ways.rows(found), start=1))
    marked = frozenset((found["chosen"], column) for column in range(4))
    return [Table(ways.title(found), ways.columns(found), rows, ways.note(found), marked)]


def edits(manifest: Edited) -> Table:
    """Tabulate what was changed."""
    rows = [*((edit.language, operation(edit), *amounts(manifest, edit)) for edit in manifest.recipe.edits)]
    rows += scripts(manifest)
    of = "language or script" if manifest.recipe.scripts else "language"
    edited = (
        "neurons or tokens edited" if manifest.recipe.of_vocabulary or manifest.recipe.scripts else "neurons edited"
    )
    head = (of, "operation", edited, "kept, as another language measured shares them")
    return Table("what was changed", head, tuple(rows))


def scripts(manifest: Any) -> list[tuple[str, str, str, str]]:
    """List what became of each script, as rows of the table of edits."""
    return [
        (edit.script, script_operation(edit), f"{count(manifest.silenced[edit.script].tokens)} tokens", NONE)
        for edit in manifest.recipe.scripts
    ]


def amounts(manifest: Any, edit: Edit) -> tuple[str, str]:
    """Count the neurons or tokens that an edit of a recipe reached, and the neurons that were kept."""
    if edit.op == REDIRECT and edit.point is not None:
        return "1 neuron", NONE
    if edit.op == REDIRECT:
        return f"{count(manifest.redirected[edit.language].tokens)} tokens", NONE
    if edit.op == VECTOR:
        return "every token", NONE
    return count(manifest.edited[edit.language]), count(manifest.kept[edit.language])


def effect(certificate: Certificate | None) -> list[Table]:
    """Tabulate what a checkpoint does to text in each language, as `verify` measured it."""
    if certificate is None or certificate.effect is None:
        return []
    loss = certificate.effect.log_loss
    rows = []
    for code, tokens in certificate.effect.tokens.items():
        base, this, random = (number(loss.get(name, {}).get(code)) for name in MODELS)
        rows.append(
            (
                f"perplexity on {code} ({tokens:,} tokens)",
                *(or_dash(nats, of_log_loss) for nats in (base, this, random)),
                *(or_dash(nats - base, change) for nats in (this, random)),
            )
        )
    head = ("measure", *MODELS, "change of log-loss, nats", "change by random neurons")
    return [Table("effect on held-out text", head, tuple(rows))]


def calibration(carrier: Carrier | None) -> list[Table]:
    """How well a direction stands in for the constant 1, by layer."""
    layers = (carrier and carrier.calibration) or ()
    rows = tuple(
        (
            str(layer),
            f"{row.mean:.3f} ± {row.deviation:.3f}",
            or_dash(row.first_token, "{:.2f}".format),
            f"{row.worst_kind}, {row.worst:.2f}",
            f"{row.after:.1%}",
        )
        for layer, row in enumerate(layers)
    )
    head = ("layer", "w·x", "on the first token", "worst on", "error of the activation")
    return [Table("calibration", head, rows)] if rows else []


def markdown(table: Table) -> str:
    """With its title and its note."""
    return "\n\n".join(filter(None, (f"**{cell(table.title)}**", grid(table), cell(table.note))))


def grid(table: Table) -> str:
    """Write a table in Markdown, without its title and note."""

    def line(cells: Iterable[str]) -> str:
        return f"| {' | '.join(cells)} |"

    def written(text: str, marked: bool) -> str:
        return f"**{cell(text)}**" if marked and text.strip() else cell(text)

    body = (
        [written(text, (number, column) in table.marked) for column, text in enumerate(row)]
        for number, row in enumerate(table.rows)
    )
    return "\n".join((line(map(cell, table.columns)), "|" + "---|" * len(table.columns), *map(line, body)))


def _matrix(
    rows: Mapping[str, Mapping[str, Any]], columns: Sequence[str], written: Callable[[Mapping[str, Any], str], str]
) -> tuple[tuple[str, ...], ...]:
    return tuple((name, *(written(row, code) for code in columns)) for name, row in rows.items())


def _diagonal(rows: Iterable[str], columns: Sequence[str], right: int = 1) -> frozenset[tuple[int, int]]:
    """Return the cells where a language meets itself; `right` columns stand before the languages'."""
    return frozenset((row, columns.index(name) + right) for row, name in enumerate(rows) if name in columns)


def _present(keys: Iterable[str], figures: Iterable[Mapping[str, Any]]) -> list[str]:
    """Those of the keys that are known anywhere."""
    known = list(figures)
    return [key for key in keys if any(row.get(key) is not None for row in known)]


def _legend(keys: Iterable[str]) -> str:
    return " ".join(filter(None, (ANSWERS[key][2] for key in keys)))


MEASURES: dict[str, Callable[[Mapping[str, Any]], list[Table]]] = {
    "candidates": candidates,
    "perplexity": perplexity,
    "deactivate_each": deactivate_each,
    "activated": generation,
    "same_language": generation,
    "asked": generation,
    "strength": strength,
    "profile": profile,
    "overlap": overlap,
    "similarity": similarity,
    "methods": methods,
    "leaks": leaks,
}
