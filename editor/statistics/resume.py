"""What a run of `collect` has so far, in memory and in a file, so that an interrupted one goes on where it stopped."""

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from ..errors import MalformedError, OutputError, StatisticsError
from ..files import json_text, schema
from ..files.output import replace_file
from ..files.schema import Count

FORMAT = 1
SAVE_SECONDS = 20.0

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class _State:
    """What the metadata of a file says."""

    format: int
    key: str
    done: dict[str, Count]
    batch_tokens: int


class Resume:
    """Per language the contexts done, and the sums so far, and where to keep them.

    `sums` are arrays of zeros, which are added to in place: `{language}.{kind}` of one language, others of all. `key`
    says what they are of; a file with another key, or one that can't be read, is ignored. Memory for them is needed
    once more while they are saved. Raises StatisticsError for a file of another format: what another version began is not
    thrown away unasked.
    """

    def __init__(
        self, path: Path | None, key: dict[str, Any], languages: Iterable[str], sums: Arrays, batch_tokens: int
    ) -> None:
        self.path = path
        self.key = json.dumps(key, sort_keys=True)
        self.batch_tokens = batch_tokens  # what a batch may hold; halved when memory runs out
        self.done = dict.fromkeys(languages, 0)
        self.sums = sums
        self.saved, self.cost = time.monotonic(), 0.0
        if path and path.is_file():
            self._load(path)

    def _load(self, path: Path) -> None:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                data = schema.mapping(json_text.parse((file.metadata() or {})["state"].encode()), "")
                if data.get("format") != FORMAT:
                    raise StatisticsError(
                        f"{path}, where an earlier run stopped, has format {data.get('format')!r}, this version reads "
                        f"{FORMAT}. Finish that run with the version that began it, or delete the file to begin anew."
                    )
                state = schema.read(_State, data)
                if state.key != self.key or state.done.keys() != self.done.keys():
                    return
                sums = {name: file.get_tensor(name) for name in self._begun(state.done)}
        except (SafetensorError, MalformedError, KeyError, ValueError, OSError):
            return
        forms = (
            (array.dtype, array.shape, self.sums[name].dtype, self.sums[name].shape) for name, array in sums.items()
        )
        if any((dtype, shape) != (own, size) for dtype, shape, own, size in forms):
            return
        # only now that all of it could be read: half a state would count the other half twice
        self.sums |= sums
        self.done, self.batch_tokens = state.done, state.batch_tokens

    def _begun(self, done: dict[str, int]) -> list[str]:
        """Return the names of the sums that are not all zeros."""
        begun = {language for language, contexts in done.items() if contexts}
        return [name for name in self.sums if (of := name.rpartition(".")[0]) not in done or of in begun]

    def due(self) -> bool:
        """Every 20 s, or less often where saving takes long: it may cost a twentieth of the time."""
        return self.path is not None and time.monotonic() - self.saved >= max(SAVE_SECONDS, 20 * self.cost)

    def save(self) -> None:
        from safetensors.numpy import save as serialise

        if self.path is None:
            return
        started = time.monotonic()
        arrays = {name: self.sums[name] for name in self._begun(self.done)}
        state = {"format": FORMAT, "key": self.key, "done": self.done, "batch_tokens": self.batch_tokens}
        try:
            replace_file(self.path, serialise(arrays, metadata={"state": json.dumps(state)}))
        except OutputError:
            self.path = None  # progress that can't be kept must not end the run
        self.saved = time.monotonic()
        self.cost = self.saved - started

    def remove(self) -> None:
        if self.path:
            self.path.unlink(missing_ok=True)
