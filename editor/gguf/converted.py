"""`OUT.gguf.convert.json`: what a GGUF file was converted from, and whether the steering survived.

{"format": 1, "monoglot": version, "checkpoint": {base, recipe: as the manifest has them}, "type": "q8_0",
 "file": {sha256, size}, "survival": null | {wanted, shares, kl, positions, faded}}
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..edits.manifest import Base, FileEntry, read_recipe, recipe_record
from ..edits.recipe import Recipe
from ..errors import CheckpointError, MalformedError, VerificationError
from ..files import schema
from ..files.checkpoint import parse_json
from ..files.schema import Count, Figure

SUFFIX = ".convert.json"
LARGEST = 2**24  # bytes
AGAIN = "Convert the checkpoint again."


@dataclass(frozen=True)
class Origin:
    """The checkpoint that was converted: its base, and what was done to it."""

    base: Base
    recipe: Recipe


@dataclass(frozen=True)
class Survived:
    """How the quantised file did beside the unquantised one: see convert."""

    wanted: str
    shares: dict[str, tuple[float, float]]
    kl: Figure
    positions: Count
    faded: bool


@dataclass(frozen=True)
class Record:
    """What a GGUF file was converted from."""

    format: int
    monoglot: str
    checkpoint: Origin
    type: str
    file: FileEntry
    survival: Survived | None

    @classmethod
    def of_data(cls, data: Any) -> "Record":
        """Read what the file holds. Raises MalformedError."""
        given = schema.fields(cls, data, "", apart=("checkpoint",))
        origin = schema.keys(data.get("checkpoint"), "checkpoint", ("base", "recipe"), ("base", "recipe"))
        base = schema.read(Base, origin["base"], "checkpoint.base")
        return cls(**given, checkpoint=Origin(base, read_recipe(origin, base.identity)))

    def to_data(self) -> dict[str, Any]:
        """Give what the file holds, in its order."""
        made = {key: schema.to_data(value) for key, value in vars(self).items() if key != "checkpoint"}
        origin = {"base": schema.to_data(self.checkpoint.base), "recipe": recipe_record(self.checkpoint.recipe)}
        return {key: origin if key == "checkpoint" else made[key] for key in vars(self)}

    @property
    def edits(self) -> str:
        """What was done to the checkpoint, in a few words: "deactivate zh, add fr"."""
        recipe = self.checkpoint.recipe
        scripts = [f"{edit.op} {edit.script}" for edit in recipe.scripts]
        return ", ".join([*(f"{edit.op} {edit.language}" for edit in recipe.edits), *scripts])


def beside(path: Path) -> Path:
    """`path` is that of the GGUF file."""
    return path.with_name(f"{path.name}{SUFFIX}")


def read(path: Path) -> Record:
    """Read what lies beside a GGUF file. Raises VerificationError when it is malformed."""
    file = beside(path)
    try:
        return Record.of_data(parsed(file, LARGEST, AGAIN))
    except MalformedError as error:
        raise VerificationError(f"{file} is malformed ({str(error).removesuffix('.')}). {AGAIN}") from None


def parsed(file: Path, largest: int, again: str) -> Any:
    """Read the JSON that lies beside a GGUF file.

    `again` says what to do where it can't be read. Raises VerificationError.
    """
    try:
        if file.stat().st_size > largest:
            raise VerificationError(f"{file} is too large to be monoglot's. {again}")
        return parse_json(file.read_bytes(), str(file))
    except CheckpointError as error:
        raise VerificationError(str(error)) from None
    except OSError as error:
        raise VerificationError(f"{file} cannot be read: {error.strerror}. Check its permissions.") from None
