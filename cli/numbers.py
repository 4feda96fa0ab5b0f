"""Numbers as options take them: within a range, and never what is no number or has no end."""

import math
from typing import Any

import click


class FloatRange(click.FloatRange):
    """A number in a range; click lets `nan` through every range, and it was refused after the slow step only."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is no number that can be used.", param, ctx)
        return number
