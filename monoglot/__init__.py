"""Make a language model speak a language, or lose one, and get an ordinary safetensors checkpoint.

    import monoglot

    monoglot.export("google/gemma-3-270m", corpus=["texts/"], deactivate=["zh"], output="gemma-no-zh")

The verbs are in `monoglot.verbs`, what they return in the rooms of `monoglot.editor`. Each is imported when it is first
asked for, so that importing this package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .editor.edits.bake import Baked
    from .editor.edits.recipe import Edit, Recipe
    from .editor.edits.request import Request
    from .editor.errors import MonoglotError, MonoglotWarning
    from .editor.export import Exported
    from .editor.gguf.convert import Converted
    from .editor.hub.publish import Published
    from .editor.neurons.neurons import Neurons
    from .editor.proof.difference import Difference
    from .editor.proof.prove import Proof
    from .editor.proof.rebuild import Rebuilt
    from .editor.statistics.statistics import Statistics
    from .verbs import bake, convert, detect, diff, evaluate, export, find, inspect, push, rebuild, verify

    __version__: str

__all__ = [
    "Baked",
    "Converted",
    "Difference",
    "Edit",
    "Exported",
    "MonoglotError",
    "MonoglotWarning",
    "Neurons",
    "Proof",
    "Published",
    "Rebuilt",
    "Recipe",
    "Request",
    "Statistics",
    "__version__",
    "bake",
    "convert",
    "detect",
    "diff",
    "evaluate",
    "export",
    "find",
    "inspect",
    "push",
    "rebuild",
    "verify",
]

_MODULES = {
    "Baked": "editor.edits.bake",
    "Converted": "editor.gguf.convert",
    "Difference": "editor.proof.difference",
    "Edit": "editor.edits.recipe",
    "Exported": "editor.export",
    "MonoglotError": "editor.errors",
    "MonoglotWarning": "editor.errors",
    "Neurons": "editor.neurons.neurons",
    "Proof": "editor.proof.prove",
    "Published": "editor.hub.publish",
    "Rebuilt": "editor.proof.rebuild",
    "Recipe": "editor.edits.recipe",
    "Request": "editor.edits.request",
    "Statistics": "editor.statistics.statistics",
}  # all others are verbs


def __getattr__(name: str) -> Any:
    if name == "__version__":
        found = import_module(".editor.version", __name__).VERSION
    elif name in __all__:
        found = getattr(import_module(f".{_MODULES.get(name, 'verbs')}", __name__), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
