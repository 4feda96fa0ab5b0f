"""The files beside a checkpoint's weights: which belong to the model, and which merely lie there.

A file comes along for what it is: config, tokenizer, processor, generation settings, chat templates, licence, and code where
the config names some. Logs, the state of a training, other weights and indices of weights that stay behind are left behind,
and listed.

Nothing is taken for the model's that is not: a pointer of Git LFS or a web page in place of a file, an adapter beside the
model (transformers would load it too), and a link that leads out of the folder are errors. Only links into the folder itself
and into the `blobs` of the Hub's cache are followed.
"""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, ModelError

MODEL = (
    "config.json", "generation_config.json", "*_config.json", "configuration.json", "*.jinja", "chat_template.json",
    "quantize_config.json", "quant_config.json", "params.json", "model_index.json",
)  # fmt: skip
TOKENIZER = (
    "tokenizer.json", "tokenizer.model", "tokenizer.model.v*", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "normalizer.json", "vocab.json", "vocab.txt", "merges.txt", "spiece.model", "*.spm", "*bpe.model",
    "vocab.bpe", "*.tiktoken", "tekken.json", "*.vocab", "bpe.codes", "dict.txt", "emoji.json",
)  # fmt: skip
LICENCE = (  # in any case
    "licen[cs]e*", "*[ _-]licen[cs]e*", "copying*", "copyright*", "notice*", "*use_policy*", "*terms[ _-]of[ _-]use*",
    "eula*",
)  # fmt: skip
IN_FOLDERS = ("chat_templates/*.jinja", "additional_chat_templates/*.jinja", "tokenizer/*", "processor/*")
NOT_THE_MODELS = ("adapter_config.json", "trainer_config.json", "training_config.json", "wandb_config.json")
CODE = "*.py"
ADAPTER, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
POINTER, PAGES = b"version https://git-lfs", (b"<!doctype html", b"<html", b"<?xml")
SMALL = 2**20  # bytes; of a larger file only the ends are looked at
SERVERS_WORDS = {"error", "errors", "message", "status", "code"}  # what a server says instead of a file


@dataclass(frozen=True)
class Companions:
    """Names of files, relative to the checkpoint's folder: those that come along, and those that are left behind."""

    along: tuple[str, ...]
    left_behind: tuple[str, ...]

    @property
    def licences(self) -> tuple[str, ...]:
        """What of it says under which terms the model is."""
        return tuple(name for name in self.along if "/" not in name and _matches(name.lower(), LICENCE))


def companions(folder: Path, config: dict[str, Any], weights: set[str]) -> Companions:
    """Choose what comes along with a checkpoint; `weights` are the names of its shards and their index, and of no concern.

    Raises ModelError for an adapter beside the model, CheckpointError for a link that leads out of the folder, or to
    nothing, and for a pointer or a web page in place of a file.
    """
    along, left_behind = [], []
    for name in sorted(_names(folder)):
        if name in weights:
            continue
        path = folder / name
        if path.is_symlink() and not path.exists():
            raise CheckpointError(
                f"{path} is a link to a file that is not there. Download the model again, or remove it."
            )
        if not name.isprintable():
            raise CheckpointError(f"{folder} holds a file with an unprintable name, {name!r}. Rename it.")
        if not path.is_file():
            continue
        if _belongs(name, config):
            check_link(path, folder)
            check_content(path)
            if path.suffix == ".json":
                check_json(path)
            along.append(name)
        else:
            left_behind.append(name)
    return Companions(tuple(along), tuple(left_behind))


def check_no_adapter(folder: Path) -> None:
    """Raise ModelError for an adapter in place of a model, or beside it: what transformers loads is then both."""
    if (folder / ADAPTER).is_file() and not (folder / "config.json").is_file():
        raise ModelError(
            f"{folder} is an adapter ({ADAPTER}), not a model. Name the model that it is for, its base; what monoglot made, "
            "`monoglot verify` and `monoglot evaluate` take."
        )
    if (folder / ADAPTER).is_file() and any(folder.glob("model*.safetensors*")):
        raise ModelError(
            f"{folder} holds an adapter beside the model ({ADAPTER}), which transformers loads too where peft is installed. "
            "Merge it into the weights first (peft: merge_and_unload), or move it out of the folder."
        )


def check_link(path: Path, folder: Path) -> None:
    """Raise CheckpointError for a link that leads out of a checkpoint's folder and of the Hub cache's blobs."""
    real = Path(os.path.realpath(path))
    home = Path(os.path.realpath(folder))
    allowed = (home, home.parent / "blobs", home.parent.parent / "blobs")
    if not any(real.is_relative_to(place) for place in allowed):
        raise CheckpointError(
            f"{path} is a link that leads out of the model's folder, to {real}. Put the file itself there, or "
            "remove the link."
        )


def _names(folder: Path) -> Iterator[str]:
    """Yield the names of files and links at any depth, without hidden ones; folders that are links are not entered."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        linked = [name for name in folders if (Path(place) / name).is_symlink()]
        for name in [*files, *linked]:
            if not name.startswith("."):
                yield (Path(place) / name).relative_to(folder).as_posix()


def _belongs(name: str, config: dict[str, Any]) -> bool:
    if "/" in name:
        return _matches(name, IN_FOLDERS)
    if fnmatch(name, CODE):
        return _names_code(config)
    return name not in NOT_THE_MODELS and (_matches(name, (*MODEL, *TOKENIZER)) or _matches(name.lower(), LICENCE))


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _names_code(config: Any) -> bool:
    """Tell whether a config names classes of its own, in itself or in a part."""
    if not isinstance(config, dict):
        return False
    return bool(config.get("auto_map")) or any(_names_code(part) for part in config.values())


def check_content(path: Path) -> None:
    """Raise CheckpointError for a pointer of Git LFS, or a web page, in place of a file."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        start = file.read(64).lstrip().lower()
    if start.startswith(POINTER):
        raise CheckpointError(f"{path} is a Git LFS pointer, not the file itself. Fetch them with `git lfs pull`.")
    if start.startswith(PAGES):
        raise CheckpointError(f"{path} is a web page, not the file itself. Download it again.")


def check_json(path: Path) -> None:
    """Raise CheckpointError for a file that is no JSON by its content, such as an empty one, or a server's refusal."""
    if path.stat().st_size > SMALL:
        with path.open("rb") as file:
            start = file.read(64).lstrip()[:1]
            file.seek(-64, os.SEEK_END)
            right = (start, file.read().rstrip()[-1:]) in ((b"{", b"}"), (b"[", b"]"))
        if not right:
            raise CheckpointError(f"{path} is not valid JSON: it has no end. Download the file again.")
        return
    try:
        data = json.loads(path.read_bytes())
    except RecursionError:  # whoever reads it says so
        return
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}). Download the file again.") from None
    if isinstance(data, dict) and "error" in data and data.keys() <= SERVERS_WORDS:
        raise CheckpointError(f"{path} is a server's refusal, not the file itself. Download it again.")
