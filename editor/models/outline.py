"""A model on the Hub without its weights: what can be learned from the headers of its files.

Configs are downloaded as ever. Each weight file becomes a sparse file of the same length that holds its header, asked for by
range; every other file an empty one of its length. To whoever reads headers it is the model, for some hundred kilobytes a
shard. Of the files that its identity is made of the Hub knows the sha256, where they are large; small ones are read whole.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from ..certificates import check_certificates
from ..errors import CheckpointError, ModelError, reason_of
from ..files.checkpoint import CONFIG, INDEX, MAX_HEADER, SINGLE, parse_json
from ..files.fingerprint import GENERATION, is_text
from ..files.hashes import DIGEST
from ..files.kinds import FILE as MANIFEST
from .source import Source, fetch

SMALL = (
    CONFIG, INDEX, MANIFEST, GENERATION, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "chat_template.jinja", "chat_template.json",
)  # fmt: skip
FIRST = 2**17  # bytes of a file that are asked for at once: most headers are smaller
THREADS = 8
PIECE = 2**22  # bytes that are asked for at once of a file that is read whole
SECONDS = 30  # that a server may be silent

Read = Callable[[int, int], bytes]  # first byte, how many


@contextmanager
def outlined(model: str) -> Iterator[Source]:
    """Yield the outline of a Hub model (`org/name`, `org/name@revision`) in a folder that lasts as long as the block.

    It is the model itself where its weights were downloaded before. Raises ModelError as `resolve` does, and CheckpointError
    when a header can't be one.
    """
    name = model.partition("@")[0]
    folder = fetch(model, SMALL)
    commit = folder.name
    if any(folder.glob("*.safetensors")):
        yield Source(folder, name, commit, hub=True)
        return
    sizes, hashes = _listed(name, commit)
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
            shards = _shards(folder, sizes)
            for file in shards:
                _sketch(outline / file, sizes[file], _reader(name, commit, file))
            told = [file for file in sizes if file in shards or (is_text(file) and not (folder / file).is_file())]
            unknown = [file for file in told if file not in hashes]
            read = pool.map(lambda file: _hash(_reader(name, commit, file), sizes[file]), unknown)
            known = {**{file: hashes[file] for file in told if file in hashes}, **dict(zip(unknown, read, strict=True))}
        yield Source(outline, name, commit, hub=True, hashes=known)


def _shards(folder: Path, sizes: dict[str, int]) -> list[str]:
    """List the names of the weight files that are there."""
    if not (folder / INDEX).is_file():
        return [SINGLE] if SINGLE in sizes else []
    index = parse_json((folder / INDEX).read_bytes(), str(folder / INDEX))
    places = index.get("weight_map") if isinstance(index, dict) else None
    named = {place for place in places.values() if isinstance(place, str)} if isinstance(places, dict) else set()
    return sorted(named & sizes.keys())


def _sketch(path: Path, size: int, read: Read) -> None:
    """Fill in the header of a sparse file."""
    first = read(0, min(FIRST, size))
    start = 8 + int.from_bytes(first[:8], "little")
    if start > min(size, MAX_HEADER + 8):
        raise CheckpointError(f"the header of {path.name} does not fit in it. It is no safetensors file, or damaged.")
    if start > len(first):
        first += read(len(first), start - len(first))
    with path.open("r+b") as file:
        file.write(first)


def _hash(read: Read, size: int) -> str:
    """Read a file piece by piece for its sha256: one that the Hub keeps no hash of, as it is small."""
    digest = hashlib.sha256()
    for begin in range(0, size, PIECE):
        digest.update(read(begin, min(PIECE, size - begin)))
    return digest.hexdigest()


def _listed(name: str, commit: str) -> tuple[dict[str, int], dict[str, str]]:
    """Give the sizes in bytes of the files of a Hub model, and the sha256 of those that are large enough to have one."""
    from huggingface_hub import HfApi

    check_certificates(ModelError)
    try:
        listed = HfApi().model_info(name, revision=commit, files_metadata=True).siblings or []
    except Exception as error:  # of the hub's client and of the HTTP library under it, whichever that is
        raise _unreachable(name, error) from None
    inside = [file for file in listed if not {"..", "/"} & set(PurePosixPath(file.rfilename).parts)]
    large = {file.rfilename: getattr(getattr(file, "lfs", None), "sha256", None) for file in inside}
    return (
        {file.rfilename: int(file.size or 0) for file in inside},
        {name: digest for name, digest in large.items() if isinstance(digest, str) and DIGEST.fullmatch(digest)},
    )


def _reader(name: str, commit: str, file: str) -> Read:
    """Return a function that reads parts of a file on the Hub."""
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
    reason = reason_of(error)
    return ModelError(f"the headers of {name} could not be read from the Hub ({reason}). Run it again.")
