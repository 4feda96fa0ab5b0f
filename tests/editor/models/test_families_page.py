"""docs/families.md says what the table of families says."""

from pathlib import Path

from scripts.families_page import page

from monoglot.editor.models.families import KNOWN

PAGE = Path(__file__).parents[3] / "docs" / "families.md"


def test_the_page_is_made_from_the_table() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), (
        "PYTHONPATH=tests python -m scripts.families_page > docs/families.md"
    )


def test_every_family_is_on_it() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in KNOWN)
