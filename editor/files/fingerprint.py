"""What a model is, as one sha256: of every byte that bears on what it computes, and of nothing else.

    weights     the sha256 of every weight file, headers included, whatever the files are called. Nothing is sampled. The
                same tensors in other shards are another model: their hashes are those that the Hub knows too
    config      config.json and generation_config.json as data, so that layout and the order of keys don't count, without the
                keys of `SAYS_NOTHING`, which tell who wrote the file and change no number
    text        the bytes of the tokenizer's files and of the chat templates

Statistics, calibrations, neurons, recipes, manifests and findings hold it. Those of versions that looked at sixteen blocks of
each file only (`sampled`) can be read, and are taken for another model's: that they are this one's is not certain.
"""

import hashlib
import json
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from .checkpoint import CONFIG, Checkpoint, parse_json
from .hashes import file_hashes

GENERATION = "generation_config.json"
SAYS_NOTHING = ("_name_or_path", "_commit_hash", "transformers_version", "use_cache")
TEXT = (
    "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges*", "*.model", "*.tiktoken", "*.bpe",
    "tekken*.json", "chat_template*", "additional_chat_templates/*",
)  # fmt: skip

SAMPLES = 16
SAMPLE_BYTES = 4096


def fingerprint(checkpoint: Checkpoint, known: Mapping[str, str] | None = None) -> str:
    """Identify a model by all that bears on its results, as a hex sha256.

    `known` has the sha256 of files whose content is not there, by their names, as in the outline of a model on the Hub.
    Raises CheckpointError when a file cannot be read.
    """
    known = known or {}
    folder = checkpoint.folder
    names = [shard.path.name for shard in checkpoint.shards]
    text = text_files(folder)
    unknown = [name for name in (*names, *text) if name not in known]
    hashes = {**known, **dict(zip(unknown, file_hashes(folder / name for name in unknown), strict=True))}
    try:
        identity = {
            "weights": sorted(hashes[name] for name in names),
            CONFIG: _telling(checkpoint.config),
            GENERATION: _telling(_generation(folder)),
            "text": {name: hashes[name] for name in text},
        }
        written = json.dumps(identity, sort_keys=True)
    except RecursionError:
        raise CheckpointError(f"a config in {folder} is nested too deeply. Download it again.") from None
    return hashlib.sha256(written.encode()).hexdigest()


def text_files(folder: Path) -> list[str]:
    """Name the files of a model's folder that say how text becomes tokens and messages become text."""
    found = [*folder.iterdir(), *(folder / "additional_chat_templates").glob("*")]
    names = (path.relative_to(folder).as_posix() for path in found if path.is_file())
    return sorted(name for name in names if is_text(name))


def is_text(name: str) -> bool:
    """Whether a file of a model, by its name in the folder, belongs to its tokenizer or is a chat template."""
    return any(fnmatch(name, pattern) for pattern in TEXT) and ("/" not in name or name.startswith("additional_"))


def _generation(folder: Path) -> Any:
    path = folder / GENERATION
    return parse_json(path.read_bytes(), str(path)) if path.is_file() else None


def _telling(value: Any) -> Any:
    """Return data without the keys that say nothing about the model."""
    if isinstance(value, dict):
        return {key: _telling(inner) for key, inner in value.items() if key not in SAYS_NOTHING}
    return [_telling(inner) for inner in value] if isinstance(value, list) else value


def sampled(checkpoint: Checkpoint) -> str:
    """Give the fingerprint as earlier versions made it: of every shard's header and 16 blocks of 4 KiB of its data."""
    digest = hashlib.sha256()
    for shard in checkpoint.shards:
        digest.update(shard.header)
        start = len(shard.header)
        with shard.path.open("rb") as file:
            for sample in range(SAMPLES):
                file.seek(start + (shard.size - start) * sample // SAMPLES)
                digest.update(file.read(SAMPLE_BYTES))
    return digest.hexdigest()
