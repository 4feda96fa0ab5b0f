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
has `adapter` {rank, modules, dtype, max_rank, needed, left_out: {"zh": 3}}. `quantised` is there where the weights are, the
last five once something was written or measured. It holds no time, no path and no user's name, so the same inputs give the
same file. What is read is checked whole: a name never leaves the folder, a value is of its type.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from ..errors import CheckpointError, MalformedError, MonoglotError, OutputError, RecipeError, VerificationError
from ..files import floats, kinds, schema
from ..files.card_text import Remembered
from ..files.checkpoint import parse_json
from ..files.kinds import FILE
from ..files.output import replace_file
from ..files.schema import Count, Figure, FileName, Form, Name, Sha256, Size, Version
from ..files.streams import sha256
from ..files.together import finish_pending, replace_together
from ..models import identity
from ..models.source import Source, resolve_base
from ..models.target import Target, is_sampled
from ..neurons import neurons as neurons_file
from ..neurons.neurons import Neurons
from ..progress import shown
from ..statistics import vocabulary as vocabulary_file
from ..statistics.vocabulary import Vocabulary
from ..text.languages import Code
from ..version import VERSION
from . import calibration as calibration_file
from . import recipe as recipe_file
from . import silence as silence_file
from .calibration import Calibration
from .carriers import EXACT, Carried, carried
from .certificate import Certificate
from .evaluation import Candidates, Evaluation, Run, Search
from .one_table import TableError
from .recipe import Recipe
from .silence import Floor, Silence

FORMAT = 1
CARD = "README.md"
FIGURES = "figures/"
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
WHERE_NEEDED = (*OF_TOKENS, "adapter", "experts")
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


def new(
    target: Target,
    recipe: Recipe,
    what: Carried,
    rounding: dict[str, float],
    files: dict[str, FileEntry],
    left_out: tuple[str, ...],
    one_table: dict[str, TableError] | None = None,
) -> Manifest:
    """Make the manifest of a freshly baked checkpoint."""
    own = target.feed_forward
    base = Base(
        recipe.base.model, recipe.base.revision, target.fingerprint, target.source.hub, own.model_type, own.layers, own.width,
        len(own.blocks) or None, own.neurons if own.blocks else None,
    )  # fmt: skip
    return Manifest(
        monoglot=VERSION, base=base, recipe=recipe, edited=what.plan.edited, kept=what.plan.kept,
        neurons_edited=what.plan.size, carrier=_carrier(what), rounding=rounding, left_out=left_out, files=files,
        certificate=None, quantised=target.quantised, one_table=one_table, **_of_tokens(recipe, what),
        experts=tuple(f"{layer}.{expert}" for layer, expert in what.plan.experts) or None,
    )  # fmt: skip


def _of_tokens(recipe: Recipe, what: Carried) -> dict[str, Any]:
    """Return what it says of edited tokens."""
    table = what.table
    found: dict[str, Any] = {}
    if table is not None and what.untied:
        added = 0 if table.has_output else table.tensor.end - table.tensor.begin
        found["output_table"] = OutputTable(table.output, added)
    if what.silenced:
        known = what.silenced.silence
        found["silenced"] = {
            script: SilencedScript(len(known.ids[script]), own.whole, own.mixed, own.pieces, len(own.staying))
            for script, own in known.tokens.items()
        }
        found["floor"] = known.floor
    if what.vocabulary is None:
        return found
    counted = {language: what.vocabulary.tokens(language) for language in what.vocabulary.languages}
    reading = [each for each in what.vectors if each.gate is not None]
    read = tuple(
        Read(
            edit.language, str(edit.to), vector.layer, int(str(vector.slot)),
            **what.vocabulary.readers[edit.language, vector.layer].record(),
        )
        for edit, vector in zip(recipe.readers, reading, strict=True)
    )  # fmt: skip
    found |= {"readers": read or None, "vocabulary": counted}
    if what.tokens is None:
        return found
    reached = (what.tokens.redirection.shares > 0).sum(axis=0).tolist()  # vectors come last
    moved = zip(recipe.of_tokens, reached[: len(recipe.of_tokens)], strict=True)
    return found | {
        "redirected": {edit.language: Moved(str(edit.to), count) for edit, count in moved} or None,
    }


def recipe_record(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe without its base, as the manifest keeps it."""
    data = recipe_file.as_data(recipe)
    return {key: data[key] for key in data if key not in ("format", "base", "neurons", "vocabulary", "silence")}


def _carrier(what: Carried) -> Carrier | None:
    if what.carrier is None:
        return None
    layers = [CalibratedLayer(**layer) for layer in what.calibration.record()] if what.calibration else None
    return Carrier(
        name=what.carrier, layers_left_out=what.left_out, spare_neurons=what.spared,
        calibration=tuple(layers) if layers is not None else None,
    )  # fmt: skip


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


def replace_text(folder: Path, manifest: Manifest, name: str, text: str) -> Manifest:
    """Write a text file of the checkpoint anew, together with its hash in the manifest."""
    return write_with(folder, manifest, {name: text.encode()})


def write_with(
    folder: Path, manifest: Manifest, listed: Mapping[str, bytes], unlisted: Mapping[str, bytes] | None = None
) -> Manifest:
    """Write the manifest and other files of the checkpoint, all of them or none, and return it as it was written.

    Those that are `listed` it then lists.
    """
    for name, data in listed.items():
        manifest = manifest.with_file(name, data)
    replace_together(folder, {**(unlisted or {}), **listed, FILE: serialise(manifest)})
    return manifest


def unchanged(folder: Path, before: Manifest) -> Manifest:
    """Return the manifest as it is now, to be added to, where it is still that of the same checkpoint.

    Whoever measured for hours adds to what others have written meanwhile, and not to another checkpoint that took the
    place. Raises VerificationError.
    """
    now = read(folder)
    if _made_of(now) != _made_of(before):
        raise VerificationError(
            f"{folder} was replaced by another checkpoint in the meantime, so what was measured is not kept. Run it again."
        )
    return now


def _made_of(manifest: Manifest) -> Any:
    """Return what a checkpoint was when it was baked: everything but what later commands write anew."""
    files = {name: own for name, own in manifest.files.items() if name != CARD and not name.startswith(FIGURES)}
    return [files, manifest.base, manifest.recipe, manifest.edited, manifest.carrier]


def check_whole(folder: Path) -> None:
    """Raise OutputError unless every file that the manifest in a folder lists is there with its size."""
    check_listed(folder, read(folder).files, "checkpoint")


def check_listed(folder: Path, listed: Mapping[str, FileEntry], what: str) -> None:
    """Raise OutputError unless every file that is listed of `what` is in a folder with its size, before it is published."""
    found = compare_files(folder, listed, hashes=False)
    if wrong := [*found["missing"], *found["changed"]]:
        raise OutputError(
            f"{', '.join(wrong[:5])} went missing or changed while the {what} was written, so it was not published. See "
            "whether another program cleans up there, and run it again."
        )


def compare_files(folder: Path, listed: Mapping[str, FileEntry], *, hashes: bool) -> dict[str, Any]:
    """Compare the manifest's files as they are now: how many, by what they were compared, which are missing or others."""
    missing, changed, done = [], [], 0
    whole = sum(own.size for own in listed.values()) // 10**6
    with shown("sha256", "MB") as update:
        for name, own in listed.items():
            path = folder / name
            told = partial(lambda before, read: update("", (before + read) // 10**6, whole), done)
            if not path.is_file():
                missing.append(name)
            elif path.stat().st_size != own.size or (hashes and sha256(path, told) != own.sha256):
                changed.append(name)
            done += own.size
    return {"listed": len(listed), "by": "sha256" if hashes else "size", "missing": missing, "changed": changed}


def recipe_of(manifest: Manifest, target: Target) -> Recipe:
    """Return the recipe that a manifest records, for a model that is at hand."""
    return replace(manifest.recipe, base=target.base)


def carried_in(folder: Path, target: Target, neurons: Neurons) -> Carried:
    """Return what the manifest in `folder` says was done, with the calibration that lies beside it.

    Raises VerificationError.
    """
    manifest = read(folder)
    check_base(manifest, target)
    calibration: Calibration | None = None
    vocabulary: Vocabulary | None = None
    silence: Silence | None = None
    try:
        if (folder / calibration_file.FILE).is_file():
            calibration = calibration_file.load(folder / calibration_file.FILE)
        if (folder / vocabulary_file.FILE).is_file():
            vocabulary = vocabulary_file.load(folder / vocabulary_file.FILE)
        if (folder / silence_file.FILE).is_file():
            silence = silence_file.load(folder / silence_file.FILE)
        return carried(target, recipe_of(manifest, target), neurons, calibration, vocabulary, silence)
    except MonoglotError as error:
        raise VerificationError(f"what {folder} says of itself cannot be carried out: {error}") from None


def neurons_of(folder: Path, manifest: Manifest) -> Neurons:
    """Load the neurons that lie in a checkpoint's folder; `NONE` where its recipe edits tokens only. Raises NeuronsError."""
    return neurons_file.load(folder / "neurons.json") if manifest.recipe.needs_neurons else neurons_file.NONE


def check_base(manifest: Manifest, target: Target) -> None:
    """Raise VerificationError when `target` is not the model that the checkpoint was made from.

    The fingerprint that an earlier version gave it is enough: whoever goes on holds the bytes against each other.
    """
    recorded = manifest.base.fingerprint
    if recorded != target.fingerprint and not is_sampled(target, recorded):
        raise VerificationError(
            f"{target.source.name} is not the model this checkpoint was made from ({manifest.base.model}): "
            f"its fingerprint is {target.fingerprint[:12]}…, not {manifest.base.fingerprint[:12]}…."
        )


def open_source(base: Base, named: str | None, *, beside: Path) -> Source:
    """Find the base of the checkpoint in `beside`: the one that is named, else the one that its manifest names.

    Raises ModelError when it can't be found.
    """
    return resolve_base(base.model, base.revision, base.hub, named, beside=beside)
