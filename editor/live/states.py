"""Hidden states between two layers: in memory, or in a scratch folder where they are more than memory has room for.

The folder has two files of states, used in turn. While one is read the other is written, and a small file says which of them
is whole; so a run that was killed goes on at the layer where it stopped. Beside them stands what each layer gave
(`keep`, `kept`). The folder is locked while a run works in it, and removed at its end.

    states-0, states-1        tensors, one after another
    at.json                   what the run is of, how many layers are done, and what lies where
    layer-00003.safetensors   what was kept of layer 3
"""

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import MalformedError, OutputError
from ..files import json_text
from ..files.lock import holding
from ..files.output import put_file
from .layered import State
from .memory import in_words

if TYPE_CHECKING:
    import torch

KEEP_SECONDS = 20.0
AT = "at.json"

Arrays = dict[str, npt.NDArray[Any]]


class States:
    """States of batches, by numbers: those of the layer before are got, those of the layer at work are put.

    Without a `folder` they lie in memory. With one, and `on_disk`, in its files; with one and not `on_disk` in memory,
    and are copied to its files every 20 s, or less often where that takes long: it may cost a twentieth of the time.
    `key` says what they are of, `done` how many layers are behind. Without `keeping` there are no copies.
    """

    def __init__(self, folder: Path | None, key: Mapping[str, Any] | None = None, *, keeping: bool = True) -> None:
        self.folder, self.on_disk, self._keeping = folder, False, keeping
        self.done = 0
        self._key = json.dumps(key or {}, sort_keys=True)
        self._memory: dict[int, State] = {}
        self._slot = 0  # of the two files the one that is whole
        self._index: dict[int, list[Any]] = {}  # where the states lie in it
        self._written: dict[int, list[Any]] = {}  # and in the other
        self._file: Any = None
        self._saved, self._cost = time.monotonic(), 0.0

    def resume(self) -> None:
        """Take up what an earlier run of the same left; what another one left is removed."""
        if self.folder is None:
            return
        try:
            data = json_text.parse((self.folder / AT).read_bytes())
            index = {int(batch): entry for batch, entry in data["index"].items()}
            done, slot = int(data["done"]), int(data["slot"])
            whole = all(self._part(layer).is_file() for layer in range(done))
            if data["key"] == self._key and whole and self._states(slot).stat().st_size == data["size"]:
                self._slot, self._index, self.on_disk = slot, index, bool(data["on_disk"])
                if not self.on_disk:
                    self._memory = {batch: self._read(entry) for batch, entry in index.items()}
                self.done = done
                return
        except (OSError, MalformedError, KeyError, TypeError, ValueError, AttributeError):
            pass
        self._memory, self._index, self.on_disk = {}, {}, False
        _empty(self.folder)

    def expect(self, size: int, memory: int) -> None:
        """Decide, once the size of all states is known, where they lie. Raises OutputError when there is room nowhere."""
        self.on_disk = size > memory
        if not self.on_disk:
            return
        if self.folder is None:
            raise OutputError(
                f"the hidden states take {in_words(size)}, and {in_words(memory)} of memory are left for them. Name a "
                "folder for them with `scratch`, or give more `memory`."
            )
        free = shutil.disk_usage(self.folder).free
        if free < 2 * size:
            raise OutputError(
                f"the hidden states take {in_words(2 * size)} of scratch space, and {self.folder.parent} has "
                f"{in_words(free)} left. Name another place with `scratch`, give more `memory`, or use fewer `tokens`."
            )

    def get(self, batch: int) -> State | None:
        """Return what the layer before made of a batch, on the CPU; None before the first layer."""
        if self.done == 0:
            return None
        return self._read(self._index[batch]) if self.on_disk else self._memory[batch]

    def put(self, batch: int, state: State) -> None:
        import torch

        state = state.on(torch.device("cpu"))
        if self.on_disk:
            self._write(batch, state)
        else:
            self._memory[batch] = state

    def turn(self) -> None:
        """After a layer: what was put is what is got from now on."""
        self.done += 1
        if self.on_disk:
            self._swap()
        elif (
            self._keeping
            and self.folder is not None
            and time.monotonic() - self._saved >= max(KEEP_SECONDS, 20 * self._cost)
        ):
            started = time.monotonic()
            try:
                for batch, state in self._memory.items():
                    self._write(batch, state)
                self._swap()
            except OutputError:
                self.folder = None  # progress that can't be kept must not end the run
            self._saved = time.monotonic()
            self._cost = self._saved - started

    def keep(self, layer: int, arrays: Arrays) -> None:
        """Write what a layer gave beside the states. Where there is no room, states in memory go on without."""
        from safetensors.numpy import save

        if self.folder is None:
            return
        data = save({name: np.ascontiguousarray(own) for name, own in arrays.items()})
        try:
            put_file(self._part(layer), data)
        except OSError as error:
            if self.on_disk:
                raise self._failed(error) from None
            self.folder = None  # progress that can't be kept must not end the run

    def kept(self, layer: int) -> Arrays:
        """Return what an earlier run kept of a layer."""
        from safetensors.numpy import load_file

        found: Arrays = load_file(self._part(layer))
        return found

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _part(self, layer: int) -> Path:
        return self._place(f"layer-{layer:05}.safetensors")

    def _states(self, slot: int) -> Path:
        return self._place(f"states-{slot}")

    def _place(self, name: str) -> Path:
        if self.folder is None:
            raise ValueError("these states lie in memory")
        return self.folder / name

    def _write(self, batch: int, state: State) -> None:
        try:
            if self._file is None:
                self._file = self._states(1 - self._slot).open("wb")
            parts = [None if part is None else self._append(part) for part in state.parts]
            shared = [[name, key, [self._append(one) for one in own]] for (name, key), own in state.shared.items()]
        except OSError as error:
            raise self._failed(error) from None
        self._written[batch] = [state.single, parts, shared]

    def _append(self, tensor: "torch.Tensor") -> list[Any]:
        """Write a tensor, and return where it lies: [offset, dtype, shape]."""
        import torch

        begin = self._file.tell()
        self._file.write(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
        return [begin, str(tensor.dtype).removeprefix("torch."), list(tensor.shape)]

    def _read(self, entry: list[Any]) -> State:
        single, parts, shared = entry
        try:
            with self._states(self._slot).open("rb") as file:
                return State(
                    tuple(None if part is None else _tensor(file, part) for part in parts),
                    single,
                    {(name, key): tuple(_tensor(file, one) for one in own) for name, key, own in shared},
                )
        except (OSError, ValueError) as error:
            raise OutputError(
                f"the hidden states in {self.folder} cannot be read: {error}. Remove it, and run it again."
            ) from None

    def _swap(self) -> None:
        """Make what was written the file that is whole, and say so."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            size = self._file.tell()
            self.close()
            self._slot, self._index, self._written = 1 - self._slot, self._written, {}
            data = {"key": self._key, "done": self.done, "on_disk": self.on_disk, "slot": self._slot, "size": size,
                    "index": self._index}  # fmt: skip
            put_file(self._place(AT), json.dumps(data).encode())
        except OSError as error:
            raise self._failed(error) from None

    def _failed(self, error: OSError) -> OutputError:
        self.close()
        return OutputError(
            f"the hidden states cannot be written to {self.folder}: {error.strerror}. Make room, or name another place with "
            "`scratch`. Run again, it goes on with the layer at which it stopped."
        )


def _tensor(file: Any, entry: list[Any]) -> "torch.Tensor":
    """Read a tensor where `entry`, [offset, dtype, shape], says."""
    import torch

    begin, name, shape = entry
    dtype = getattr(torch, name)
    data = np.empty(int(np.prod(shape)) * dtype.itemsize, np.uint8)
    file.seek(begin)
    if file.readinto(data.data) != len(data):
        raise ValueError("a file is shorter than it was")
    return torch.from_numpy(data).view(dtype).reshape(shape)


@contextmanager
def scratch_folder(folder: Path) -> Iterator[Path]:
    """Hold a scratch folder for one run, which removes it when it ends well.

    What a killed run left in it stays for `States.resume`. Raises OutputError when another run works in it, when it is no
    folder, and when it cannot be made.
    """
    with _usable(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        holder = holding(folder)
        holder.__enter__()
    try:
        with _usable(folder):
            if folder.is_symlink():
                raise OutputError(f"{folder} is a link. Name another place with `scratch`.")
            folder.mkdir(exist_ok=True)
        yield folder
        with contextlib.suppress(OSError):
            _empty(folder)
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()  # only if nothing is in it
        holder.__exit__(None, None, None)


@contextmanager
def _usable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be used for hidden states: {error.strerror}. Name another place with `scratch`."
        ) from None


def _empty(folder: Path) -> None:
    """Remove what a run of ours leaves in a folder, and nothing else."""
    for path in folder.iterdir():
        if path.name == AT or path.name.startswith((f".{AT}", "states-", "layer-", ".layer-")):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
