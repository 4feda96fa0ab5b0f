"""What every packed format answers, and how bytes are written.

A weight matrix W, rows × columns, has a row for each number that its projection computes and a column for each that it
reads. A format says

    clear_rows       which bits to write so that rows of W are exactly zero
    clear_columns    the same for columns
    read             W itself, as float32

and refuses what it can't do exactly, with the reason. What is written is a list of `Run`s: patterns of bytes in one tensor,
found from the headers alone or from a few bytes beside them, so that an edit needs no more memory than its list, streams
through a file in pieces, and names every bit that it may change.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...errors import ModelError

Bytes = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Run:
    """`count` times `length` bytes, the first at byte `begin` of a tensor.

    Each `stride` bytes after the one before. The bits of `mask` in each byte become those of `value`: a byte, or a
    function that gives the bytes of repetitions first … last − 1 as (last − first, length).
    """

    begin: int
    length: int
    stride: int = 0
    count: int = 1
    mask: int = 0xFF
    value: int | Callable[[int, int], Bytes] = 0


Edits = Mapping[str, Sequence[Run]]  # name of a tensor -> what is written in it


def write(runs: Iterable[Run], data: Bytes, at: int) -> None:
    """Carry out what of the runs lies in `data`, the bytes of the tensor from byte `at` on."""
    for run in runs:
        pieces = list(_pieces(run, at, at + len(data)))
        if not pieces:
            continue
        first = min(repetitions.start for _, repetitions, _ in pieces)
        last = max(repetitions.stop for _, repetitions, _ in pieces)
        values = run.value(first, last) if callable(run.value) else None
        for place, repetitions, inside in pieces:
            part, new = data[place], run.value
            if values is not None:
                new = values[repetitions.start - first : repetitions.stop - first, inside].reshape(-1)  # type: ignore[assignment]
            part[...] = (part & (0xFF ^ run.mask)) | (np.asarray(new, np.uint8) & run.mask)


def seen(runs: Iterable[Run], differ: npt.NDArray[np.bool_], at: int) -> list[bool]:
    """For each run, whether any of its bytes is among those that differ; `differ` is of the tensor's bytes from `at` on."""
    end = at + len(differ)
    return [any(bool(differ[place].any()) for place, _, _ in _pieces(run, at, end)) for run in runs]


def _pieces(run: Run, at: int, end: int) -> Iterator[tuple[slice, slice, slice]]:
    """Return what of a run lies in bytes `at` … `end` − 1 of the tensor.

    Where there, counted from `at`; of which repetitions; and which bytes of each. A few bytes many times are a slice for
    each of the few, else each repetition is one.
    """
    if run.count > run.length:
        for byte in range(run.length):
            begin = run.begin + byte
            first = max(0, -(-(at - begin) // run.stride))
            last = min(run.count, -(-(end - begin) // run.stride))
            if first < last:
                start = begin + first * run.stride - at
                stop = start + (last - first - 1) * run.stride + 1
                yield slice(start, stop, run.stride), slice(first, last), slice(byte, byte + 1)
        return
    for number in range(run.count):
        begin = run.begin + number * run.stride
        low, high = max(begin, at), min(begin + run.length, end)
        if low < high:
            yield slice(low - at, high - at), slice(number, number + 1), slice(low - begin, high - begin)


def size(runs: Iterable[Run]) -> int:
    """How many bytes the runs name; one that two of them name counts twice."""
    return sum(run.count * run.length for run in runs)


def byte_rows(rows: Iterable[int], row_bytes: int, value: int = 0, begin: int = 0) -> list[Run]:
    """Whole rows of a row-major tensor that starts at byte `begin`."""
    return [Run(begin + int(row) * row_bytes, row_bytes, value=value) for row in rows]


def byte_columns(
    columns: Iterable[int], size: int, row_bytes: int, rows: int, value: int = 0, begin: int = 0
) -> list[Run]:
    """Return the numbers of `size` bytes in columns of a row-major tensor."""
    return [Run(begin + int(column) * size, size, row_bytes, rows, value=value) for column in columns]


class Matrix(ABC):
    """A weight as its format stores it.

    `form` names the format and its settings for people; `tensors` are the names of what it is stored in.
    """

    form: str
    rows: int
    columns: int
    tensors: tuple[str, ...]

    @abstractmethod
    def clear_rows(self, rows: Sequence[int]) -> Edits:
        """Return what to write so that rows are exactly zero.

        Raises ModelError where that can't be, CheckpointError where numbers beside them are broken.
        """

    def clear_columns(self, columns: Sequence[int]) -> Edits:
        """Return the same for columns."""
        raise ModelError(self.no_column())

    @abstractmethod
    def read(self, first: int, last: int) -> Float32:
        """Rows first … last − 1 as the format means them, (last − first, columns)."""

    def no_column(self, why: str = "") -> str:
        """Why a column can't be cleared, and what to do instead."""
        return (
            f"{self.tensors[0]}: a column of a weight in {self.form} can't be exactly zero"
            f"{f' ({why})' if why else ''}. Edit the model that it was quantised from, then quantise the result."
        )
