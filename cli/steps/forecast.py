"""Show what a command would do, and what it would take."""

from typing import TYPE_CHECKING

from ..console import answer, note, table

if TYPE_CHECKING:
    from ...editor.forecast.steps import Forecast, Step


def show_forecast(forecast: "Forecast", as_json: bool) -> None:
    """Show its steps as a table, what they need beside what there is, and what there is too little of."""
    if as_json:
        answer(forecast.to_data())
    else:
        arithmetic = f", in {forecast.dtype} on {forecast.device}" if forecast.dtype else ""
        rows = [(step.name, step.what, _about(step), _size(step.memory)) for step in forecast.steps]
        every = duration(forecast.seconds)
        most = "at most " if any(step.most for step in forecast.steps) else "about "
        table(
            f"{forecast.model}: {_size(forecast.weights)} of weights{arithmetic}",
            ("step", "what it does", "time", "memory"),
            [*rows, ("all", "", f"{most}{every}", _size(forecast.memory))],
        )
        if forecast.tokens:
            named = ", ".join(f"{language} {count:,}" for language, count in forecast.tokens.items())
            note(f"Tokens that neurons are found on: {named}.")
        for place, (need, free) in forecast.disk.items():
            note(f"Disk: {place} takes {_size(need)}; {_size(free)} are free there.")
        if forecast.available is not None:
            note(f"Memory: {_size(forecast.memory)} are needed, {_size(forecast.available)} are free.")
    for line in forecast.notes:
        note(line)
    for line in forecast.problems:
        note(f"Warning: {line}")
    note("Nothing was written. Times are estimates, from a second that was measured on this machine.")


def duration(seconds: float) -> str:
    """Write a duration as a person says it: two units at most."""
    if seconds < 1:
        return "a second"
    for unit, size, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if seconds >= size:
            whole, rest = divmod(round(seconds), size)
            return f"{whole} {unit} {rest // part} {smaller}" if rest // part else f"{whole} {unit}"
    return f"{seconds:.0f} s"


def _about(step: "Step") -> str:
    return f"{'at most' if step.most else 'about'} {duration(step.seconds)}"


def _size(count: float) -> str:
    """Write bytes in megabytes or gigabytes."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"
