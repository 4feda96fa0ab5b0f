"""A recipe as an adapter: a PEFT LoRA of the same edits, for servers that hold one base and many adapters.

    adapter_config.json         r, lora_alpha = r (so its scale is 1), the names of the modules, and nothing that only some
                                servers read: no biases, no patterns, no weights of other kinds
    adapter_model.safetensors   lora_A (r, inputs) and lora_B (outputs, r) of each module that changes, all of one rank r,
                                which is that of the layer that needs most; where one needs less, the rest is zeros

beside the recipe, the neurons, the calibration where constants need one, the base's licence, the card and the manifest. What
is in the matrices is `low_rank`'s to say. They are stored in the base's own dtype where that holds every number exactly (as
it does those of neurons that are switched off), else in float32.

An adapter adds to weights and to nothing else. So constants are carried by a calibrated direction, never by biases, and an
edit of a table or of a quantised weight is refused. The model is not built, and one matrix is in memory at a time.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import RecipeError
from ..files import card_text, floats
from ..files.beside import beside
from ..files.companions import ADAPTER as CONFIG
from ..files.companions import ADAPTER_WEIGHTS as WEIGHTS
from ..files.output import check_free, claimed, staged_folder
from ..models.identity import Base
from ..models.target import Target, check_unchanged
from ..neurons import neurons as neurons_file
from ..neurons.neurons import Neurons
from ..statistics import vocabulary as vocabulary_file
from ..statistics.vocabulary import Vocabulary
from . import calibration as calibration_file
from . import manifest as manifest_file
from . import manifest_files, manifest_made
from . import recipe as recipe_file
from .adapter_modules import Module, check_experts, config, modules_of
from .bake import Baked, Progress, check_base_of, check_place, write_small
from .calibration import Calibration
from .card_maker import Describe
from .carrier_choice import EXACT, has_biases
from .carriers import Carried, carried
from .layout import header_bytes
from .manifest import Adapter, FileEntry
from .max_rank import Fitted, fitted
from .recipe import NEURON_OPS, Recipe
from .vectors import in_layers

PREFIX = "base_model.model."  # of names in a PEFT file


@dataclass(frozen=True)
class Matrices:
    """The files of an adapter before they are written: its modules in order, their rank, the dtype, and the config's text."""

    fitted: Fitted
    modules: tuple[Module, ...]
    dtype: str
    config: bytes

    @property
    def header(self) -> bytes:
        """That of the safetensors file."""
        size = np.dtype(floats.STORED[self.dtype]).itemsize
        entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        at, rank = 0, self.fitted.rank
        for module in self.modules:
            for side, shape in (("A", [rank, module.inputs]), ("B", [module.outputs, rank])):
                end = at + size * shape[0] * shape[1]
                entries[f"{PREFIX}{module.name}.lora_{side}.weight"] = {
                    "dtype": self.dtype, "shape": shape, "data_offsets": [at, end],
                }  # fmt: skip
                at = end
        return header_bytes(entries)

    @property
    def size(self) -> int:
        """Return the bytes of both files."""
        numbers = sum(self.fitted.rank * (module.inputs + module.outputs) for module in self.modules)
        return numbers * np.dtype(floats.STORED[self.dtype]).itemsize + len(self.header) + len(self.config)

    def pieces(self) -> Iterator[bytes]:
        """Yield the safetensors file, a matrix at a time. Raises RecipeError for a number that doesn't fit in its dtype."""
        yield self.header
        for module in self.modules:
            made = module.low_rank().padded(self.fitted.rank)
            for matrix in (made.a, made.b):
                stored = floats.from_float64(matrix, self.dtype)
                if not floats.all_finite(stored, self.dtype):
                    raise RecipeError(
                        f"{module.name}: what the adapter adds doesn't fit in {floats.NAMES[self.dtype]}. The base holds NaN "
                        "or infinite weights there, or the `strength` is too large."
                    )
                yield stored.tobytes()


def bake_adapter(
    target: Target,
    neurons: Neurons,
    recipe: Recipe,
    destination: Path,
    *,
    calibration: Calibration | None = None,
    vocabulary: Vocabulary | None = None,
    max_rank: int | None = None,
    force: bool = False,
    describe: Describe | None = None,
    progress: Progress | None = None,
    told: Callable[[str], None] | None = None,
) -> Baked:
    """Write a recipe's edits as an adapter to `destination`, whole or not at all.

    `told` gets what a user should know before it is written: how large the adapter of a mixture is.

    The same base, neurons, recipe, calibration and rank give the same bytes. Raises RecipeError for what an adapter can't
    do or a rank that servers don't take (see `fitted`), and what `bake` raises.
    """
    check_base_of(recipe, target)
    check_place(target.source.folder, destination)
    with claimed(destination, partial(check_free, force=force)):
        what = adaptable(target, recipe, neurons, calibration, vocabulary)
        made = matrices(target, what, neurons, max_rank, target.base)
        if told and any(module.stack for module in made.modules):
            told(about_size(made))
        carrier = made.fitted.carried.carrier or "auto"
        recipe = replace(
            recipe, base=target.base, neurons="neurons.json", vocabulary=vocabulary_file.FILE, carrier=carrier,
            compat_config=False,
        )  # fmt: skip
        return _write(target, neurons, recipe, made, destination, max_rank, force, describe, progress)


def check_adaptable(target: Target, recipe: Recipe) -> None:
    """Raise RecipeError when an adapter can't do what a recipe says, as far as that is known without neurons."""
    name = target.source.name
    if target.quantised:
        raise RecipeError(
            f"the weights of {name} are quantised ({target.quantised}), and what an adapter subtracts would not be what "
            "their kernel computes. Bake a checkpoint, which switches neurons off in the stored codes, exactly; or make the "
            "adapter for the model that was quantised."
        )
    if recipe.experts:
        raise RecipeError(
            f"an adapter can't switch experts of {name} off: that is a bias of their router, and adapters add to matrices "
            "alone. Bake a checkpoint."
        )
    if recipe.scripts:
        raise RecipeError(
            f"an adapter can't silence a script of {name}: that is in rows or biases of the output layer. Bake a checkpoint."
        )
    vectors = in_layers(recipe)
    if others := [edit for edit in recipe.edits if edit.op not in NEURON_OPS and edit not in vectors]:
        raise RecipeError(
            f"{others[0].op} ({others[0].language}) is nothing that an adapter can do: it edits other weights than those of "
            "feed-forward networks. In tables of tokens PEFT would move what the model writes too where both ends share one, "
            "and most servers take no such adapter. Bake a checkpoint."
        )
    constant = vectors or any(edit.constant for edit in recipe.edits)
    if constant and (recipe.carrier in EXACT or has_biases(target)):
        where = "the feed-forward layers of the model have" if has_biases(target) else "the recipe asks for"
        raise RecipeError(
            f"an adapter can't carry constants in biases, which {where}: PEFT leaves them out, and servers refuse them. "
            "Deactivate or scale, or bake a checkpoint."
        )


def adaptable(
    target: Target,
    recipe: Recipe,
    neurons: Neurons,
    calibration: Calibration | None = None,
    vocabulary: Vocabulary | None = None,
) -> Carried:
    """Plan a recipe for an adapter. Raises RecipeError for what an adapter can't do, and what `carried` raises."""
    check_adaptable(target, recipe)
    what = carried(target, recipe, neurons, calibration, vocabulary)
    name = target.source.name
    if scaled := [vector for vector in what.vectors if vector.norm or vector.slot is None]:
        where = scaled[0].norm or "a bias of its output projection"
        raise RecipeError(
            f"a vector after layer {scaled[0].layer} of {name} needs {where} changed, and adapters add to matrices alone. "
            "Bake a checkpoint."
        )
    for located, layer in zip(target.feed_forward.located, what.plan.layers, strict=True):
        if located.block.expert and len(layer.neurons):
            check_experts(target, located)
    return what


def matrices(target: Target, what: Carried, neurons: Neurons, max_rank: int | None, base: Base) -> Matrices:
    """Return what an adapter of these edits for `base` consists of; nothing is computed yet but ranks and shapes."""
    fit = fitted(target, what, neurons, max_rank)
    modules = modules_of(target, fit.carried)
    dtypes = {module.dtype for module in modules if module.edits}
    dtype = dtypes.pop() if len(dtypes) == 1 else "F32"
    exact = not fit.carried.plan.constant and not fit.carried.vectors and _held(fit.carried, dtype)
    return Matrices(fit, modules, dtype if exact else "F32", config(base, fit.rank, modules))


def about_size(made: Matrices) -> str:
    """Say how large the adapter of a mixture is, and why."""
    layers = len({module.stack for module in made.modules if module.stack})
    empty = sum(not module.edits for module in made.modules)
    return (
        f"An adapter of experts has all experts of a layer in it, so {empty:,} of its {len(made.modules):,} weights in "
        f"{layers} layers are zeros. It takes {made.size / 1e6:,.1f} MB at rank {made.fitted.rank}; a lower `max_rank` makes "
        "it smaller."
    )


def _held(what: Carried, dtype: str) -> bool:
    """Whether a dtype holds factors − 1 exactly."""
    factors = np.concatenate([layer.factors - 1 for layer in what.plan.layers])
    return bool((floats.to_float64(floats.from_float64(factors, dtype), dtype) == factors).all())


def _write(
    target: Target,
    neurons: Neurons,
    recipe: Recipe,
    made: Matrices,
    destination: Path,
    max_rank: int | None,
    force: bool,
    describe: Describe | None,
    progress: Progress | None,
) -> Baked:
    what, folder = made.fitted.carried, target.source.folder
    files = {name: (folder / name).read_bytes() for name in beside(target.checkpoint).licences}
    files[CONFIG] = made.config
    if recipe.of_neurons:
        files["neurons.json"] = neurons_file.serialise(neurons).encode()
    files[recipe_file.FILE] = recipe_file.to_yaml(recipe).encode()
    if what.calibration:
        files[calibration_file.FILE] = calibration_file.serialise(what.calibration)
    if what.vocabulary:
        files[vocabulary_file.FILE] = vocabulary_file.serialise(what.vocabulary)
    size = made.size + sum(map(len, files.values()))
    with staged_folder(destination, size=size, force=force, whole=manifest_files.check_whole) as staging:
        written = {WEIGHTS: _stream(made, staging / WEIGHTS, progress)}
        check_unchanged(target)
        written |= {name: write_small(staging / name, data) for name, data in files.items()}
        fit = made.fitted
        about = Adapter(fit.rank, len(made.modules), made.dtype, max_rank, fit.needed, fit.left_out)
        manifest = manifest_made.new(target, recipe, what, {}, written, (), found_in=neurons.model)
        manifest = replace(manifest, adapter=about)
        if describe:
            card = describe(manifest, folder)
            write_small(staging / "README.md", card.encode())
            manifest = replace(manifest, card=card_text.memory(card)).with_file("README.md", card.encode())
        manifest_file.write(staging, manifest)
    return Baked(target, destination, manifest, what, ())


def _stream(made: Matrices, path: Path, progress: Progress | None) -> FileEntry:
    digest, done = hashlib.sha256(), 0
    with path.open("wb") as file:
        for piece in made.pieces():
            file.write(piece)
            digest.update(piece)
            done += len(piece)
            if progress:
                progress(done, made.size)
        file.flush()
        os.fsync(file.fileno())
    return FileEntry(digest.hexdigest(), done)
