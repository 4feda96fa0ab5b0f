"""docs/families.md says what the table of families says."""

import re
from collections.abc import Callable
from pathlib import Path

from scripts.families_page import page

from monoglot.editor.edits.carrier_choice import refusals
from monoglot.editor.models.families import KNOWN
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import open_target

PAGE = Path(__file__).parents[3] / "docs" / "families.md"


def test_the_page_is_made_from_the_table() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), (
        "PYTHONPATH=tests python -m scripts.families_page > docs/families.md"
    )


def test_every_family_is_on_it() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in KNOWN)


def test_carriers_on_it_are_those_that_tiny_models_have(saved: Callable[..., Path]) -> None:
    """What the page says of a family, without what hangs on a key of the config, is what `refusals` says of a model."""
    rows = [line.split("|") for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    carriers = {
        name: set(re.findall(r"`(native|flag|llama|calibrated)`", row[3])) for row in rows for name in names(row)
    }
    for model_type in ("llama", "qwen2", "gemma2", "phi", "falcon", "gpt2", "lfm2", "bloom", "jais2", "ernie4_5"):
        target = open_target(resolve(str(saved(model_type))))
        found = {carrier for carrier, why in refusals(target).items() if not why}
        assert carriers[model_type] == found, model_type


def names(row: list[str]) -> list[str]:
    return re.findall(r"`([a-z0-9_]+)`", row[1])
