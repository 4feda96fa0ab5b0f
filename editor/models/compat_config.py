"""The older spelling of config.json, for runtimes that read no other.

transformers 5 writes what transformers 4 had in keys of their own into `rope_parameters`, and calls `torch_dtype` `dtype`:

    "rope_parameters": {"rope_theta": 100000.0, "rope_type": "default"}         "rope_theta": 100000.0

Of a config that has only the left, transformers 4 and mlx-lm take their default for the right (10000) without a word, and
mistral.rs fails. `old_keys` gives what is missing, from a table: a row per old key, with where the new spelling holds the
value, and who reads the old one.

Nothing is added that the config doesn't say, and no key that is there is touched. transformers 5 reads both: where the old
`rope_scaling` stands, it takes the place of `rope_parameters`, with the old `rope_theta` and `partial_rotary_factor`. So the
keys of the positions are added all together and say the same, or, where the old spelling can't say it or says something else
already, not at all.

The same transformers names its own class in a tokenizer_config.json, for which transformers 4 has no other key to look at:
`unread_tokenizer` tells of it, and nothing is changed there.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .families import TEXT_CONFIG, text_config

OLD = "transformers 4, mlx-lm"
STRICT = f"{OLD}, mistral.rs"  # which fails without


UNSAYABLE = object()  # what a `form` gives where the old spelling has no words for a value


def _number(value: Any, config: Mapping[str, Any]) -> Any:
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
        return UNSAYABLE
    return value


def _scaling(parameters: Any, config: Mapping[str, Any]) -> Any:
    """Return `rope_scaling`: what `rope_parameters` says besides the keys that have a place of their own.

    None where positions are not scaled.
    """
    if not isinstance(parameters, dict) or any(isinstance(value, dict) for value in parameters.values()):
        return UNSAYABLE  # each kind of layer has its own
    if _kind(parameters) == "default":
        return None
    return {key: value for key, value in parameters.items() if key not in ("rope_theta", "partial_rotary_factor")}


def _scaling_with_type(parameters: Any, config: Mapping[str, Any]) -> Any:
    """Return the same for a reader that looks for the kind under its oldest name."""
    found = _scaling(parameters, config)
    return {**found, "type": _kind(parameters)} if found and found is not UNSAYABLE else found


def _scaling_of_phi3(parameters: Any, config: Mapping[str, Any]) -> Any:
    """Return the three keys that transformers 4 takes, and no other; the length lies beside them."""
    found = _scaling(parameters, config)
    if found is None or found is UNSAYABLE:
        return found
    length = "original_max_position_embeddings"
    factors = {"short_factor", "long_factor"}
    if not factors <= found.keys() <= factors | {"type", "rope_type", length}:
        return UNSAYABLE
    if found.get(length, config.get(length)) != config.get(length):
        return UNSAYABLE
    return {"type": _kind(parameters), **{key: found[key] for key in sorted(factors)}}


def _scaling_of_whole(parameters: Any, config: Mapping[str, Any]) -> Any:
    """Where a share of the head that is rotated would have no key."""
    if isinstance(parameters, dict) and "partial_rotary_factor" in parameters:
        return UNSAYABLE
    return _scaling(parameters, config)


def _unscaled(parameters: Any, config: Mapping[str, Any]) -> Any:
    """rope_theta, where that is all that the old spelling has a key for."""
    if _scaling_of_whole(parameters, config) is not None:
        return UNSAYABLE
    return _number(parameters.get("rope_theta"), config)


def _period(kinds: Any, config: Mapping[str, Any]) -> Any:
    """n where every n-th layer attends to everything, and the others through a window."""
    if not isinstance(kinds, list) or "full_attention" not in kinds:
        return None
    n = kinds.index("full_attention") + 1
    regular = ["sliding_attention" if (i + 1) % n else "full_attention" for i in range(len(kinds))]
    return n if kinds == regular else None


def _name(value: Any, config: Mapping[str, Any]) -> Any:
    return value if isinstance(value, str) else None


def _kind(parameters: Mapping[str, Any]) -> Any:
    return parameters.get("rope_type", parameters.get("type", "default"))


@dataclass(frozen=True)
class Row:
    """A key in the older spelling and where its value comes from.

    `old` holds what `form` makes of the value that lies along `new`. None: there is nothing to say; UNSAYABLE: it can't be
    said.
    """

    old: str
    new: tuple[str, ...]
    readers: str
    form: Callable[[Any, Mapping[str, Any]], Any] = _number


DTYPE = Row("torch_dtype", ("dtype",), "transformers before 4.56", _name)
THETA = Row("rope_theta", ("rope_parameters", "rope_theta"), STRICT)
PARTIAL = Row("partial_rotary_factor", ("rope_parameters", "partial_rotary_factor"), OLD)
SCALING = Row("rope_scaling", ("rope_parameters",), OLD, _scaling)
WITH_TYPE = replace(SCALING, form=_scaling_with_type)
FULL, SLIDING = (("rope_parameters", kind) for kind in ("full_attention", "sliding_attention"))
PATTERN = Row("sliding_window_pattern", ("layer_types",), "mlx-lm", _period)

POSITIONS = (THETA, PARTIAL, SCALING)
# … of families that call them otherwise, or that other keys belong to. The keys of a group are added together or not at all.
OWN: dict[str, tuple[tuple[Row, ...], ...]] = {
    "gpt_neox": ((replace(THETA, old="rotary_emb_base"), replace(PARTIAL, old="rotary_pct"), SCALING),),
    "gemma3_text": (
        (
            replace(THETA, new=(*FULL, "rope_theta")),
            Row("rope_local_base_freq", SLIDING, OLD, _unscaled),
            replace(SCALING, new=FULL, form=_scaling_of_whole),
        ),
        (PATTERN,),
    ),
    "gemma3n_text": (
        (
            replace(THETA, new=(*FULL, "rope_theta")),
            Row("rope_local_base_freq", SLIDING, OLD, _unscaled),
            replace(SCALING, new=FULL, form=_scaling_of_whole),
        ),
    ),
    "cohere2": (POSITIONS, (PATTERN,)),
    "phi3": ((THETA, PARTIAL, replace(SCALING, form=_scaling_of_phi3)),),
    "nemotron": ((THETA, PARTIAL, WITH_TYPE),),
    "hunyuan_v1_dense": ((THETA, PARTIAL, WITH_TYPE),),
    **dict.fromkeys(("ministral3", "gemma4_text", "gemma4_unified_text", "lfm3"), ()),  # younger than the new spelling
    "olmo3": (),  # has no words for two kinds of layers
}
READERS = {row.old: row.readers for group in ((DTYPE,), POSITIONS, *sum(OWN.values(), ())) for row in group}


def old_keys(config: dict[str, Any]) -> dict[str | None, dict[str, Any]]:
    """Return what a config lacks of the older spelling: place -> key -> value; empty where nothing is missing.

    The place None is the config itself, "text_config" the text tower of a wrapper.
    """
    text = text_config(config)
    groups = OWN.get(str(text.get("model_type")), (POSITIONS,)) if text.get("rope_parameters") else ()
    found: dict[str | None, dict[str, Any]] = {None: _missing((DTYPE,), config)}
    own = found.setdefault(None if text is config else TEXT_CONFIG, {})
    for group in ((DTYPE,), *groups):
        own |= _missing(group, text)
    return {place: keys for place, keys in found.items() if keys}


def _missing(group: tuple[Row, ...], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a group that are not there; none of them unless those that are there say the same."""
    said = {row.old: row.form(_along(config, row.new), config) for row in group}
    if any(value is UNSAYABLE for value in said.values()):
        return {}
    if any(key in config and config[key] != value for key, value in said.items()):
        return {}
    if said.get("rope_scaling") and "rope_scaling" in config:
        return {}
    return {key: value for key, value in said.items() if value is not None and key not in config}


# tokenizer classes that transformers 4 doesn't have, and so neither the converters that run on it
UNREAD = ("TokenizersBackend", "SentencePieceBackend", "PythonBackend")


def unread_tokenizer(folder: Path) -> str | None:
    """Return the tokenizer class that a folder names, where only transformers 5 knows it."""
    try:
        found = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8")).get("tokenizer_class")
    except (OSError, ValueError, AttributeError, RecursionError):
        return None
    return found if found in UNREAD else None


def _along(config: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = config
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value
