"""What is said of runtimes, in the card and in the docs, against the one table of what was measured."""

import ast
import re
from pathlib import Path

import pytest

import monoglot.cards
from monoglot.cards.words import runtimes
from monoglot.editor.runtimes import capabilities
from monoglot.editor.runtimes.adapters import NAMES

PAGE = Path(__file__).parents[3] / "docs" / "runtimes.md"
CARDS = Path(str(monoglot.cards.__path__[0]))
MODELS = {  # of the table in the docs
    "embedded": "llama", "embedded, in shards": "llama", "embedded, with biases of its own": "llama",
    "SmolLM2 135M": "llama", "Gemma 3 270M": "gemma3_text", "GPT-2, random": "gpt2", "BLOOM, random": "bloom",
    "OPT, random": "opt", "Phi, random": "phi", "GPT-NeoX, random": "gpt_neox", "StarCoder 2, random": "starcoder2",
}  # fmt: skip


def names(text: str, titles: dict[str, str]) -> list[str]:
    back = {title: name for name, title in titles.items()}
    return [back[one] for one in re.split(", | and ", text)]


def said(carrier: str) -> dict[tuple[str, str], str]:
    """(runtime, family) -> verdict, as the card's sentences say, read back from them."""
    found = {}
    for sentence in re.split(r"(?<=\.) (?=\S)", runtimes.known(carrier)):
        for verdict, did in runtimes.DID.items():
            if f" {did} " in sentence:
                for part in sentence.removesuffix(".").replace(f" {did} ", " with ").split("; "):
                    who, families = part.split(" with ")
                    for runtime in names(who, runtimes.RUNTIMES):
                        for family in names(families, runtimes.FAMILIES):
                            assert (runtime, family) not in found
                            found[runtime, family] = verdict
    return found


@pytest.mark.parametrize("carrier", capabilities.CARRIERS)
def test_the_card_says_what_was_measured_and_no_more(carrier: str) -> None:
    families = ["llama"] if carrier == "llama" else list(runtimes.FAMILIES)
    cells = {
        (runtime, family): capabilities.seen(runtime, carrier, family)
        for runtime in runtimes.RUNTIMES
        for family in families
    }
    assert said(carrier) == {cell: verdict for cell, verdict in cells.items() if verdict}


def test_all_that_was_measured_has_a_name_on_the_card() -> None:
    assert {*runtimes.RUNTIMES, "transformers"} == set(NAMES)
    assert set(runtimes.FAMILIES) == {family for one in capabilities.FINDINGS for family in one.families}


@pytest.mark.parametrize("carrier", ["flag", "llama"])
def test_who_drops_biases_is_advised_against(carrier: str) -> None:
    assert "(mistral.rs on safetensors, SGLang)" in runtimes.advice(Made(carrier))  # type: ignore[arg-type]


class Made:
    """As much of a manifest as the advice asks for."""

    def __init__(self, carrier: str) -> None:
        self.carrier_name = carrier


def test_the_table_of_the_docs_is_what_is_known() -> None:
    head, *rows = [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in PAGE.read_text(encoding="utf-8").splitlines()
        if line.startswith("| model") or " random |" in line or re.match(r"\| (embedded|SmolLM2|Gemma)", line)
    ]
    versions = {(one.runtime, one.version) for one in capabilities.FINDINGS}
    columns = [tuple(column.split(" ")) for column in head[2:]]
    assert set(columns) == versions
    for model, carrier, *cells in rows:
        own = "flag" if (carrier, MODELS[model]) == ("native", "llama") else carrier  # a Llama with biases of its own
        for (runtime, _), cell in zip(columns, cells, strict=True):
            assert cell.split(",")[0].strip("*") == capabilities.seen(runtime, own, MODELS[model]), (
                model,
                carrier,
                runtime,
            )


def test_no_sentence_names_a_runtime_and_a_family_by_itself() -> None:
    """Such a sentence would be a second list of what was measured, which nobody keeps up with the first."""
    for path in CARDS.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
            named = [
                [one for one in titles.values() if one in text] for titles in (runtimes.RUNTIMES, runtimes.FAMILIES)
            ]
            assert not all(named), f"{path.name}: {text}"
