"""`OUT.gguf.json`: what a GGUF file was made from, what was done to it, and what was proved about it.

    {"format": 1, "monoglot": version, "base": {name, sha256, size, architecture, layers, width},
     "recipe": {shared, edits}, "neurons": {sha256, model: null | {name, fingerprint}}, "edited": {"zh": 53},
     "kept": {"zh": 12}, "neurons_edited": 53, "cleared": [[3, 17], … one per layer],
     "file": {sha256, size}, "certificate": null | {bytes: {passed, …}}}

It lies beside the file, as a GGUF's own header stays as it was. It holds no time, no path and no user's name, so the same
inputs give the same file.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..edits.manifest import FileEntry, check_counts, read_recipe, recipe_record
from ..edits.recipe import Recipe
from ..errors import CheckpointError, MalformedError, VerificationError
from ..files import schema
from ..files.checkpoint import parse_json
from ..files.output import replace_file
from ..files.schema import Count, FileName, Sha256, Size
from ..models import identity
from ..text.languages import Code
from . import converted

FORMAT = 1
LARGEST = 2**28  # bytes


@dataclass(frozen=True)
class Base:
    """The file that was edited."""

    name: FileName
    sha256: Sha256
    size: Count
    architecture: str
    layers: Size
    width: Size


@dataclass(frozen=True)
class Found:
    """The model that neurons were found in."""

    name: str
    fingerprint: str


@dataclass(frozen=True)
class NeuronsOf:
    """The neurons that were cleared: the sha256 of their file, and whose they are where that is known."""

    sha256: Sha256
    model: Found | None


@dataclass(frozen=True)
class Proof:
    """The comparison with the base byte by byte."""

    passed: bool
    cleared_rows: Count
    zero_before: Count
    edited_tensors: Count
    identical_tensors: Count


@dataclass(frozen=True)
class Certificate:
    """What was proved."""

    bytes: Proof


@dataclass(frozen=True, kw_only=True)
class Sidecar:
    """A GGUF file as its sidecar says it is. `cleared` are the neurons by layer."""

    format: int = FORMAT
    monoglot: str
    base: Base
    recipe: Recipe
    neurons: NeuronsOf
    edited: dict[Code, Count]
    kept: dict[Code, Count]
    neurons_edited: Count
    cleared: tuple[tuple[Count, ...], ...]
    file: FileEntry
    certificate: Certificate | None

    @classmethod
    def of_data(cls, data: Any) -> "Sidecar":
        """Read what the file holds. Raises MalformedError."""
        given = schema.fields(cls, data, "", apart=("recipe",))
        made = cls(**given, recipe=read_recipe(data, identity.Base(given["base"].name)))
        if len(made.cleared) != made.base.layers:
            raise MalformedError(
                f"cleared names neurons of {len(made.cleared)} layers, the base has {made.base.layers}"
            )
        for number, layer in enumerate(made.cleared):
            if list(layer) != sorted(set(layer)) or any(neuron >= made.base.width for neuron in layer):
                raise MalformedError(f"cleared[{number}] are not neurons below {made.base.width} in order, each once")
        check_counts(made.recipe, edited=made.edited, kept=made.kept)
        return made

    def to_data(self) -> dict[str, Any]:
        """Give what the file holds, in its order."""
        own = {key: schema.to_data(value) for key, value in vars(self).items() if key != "recipe"}
        return {key: recipe_record(self.recipe) if key == "recipe" else own[key] for key in vars(self)}


def sidecar_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def serialise(sidecar: Sidecar) -> bytes:
    """Return the bytes of the file."""
    return (json.dumps(sidecar.to_data(), ensure_ascii=False) + "\n").encode()


def write(path: Path, sidecar: Sidecar) -> None:
    """Write the sidecar of the GGUF file `path`. Raises OutputError."""
    replace_file(sidecar_of(path), serialise(sidecar))


def is_ours(sidecar: Path) -> bool:
    """Whether a file is a sidecar that monoglot wrote, whichever version."""
    try:
        data = parse_json(sidecar.read_bytes(), str(sidecar)) if sidecar.stat().st_size <= LARGEST else None
    except (OSError, CheckpointError):
        return False
    return isinstance(data, dict) and {"format", "monoglot", "base", "file"} <= data.keys()


def read(path: Path) -> Sidecar:
    """Read what lies beside the GGUF file `path`.

    Raises VerificationError when either is missing, and when the sidecar is malformed or of an unknown format.
    """
    sidecar = sidecar_of(path)
    if not path.is_file():
        raise VerificationError(f"there is no file {path}. Name a GGUF file that monoglot wrote.")
    if not sidecar.is_file() and converted.beside(path).is_file():
        raise VerificationError(
            f"{path} was converted from a checkpoint, and `monoglot inspect` says from which. Verify the checkpoint, and "
            "let llama.cpp answer beside transformers to see what it makes of it."
        )
    if not sidecar.is_file():
        raise VerificationError(f"{path} has no {sidecar.name} beside it: it was not made by monoglot, or lost it.")
    data = converted.parsed(sidecar, LARGEST, "Bake the file again.")
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        found = data.get("format") if isinstance(data, dict) else None
        raise VerificationError(f"{sidecar} has format {found!r}, this version reads {FORMAT}. Upgrade monoglot.")
    try:
        return Sidecar.of_data(data)
    except MalformedError as error:
        raise VerificationError(
            f"{sidecar} is malformed ({str(error).removesuffix('.')}). Bake the file again with `force`."
        ) from None
