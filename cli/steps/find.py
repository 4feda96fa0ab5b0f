"""Find neurons and show them."""

from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import click

from ..console import answer, bar, table

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ...editor.neurons.methods.variation import Variation
    from ...editor.neurons.neurons import Neurons


class Settings(TypedDict):
    """What methods are told."""

    rate: float
    quantile: float
    threshold: float
    seed: int
    like: "Neurons | None"
    joint: bool


def run_find(
    statistics_file: Path | None, method: str, model: str | None, tuned: tuple[str, ...], **settings: "Unpack[Settings]"
) -> "Neurons":
    """Neurons by a method, in the statistics, or in the variation of `model` in its tuned copies."""
    from ...editor.neurons.find import find
    from ...editor.statistics import statistics

    known = statistics.load(statistics_file) if statistics_file else None
    return find(vary(str(model), tuned) if method == "pv" else known, method, statistics=known, **settings)


def vary(model: str, tuned: tuple[str, ...]) -> "Variation":
    """Measure the variation of `model` in copies of it, each given as LANG=DIR, with a progress bar."""
    from ...editor.models.source import resolve
    from ...editor.models.target import open_target
    from ...editor.neurons.methods import variation
    from ...editor.text.languages import LANGUAGE

    copies: dict[str, str] = {}
    for one in tuned:
        language, equals, folder = one.partition("=")
        if not (equals and folder and LANGUAGE.fullmatch(language)):
            raise click.UsageError(f"--tuned {one} is not a language and a model: --tuned fr=FOLDER.")
        if language in copies:
            raise click.UsageError(f"--tuned names {language} twice.")
        copies[language] = folder
    if len(copies) < 2:
        raise click.UsageError("A language is told from others: --tuned has to be given for at least two.")
    base = open_target(resolve(model))
    targets = {language: open_target(resolve(folder)) for language, folder in copies.items()}
    with bar("compare weights", "layers") as update:
        return variation.vary(base, targets, update)


def show_neurons(found: "Neurons", as_json: bool) -> None:
    """Neurons per language, how many of them other languages share, and where in depth they lie."""
    pairs = {language: found.pairs(language) for language in found.languages}
    rows = []
    for language, own in pairs.items():
        others = {other: len(own & theirs) for other, theirs in pairs.items() if other != language}
        any_other = len(own & set().union(*(theirs for other, theirs in pairs.items() if other != language)))
        most = max(others, key=lambda other: others[other]) if any_other else None
        profile = found.per_layer(language)
        rows.append((language, len(own), any_other, f"{most} {others[most]}" if most else "–", profile))
    union = len(set().union(*pairs.values()))
    if as_json:
        answer(
            {
                "method": {key: value for key, value in found.method.items() if key != "texts"},
                "neurons": union,
                "languages": {r[0]: {"neurons": r[1], "shared": r[2], "layers": r[4]} for r in rows},
            }
        )
        return
    table(
        f"{union:,} neurons in {len(rows[0][4])} layers",
        ("language", "neurons", "shared", "most with", f"layer 0 … {len(rows[0][4]) - 1}"),
        [(k, n, s, most, spark(profile)) for k, n, s, most, profile in rows],
    )


def spark(counts: list[int]) -> str:
    """Draw a profile as a row of small bars, at most 40 of them."""
    step = -(-len(counts) // 40)
    sums = [sum(counts[at : at + step]) for at in range(0, len(counts), step)]
    top = max(sums) or 1
    return "".join("·▁▂▃▄▅▆▇█"[-(-8 * value // top)] for value in sums)
