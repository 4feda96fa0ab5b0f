"""What was measured, as tables of text: the same ones for the console, the card and the page.

Each function takes one part of an evaluation, as it stands in a manifest, and gives the tables that show it. What is
missing or no number is a dash.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from ...editor.neurons.profile import ends
from . import candidates as ways
from .amounts import NONE, change, count, number, or_dash, share
from .amounts import perplexity as of_log_loss
from .generated import MODELS, RANDOM, deactivate_each, generation, leaks, strength
from .table import Table, diagonal, matrix, present


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
    changes = matrix(rows, columns, lambda row, code: or_dash(row.get(code), change))
    reached = matrix(
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
            diagonal(rows, columns, right=2),
        ),
        Table(
            "perplexity on text in each language",
            ("switched off", *columns),
            reached,
            marked=diagonal(["nothing", *rows], columns),
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


def text_effect(found: Mapping[str, Any]) -> list[Table]:
    """Tabulate what a checkpoint does to text, a row a language; those of the edited languages are marked."""
    loss, counts = found["log_loss"], found.get("tokens") or {}
    base, own = loss.get(MODELS[0]) or {}, list(found.get("own") or ())
    names = [name for name in MODELS[1:] if name in loss]
    rows = tuple(
        (
            code,
            count(counts.get(code)),
            *(or_dash(by.get(code), of_log_loss) for by in (base, *(loss[name] for name in names))),
            *(or_dash(number(loss[name].get(code)) - number(base.get(code)), change) for name in names),
        )
        for code in base
    )
    head = ("text in", "tokens", "perplexity, base", *names, *(f"Δ log-loss, {name}" for name in names))
    marked = frozenset((row, column) for row, code in enumerate(base) if code in own for column in range(len(head)))
    return [Table("effect on text in each language", head, rows, "", marked)]


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
    damage = present(labels, told.values())
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


def candidates(found: Mapping[str, Any]) -> list[Table]:
    """Tabulate the ways that a search has tried, numbered, with the one that was taken marked."""
    rows = tuple((f"{at}. {name}", *cells) for at, (name, *cells) in enumerate(ways.rows(found), start=1))
    marked = frozenset((found["chosen"], column) for column in range(4))
    return [Table(ways.title(found), ways.columns(found), rows, ways.note(found), marked)]


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
    "effect": text_effect,
}
