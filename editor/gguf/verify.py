"""The proof for a GGUF file: that it is its base with the rows of its sidecar cleared, and nothing else.

The base's bytes with zeros in those rows are held against the file's, every one of them, in constant memory; both files are
hashed meanwhile, and have to be the ones that the sidecar names.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import MonoglotError, VerificationError
from ..files.gguf import Gguf, read_gguf
from ..neurons.neurons import Neurons
from . import sidecar
from .bake import Progress, Range, clear, merged, planned_for, within
from .sidecar import Certificate, Proof, Sidecar
from .up_projection import Up, locate_up

CHUNK = 4 * 2**20  # bytes


@dataclass(frozen=True)
class GgufBytes:
    """The outcome for a GGUF file. `problems` is empty when it passed.

    `rows` were cleared, of which `zero_before` were zeros in the base already; `tensors` hold them.
    """

    rows: int
    zero_before: int
    tensors: int
    other_tensors: int
    problems: tuple[str, ...]

    @property
    def certificate(self) -> Certificate:
        """What the sidecar keeps of it."""
        return Certificate(Proof(not self.problems, self.rows, self.zero_before, self.tensors, self.other_tensors))


def base_of(path: Path, named: Path | None) -> Path:
    """Find the base's file: the one that is named, else the one that the sidecar names, beside the file or here.

    Raises VerificationError when it isn't there.
    """
    if named:
        return named
    name = sidecar.read(path).base.name
    for folder in (path.absolute().parent, Path()):
        if Path(name).name == name and (folder / name).is_file():
            return folder / name
    raise VerificationError(f"the base of {path} was a file called {name}. Say where it is with `base`.")


def verify_gguf(
    path: Path, base: Path, *, neurons: Neurons | None = None, progress: Progress | None = None
) -> GgufBytes:
    """Compare a file with its base. With `neurons`, its sidecar's rows have to be those of these neurons too.

    Raises VerificationError when the sidecar is missing or malformed, ModelError when the base isn't such a model.
    """
    about = sidecar.read(path)
    gguf = read_gguf(base)
    up = locate_up(gguf)
    if (about.base.architecture, about.base.layers, about.base.width) != (gguf.architecture, up.layers, up.width):
        raise VerificationError(
            f"{base} is not what {path} was made from: it is a {gguf.architecture} model of {up.layers} layers × {up.width}. "
            f"Name {about.base.name} with `base`."
        )
    problems = _of_neurons(gguf, up, about, neurons) if neurons else []
    size = path.stat().st_size
    if size != gguf.size:
        problems.append(f"{path} has {size:,} bytes, {base} has {gguf.size:,}")
    ranges = merged(up.ranges(about.cleared))
    differing, hashes = _compare(path, gguf, ranges, progress)
    problems += differing
    for name, digest, said in ((base, hashes[0], about.base.sha256), (path, hashes[1], about.file.sha256)):
        if digest != said:
            problems.append(f"{name} has the sha256 {digest[:12]}…, its sidecar says {said[:12]}…")
    edited = sum(bool(layer) for layer in about.cleared)
    rows = sum(map(len, about.cleared))
    if rows != about.neurons_edited:
        problems.append(f"the sidecar counts {about.neurons_edited:,} neurons and names {rows:,}")
    tensors = edited + sum(bool(bias and layer) for bias, layer in zip(up.biases, about.cleared, strict=True))
    return GgufBytes(rows, _zero_rows(gguf, up, about.cleared), tensors, len(gguf.tensors) - tensors, tuple(problems))


def _of_neurons(gguf: Gguf, up: Up, about: Sidecar, neurons: Neurons) -> list[str]:
    try:
        planned = planned_for(gguf, up, about.recipe, neurons)
    except MonoglotError as error:
        return [str(error)]
    wanted = [tuple(layer.neurons.tolist()) for layer in planned.layers]
    wrong = [layer for layer, own in enumerate(wanted) if own != about.cleared[layer]]
    return [f"the neurons to clear are others, in {len(wrong)} layers, the first of them {wrong[0]}"] if wrong else []


def _compare(
    path: Path, gguf: Gguf, ranges: list[Range], progress: Progress | None
) -> tuple[list[str], tuple[str, str]]:
    """Return a problem for each tensor with a wrong byte, or for the rest of the file; and the sha256 of both files."""
    places = _Places(gguf)
    digests = (hashlib.sha256(), hashlib.sha256())
    with gguf.path.open("rb") as base, path.open("rb") as out, ThreadPoolExecutor(2) as pool:
        at = 0
        while (expected := base.read(CHUNK)) or not at:
            found = out.read(len(expected))
            hashed = [pool.submit(one.update, data) for one, data in zip(digests, (expected, found), strict=True)]
            cleared = bytearray(expected)
            clear(cleared, at, within(ranges, at, at + len(expected)))
            if cleared != found:
                common = min(len(cleared), len(found))
                a, b = (np.frombuffer(data, np.uint8, common) for data in (cleared, found))
                places.add(at + np.flatnonzero(a != b))
            for job in hashed:
                job.result()
            at += len(expected)
            if progress:
                progress(at, gguf.size)
        while rest := out.read(CHUNK):
            digests[1].update(rest)
    return places.problems(), (digests[0].hexdigest(), digests[1].hexdigest())


class _Places:
    """Counts differing bytes by the tensor that they lie in."""

    def __init__(self, gguf: Gguf) -> None:
        self.tensors = list(gguf.tensors.values())
        self.begins = np.array([tensor.begin for tensor in self.tensors], np.int64)
        self.ends = np.array([tensor.end for tensor in self.tensors], np.int64)
        self.counts: Counter[int] = Counter()
        self.first: dict[int, int] = {}

    def add(self, positions: npt.NDArray[np.int64]) -> None:
        number = np.searchsorted(self.begins, positions, "right") - 1
        if len(self.tensors):
            number = np.where((number >= 0) & (positions < self.ends[number]), number, -1)
        for one in np.unique(number).tolist():
            own = positions[number == one]
            self.counts[one] += len(own)
            self.first.setdefault(one, int(own[0]))

    def problems(self) -> list[str]:
        said = []
        for number, count in self.counts.items():
            position, tensor = self.first[number], self.tensors[number]
            name, place = (
                ("outside of the tensors", f"byte {position:,}")
                if number < 0
                else (tensor.name, f"row {(position - tensor.begin) // max(1, tensor.row_bytes)}")
            )
            said.append(f"{name}: {count:,} bytes are not as they should be, the first in {place}")
        return said


def _zero_rows(gguf: Gguf, up: Up, cleared: Sequence[Sequence[int]]) -> int:
    """How many of the neurons had a row of zeros in the base already."""
    count = 0
    with gguf.path.open("rb") as file:
        for weight, own in zip(up.weights, cleared, strict=True):
            for j in own:
                file.seek(weight.begin + (up.first + j) * weight.row_bytes)
                count += not any(file.read(weight.row_bytes))
    return count
