"""A checkpoint in words: what was done to it, how its neurons were found and where its constants live.

From the manifest alone.
"""

from collections.abc import Sequence
from typing import Any

from ...editor import embedded
from ...editor.edits.manifest import Manifest
from ...editor.edits.recipe import EMBEDDING, REDIRECT, VECTOR, Edit
from ...editor.edits.script_edit import SILENCE, ScriptEdit, less_likely
from ...editor.neurons.neurons import SETTINGS
from ...editor.text import languages
from ...editor.text.token_sets import SIGNS, SPACES
from .amounts import small

METHODS = {  # the neurons were found by …
    "lape": "LAPE", "lap": "LAP", "lave": "LAVE", "pv": "parameter variation", "ap": "average precision",
    "random": "drawing at random",
}  # fmt: skip
SET_NAMES = {SIGNS: "digits, signs and mark-up", SPACES: "lone spaces and line breaks"}


def script_operation(edit: ScriptEdit) -> str:
    """Say in words what becomes of a script, as tables show it."""
    return "silenced" if edit.op == SILENCE else f"made {less_likely(edit.nats)}"


def tokens_of(name: str) -> str:
    """Name the tokens of a script or a set."""
    return SET_NAMES.get(name) or f"tokens in the script {name}"


def operation(edit: Edit) -> str:
    """Say in words what an edit does, as tables show it."""
    strength = edit.strength
    value, _, held = str(edit.value).partition("@")
    amount = f"the {value}" if strength in (1, None) else f"{strength:g} × the {value}"
    text = f" on {languages.listed([held])} text" if held else ""
    words = {
        "deactivate": "deactivated",
        "scale": f"scaled × {strength or 0:g}",
        "pin": f"held at {amount}{text}" if held else f"pinned at {amount}",
        "add": f"{amount}{text} added",
        "shift": f"input shifted by {amount}{text}",
        REDIRECT: f"redirected to {languages.name(str(edit.to))} × {strength or 0:g}"
        + ("" if edit.point is None else f" {point_name(edit.point)}"),
        VECTOR: f"its vector × {strength or 0:g} added {point_name(edit.point)}",
    }
    where = f" in layers {edit.layers[0]} to {edit.layers[1]}" if edit.layers else ""
    return words[edit.op] + where


def point_name(point: str | int | None) -> str:
    """Say where a vector is added."""
    return "at the embedding" if point == EMBEDDING else f"after layer {point}"


def title(manifest: Manifest) -> str:
    ours, edits = _is_embedded(manifest), manifest.recipe.edits
    short = "The embedded model" if ours else manifest.base.model.rsplit("/", 1)[-1]
    active, off = manifest.activated, manifest.deactivated
    if active:
        return f"{short} in {languages.listed(active)}"
    if off:
        return f"{short} without {languages.listed(off)}"
    if moved := manifest.recipe.redirects:
        pairs = [f"{languages.name(edit.language)} read as {languages.name(str(edit.to))}" for edit in moved]
        return f"{short}, {', '.join(pairs)}"
    if manifest.experts and not edits:
        return f"{short} without {experts_named(manifest)}"
    if manifest.recipe.scripts and not edits:
        gone = [edit.script for edit in manifest.recipe.scripts if edit.op == SILENCE]
        return f"{short} {'that cannot write' if gone else 'that writes less'} {_and(gone or _scripts(manifest))}"
    how = "scaled" if all(edit.op == "scale" for edit in edits) else "edited"
    return f"{short}, {languages.listed([edit.language for edit in edits])} {how}"


def _is_embedded(manifest: Manifest) -> bool:
    return manifest.base.model == embedded.NAME and not manifest.base.hub


def summary(manifest: Manifest) -> str:
    """Say in one sentence what the checkpoint is."""
    edits, active = manifest.recipe.edits, manifest.activated
    base = "the model that comes with monoglot" if _is_embedded(manifest) else manifest.base.model
    groups: dict[tuple[str, str], list[str]] = {}
    for edit in edits:
        if edit.op == VECTOR:
            groups.setdefault(("residual stream has the vector of", f"× {edit.strength:g} added {point_name(edit.point)}"),
                              []).append(edit.language)  # fmt: skip
            continue
        verb = {"add": "have", "shift": "have their"}.get(edit.op, "are")
        what = "neurons for"
        if edit.op == REDIRECT:
            what = "tokens of" if edit.point is None else "residual stream on text in"
            verb = "are" if edit.point is None else "is"
        groups.setdefault((what, f"{verb} {operation(edit)}"), []).append(edit.language)
    parts = [f"its {what} {languages.listed(codes)} {words}" for (what, words), codes in groups.items()]
    if manifest.experts:
        parts.append(f"its routers send no token to {experts_named(manifest)}")
    for script in manifest.recipe.scripts:
        became = "cannot be written any more" if script.op == SILENCE else f"are {script_operation(script)}"
        parts.append(f"its {tokens_of(script.script)} {became}")
    if active:
        return f"This is {base}, made to answer in {languages.listed(active)}: {'; '.join(parts)}."
    return f"This is {base}; {'; '.join(parts)}."


def experts_named(manifest: Manifest) -> str:
    """Name the experts that are switched off, at most eight of them."""
    names = [f"expert {name}" for name in manifest.experts or ()]
    return ", ".join(names) if len(names) <= 8 else f"{len(names)} experts, {', '.join(names[:8])} and others"


def _scripts(manifest: Manifest) -> list[str]:
    return [edit.script for edit in manifest.recipe.scripts]


def _and(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def found_by(method: dict[str, Any]) -> str:
    """How the neurons were found, from what neurons.json says of itself: "LAPE (rate 0.01, …)"."""
    title = METHODS.get(str(method.get("name")))
    if not title:
        return f"the imported mask {method['file']}" if method.get("file") else str(method.get("name", "hand"))
    settings = [f"{name} {method[name]:g}" for name in SETTINGS[method["name"]] if name != "like"]
    if "like" in method:
        settings.append(f"as many as by {found_by(method['like'])}")
    amounts = ", ".join(f"{code} {count:,}" for code, count in method.get("tokens", {}).items())
    return f"{title} ({', '.join(settings)}{f'; tokens: {amounts}' if amounts else ''})"


def form(manifest: Manifest) -> str:
    """Say what kind of checkpoint it is."""
    name = manifest.carrier_name
    if name == "flag":
        return (
            "with the base's architecture and tokenizer, and biases in its feed-forward layers that a key of its config "
            "asks for"
        )
    if name == "llama":
        return (
            "with the base's tokenizer, and its weights under the names of a Llama, which computes the same and can have "
            "biases"
        )
    if manifest.output_table:
        return "with the base's architecture and tokenizer, and an output table of its own"
    return "with the base's architecture, tensor names, shapes and tokenizer"


def carrier(manifest: Manifest) -> str:
    """Where the constants live, and what storing them cost."""
    carrier = manifest.carrier
    if not carrier:
        return ""
    where = {
        "native": "They are biases that the base's feed-forward layers have anyway: exact.",
        "flag": "They are biases that a config key turns on; all that it turns on are there, zeros included: exact.",
        "llama": "They are biases of the Llama that the model was rewritten as: exact.",
        "calibrated": "The model has no biases. In each layer a direction w of the feed-forward input with w·x ≈ 1 on real "
        "text stands in for the constant 1: approximate, with the error below.",
    }[carrier.name]
    cast = ", ".join(f"{small(error)} in {what}" for what, error in manifest.rounding.items() if error)
    left = carrier.layers_left_out
    omitted = (
        f" The constants of layer{'s' * (len(left) > 1)} {', '.join(map(str, left))} were left out: the error there is "
        "too large."
        if left
        else ""
    )
    cost = f"cost a relative {cast}" if cast else "cost nothing"
    spare = carrier.spare_neurons
    room = f" {spare:,} neurons that are hardly ever active gave up their places to what is added." if spare else ""
    return f"{where} Rounding to the checkpoint's dtype {cost}.{omitted}{room}"


def commit_message(manifest: Manifest) -> str:
    """Say what a commit of a checkpoint is: "google/gemma-3-270m: zh deactivated (monoglot 0.1.0)"."""
    edits = ", ".join(
        [f"{edit.language} {operation(edit)}" for edit in manifest.recipe.edits]
        + [f"{edit.script} {script_operation(edit)}" for edit in manifest.recipe.scripts]
    )
    return f"{manifest.base.model}: {edits} (monoglot {manifest.monoglot})"
