"""What the formats' settings in config.json have in common: numbers, and lists of modules that are left as they were."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ...errors import ModelError

PREFIX = re.compile(r"((model|language_model|text_model|transformer|decoder)\.)+")


def whole(settings: Mapping[str, Any], key: str, method: str, default: int | None = None) -> int:
    """Return a whole number of the settings. Raises ModelError."""
    value = settings.get(key, default)
    if type(value) is not int:
        raise ModelError(
            f"config.json's quantization_config ({method}) has the {key} {value!r}; it has to be a whole number."
        )
    return value


def names(patterns: Any) -> list[str]:
    """Return a list of names of the settings, which may be missing. Raises ModelError when it is something else."""
    if patterns is None:
        return []
    if not isinstance(patterns, list) or not all(isinstance(one, str) for one in patterns):
        raise ModelError("config.json's quantization_config lists modules in a way that is not a list of names.")
    return patterns


def left_out(module: str, patterns: Any) -> bool:
    """Whether a module is among those that were not quantised, by transformers' rules.

    A pattern is the beginning of a name up to a dot, by itself or as a regular expression, or its end. Names may differ
    in what stands before the layers.
    """
    bare = PREFIX.sub("", module, count=1)
    for pattern in names(patterns):
        short = PREFIX.sub("", pattern, count=1)
        if module.endswith(pattern) or bare.endswith(short):
            return True
        if _matches(rf"(?:{pattern})(?:(?<=\.)|(?=\.|$))", (module,)) or _matches(
            rf"(?:{short})(?:(?<=\.)|(?=\.|$))", (bare,)
        ):
            return True
    return False


def targeted(module: str, targets: Any, classes: Iterable[str] = ("Linear",)) -> bool:
    """Whether a module is among targets as compressed-tensors writes them: a class, a name, or "re:" and an expression."""
    bare = PREFIX.sub("", module, count=1)
    spelled = (module, bare, f"model.{bare}", f"model.language_model.{bare}", f"language_model.model.{bare}")
    return any(
        _matches(target[3:], spelled) if target.startswith("re:") else target in (*spelled, *classes)
        for target in names(targets)
    )


def _matches(expression: str, spelled: Iterable[str]) -> bool:
    try:
        return any(re.match(expression, name) for name in spelled)
    except re.error:
        return False  # a name that is no expression
