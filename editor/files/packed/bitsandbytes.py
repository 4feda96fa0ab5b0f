"""bitsandbytes: nf4 and fp4, whose absmax may be quantised itself, and int8.

    4 bits   weight U8 (numbers / 2, 1): W read row by row, two codes in a byte, the first in the high half
             weight.quant_map F32 (16), weight.absmax F32 (one for each block of numbers)
             weight.quant_state.bitsandbytes__nf4: JSON with blocksize and the shape of W
    nested   weight.absmax U8, weight.nested_quant_map F32 (256), weight.nested_absmax F32; an offset in the JSON
             W = quant_map[code] · absmax[block];  absmax = nested_quant_map[code] · nested_absmax[block] + offset
    int8     weight I8 (rows, columns), SCB F32 (rows);  W = weight · SCB / 127

0 is the code 7 of nf4 and 0 of fp4, so a row is bytes of 0x77 or 0x00 and a column one half of a byte a row.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import ModelError
from ..checkpoint import parse_json
from .matrix import Edits, Float32, Matrix, Run
from .settings import left_out
from .stored import Stored
from .whole_bytes import WholeBytes

METHODS = ("bitsandbytes",)
ZERO = {"nf4": 7, "fp4": 0}
STORAGE = ("U8", "I8", "F16", "BF16", "F32")  # bnb_4bit_quant_storage: the bytes are the same
MAX_STATE = 10_000  # bytes


class FourBits(Matrix):
    def __init__(self, stored: Stored, kind: str) -> None:
        state = self._state(stored, kind)
        shape, block = state.get("shape"), state.get("blocksize")
        if not isinstance(shape, list) or len(shape) != 2 or not all(type(one) is int and one > 0 for one in shape):
            raise stored.wrong(f"the quant_state has the shape {shape!r}")
        if type(block) is not int or block <= 0:
            raise stored.wrong(f"the quant_state has the blocksize {block!r}")
        (self.rows, self.columns), self.block = shape, block
        count, weight = self.rows * self.columns, stored.take("weight", STORAGE)
        if weight.end - weight.begin != -(-count // 2):
            raise stored.wrong(
                f"weight has {weight.end - weight.begin:,} bytes, which {shape} numbers of 4 bits don't fill"
            )
        self.nested = "nested_offset" in state
        blocks = -(-count // self.block)
        stored.take("weight.absmax", ("U8",) if self.nested else ("F32",), (blocks,))
        stored.take("weight.quant_map", ("F32",), (16,))
        if stored.floats("weight.quant_map")[ZERO[kind]] != 0:
            raise stored.wrong(f"weight.quant_map is not that of {kind}")
        if self.nested:
            size, offset = state.get("nested_blocksize"), state["nested_offset"]
            if type(size) is not int or size <= 0 or not isinstance(offset, (int, float)) or isinstance(offset, bool):
                raise stored.wrong("the quant_state's nested numbers are malformed")
            self.nested_block, self.offset = size, np.float32(offset)
            stored.take("weight.nested_quant_map", ("F32",), (256,))
            stored.take("weight.nested_absmax", ("F32",), (-(-blocks // size),))
        self.stored, self.zero = stored, ZERO[kind]
        self.form = f"bitsandbytes {kind} (blocks of {self.block}{', nested' if self.nested else ''})"
        first = ("weight", "weight.absmax")
        self.tensors = tuple(
            map(
                stored.name,
                (*first, *sorted(kind for kind in stored.parts if kind.startswith("weight.") and kind not in first)),
            )
        )

    @staticmethod
    def _state(stored: Stored, kind: str) -> Mapping[str, Any]:
        tensor = stored.take(f"weight.quant_state.bitsandbytes__{kind}", ("U8",))
        if tensor.end - tensor.begin > MAX_STATE:
            raise stored.wrong("the quant_state is far too long")
        state = parse_json(np.asarray(stored.array(f"weight.quant_state.bitsandbytes__{kind}")).tobytes(), tensor.name)
        if not isinstance(state, Mapping) or state.get("quant_type") != kind:
            raise stored.wrong(f"the quant_state is not that of {kind}")
        return state

    def clear_rows(self, rows: Sequence[int]) -> Edits:
        runs = []
        for row in map(int, rows):
            first, last = row * self.columns, (row + 1) * self.columns
            self._check(first // self.block, (last - 1) // self.block + 1)
            if first % 2:
                runs.append(self._code(first))
            begin, end = -(-first // 2), last // 2
            if begin < end:
                runs.append(Run(begin, end - begin, value=self.zero * 0x11))
            if last % 2:
                runs.append(self._code(last - 1))
        return {self.tensors[0]: runs}

    def clear_columns(self, columns: Sequence[int]) -> Edits:
        self._check(0, -(-self.rows * self.columns // self.block))
        runs = []
        for column in map(int, columns):
            step = 1 if self.columns % 2 == 0 else 2  # of odd rows every other begins in the middle of a byte
            for first in range(min(step, self.rows)):
                one = self._code(first * self.columns + column)
                runs.append(
                    Run(one.begin, 1, self.columns * step // 2, len(range(first, self.rows, step)), one.mask, one.value)
                )
        return {self.tensors[0]: runs}

    def _code(self, index: int) -> Run:
        return Run(index // 2, 1, mask=0x0F if index % 2 else 0xF0, value=self.zero * 0x11)

    def read(self, first: int, last: int) -> Float32:
        begin, end = first * self.columns, last * self.columns
        data = self._bytes()[begin // 2 : -(-end // 2)]
        numbers = np.stack([data >> 4, data & 15], axis=-1).reshape(-1)[begin % 2 :][: end - begin]
        low, high = begin // self.block, (end - 1) // self.block + 1
        absmax: Any = self._absmax(low, high)[np.arange(begin, end) // self.block - low]
        with np.errstate(over="ignore", invalid="ignore"):
            weights: Float32 = self.stored.floats("weight.quant_map")[numbers] * absmax
        return weights.reshape(last - first, self.columns)

    def _bytes(self) -> npt.NDArray[np.uint8]:
        shard, tensor = self.stored.parts["weight"]
        return np.memmap(shard.path, np.uint8, "r", tensor.begin, (tensor.end - tensor.begin,))

    def _absmax(self, first: int, last: int) -> Float32:
        """Of blocks first … last − 1."""
        if not self.nested:
            return self.stored.floats("weight.absmax", slice(first, last))
        inner = self.stored.floats("weight.nested_quant_map")[
            np.asarray(self.stored.array("weight.absmax")[first:last])
        ]
        outer = self.stored.floats("weight.nested_absmax")[np.arange(first, last) // self.nested_block]
        with np.errstate(over="ignore", invalid="ignore"):
            absmax: Float32 = np.asarray(inner) * np.asarray(outer) + self.offset
        return absmax

    def _check(self, first: int, last: int) -> None:
        if not np.isfinite(self._absmax(first, last)).all():
            raise self.stored.broken("weight.absmax")


def open_matrix(stored: Stored, settings: Mapping[str, Any]) -> Matrix | None:
    if left_out(stored.module, settings.get("llm_int8_skip_modules")):
        return None
    if settings.get("load_in_8bit") or settings.get("_load_in_8bit"):
        if stored.has("weight_format") and np.asarray(stored.array("weight_format")).any():
            raise ModelError(
                f"{stored.module} is laid out for one kind of GPU (weight_format), which monoglot doesn't edit. Save "
                "the model with a current bitsandbytes."
            )
        return WholeBytes(
            stored,
            "bitsandbytes int8 (a scale for each row)",
            dtypes=("I8",),
            scale="SCB",
            block=(1, None),
            factor=1 / 127,
        )
    kind = settings.get("bnb_4bit_quant_type", "fp4")
    if not isinstance(kind, str) or kind not in ZERO:
        raise ModelError(f"config.json gives bitsandbytes the type {kind!r}; known are {', '.join(ZERO)}.")
    return FourBits(stored, kind)
