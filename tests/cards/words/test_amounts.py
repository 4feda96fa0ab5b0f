"""Figures as they are written: a dash for what is no number, and no sign for a change of nothing."""

import math
from typing import Any

import pytest

from monoglot.cards.words import amounts


@pytest.mark.parametrize("value", [None, "3", True, math.nan, math.inf, -math.inf, 10**400, [], {}])
def test_what_is_no_number_is_a_dash(value: Any) -> None:
    assert amounts.share(value) == amounts.count(value) == amounts.NONE


def test_numbers() -> None:
    assert (amounts.share(0.256), amounts.count(12345), amounts.count(0)) == ("26%", "12,345", "0")
    assert [amounts.change(nats) for nats in (1.234, -1.234, 0.004, -0.004, 0)] == ["+1.23", "-1.23"] + ["0.00"] * 3
    assert [amounts.small(value) for value in (0.25, 0.001, 0.00012)] == ["0.25", "0.001", "1.2e-04"]


def test_perplexities() -> None:
    assert amounts.perplexity(math.log(7.123)) == "7.12"
    assert [amounts.perplexity_figure(value) for value in (99.6, 100, 12345.6, 1e6)] == [
        "99.6",
        "100",
        "12,346",
        "1.0e+06",
    ]
    assert amounts.perplexity(1e9) == "5.2e+21"  # no overflow
