"""What a file or a folder is: a model, a checkpoint of monoglot's, a GGUF file, neurons, statistics, a calibration, a recipe.

Everything comes from headers, configs and manifests: no model is built, and weights are read once, for their hashes. What a
file is, its bytes say, never its name. That a model can't be edited is an answer, with the reason; that a file is damaged
is an error.
"""

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .describe_files import of_calibration, of_neurons, of_recipe, of_silence, of_statistics, of_vocabulary
from .edits import manifest as manifest_file
from .edits.carrier_choice import choose, has_biases, ignored_biases, refusals
from .edits.experts import refusal
from .edits.manifest import recipe_record
from .edits.manifest_files import compare_files
from .edits.recipe import CONSTANT_OPS, NEURON_OPS, OPS, REDIRECT, VECTOR
from .errors import CheckpointError, ModelError
from .files.checkpoint import Checkpoint, parse_json, read_checkpoint, read_config, read_shard
from .files.companions import ADAPTER_WEIGHTS, check_no_adapter
from .files.fingerprint import fingerprint
from .files.gguf import MAGIC
from .files.kinds import FILE, kind
from .gguf import converted as converted_file
from .gguf.describe import of_gguf
from .models.activations import function_name, functions
from .models.embedding import OUTPUTS, TIE, table_of
from .models.families import text_config
from .models.feed_forward import FeedForward
from .models.outline import outlined
from .models.source import Source, on_hub, resolve
from .models.target import Target, target_of
from .runtimes.capabilities import steered_in

KNOWN = (
    "a model (a folder, a Hub id, `embedded`), a checkpoint or an adapter that monoglot made, a GGUF file, neurons.json, "
    "statistics, a calibration, a vocabulary, a silence, or a recipe.yaml"
)
LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")  # where families keep them in the config
OUTPUT_LAYERS = tuple(f"{name}.weight" for name in ("lm_head", *OUTPUTS.values()))


def describe(what: str, *, hashes: bool = False) -> dict[str, Any]:
    """Return what `what` is, as data that JSON can hold.

    The key `kind` says which of "model", "checkpoint", "adapter", "gguf", "neurons", "statistics", "calibration",
    "vocabulary", "silence" and "recipe".

    Of a model on the Hub only headers are downloaded. Of a checkpoint's files the sizes are held against the manifest, with
    `hashes` their sha256 too. Raises ModelError for what is none of these, and the errors of their readers for files that
    are damaged.
    """
    path = Path(os.path.expanduser(what))  # noqa: PTH111  # Path.expanduser fails on an unknown user
    if os.path.isfile(path):  # noqa: PTH113  # Path.is_file fails on a name that is too long
        return _of_file(path, hashes)
    if on_hub(what) and not hashes:
        with outlined(what) as source:
            return of_model(source)
    return of_model(resolve(what), hashes=hashes)


def _of_file(path: Path, hashes: bool) -> dict[str, Any]:
    with path.open("rb") as file:
        if file.read(len(MAGIC)) == MAGIC:
            return of_gguf(path, hashes=hashes)
    found = kind(path)
    readers = {
        "neurons": of_neurons, "statistics": of_statistics, "calibration": of_calibration, "vocabulary": of_vocabulary,
        "silence": of_silence, "recipe": of_recipe,
    }  # fmt: skip
    if found in readers:
        return readers[found](path)
    if found == "sidecar":
        return of_gguf(path.with_suffix(""), hashes=hashes)
    if found == "converted":
        return of_gguf(path.with_name(path.name.removesuffix(converted_file.SUFFIX)), hashes=hashes)
    if found == "manifest" or path.name == "config.json":
        return of_model(resolve(str(path.absolute().parent)), hashes=hashes)
    if path.suffix in (".yaml", ".yml"):
        return of_recipe(path)
    if found == "weights":
        raise ModelError(f"{path} holds weights of a model. Inspect its folder, {path.absolute().parent}.")
    if found == "tensors":
        tensors = len(read_shard(path).tensors)
        raise ModelError(f"{path} holds tensors, {tensors} of them, and no config.json lies beside it. {KNOWN}.")
    raise ModelError(f"{path} is not a file that can be inspected. What can: {KNOWN}.")


def of_model(source: Source, *, hashes: bool = False) -> dict[str, Any]:
    """Describe a model on disk; of a checkpoint that monoglot made, also what its manifest says; of an adapter, that alone.

    Raises ModelError when there is no config.json, CheckpointError when files are damaged, VerificationError when the
    manifest is.
    """
    folder = source.folder
    if (folder / FILE).is_file() and (adapter := manifest_file.read(folder).adapter):
        return {
            "name": source.name, "hub": source.hub, "revision": source.revision, **_of_manifest(folder, hashes),
            "kind": "adapter", "adapter": vars(adapter), "bytes": _size(folder / ADAPTER_WEIGHTS),
        }  # fmt: skip
    check_no_adapter(folder)
    config = read_config(folder, quantised=True)
    text = text_config(config)
    found: dict[str, Any] = {
        "kind": "model",
        "name": source.name,
        "revision": source.revision,
        "hub": source.hub,
        "model_type": text.get("model_type"),
        "inside": config.get("model_type") if text is not config else None,
        "layers": next((text[key] for key in LAYERS if key in text), None),
        "width": None,
        "hidden": text.get("hidden_size", text.get("n_embd")),
        "vocabulary": text.get("vocab_size"),
        "positions": text.get("max_position_embeddings", text.get("n_positions")),
        "tokenizer": any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")),
        "chat_template": _has_template(folder),
        "editable": False,
        "quantised": None,
        "reason": None,
    }
    try:
        checkpoint = read_checkpoint(folder, quantised=True)
        found |= _weights(checkpoint, source.hashes)
        target = target_of(source, checkpoint)
    except ModelError as error:
        if isinstance(error, CheckpointError) and "tensors" not in found:  # the bytes are at fault, not the family
            raise
        found["reason"] = str(error)
    else:
        found |= _network(target)
    if (folder / FILE).is_file():
        found |= _of_manifest(folder, hashes)
    return found


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _has_template(folder: Path) -> bool:
    path = folder / "tokenizer_config.json"
    if any((folder / name).is_file() for name in ("chat_template.jinja", "chat_template.json")):
        return True
    settings = parse_json(path.read_bytes(), str(path)) if path.is_file() else {}
    return isinstance(settings, dict) and bool(settings.get("chat_template"))


def _weights(checkpoint: Checkpoint, hashes: Mapping[str, str]) -> dict[str, Any]:
    """Describe what the headers say, and the identity; `hashes` are those of files that are not there."""
    tensors = [tensor for _, tensor in checkpoint.tensors()]
    numbers: Counter[str] = Counter()
    for tensor in tensors:
        numbers[tensor.dtype] += int(np.prod(tensor.shape, dtype=object))
    text = text_config(checkpoint.config)
    stored = any(tensor.name.endswith(OUTPUT_LAYERS) for tensor in tensors)
    said = checkpoint.config.get(TIE, text.get(TIE))  # in this order transformers reads a wrapper
    return {
        "dtypes": dict(numbers.most_common()),
        "numbers": sum(numbers.values()),
        "bytes": sum(shard.size for shard in checkpoint.shards),
        "shards": len(checkpoint.shards),
        "tensors": len(tensors),
        "tied": said is True or not stored,
        "fingerprint": fingerprint(checkpoint, hashes),
    }


def _network(target: Target) -> dict[str, Any]:
    """Describe the feed-forward network, and what can be done to it."""
    feed_forward, family = target.feed_forward, target.feed_forward.family
    ignored, refused = ignored_biases(target), refusals(target)
    name, constants = None, None
    try:
        name = function_name(target)
        functions(target)
    except ModelError as error:
        constants = str(error)
    if None not in refused.values():
        constants = next(iter(refused.values()))
    if ignored:
        constants = (
            f"the file holds {len(ignored)} biases, for example {ignored[0]}, that its config does not ask for, so what a "
            "constant would do is uncertain"
        )
    return {
        "layers": feed_forward.layers,
        "width": feed_forward.width,
        "hidden": feed_forward.hidden,
        "networks": len(feed_forward.networks),
        "neurons": feed_forward.neurons,
        "activation_function": name,
        "gated": feed_forward.located[0].network.gated,
        "layout": _layout(feed_forward),
        "experts": sorted(set(_experts(feed_forward).values())),
        "experts_stay": refusal(feed_forward) if feed_forward.mixture else None,
        "runtimes": list(steered_in(feed_forward.model_type)),
        "biases": has_biases(target),
        "bias_flag": family.flag,
        "ignored_biases": ignored,
        "editable": True,
        "quantised": target.quantised,
        "operations": _operations(target, constants),
        "carriers": refused,
        "carrier": choose("auto", target) if None in refused.values() else None,
    }


def _operations(target: Target, constants: str | None) -> dict[str, str | None]:
    """Each operation, and why it can't be done (None: it can)."""
    found = {op: constants if op in CONSTANT_OPS else None for op in OPS}
    if target.quantised:
        found |= {op: f"weights are quantised ({target.quantised})" for op in NEURON_OPS if op != "deactivate"}
        if not table_of(target):
            why = "its table of token embeddings is not stored as floats"
            found |= {REDIRECT: why} if has_biases(target) else {REDIRECT: why, VECTOR: f"{why}, and it has no biases"}
    return found


def _experts(feed_forward: FeedForward) -> Counter[int]:
    """Count the experts of each layer that has any."""
    return Counter(each.block.layer for each in feed_forward.located if each.block.expert)


def _layout(feed_forward: FeedForward) -> str:
    """Name the projections as the file does, those into the network before the one out of it."""
    lines = []
    for network in dict.fromkeys(each.network for each in feed_forward.located):
        *into, out = network.projections
        notes = {
            "gate and up in one tensor": network.fused,
            "interleaved": network.interleaved,
            "all experts in one tensor": network.stacked,
            "neurons in rows": network.conv1d,
        }
        said = ", ".join(note for note, applies in notes.items() if applies)
        lines.append(f"{', '.join(into)} → {out}" + (f" ({said})" if said else ""))
    return "; ".join(lines)


def _of_manifest(folder: Path, hashes: bool) -> dict[str, Any]:
    manifest = manifest_file.read(folder)
    carrier, strength = manifest.carrier, manifest.strength
    return {
        "kind": "checkpoint",
        "monoglot": manifest.monoglot,
        "base": vars(manifest.base.identity),
        "recipe": recipe_record(manifest.recipe),
        "neurons_edited": manifest.neurons_edited,
        "edited": {edit.language: manifest.edited[edit.language] for edit in manifest.recipe.of_neurons},
        "redirected": {language: vars(moved) for language, moved in (manifest.redirected or {}).items()},
        "output_table": manifest.output_table and vars(manifest.output_table),
        "readers": [vars(one) for one in manifest.readers or ()],
        "one_table": {language: vars(error) for language, error in (manifest.one_table or {}).items()},
        "silenced": {script: vars(own) for script, own in (manifest.silenced or {}).items()},
        "floor": manifest.floor and vars(manifest.floor),
        "kept": {language: manifest.kept[language] for language in manifest.edited},
        "constants_in": carrier and carrier.name,
        "layers_left_out": list(carrier.layers_left_out) if carrier else [],
        "strength": strength and {"language": strength["language"], "reached": strength["reached"]},
        "candidates": manifest.candidates
        and {
            "kind": manifest.candidates["kind"],
            "tried": len(manifest.candidates["rows"]),
            "reached": manifest.candidates["reached"],
        },
        "certificate": {name: proof.passed for name, proof in manifest.certificate.proofs.items()}
        if manifest.certificate
        else {},
        "evaluation": sorted(manifest.measures),
        "files": compare_files(folder, manifest.files, hashes=hashes),
    }
