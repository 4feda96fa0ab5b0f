"""What runtimes are known to honour: every one of them is named, with the carriers that it drops."""

from pathlib import Path

import pytest

from monoglot.editor.models.families import KNOWN
from monoglot.editor.runtimes import capabilities, conformance
from monoglot.editor.runtimes.adapters import NAMES

PAGE = Path(__file__).parents[3] / "docs" / "runtimes.md"
EVERY = (*capabilities.FINDINGS, *capabilities.NEWER)


def test_the_docs_table_of_newer_families_is_what_is_known() -> None:
    lines = PAGE.read_text(encoding="utf-8").partition("<!-- newer families")[2].partition("<!-- end")[0].splitlines()
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert set(head[2:]) == {f"{one.runtime} {one.version}" for one in capabilities.NEWER}
    found = {
        (column.split(" ")[0], row[0].strip("`")): cell.partition(",")[0].strip("*")
        for row in rows
        for column, cell in zip(head[2:], row[2:], strict=True)
        if cell != "not run"
    }
    assert found == {(one.runtime, name): one.verdict for one in capabilities.NEWER for name in one.families}


def test_capabilities_name_what_there_is() -> None:
    for one in EVERY:
        assert one.runtime in NAMES and one.carrier in capabilities.CARRIERS and set(one.families) <= set(KNOWN)
        assert one.verdict in conformance.VERDICTS
    cells = [(one.runtime, one.carrier, family) for one in EVERY for family in one.families]
    assert len(cells) == len(set(cells))


@pytest.mark.parametrize(
    ("runtimes", "model_type", "possible", "carrier"),
    [
        (["vllm", "llama.cpp"], "llama", ("flag", "calibrated"), "flag"),
        (["vllm", "mistralrs"], "llama", ("flag", "calibrated"), "calibrated"),
        (["vllm"], "gpt2", ("native", "calibrated"), "native"),
        (["llama.cpp"], "opt", ("native", "calibrated"), "calibrated"),
        (["vllm"], "mistral", ("llama", "calibrated"), "calibrated"),  # another name of the architecture is asked for
    ],
)
def test_the_carrier_for_some_runtimes(
    runtimes: list[str], model_type: str, possible: tuple[str, ...], carrier: str
) -> None:
    assert capabilities.carrier_for(runtimes, model_type, possible) == carrier


def test_who_drops_a_carrier() -> None:
    assert capabilities.dropping(["vllm", "mistralrs"], "flag", "llama") == ["mistralrs"]
    assert capabilities.dropping(["vllm", "mistralrs"], "llama", "qwen2") == ["mistralrs"]
    assert capabilities.dropping(NAMES, "calibrated", "llama") == []
