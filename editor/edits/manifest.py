"""`monoglot.json`: what a checkpoint is made of, and what was proved about it.

    {"format": 1, "monoglot": version, "base": {model, revision, fingerprint, hub, model_type, layers, width},
     "recipe": {…}, "edited": {"zh": 53}, "kept": {"zh": 12}, "neurons_edited": 53,
     "redirected": {"zh": {to: "en", tokens: 4096}}, "vocabulary": {"zh": 65536}, "output_table": null | {tensor, bytes},
     "carrier": null | {name, layers_left_out, spare_neurons, calibration: null | [per layer {…}]},
     "rounding": {weights, biases}, "left_out": […], "files": {name: {sha256, size}}, "certificate": null | {…},
     "quantised": format of the weights, "card": {body, metadata: {key: sha256}}, "strength": {…},
     "candidates": {…}, "evaluation": {…}, "runtimes": {name: {…}}}

Where tokens are redirected it has `redirected` {"zh": {to: "en", tokens: 4096}}, `vocabulary` {"zh": 65536}, the tokens that
were counted, and `output_table` {tensor, bytes} of a model that was tied, or `one_table` {"en": {kl, loss}} where it still
is: what the edit does to what is written. `experts` is ["3.17"] where some are switched off. Where a script is silenced or
quietened it has `silenced` {"Han": {tokens, whole, mixed, pieces, staying}}, and `floor`, how far down that is. An adapter
has `adapter` {rank, modules, dtype, max_rank, needed, left_out: {"zh": 3}}. Where the neurons were found in another model,
`found_in` {model, revision, fingerprint} names it. `quantised` is there where the weights are, the
last five once something was written or measured. It holds no time, no path and no user's name, so the same inputs give the
same file. What is read is checked whole: a name never leaves the folder, a value is of its type.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from ..errors import CheckpointError, MalformedError, RecipeError, VerificationError
from ..files import floats, kinds, schema
from ..files.card_text import Remembered
from ..files.checkpoint import parse_json
from ..files.kinds import FILE
from ..files.output import replace_file
from ..files.schema import Count, Figure, FileName, Form, Name, Sha256, Size, Version
from ..files.together import finish_pending
from ..models import identity
from ..text.languages import Code
from . import recipe as recipe_file
from .carrier_choice import EXACT
from .certificate import Certificate
from .evaluation import Candidates, Evaluation, Run, Search
from .one_table import TableError
from .recipe import Recipe
from .silence import Floor

FORMAT = 1
NAMES = (*EXACT, "calibrated")  # of carriers
OF_TOKENS = (
    "redirected",
    "readers",
    "vocabulary",
    "output_table",
    "one_table",
    "silenced",
    "floor",
)  # there where tokens are edited
WHERE_NEEDED = (*OF_TOKENS, "adapter", "experts", "found_in")
PARTS = ("quantised", "card", "strength", "candidates", "evaluation", "runtimes")  # what is not in every manifest


@dataclass(frozen=True)
class Base:
    """The model that a checkpoint was made from."""

    model: Name
    revision: Name | None
    fingerprint: Name
    hub: bool
    model_type: Name
    layers: Size
    width: Size
    networks: Size | None = None  # … and all their neurons, where there is not one of the same width in each layer
    neurons: Size | None = None

    @property
    def identity(self) -> identity.Base:
        """The base as a recipe names it."""
        return identity.Base(self.model, self.revision, self.fingerprint)


@dataclass(frozen=True)
class FileEntry:
    """The sha256 and the size in bytes of a file."""

    sha256: Sha256
    size: Count


@dataclass(frozen=True)
class CalibratedLayer:
    """How well a direction stands in for the constant 1 in one layer: see calibration."""

    level: Figure
    ridge: Figure
    mean: Figure
    deviation: Figure
    after: Figure
    worst_kind: str
    worst: Figure
    first_token: Figure | None


@dataclass(frozen=True, kw_only=True)
class Carrier:
    """Where the constants are, and what that cost."""

    name: Annotated[str, Form(NAMES.__contains__, f"one of {', '.join(NAMES)}")]
    layers_left_out: tuple[Count, ...]
    spare_neurons: Count | None = None
    calibration: tuple[CalibratedLayer, ...] | None


@dataclass(frozen=True)
class Moved:
    """The language that one is redirected to, and how many tokens move."""

    to: Code
    tokens: Count


@dataclass(frozen=True)
class Read:
    """A language that is redirected in a layer by a neuron that reads it.

    On unseen text in each language: the neuron's mean answer, 1 being all of it, and the share of tokens on which it fires.
    """

    language: Code
    to: str
    layer: Count
    neuron: Count
    level: Figure
    response: dict[str, Figure]
    fires: dict[str, Figure]


@dataclass(frozen=True)
class OutputTable:
    """The output table of a model that was tied, and how many bytes it adds."""

    tensor: Name
    bytes: Count


@dataclass(frozen=True)
class SilencedScript:
    """How many tokens of a script were silenced or quietened, of which kinds, and how many of its beginnings stay."""

    tokens: Count
    whole: Count
    mixed: Count
    pieces: Count
    staying: Count


@dataclass(frozen=True)
class Adapter:
    """What an adapter is, where the edits are one and no checkpoint.

    It has its rank, how many modules it adds to, the dtype of its matrices, the highest rank that was allowed (None: that of
    servers), the rank without a limit, and how many neurons of each language were left out for it.
    """

    rank: Size
    modules: Size
    dtype: Annotated[str, Form(floats.STORED.__contains__, f"one of {', '.join(floats.STORED)}")]
    max_rank: Size | None
    needed: Size
    left_out: dict[Code, Count]

    @property
    def cut(self) -> bool:
        """Whether neurons were left out."""
        return any(self.left_out.values())


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A checkpoint, or an adapter, as it says it is.

    `files` and `edited` are by name and by language; `arrived` are the parts that not every manifest has, in the order in
    which they came and are written.
    """

    format: int = FORMAT
    monoglot: Version
    base: Base
    recipe: Recipe
    edited: dict[Code, Count]
    kept: dict[Code, Count]
    neurons_edited: Count
    redirected: dict[str, Moved] | None = None
    experts: tuple[Name, ...] | None = None  # that are switched off, such as "3.17"
    found_in: identity.Base | None = None  # the model that the neurons were found in, where it is another one
    readers: tuple[Read, ...] | None = None
    vocabulary: dict[Code, Count] | None = None
    output_table: OutputTable | None = None
    one_table: dict[Code, TableError] | None = None
    silenced: dict[str, SilencedScript] | None = None
    floor: Floor | None = None
    adapter: Adapter | None = None
    carrier: Carrier | None
    rounding: dict[str, Figure]
    left_out: tuple[str, ...]
    files: dict[FileName, FileEntry]
    certificate: Certificate | None
    quantised: Name | None = None  # the format of the weights, where they are
    card: Remembered | None = None
    strength: Search | None = None
    candidates: Candidates | None = None
    evaluation: Evaluation | None = None
    runtimes: dict[str, Run] | None = None
    arrived: tuple[str, ...] = ()

    @classmethod
    def of_data(cls, data: Any) -> "Manifest":
        """Read what the file holds. Raises MalformedError."""
        found = schema.mapping(data, "")
        given = schema.fields(cls, found, "", apart=("recipe", "evaluation", "arrived"))
        if "evaluation" in found and found["evaluation"] is not None:
            given["evaluation"] = Evaluation.of_data(found["evaluation"])
        arrived = tuple(key for key in found if key in PARTS)
        made = cls(**given, recipe=read_recipe(found, given["base"].identity), arrived=arrived)
        check_counts(made.recipe, edited=made.edited, kept=made.kept)
        return made

    def to_data(self) -> dict[str, Any]:
        """Give what the file holds, in its order."""
        apart = (*PARTS, "arrived", *(key for key in WHERE_NEEDED if getattr(self, key) is None))
        whole = {key: value for key, value in vars(self).items() if key not in apart}
        parts = {key: getattr(self, key) for key in dict.fromkeys((*self.arrived, *PARTS))}
        parts = {key: value for key, value in parts.items() if value is not None}
        own = {"recipe": recipe_record(self.recipe)}
        if self.evaluation is not None:
            own["evaluation"] = self.evaluation.to_data()
        return {key: own[key] if key in own else schema.to_data(value) for key, value in (whole | parts).items()}

    @property
    def activated(self) -> tuple[str, ...]:
        """The languages that the model was made to speak whatever it is asked in.

        Those with a constant of their own, not held at another's, the one that a strength was searched for, and the one
        that all others are redirected to.
        """
        searched = self.strength["language"] if self.strength else None
        own, moved = self.recipe.activated, {edit.language: str(edit.to) for edit in self.recipe.redirects}
        edited = (*self.recipe.of_neurons, *self.recipe.vectors)
        found = [edit.language for edit in edited if edit.language in own or edit.language == searched]
        everywhere = [to for to in dict.fromkeys(moved.values()) if {*moved, to} >= set(self.vocabulary or (to, ""))]
        return tuple(dict.fromkeys([*found, *everywhere]))

    @property
    def deactivated(self) -> tuple[str, ...]:
        """The languages that are switched off."""
        return tuple(edit.language for edit in self.recipe.edits if edit.off)

    @property
    def carrier_name(self) -> str:
        """Where the constants are; "none" where there are none."""
        return self.carrier.name if self.carrier else "none"

    @property
    def measures(self) -> Mapping[str, Mapping[str, Any]]:
        """What was measured, by measure; empty where nothing was."""
        return self.evaluation.measures if self.evaluation else {}

    @property
    def shown(self) -> Mapping[str, Mapping[str, Any]]:
        """What was measured, and what a search has tried: what tables and figures are made of."""
        return {**self.measures, **({"candidates": self.candidates} if self.candidates else {})}

    def with_file(self, name: str, data: bytes) -> "Manifest":
        """List a file with these bytes."""
        return replace(self, files={**self.files, name: entry(data)})


def read_recipe(data: Mapping[str, Any], base: identity.Base) -> Recipe:
    """Read the recipe that a record holds without its base. Raises MalformedError."""
    if "recipe" not in data:
        raise MalformedError("it has no recipe")
    recorded = schema.mapping(data["recipe"], "recipe")
    try:
        return recipe_file.of_data({**recorded, "format": recipe_file.FORMAT, "base": vars(base)})
    except RecipeError as error:
        raise MalformedError(f"the manifest's recipe cannot be read: {error}") from None


def check_counts(recipe: Recipe, **counts: Mapping[str, int]) -> None:
    """Raise MalformedError when a count of neurons lacks a language that the recipe edits."""
    for what, known in counts.items():
        if lacking := [edit.language for edit in recipe.of_neurons if edit.language not in known]:
            raise MalformedError(f"{what} has no {lacking[0]}, which the recipe edits")


def recipe_record(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe without its base, as the manifest keeps it."""
    data = recipe_file.as_data(recipe)
    return {key: data[key] for key in data if key not in ("format", "base", "neurons", "vocabulary", "silence")}


def entry(data: bytes) -> FileEntry:
    """Return what `files` says of a file with these bytes."""
    return FileEntry(hashlib.sha256(data).hexdigest(), len(data))


def serialise(manifest: Manifest) -> bytes:
    """Return the bytes of the file."""
    return (json.dumps(manifest.to_data(), indent=1, ensure_ascii=False) + "\n").encode()


def write(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of a checkpoint, whole or not at all. Raises OutputError."""
    replace_file(folder / FILE, serialise(manifest))


def read(folder: Path) -> Manifest:
    """Read the manifest of a checkpoint.

    Raises VerificationError when the folder is no checkpoint of monoglot's, or its manifest is malformed or of an unknown
    format.
    """
    path = folder / FILE
    if not folder.is_dir():
        raise VerificationError(kinds.instead(folder, "a checkpoint") or f"there is no folder {folder}.")
    if not path.is_file():
        raise VerificationError(f"{folder} has no {FILE}: it was not made by monoglot.")
    finish_pending(folder)  # of a run that was killed while it wrote
    try:
        data = parse_json(path.read_bytes(), str(path))
    except CheckpointError as error:
        raise VerificationError(str(error)) from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        found = data.get("format") if isinstance(data, dict) else None
        raise VerificationError(f"{path} has format {found!r}, this version reads {FORMAT}. Upgrade monoglot.")
    try:
        return Manifest.of_data(data)
    except MalformedError as error:
        raise VerificationError(
            f"{path} is not what monoglot writes, it is malformed ({str(error).removesuffix('.')}). Bake the "
            "checkpoint again."
        ) from None
