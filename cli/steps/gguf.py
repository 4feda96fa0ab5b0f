"""What `bake` and `verify` do when the model is a GGUF file."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..console import answer, bar, note
from ..options import given
from ..terminal import quoted, say

if TYPE_CHECKING:
    from ...editor.edits.recipe import Recipe
    from ...editor.edits.request import Request
    from ...editor.gguf.converted import Record
    from ...editor.neurons.neurons import Neurons

IDLE_IN_BAKE = ("form", "max_rank", "calibration_file", "base_id", "device", "dtype")


def refuse(names: tuple[str, ...]) -> None:
    """Raise UsageError for options that say nothing about a GGUF file."""
    if idle := given(*names):
        raise click.UsageError(f"{idle[0]} does not apply to a GGUF file, which is only copied.")


def edited(model: Path, found: "Neurons", request: "Request") -> "Recipe":
    """Make the recipe of the options, for a GGUF file."""
    from ...editor.edits.recipe import Recipe
    from ...editor.gguf.bake import check_operations
    from ...editor.models.identity import Base

    strength = request.strength if isinstance(request.strength, float) else 1.0
    edits = request.edits(found.languages, strength)
    recipe = Recipe(Base(model.name), edits, request.shared or "keep", experts=request.experts)
    check_operations(recipe)
    return recipe


def bake(model: Path, found: "Neurons", recipe: "Recipe", output: Path, force: bool, as_json: bool) -> None:
    from ...editor.gguf import converted
    from ...editor.gguf.bake import bake_gguf
    from ...editor.gguf.sidecar import sidecar_of
    from ...editor.progress import in_megabytes
    from ..show import note_shared, show_edits

    origin = converted.read(model) if converted.beside(model).is_file() else None
    with bar("bake", "MB") as update:
        baked = bake_gguf(
            model, found, recipe, output, force=force,
            progress=in_megabytes(update),
        )  # fmt: skip
    about = baked.sidecar
    if as_json:
        data = about.to_data()
        answer(
            {
                "file": str(output),
                **{key: data[key] for key in ("neurons_edited", "edited", "kept", "base")},
                **data["file"],
            }
        )
    else:
        show_edits(output.name, about)
    note_shared(about)
    _about_origin(model, found, origin)
    note(
        f"Wrote {output} and {sidecar_of(output)}. Prove it with: monoglot verify {quoted(output)} --base {quoted(model)}"
    )


def _about_origin(model: Path, found: "Neurons", origin: "Record | None") -> None:
    """Whether the neurons are those of what a GGUF file was converted from, as far as that is known."""
    whose = f"those of {found.model.name}" if found.model else "of a model that they don't name"
    if origin is None:
        note(
            f"The neurons are {whose}. Layers and width fit; that {model.name} was converted from it can't be proved, as a "
            "GGUF does not say."
        )
        return
    base = origin.checkpoint.base
    if found.model and found.model.fingerprint != base.fingerprint:
        note(f"Warning: the neurons are {whose}, {model.name} was converted from a checkpoint of {base.model}.")
    note(f"{model.name} was converted from a checkpoint that has edits of its own: {origin.edits}. These stay.")


def verify(path: Path, base: str | None, neurons_file: Path | None, as_json: bool) -> bool:
    """Verify, record and show; whether it passed."""
    from ...editor.errors import ModelError
    from ...editor.files.gguf import is_gguf
    from ...editor.gguf import sidecar
    from ...editor.gguf.verify import base_of, verify_gguf
    from ...editor.neurons import neurons
    from ...editor.progress import in_megabytes

    if base and not is_gguf(base):
        raise ModelError(f"{base} is not a GGUF file. The base of {path} is the GGUF file that it was made from.")
    found = neurons.load(neurons_file) if neurons_file else None
    before = sidecar.read(path)
    with bar("verify", "MB") as update:
        result = verify_gguf(
            path, base_of(path, Path(base).expanduser() if base else None), neurons=found,
            progress=in_megabytes(update),
        )  # fmt: skip
    about = replace(before, certificate=result.certificate)
    if neurons_file is None or not result.problems:  # a failure against other neurons than its own says nothing of it
        sidecar.write(path, about)
    if as_json:
        answer(about.to_data()["certificate"])
    else:
        say(
            f"bytes: {result.rows:,} rows of zeros in {result.tensors} tensors, {result.other_tensors} tensors and all else "
            "identical"
            if not result.problems
            else f"bytes: {len(result.problems)} places are not as they should be"
        )
    if result.zero_before:
        note(f"Note: {result.zero_before:,} of these rows are zeros in the base too.")
    for problem in result.problems[:10]:
        note(f"Failed: {problem}")
    if len(result.problems) > 10:
        note(f"… and {len(result.problems) - 10} more.")
    note(f"{path} is {'NOT ' if result.problems else ''}what its sidecar says.")
    return not result.problems
