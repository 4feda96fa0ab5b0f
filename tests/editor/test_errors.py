"""The tree of errors: every class that the package raises on purpose stands in it, under its parent, in the docstring too."""

import importlib
import pkgutil
import re
import types

from monoglot.editor import errors
from monoglot.editor.errors import MonoglotError, MonoglotWarning, reason_of

ROOMS = ("editor", "cards", "cli")
ADAPTERS = "monoglot.editor.runtimes.adapters"  # the far side: not imported here, and nothing of ours in it


def modules() -> list[types.ModuleType]:
    """Every module of the package but the adapters."""
    found = []
    for room in ROOMS:
        package = importlib.import_module(f"monoglot.{room}")
        for one in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not one.name.startswith(ADAPTERS) and not one.name.endswith("__main__"):
                found.append(importlib.import_module(one.name))
    return found


def own_errors() -> set[type[BaseException]]:
    """Every exception that a module of the package defines."""
    return {
        value
        for module in modules()
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, BaseException)
        and value.__module__.startswith("monoglot.")
        and (
            issubclass(value, Exception) or not value.__name__.startswith("_")
        )  # what only ends a pass early is no error
    }


def test_every_error_is_in_the_tree_and_in_its_module() -> None:
    found = own_errors()
    assert len(found) > 15
    for one in found:
        assert one.__module__ == errors.__name__, f"{one.__name__} belongs into errors.py"
        assert issubclass(one, MonoglotError | MonoglotWarning)


def test_docstring_is_the_tree() -> None:
    """Each error stands in the docstring below its parent, and nothing else does: a line's depth says whose child it is."""
    drawn: dict[str, str] = {}
    above: dict[int, str] = {}
    for line in str(errors.__doc__).splitlines():
        if found := re.match(r"    ([│ ├└─]*)(\w+Error)\b", line):
            depth = len(found[1]) // 4
            above[depth] = found[2]
            drawn[found[2]] = above[depth - 1] if depth else "Exception"
    made = {one.__name__: one.__bases__[0].__name__ for one in own_errors() if issubclass(one, MonoglotError)}
    assert drawn == made


def test_reasons_are_in_plain_words() -> None:
    """Never the name of a class of Python's."""
    assert reason_of(ValueError("a\nb")) == "a"
    assert reason_of(OSError("\n  \n no room ")) == "no room"
    assert reason_of(KeyError("model_type")) == "'model_type' is missing"
    assert reason_of(RecursionError("maximum recursion depth exceeded")) == "it is nested too deeply"
    assert reason_of(TimeoutError()) == "it took too long"
    assert reason_of(ConnectionResetError()) == "the connection failed"
    assert reason_of(RuntimeError()) == "no reason is given"
