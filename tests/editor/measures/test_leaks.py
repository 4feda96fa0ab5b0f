"""Leaks, counted by hand."""

from monoglot.editor.measures.leaks import Leaks, leaks


def test_counted_by_hand() -> None:
    assert leaks(["all English", "with 米 one", "and 米饭"], "en") == Leaks(2 / 3, 1000 * 3 / 27)
    assert leaks(["米饭 rice", "水"], "zh") == Leaks(0.0, 0.0)
    assert leaks([], "en") == leaks([""], "en") == Leaks(0.0, 0.0)
