"""Numbers of options are finite, and that is said before anything slow."""

from collections.abc import Callable
from pathlib import Path

import click
import pytest

from monoglot.cli.numbers import FloatRange


@pytest.mark.parametrize("value", ["nan", "-nan", "inf", "1e999", "NaN"])
@pytest.mark.parametrize("kind", [FloatRange(0), FloatRange(0, 1, min_open=True), FloatRange(0, min_open=True)])
def test_what_is_no_number_is_in_no_range(value: str, kind: FloatRange) -> None:
    with pytest.raises(click.BadParameter):
        kind.convert(value, None, None)


def test_numbers_are() -> None:
    assert FloatRange(0, 1).convert("1e-1", None, None) == 0.1
    assert FloatRange(0).convert("+.5", None, None) == 0.5


@pytest.mark.parametrize("option", ["--rate", "--quantile"])
def test_no_option_takes_one(
    option: str, model: Path, corpus: Path, tmp_path: Path, monoglot: Callable[..., tuple[int, str, str]]
) -> None:
    code, _, err = monoglot(
        "export", model, "--corpus", corpus, "--deactivate", "zh", "-o", tmp_path / "out", option, "nan"
    )
    assert code == 2 and f"Invalid value for '{option}': nan" in err and list(tmp_path.iterdir()) == []
