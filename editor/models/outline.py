"""The outline of a model on the Hub: everything that headers tell, without its weights.

Configs are downloaded as ever. Each weight file becomes a sparse file of the same length that holds its header and the
blocks that `fingerprint` samples, asked for by range; every other file an empty one of its length. To whoever reads headers
it is the model, for some hundred kilobytes a shard.
"""

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from ..errors import CheckpointError, ModelError
from ..files.checkpoint import CONFIG, INDEX, MAX_HEADER, SAMPLE_BYTES, SAMPLES, SINGLE, parse_json
from ..files.kinds import FILE as MANIFEST
from .source import Source, fetch

SMALL = (CONFIG, INDEX, MANIFEST, "tokenizer_config.json", "chat_template.jinja", "chat_template.json")
FIRST = 2**17  # bytes of a file that are asked for at once: most headers are smaller
THREADS = 8
SECONDS = 30  # that a server may be silent

Read = Callable[[int, int], bytes]  # first byte, how many


@contextmanager
def outlined(model: str) -> Iterator[Source]:
    """The outline of a Hub model (`org/name`, `org/name@revision`) in a folder that lasts as long as the block; the model
    itself where its weights were downloaded before.

    Raises ModelError as `resolve` does, and CheckpointError when a header can't be one.
    """
    name = model.partition("@")[0]
    folder = fetch(model, SMALL)
    commit = folder.name
    if any(folder.glob("*.safetensors")):
        yield Source(folder, name, commit, hub=True)
        return
    sizes = _sizes(name, commit)
    with TemporaryDirectory() as scratch:
        outline = Path(scratch) / name.rpartition("/")[2]
        for file, size in sizes.items():
            path = outline / file
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as empty:
                empty.truncate(size)
        for file in SMALL:
            if (folder / file).is_file():
                shutil.copyfile(folder / file, outline / file)
        with ThreadPoolExecutor(THREADS) as pool:
            for file in _shards(folder, sizes):
                _sketch(outline / file, sizes[file], _reader(name, commit, file), pool)
        yield Source(outline, name, commit, hub=True)


def _shards(folder: Path, sizes: dict[str, int]) -> list[str]:
    """The names of the weight files that are there."""
    if not (folder / INDEX).is_file():
        return [SINGLE] if SINGLE in sizes else []
    index = parse_json((folder / INDEX).read_bytes(), str(folder / INDEX))
    places = index.get("weight_map") if isinstance(index, dict) else None
    named = {place for place in places.values() if isinstance(place, str)} if isinstance(places, dict) else set()
    return sorted(named & sizes.keys())


def _sketch(path: Path, size: int, read: Read, pool: ThreadPoolExecutor) -> None:
    """Fill in the header of a sparse file, and the blocks that a fingerprint is made of."""
    first = read(0, min(FIRST, size))
    start = 8 + int.from_bytes(first[:8], "little")
    if start > min(size, MAX_HEADER + 8):
        raise CheckpointError(f"the header of {path.name} does not fit in it. It is no safetensors file, or damaged.")
    if start > len(first):
        first += read(len(first), start - len(first))
    ranges = [(begin, min(SAMPLE_BYTES, size - begin)) for begin in _samples(start, size)]
    blocks = pool.map(lambda span: read(*span) if span[1] else b"", ranges)
    with path.open("r+b") as file:
        file.write(first)
        for (begin, _), block in zip(ranges, blocks, strict=True):
            file.seek(begin)
            file.write(block)


def _samples(start: int, size: int) -> list[int]:
    """Where the blocks begin that `checkpoint.fingerprint` reads."""
    return [start + (size - start) * sample // SAMPLES for sample in range(SAMPLES)]


def _sizes(name: str, commit: str) -> dict[str, int]:
    """The files of a Hub model and their sizes in bytes."""
    from huggingface_hub import HfApi

    try:
        listed = HfApi().model_info(name, revision=commit, files_metadata=True).siblings or []
    except Exception as error:  # of the hub's client and of the HTTP library under it, whichever that is
        raise _unreachable(name, error) from None
    return {
        file.rfilename: int(file.size or 0)
        for file in listed
        if not {"..", "/"} & set(PurePosixPath(file.rfilename).parts)
    }


def _reader(name: str, commit: str, file: str) -> Read:
    """Reads parts of a file on the Hub."""
    from huggingface_hub import get_session, hf_hub_url
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

    url = hf_hub_url(name, file, revision=commit)

    def read(begin: int, count: int) -> bytes:
        span = {"range": f"bytes={begin}-{begin + count - 1}"}
        try:
            response = get_session().get(url, headers={**build_hf_headers(), **span}, timeout=SECONDS)
            hf_raise_for_status(response)
        except Exception as error:
            raise _unreachable(name, error) from None
        data = bytes(response.content)
        if response.status_code != 206 or len(data) != count:
            raise ModelError(f"the Hub did not give the part of {file} that was asked for. Download {name} first.")
        return data

    return read


def _unreachable(name: str, error: Any) -> ModelError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return ModelError(f"the headers of {name} could not be read from the Hub ({reason}). Run it again.")
