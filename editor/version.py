"""The version of the installed package."""

from importlib.metadata import version

VERSION = version("monoglot")


def versions() -> dict[str, str]:
    """Give the versions of what computes a model's numbers."""
    return {"monoglot": VERSION, **{name: version(name) for name in ("torch", "transformers")}}
