"""The neurons of each language, and their file.

    {"format": 1, "model": {name, layers, width, fingerprint, …}, "method": {"name": "lape", "rate": 0.01, …},
     "spare": [[204, 31], … one per layer], "experts": {"zh": ["3.17", …]},
     "languages": {"zh": [{"neurons": [3, 17], "mean": [0.81, 1.2], "median": [0.4, 1.1], …}, … one per layer]}}

Beside a neuron stand the values that activation may pin it to, statistics of its activation on text of its language:
`mean` (m^k_ij), and where histograms were recorded `median` and `p90`; `mean@fr` is its mean on text in French.

The authors' `.neuron.pth` (`List[language][layer] -> LongTensor`) is read and written too; it is a pickle, so it is read
with torch's restricted unpickler, which builds tensors and lists and nothing else.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import MalformedError, MonoglotError, NeuronsError
from ..files import kinds, schema
from ..files.checkpoint import parse_json
from ..files.output import replace_file
from ..models.identity import Block, ModelInfo, blocks_of
from ..text.languages import Code

FORMAT = 1
RATE, QUANTILE, THRESHOLD, SEED = 0.01, 0.95, 0.95, 0  # what methods are set to by default
KEYS = ("format", "model", "method", "spare", "experts", "languages")
DECIMALS = 6  # of a value in the file
VALUES = ("mean", "median", "p90")  # statistics of a neuron's activation that the file may give
# The settings of each method, which the file records: numbers, and "like", how the neurons that a draw is like were found.
SETTINGS = {
    "lape": ("rate", "quantile"),
    "lap": ("threshold",),
    "lave": ("rate", "quantile"),
    "pv": ("rate", "quantile"),
    "ap": ("rate",),
    "random": ("seed", "like"),
}
Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Neurons:
    """Per language, per layer: sorted indices of its neurons, int64 (n,), and what is known of their activations.

    `values` is statistic ("mean", "median", "p90", "mean@fr", …) -> language -> per layer float64 (n,). A neuron may
    belong to several languages. `spare` are per layer neurons of no language that are hardly ever active, the least active
    first: `add` may take their places. `experts` are those of a mixture that hardly any other language's tokens are sent
    to. Imported masks have neither values nor spare ones, and `model` is None, as they don't say whose they are.
    """

    indices: dict[str, tuple[Int64, ...]]
    values: dict[str, dict[str, tuple[Float64, ...]]] = field(default_factory=dict)
    model: ModelInfo | None = None
    method: dict[str, Any] = field(default_factory=dict)
    spare: tuple[Int64, ...] = ()
    experts: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def languages(self) -> tuple[str, ...]:
        return tuple(self.indices)

    @property
    def layers(self) -> int:
        return len(next(iter(self.indices.values()))) if self.indices else 0

    def per_layer(self, language: str) -> list[int]:
        """Count the neurons of a language in each layer of the model."""
        sizes = [len(block) for block in self.indices[language]]
        if not self.model or not self.model.blocks:
            return sizes
        counts = [0] * self.model.layers
        for block, size in zip(self.model.blocks, sizes, strict=True):
            counts[block.layer] += size
        return counts

    def count(self, language: str) -> int:
        return sum(len(layer) for layer in self.indices[language])

    def pairs(self, language: str) -> set[tuple[int, int]]:
        """Return the neurons of a language as (layer, index)."""
        return {(i, int(j)) for i, layer in enumerate(self.indices[language]) for j in layer}


NONE = Neurons({})  # of a recipe that edits tokens only


def save(neurons: Neurons, path: Path) -> None:
    replace_file(path, serialise(neurons).encode())


def serialise(neurons: Neurons) -> str:
    """Write neurons as JSON text, a line per language and layer; the same neurons give the same text."""
    head = {
        "format": FORMAT,
        "model": neurons.model.to_data() if neurons.model else None,
        "method": neurons.method,
    }
    names = [block.name for block in neurons.model.blocks] if neurons.model else []
    languages = []
    for language, layers in neurons.indices.items():
        lines = []
        for i, layer in enumerate(layers):
            entry: dict[str, Any] = {"neurons": layer.tolist()}
            for statistic, known in neurons.values.items():
                entry[statistic] = [round(float(value), DECIMALS) for value in known[language][i]]
            lines.append(json.dumps(entry))
        languages.append(f"  {json.dumps(language)}: " + _lines(lines, [len(layer) for layer in layers], names, "  "))
    text = json.dumps(head, indent=1, sort_keys=True)[:-2]
    if neurons.spare:
        spare = [str(layer.tolist()) for layer in neurons.spare]
        text += ',\n "spare": ' + _lines(spare, [len(layer) for layer in neurons.spare], names, " ")
    if neurons.experts:
        own = (f"  {json.dumps(k)}: {json.dumps(list(names))}" for k, names in neurons.experts.items())
        text += ',\n "experts": {\n' + ",\n".join(own) + "\n }"
    return text + ',\n "languages": {\n' + ",\n".join(languages) + "\n }\n}\n"


def _lines(lines: Sequence[str], sizes: Sequence[int], names: Sequence[str], indent: str) -> str:
    """Write a list with a line for each layer; where blocks have names, an object with those that are not empty."""
    if not names:
        return f"[\n{indent} " + f",\n{indent} ".join(lines) + f"\n{indent}]"
    filled = [f"{json.dumps(name)}: {line}" for name, line, size in zip(names, lines, sizes, strict=True) if size]
    return "{}" if not filled else f"{{\n{indent} " + f",\n{indent} ".join(filled) + f"\n{indent}}}"


def load(path: Path) -> Neurons:
    """Read neurons.json. Raises NeuronsError when it is missing, malformed, or of an unknown format."""
    if not path.is_file():
        raise NeuronsError(f"there is no file {path}. Make one with `monoglot find`.")
    try:
        return _parse(parse_json(path.read_bytes(), str(path)), path)
    except NeuronsError:
        raise
    except (MonoglotError, OSError, KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise NeuronsError(
            kinds.instead(path, "neurons") or f"{path} is not a neurons file ({error}). Make one with `monoglot find`."
        ) from None


def _parse(data: Any, path: Path) -> Neurons:
    data = schema.keys(data, "", KEYS, ("format", "model", "method", "languages"))
    if data["format"] != FORMAT or isinstance(data["format"], bool):
        raise NeuronsError(
            f"{path} has format {data['format']!r}, this version reads {FORMAT}. Upgrade monoglot, or find them again."
        )
    model = _model(data["model"])
    indices: dict[str, tuple[Int64, ...]] = {}
    values: dict[str, dict[str, tuple[Float64, ...]]] = {}
    for language, own in schema.read(dict[Code, Any], data["languages"], "languages").items():
        layers = _layers(own, model, f"languages.{language}")
        for i, layer in enumerate(layers):
            schema.required_keys(layer, f"languages.{language}[{i}]", ("neurons",))
        indices[language] = tuple(_indices(layer["neurons"], language, i) for i, layer in enumerate(layers))
        for statistic in (name for name in (layers[0] if layers else ()) if name.partition("@")[0] in VALUES):
            if all(statistic in layer for layer in layers):
                known = tuple(_values(layer[statistic], statistic, language, i) for i, layer in enumerate(layers))
                if any(len(n) != len(v) for n, v in zip(indices[language], known, strict=True)):
                    raise NeuronsError(f"{path}: {language} has not as many values of {statistic} as neurons.")
                values.setdefault(statistic, {})[language] = known
    if len({len(layers) for layers in indices.values()}) != 1:
        raise NeuronsError(f"{path}: the languages have different numbers of layers, or there are none.")
    whole = {statistic: known for statistic, known in values.items() if known.keys() == indices.keys()}
    spare = tuple(_spare(layer, i) for i, layer in enumerate(_layers(data.get("spare", []), model, "spare")))
    if spare and any(len(layers) != len(spare) for layers in indices.values()):
        raise NeuronsError(f"{path}: there are spare neurons for {len(spare)} layers, and neurons for another number.")
    experts = {language: _experts(own, model) for language, own in _by_language(data.get("experts", {})).items()}
    return Neurons(indices, whole, model, _method(data["method"], "method"), spare, experts)


def _by_language(data: Any) -> dict[str, Any]:
    found: dict[str, Any] = schema.read(dict[Code, Any], data, "experts")
    return found


def _experts(own: Any, model: ModelInfo | None) -> tuple[str, ...]:
    """Check the names of a language's experts."""
    known = {block.name for block in model.blocks if block.expert} if model else set()
    names = tuple(schema.text(name, "an expert") for name in schema.listed(own, "experts"))
    if unknown := set(names) - known:
        raise MalformedError(f"experts has {min(unknown)}, which is no expert of its model")
    return names


def _layers(own: Any, model: ModelInfo | None, what: str) -> list[Any]:
    """Return a list with an entry for each layer; of an object of blocks, an entry for each block of the model."""
    if not isinstance(own, dict):
        return schema.listed(own, what)
    names = [block.name for block in model.blocks] if model else []
    if unknown := own.keys() - set(names):
        raise MalformedError(f"{what} has neurons in {min(unknown)}, which is no block of its model")
    if what == "spare":
        return [own.get(name, []) for name in names]
    nothing: dict[str, list[Any]] = {key: [] for entry in own.values() for key in schema.mapping(entry, what)}
    return [own.get(name, {"neurons": [], **nothing}) for name in names]


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _values(values: Any, statistic: str, language: str, layer: int) -> Float64:
    if not isinstance(values, list) or not all(map(_number, values)):
        raise NeuronsError(f"{language}, layer {layer}: the values of {statistic} are not a list of finite numbers.")
    return np.asarray(values, np.float64)


def _model(data: Any) -> ModelInfo | None:
    return None if data is None else ModelInfo.of_data(data)


def _method(data: Any, place: str) -> dict[str, Any]:
    """How they were found, as far as the card speaks of it; `like` in it is that of neurons that a draw is like."""
    method = schema.mapping(data, place)
    schema.read(dict[str, int], method.get("tokens", {}), f"{place}.tokens")
    name = method.get("name")
    settings = SETTINGS.get(name, ()) if isinstance(name, str) else ()
    schema.required_keys(method, place, settings)
    for setting in settings:
        if setting != "like":
            schema.number(method[setting], f"{place}.{setting}")
        elif place != "method":
            raise MalformedError(f"{place} is a draw like another draw")
        else:
            _method(method["like"], f"{place}.like")
    return dict(method)


def _indices(values: Any, language: str, layer: int) -> Int64:
    """Sorted, checked indices of one layer."""
    if not isinstance(values, list) or not all(isinstance(v, int) and not isinstance(v, bool) for v in values):
        raise NeuronsError(f"{language}, layer {layer}: the neurons are not a list of whole numbers.")
    array = np.asarray(values, np.int64)
    if (array < 0).any():
        raise NeuronsError(f"{language}, layer {layer}: neuron {array.min()} is negative.")
    if (np.diff(array) <= 0).any():
        raise NeuronsError(f"{language}, layer {layer}: the neurons are not in order, each once.")
    return array


def _spare(values: Any, layer: int) -> Int64:
    """Check the indices of one layer and return them in their own order."""
    if not isinstance(values, list) or not all(type(v) is int and v >= 0 for v in values):
        raise NeuronsError(f"layer {layer}: the spare neurons are not a list of whole numbers from 0.")
    if len(set(values)) != len(values):
        raise NeuronsError(f"layer {layer}: a spare neuron stands there twice.")
    return np.asarray(values, np.int64)


def check_fit(neurons: Neurons, layers: int, width: int, model: str, blocks: Sequence[Block] = ()) -> None:
    """Raise NeuronsError when neurons can't be of a model of this many layers and neurons per layer, or of these blocks."""
    networks = blocks_of(layers, width, blocks)
    own = neurons.model
    if neurons.layers != len(networks):
        there, here = ("networks", len(networks)) if blocks or (own and own.blocks) else ("layers", layers)
        raise NeuronsError(f"the neurons are of a model with {neurons.layers} {there}, {model} has {here}.")
    if own and len(own.networks) != len(networks):
        raise NeuronsError(
            f"the neurons' file contradicts itself: it has neurons of {neurons.layers} layers, and says that its model has "
            f"{len(own.networks)}. Find them again."
        )
    if own and own.networks != networks:
        ours, theirs = next(pair for pair in zip(networks, own.networks, strict=True) if pair[0] != pair[1])
        where = "a layer" if not blocks and not own.blocks else f"in {theirs.name}"
        there = "" if not blocks and not own.blocks else f" in {ours.name}"
        raise NeuronsError(
            f"the neurons are of a model with {theirs.width} neurons {where}, {model} has {ours.width}{there}."
        )
    for block, layer in zip(networks, neurons.spare, strict=False):
        if len(layer) and layer.max() >= block.width:
            raise NeuronsError(
                f"layer {block.name}: there is no spare neuron {layer.max()}, {model} has {block.width} a layer."
            )
    for language, by_layer in neurons.indices.items():
        for block, layer in zip(networks, by_layer, strict=True):
            if len(layer) and layer[-1] >= block.width:
                raise NeuronsError(
                    f"{language}, layer {block.name}: there is no neuron {layer[-1]}, {model} has {block.width} a layer."
                )


def check_languages(neurons: Neurons, languages: Sequence[str]) -> None:
    """Raise NeuronsError for a language that the neurons don't have."""
    for language in languages:
        if language not in neurons.indices:
            raise NeuronsError(f"there are no neurons for {language!r}; there are for {', '.join(neurons.languages)}.")
