"""What was measured, section by section, as the card and the page show it: a heading, words, a figure and tables."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import candidates, generated, tables
from .generated import wanted
from .table import Table
from .tables import dominance


@dataclass(frozen=True)
class Section:
    """A section of the card.

    `name` is the key of the evaluation, and the figure's name where there is one. `alt` says what the figure shows. `finding`
    says in one sentence what was found, where one sentence can.
    """

    name: str
    title: str
    words: str
    alt: str
    finding: str
    tables: tuple[Table, ...]


def sections(evaluation: Mapping[str, Any], strength: Mapping[str, Any] | None = None) -> list[Section]:
    """Those of what was measured, in the order in which they are read; `strength` is the manifest's curve."""
    measured = {**evaluation, "strength": strength}
    made = []
    for name, make in tables.MEASURES.items():
        if found := measured.get(name):
            rows = tuple(make(found))
            finding = rows[0].note if name in TOLD else ""
            if name == "activated":
                finding = candidates.beside(measured.get("candidates"), found)
            made.append(Section(name, *_texts(name, found), _alt(name, found), finding, rows))
    return made


def _texts(name: str, found: Mapping[str, Any]) -> tuple[str, str]:
    """Return the heading and the words; a search for a language to answer in has its own."""
    return ANSWERING if name == "candidates" and found["kind"] == "on" else TEXTS[name]


ANSWERING = (
    "Neurons, vectors or redirecting?",
    "A search tried several kinds of edits that make this model answer in the language: constants on its neurons, its vector "
    "added to every token, the tokens of the other languages moved to its own, and both. Which is best depends on the model: "
    "redirecting needs a vocabulary whose tokens belong to languages. Figures are of the base under hooks, on prompts in the "
    "other languages.",
)
TOLD = ("candidates", "perplexity", "profile")  # by the note of the first table


TEXTS = {
    "candidates": (
        "What was tried",
        "A search tried several ways to do what was asked for, and took the mildest that does it. Changes are of the mean "
        "log-loss of a token, in nats, on text in each language; +0.69 doubles the perplexity.",
    ),
    "perplexity": (
        "What switching a language off does to text",
        "Change of the mean log-loss of a token, in nats, on held-out text in each language (columns), with the neurons of "
        "one language switched off (rows). A change of +0.69 doubles the perplexity. Random neurons are the control: as "
        "many in every layer, drawn with a seed.",
    ),
    "deactivate_each": (
        "What switching a language off does to answers",
        "Greedy answers to prompts in each language (columns), with the neurons of one language switched off (rows): the "
        "share that a language identifier puts in the prompt's language. Undetermined counts against. Random neurons are "
        "the control.",
    ),
    "activated": (
        "Which language it answers in",
        "Greedy answers to prompts in other languages, by the model as it was, by this one, and by the model with as many "
        "random neurons in every layer edited in the same way. Real text in the language is the yardstick.",
    ),
    "same_language": (
        "Does it answer in the prompt's language",
        "Greedy answers by the model as it was, by this one, and by the model with as many random neurons in every layer "
        "edited in the same way. Real text in the language is the yardstick.",
    ),
    "asked": (
        "Does it answer in a language that it is asked for",
        "The same with a request for the language in the prompt: what a prompt alone does, and what is left for the neurons.",
    ),
    "strength": (
        "How strongly",
        "The strength was searched for: the smallest at which the answers to prompts in other languages are in the language "
        "and have not fallen apart. The base under hooks, and last the checkpoint itself.",
    ),
    "profile": (
        "Where the neurons lie",
        "Language-specific neurons in each layer. In the larger models of the literature most lie in the first and the last "
        "layers.",
    ),
    "overlap": (
        "Which languages share neurons",
        "Neurons that belong to both languages of a pair. Languages that share many are not cleanly separable.",
    ),
    "similarity": (
        "Where languages meet",
        "The cosine between hidden states, pooled over a text, of the same text in two languages, layer by layer. Texts that "
        "are not translations of each other show how much of it is no meaning.",
    ),
    "methods": (
        "Other ways to find the neurons",
        "The same statistics, other methods; all that can be cut at the same rate are.",
    ),
    "effect": (
        "What it does to text",
        "Perplexity of held-out text in each language, by the model as it was, by this one, and by the model with random "
        "edits of the same size. A change of +0.69 doubles the perplexity.",
    ),
    "leaks": (
        "Can it still write it?",
        "Characters of a script that is not to be written, in answers that were drawn at temperature 1 to prompts that ask "
        "for the language.",
    ),
}


def _alt(name: str, found: Mapping[str, Any]) -> str:
    """Describe a figure for those who don't see it."""
    if name == "perplexity":
        rows, columns = ", ".join(found["change"]), ", ".join(found["base"])
        what = f"Heat map: change of log-loss on text in {columns} (columns) with the neurons of {rows} switched off (rows)."
        return f"{what} {dominance(found)}".strip()
    if name == "deactivate_each":
        rows = ", ".join(code for code in found["rows"] if code not in generated.KEPT)
        what = "Heat map: share of answers in the prompt's language (columns)"
        return f"{what} with the neurons of {rows} switched off (rows)."
    if name == "candidates":
        return "Scatter plot: what each way gains (upwards) against what it costs (to the right), one point a way."
    if name == "profile":
        return f"Small charts, one a language: the share of the neurons of {', '.join(found['layers'])} in each layer."
    if name == "overlap":
        return f"Heat map: shared neurons of each pair of {', '.join(found['neurons'])}, coloured by Jaccard."
    if name == "similarity":
        return "Line chart: similarity of translations in two languages by layer, with unrelated texts as the control."
    if name == "strength":
        return "Line chart: answers in the language, whole ones among them, and their perplexity, against the strength."
    return f"Answers in {wanted(found)}." if name in ("activated", "same_language", "asked") else ""
