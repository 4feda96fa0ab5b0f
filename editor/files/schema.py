"""Data of a file held against the types that say what the file may hold: one reader under all of monoglot's own formats.

A format is written down as frozen dataclasses (or TypedDicts, where the data stays a mapping), and `read` makes one of what
JSON or YAML gave:

    str, bool, int, float        just that: true is no number, "3" neither, and a number is finite
    Annotated[int, Range(1)]     … within bounds; Annotated[str, INSIDE]: the name of a file that stays in its folder
    X | None, Literal["a", "b"]
    tuple[X, ...], tuple[X, Y]   from a list
    dict[str, X]                 any names
    a dataclass                  its fields, no other key; a field with a default may be missing
    a TypedDict                  its keys, and others that nothing is said of
    Any                          whatever JSON can hold

What does not fit is a MalformedError that says where, what should be there and what is: "base.layers is not a whole
number: it is '3'". Each reader makes its own error of that, with the file and the next step. Numbers stay as they are, so
that what is written again has the same bytes: 1 does not become 1.0.
"""

import dataclasses
import math
import re
import types
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath, PureWindowsPath
from typing import Annotated, Any, Literal, TypeVar

from ..errors import MalformedError

T = TypeVar("T")

SHOWN = 60  # characters of a value in a message


@dataclass(frozen=True)
class Range:
    """The bounds of a number, both included."""

    least: float = -math.inf
    most: float = math.inf

    def broken(self, value: Any) -> str | None:
        """Say what a value should have been, if it is out of bounds."""
        if self.least <= value <= self.most:
            return None
        above = f" up to {self.most:g}" if self.most < math.inf else ""
        return f"a number from {self.least:g}{above}"


@dataclass(frozen=True)
class Form:
    """A test of a text, and what a text that passes is called."""

    fits: Callable[[str], bool]
    called: str

    def broken(self, value: Any) -> str | None:
        """Say what a value should have been, if it does not fit."""
        return None if self.fits(value) else self.called


def _inside(name: str) -> bool:
    parts = PurePosixPath(name).parts
    foreign = "\\" in name or PureWindowsPath(name).drive or name.startswith("/")
    return bool(parts) and not foreign and ".." not in parts and name.isprintable() and str(PurePosixPath(name)) == name


INSIDE = Form(_inside, "the name of a file in this folder")
Count = Annotated[int, Range(0)]
Size = Annotated[int, Range(1)]
Share = Annotated[float, Range(0, 1)]
Sha256 = Annotated[str, Form(lambda text: bool(re.fullmatch("[0-9a-f]{64}", text)), "a sha256 in hex")]
FileName = Annotated[str, INSIDE]
Name = Annotated[str, Form(lambda text: text.isprintable() and len(text) <= 256, "a name of printable characters")]
Version = Annotated[str, Form(lambda text: bool(re.fullmatch(r"[0-9A-Za-z][0-9A-Za-z.+!-]{0,63}", text)), "a version")]
MEASURED = object()
Figure = Annotated[float, MEASURED]  # what a measurement gave: NaN and infinity are possible


def read(kind: type[T], data: Any, place: str = "") -> T:
    """Make a `kind` of data. Raises MalformedError; `place` is what the whole is called in its message."""
    made: T = _read(kind, data, place)
    return made


def to_data(value: Any) -> Any:
    """Turn what `read` made back into data for JSON: fields in their order, without those that are None by default."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = ((field, getattr(value, field.name)) for field in dataclasses.fields(value))
        return {field.name: to_data(own) for field, own in fields if own is not None or field.default is not None}
    if isinstance(value, (list, tuple)):
        return [to_data(one) for one in value]
    if isinstance(value, Mapping):
        return {key: to_data(one) for key, one in value.items()}
    return value


def wrong(place: str, wanted: str, value: Any) -> MalformedError:
    """Make the error for a value that is something else than `wanted`."""
    return MalformedError(f"{place or 'it'} is not {wanted}: it is {shown(value)}")


def shown(value: Any) -> str:
    """Write a value from a file so that a message can hold it."""
    if value is None:
        return "null"
    text = "a mapping" if isinstance(value, dict) else "a list" if isinstance(value, list) else repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def text(value: Any, place: str) -> str:
    """Raise MalformedError unless it is a text."""
    if not isinstance(value, str):
        raise wrong(place, "a text", value)
    return value


def truth(value: Any, place: str) -> bool:
    """Raise MalformedError unless it is true or false."""
    if not isinstance(value, bool):
        raise wrong(place, "true or false", value)
    return value


def whole(value: Any, place: str) -> int:
    """Raise MalformedError unless it is a whole number."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong(place, "a whole number", value)
    return value


def figure(value: Any, place: str) -> float:
    """Raise MalformedError unless it is a number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise wrong(place, "a number", value)
    try:
        float(value)
    except OverflowError:
        raise wrong(place, "a number that a computer can hold", "one of hundreds of digits") from None
    found: float = value
    return found


def number(value: Any, place: str) -> float:
    """Raise MalformedError unless it is a finite number."""
    found = figure(value, place)
    if not math.isfinite(found):
        raise wrong(place, "a finite number", value)
    return found


def mapping(value: Any, place: str) -> dict[str, Any]:
    """Raise MalformedError unless it is a mapping with names for keys."""
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise wrong(place, "a mapping", value)
    return value


def listed(value: Any, place: str) -> list[Any]:
    """Raise MalformedError unless it is a list."""
    if not isinstance(value, list):
        raise wrong(place, "a list", value)
    return value


def keys(value: Any, place: str, known: Collection[str], required: Collection[str] = ()) -> dict[str, Any]:
    """Raise MalformedError unless it is a mapping of known keys with all that are required."""
    if not isinstance(value, dict):
        raise wrong(place, "a mapping", value)
    if unknown := sorted(str(key) for key in value if key not in known):
        raise MalformedError(f"{place or 'it'} has the unknown key {unknown[0]!r}; known: {', '.join(sorted(known))}")
    return required_keys(value, place, required)


def required_keys(value: Any, place: str, required: Collection[str]) -> dict[str, Any]:
    """Raise MalformedError unless it is a mapping with these keys."""
    if not isinstance(value, dict):
        raise wrong(place, "a mapping", value)
    if missing := [key for key in required if key not in value]:
        raise MalformedError(f"{place or 'it'} has no {missing[0]}")
    return value


def _within(place: str, key: str) -> str:
    return f"{place}.{key}" if place else key


PLAIN: dict[Any, Callable[[Any, str], Any]] = {str: text, bool: truth, int: whole, float: number}


def _read(kind: Any, value: Any, place: str) -> Any:
    if kind is Any:
        return value
    if kind in PLAIN:
        return PLAIN[kind](value, place)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _dataclass(kind, value, place)
    if typing.is_typeddict(kind):
        return _typed_dict(kind, value, place)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        if MEASURED in arguments:
            return figure(value, place)
        made = _read(arguments[0], value, place)
        for rule in arguments[1:]:
            if wanted := rule.broken(made):
                raise wrong(place, wanted, value)
        return made
    if origin in (typing.Union, types.UnionType):
        (inner,) = (one for one in arguments if one is not types.NoneType)
        return None if value is None else _read(inner, value, place)
    if origin is Literal:
        if not isinstance(value, str) or value not in arguments:
            raise wrong(place, f"one of {', '.join(arguments)}", value)
        return value
    if origin is dict:
        return {
            _read(arguments[0], key, f"a name in {place}"): _read(arguments[1], own, _within(place, key))
            for key, own in mapping(value, place).items()
        }
    if origin is tuple:
        return _tuple(arguments, value, place)
    raise TypeError(f"no reader for {kind}")


def _tuple(arguments: tuple[Any, ...], value: Any, place: str) -> tuple[Any, ...]:
    items = listed(value, place)
    inner = [arguments[0]] * len(items) if arguments[-1] is Ellipsis else list(arguments)
    if len(inner) != len(items):
        raise wrong(place, f"a list of {len(inner)}", items)
    return tuple(_read(one, own, f"{place}[{at}]") for at, (one, own) in enumerate(zip(inner, items, strict=True)))


@cache
def _fields(kind: Any) -> tuple[dict[str, Any], frozenset[str]]:
    """Return the types of a class by field, and the fields that have to be there."""
    hints = typing.get_type_hints(kind, include_extras=True)
    if typing.is_typeddict(kind):
        return hints, frozenset(kind.__required_keys__)
    missing = dataclasses.MISSING
    own = dataclasses.fields(kind)
    required = frozenset(one.name for one in own if one.default is missing and one.default_factory is missing)
    return {one.name: hints[one.name] for one in own}, required


def fields(kind: Any, value: Any, place: str, apart: Collection[str] = ()) -> dict[str, Any]:
    """Read the fields of a dataclass by name, without those that the caller reads `apart`. Raises MalformedError."""
    hints, required = _fields(kind)
    found = keys(value, place, hints, [name for name in hints if name in required and name not in apart])
    return {name: _read(hints[name], own, _within(place, name)) for name, own in found.items() if name not in apart}


def _dataclass(kind: Any, value: Any, place: str) -> Any:
    return kind(**fields(kind, value, place))


def _typed_dict(kind: Any, value: Any, place: str) -> dict[str, Any]:
    hints, required = _fields(kind)
    found = mapping(value, place)
    required_keys(found, place, [name for name in hints if name in required])
    for name, own in found.items():
        if name in hints:
            _read(hints[name], own, _within(place, name))
    return found
