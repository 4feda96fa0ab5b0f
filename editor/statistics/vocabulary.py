"""What a model's vocabulary says of languages: how often text in each uses each token, and where its tokens lie.

    n_k(t)         how often token t occurs in the text of language k
    f_k(t)         = n_k(t) / n_k                  its frequency, n_k being the number of tokens
    P(k | t)       = f_k(t) / Σ_s f_s(t)           the share of language k among the occurrences of t in equally long texts
    μ_k            = Σ_t f_k(t) · e_t              the centre of the language: the mean of its tokens' rows of the table

A token that no text uses may have the shares of its script (see `token_counts`), or none.

The file is of the format safetensors, with a name that no runtime takes for weights. Per language:

    {k}.ids        int64 (n,)      the tokens that its text uses, in order
    {k}.counts     int64 (n,)      n_k(t)
    {k}.centre     float64 (d,)    μ_k in the units of the table

and of the tokens that have the shares of their script

    unused.ids     int64 (m,)      in order
    unused.script  int64 (m,)      which of the scripts that the metadata names
    unused.shares  float64 (scripts, languages)

and, where the model was run too, what its output table is given (see `outputs`)

    outputs.mean, outputs.states, outputs.language, outputs.targets, outputs.losses

or the means of its residual stream (see `residual`)

    residual.centres, residual.rms

and vectors that were made elsewhere, by the name that they go by and the layer that they are added after

    vector.{name}.{layer}   float64 (d,)

and readers of languages (see `readers`), whose levels and measures are in the metadata

    reader.{language}.{layer}   float64 (2, d)   the gate row and the up row

In the metadata are the model and the sha256 of the token ids of each text: all that it was made of.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..files import kinds
from ..files.array_file import ArrayFile
from ..files.output import replace_file
from ..files.schema import Figure, Size
from ..models.identity import ModelInfo
from .outputs import PARTS, Outputs
from .readers import Reader, check_reader
from .residual import Residual

FILE = "vocabulary.monoglot"
FORMAT = 1
READER = "reader."
VECTOR = "vector."  # what the name of an array with a vector begins with
METADATA = kinds.METADATA["vocabulary"]  # the key of the file's metadata
ARRAYS = ArrayFile(
    "vocabulary", FORMAT, "vocabulary", "Make one with `monoglot tokens`.", "run `monoglot tokens` again"
)

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Vocabulary:
    """Per language: the tokens its text uses, sorted, int64 (n,), how often, int64 (n,), and their centre, float64 (d,).

    `rows` is the length of the table; `texts` are the sha256 of the token ids that were counted. `unused` are tokens that no
    text uses and that have the shares of their script, sorted, int64 (m,); `script` is the number of each one's, int64 (m,),
    among `scripts`, and `script_shares`, float64 (scripts, languages), what is known of these. `outputs` are there where the
    model was run.
    """

    model: ModelInfo
    rows: int
    ids: dict[str, Int64]
    counts: dict[str, Int64]
    centres: dict[str, Float64]
    texts: dict[str, str]
    unused: Int64
    script: Int64
    scripts: tuple[str, ...]
    script_shares: Float64
    outputs: Outputs | None = None
    residual: Residual | None = None
    vectors: Mapping[tuple[str, int], Float64] = field(default_factory=dict)
    readers: Mapping[tuple[str, int], Reader] = field(default_factory=dict)

    @property
    def languages(self) -> tuple[str, ...]:
        return tuple(self.ids)

    def tokens(self, language: str) -> int:
        """How many tokens of a language were counted."""
        return int(self.counts[language].sum())

    def frequencies(self, language: str, ids: Int64) -> Float64:
        """f_k(t) of some tokens, float64 (n,); 0 of those that its text doesn't use."""
        own = self.ids[language]
        place = np.minimum(np.searchsorted(own, ids), len(own) - 1)
        return np.where(own[place] == ids, self.counts[language][place], 0) / self.tokens(language)

    def tokens_of(self, language: str) -> Int64:
        """All tokens that a language has a share in, sorted."""
        in_its_scripts = self.script_shares[self.script, self.languages.index(language)] > 0
        return np.union1d(self.ids[language], self.unused[in_its_scripts])

    def shares(self, ids: Int64) -> dict[str, Float64]:
        """P(k | t) of some tokens, by language, float64 (n,); 0 of those that nothing is known of."""
        frequencies = {language: self.frequencies(language, ids) for language in self.languages}
        whole = np.zeros(len(ids))
        for own in frequencies.values():
            whole += own
        shares = {language: own / np.where(whole, whole, 1) for language, own in frequencies.items()}
        _, place, there = np.intersect1d(ids, self.unused, return_indices=True)
        for number, own in enumerate(shares.values()):
            own[place] = self.script_shares[self.script[there], number]
        return shares

    def overlap(self, a: str, b: str) -> float:
        """How much of two languages' text is made of the same tokens, 0 … 1: Σ_t min(f_a(t), f_b(t))."""
        ids = self.ids[a]
        return float(np.minimum(self.frequencies(a, ids), self.frequencies(b, ids)).sum())


def save(vocabulary: Vocabulary, path: Path) -> None:
    """Write the file; the same vocabulary gives the same bytes."""
    replace_file(path, serialise(vocabulary))


def serialise(vocabulary: Vocabulary) -> bytes:
    from safetensors.numpy import save as to_bytes

    arrays: dict[str, npt.NDArray[Any]] = {}
    for language in vocabulary.languages:
        arrays[f"{language}.ids"] = vocabulary.ids[language]
        arrays[f"{language}.counts"] = vocabulary.counts[language]
        arrays[f"{language}.centre"] = vocabulary.centres[language]
    arrays["unused.ids"] = vocabulary.unused
    arrays["unused.script"] = vocabulary.script
    arrays["unused.shares"] = vocabulary.script_shares
    if vocabulary.outputs:
        arrays |= {f"outputs.{part}": getattr(vocabulary.outputs, part) for part in PARTS}
    if vocabulary.residual:
        arrays |= {f"residual.{part}": getattr(vocabulary.residual, part) for part in ("centres", "rms")}
    for (name, layer), vector in sorted(vocabulary.vectors.items()):
        arrays[f"{VECTOR}{name}.{layer}"] = vector
    for (language, layer), reader in sorted(vocabulary.readers.items()):
        arrays[f"{READER}{language}.{layer}"] = np.stack([reader.gate, reader.up])
    measured = {f"{language}.{layer}": reader.record() for (language, layer), reader in vocabulary.readers.items()}
    head = {
        "version": FORMAT,
        "model": vocabulary.model.to_data(),
        "rows": vocabulary.rows,
        "texts": vocabulary.texts,
        "scripts": vocabulary.scripts,
        **({"readers": measured} if measured else {}),
    }
    return to_bytes(arrays, metadata={METADATA: json.dumps(head, sort_keys=True)})


@dataclass(frozen=True)
class _Head:
    """What the metadata of a file says."""

    version: int
    model: dict[str, Any]  # which ModelInfo reads
    rows: Size
    texts: dict[str, str]
    scripts: tuple[str, ...]
    readers: dict[str, "_Measured"] = field(default_factory=dict)


@dataclass(frozen=True)
class _Measured:
    """What the metadata says of a reader."""

    level: Figure
    response: dict[str, Figure]
    fires: dict[str, Figure]


def load(path: Path) -> Vocabulary:
    """Read the file. Raises StatisticsError when it is missing, is not one, is damaged, or of an unknown format."""
    with ARRAYS.reading(path, _Head) as (head, file):
        return _checked(head, {name: file.get_tensor(name) for name in list(file.keys())})  # it is no dict


def _checked(head: _Head, arrays: Mapping[str, npt.NDArray[Any]]) -> Vocabulary:
    """Return a vocabulary from what its file says. Raises ValueError where that can't be."""
    rows, texts, scripts = head.rows, head.texts, head.scripts
    vectors = _vectors(arrays)
    if not texts and not vectors:
        raise ValueError("it has no languages")
    ids, counts, centres = ({k: arrays[f"{k}.{kind}"] for k in texts} for kind in ("ids", "counts", "centre"))
    widths = {centre.shape for centre in centres.values()}
    for k in texts:
        whole = ids[k].dtype == counts[k].dtype == np.int64 and ids[k].ndim == 1 and ids[k].shape == counts[k].shape
        if not whole or not len(ids[k]) or (np.diff(ids[k]) <= 0).any() or ids[k][0] < 0 or ids[k][-1] >= rows:
            raise ValueError(f"the tokens of {k} are not ids of the table in order, each with its count")
        if (counts[k] < 1).any() or centres[k].dtype != np.float64 or not np.isfinite(centres[k]).all():
            raise ValueError(f"the counts or the centre of {k} are no such numbers")
    widths |= {vector.shape for vector in vectors.values()}
    if len(widths) != 1 or len(next(iter(widths))) != 1:
        raise ValueError("the centres have different lengths")
    unused, script, shares = (arrays[f"unused.{kind}"] for kind in ("ids", "script", "shares"))
    whole = unused.dtype == script.dtype == np.int64 and unused.ndim == 1 and unused.shape == script.shape
    if not whole or (np.diff(unused) <= 0).any() or ((unused < 0) | (unused >= rows)).any():
        raise ValueError("the unused tokens are not ids of the table in order, each with its script")
    if ((script < 0) | (script >= len(scripts))).any() or np.isin(
        unused, np.concatenate([*ids.values(), np.zeros(0, np.int64)])
    ).any():
        raise ValueError("the unused tokens have no such scripts, or are used")
    if (
        shares.shape != (len(scripts), len(texts))
        or shares.dtype != np.float64
        or not ((shares >= 0) & (shares <= 1)).all()
    ):
        raise ValueError("the shares of the scripts are no such numbers")
    outputs = None
    if "outputs.mean" in arrays:
        outputs = Outputs(**{part: arrays[f"outputs.{part}"] for part in PARTS})
        outputs.check(rows, next(iter(widths))[0], len(texts))
    model = ModelInfo.of_data(head.model)
    residual = None
    if "residual.centres" in arrays:
        residual = Residual(arrays["residual.centres"], arrays["residual.rms"])
        residual.check(len(texts), next(iter(widths))[0])
    return Vocabulary(
        model, rows, ids, counts, centres, texts, unused, script, scripts, shares, outputs, residual, vectors,
        _readers(head, arrays, next(iter(widths))[0]),
    )  # fmt: skip


def _readers(head: "_Head", arrays: Mapping[str, npt.NDArray[Any]], hidden: int) -> dict[tuple[str, int], Reader]:
    """Return the readers of a file. Raises ValueError for one that is none."""
    found = {}
    for key, measured in head.readers.items():
        language, dot, layer = key.rpartition(".")
        rows = arrays[f"{READER}{key}"]
        if not (dot and language in head.texts and layer.isdecimal()) or rows.shape != (2, hidden):
            raise ValueError(f"{key} is no reader of a language")
        reader = Reader(rows[0], rows[1], measured.level, measured.response, measured.fires)
        check_reader(reader, hidden, list(head.texts))
        found[language, int(layer)] = reader
    return found


def _vectors(arrays: Mapping[str, npt.NDArray[Any]]) -> dict[tuple[str, int], Float64]:
    """Return the vectors among the arrays of a file. Raises ValueError for one that is none."""
    found = {}
    for key, array in arrays.items():
        name, dot, layer = key.removeprefix(VECTOR).rpartition(".")
        if not key.startswith(VECTOR):
            continue
        if not (dot and name and layer.isdecimal()) or array.dtype != np.float64 or not np.isfinite(array).all():
            raise ValueError(f"{key} is no vector after a layer")
        found[name, int(layer)] = array
    return found


def none_counted(model: ModelInfo, rows: int) -> Vocabulary:
    """Return a vocabulary without languages, for vectors that were made elsewhere."""
    nothing = np.zeros(0, np.int64)
    return Vocabulary(model, rows, {}, {}, {}, {}, nothing, nothing, (), np.zeros((0, 0)))
