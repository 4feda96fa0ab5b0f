"""Where a model comes from: a folder, a Hub id (`org/name`, or `org/name@revision`), or the embedded default.

`resolve` turns what a person wrote into a folder on disk and remembers what may be told about it elsewhere: for a Hub
model its id and commit, for a folder only its last name, never the path.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .. import embedded
from ..certificates import check_certificates
from ..errors import ModelError, reason_of
from ..files import kinds
from ..files.gguf import is_gguf

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?(@\w[\w./-]*)?")
CACHED = re.compile(r"models--(?P<id>.+)")

# What of a Hub repository is fetched: everything that `bake` would copy, no pickles and no other formats.
IGNORED = (
    "*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack", "*.gguf", "*.onnx", "*.onnx_data", "*.tflite", "*.ot",
    "*.mlmodel", "*.mlpackage", "onnx/*", "openvino/*", "original/*", "coreml/*", "runs/*", "consolidated*.safetensors",
)  # fmt: skip


@dataclass(frozen=True)
class Source:
    """A model on disk. `name` is a Hub id or a folder's last name; `revision` is a commit of the Hub, or None.

    `hashes` are the sha256 of files of which only an outline is there (see `outline`), by their names.
    """

    folder: Path
    name: str
    revision: str | None
    hub: bool
    hashes: Mapping[str, str] = field(default_factory=dict)


def resolve(model: str, base_id: str | None = None) -> Source:
    """Find or download a model. `base_id` is the Hub id to call a folder's model by.

    Raises ModelError when there is no such folder or Hub model, when it is gated, and when there is no network.
    """
    if base_id:
        if not HUB_ID.fullmatch(base_id) or "@" in base_id:
            raise ModelError(f"{base_id!r} is not the id of a Hub model (organisation/name).")
        found = resolve(model)
        return found if found.hub else Source(found.folder, base_id, None, hub=True)
    folder = Path(os.path.expanduser(model))  # noqa: PTH111  # Path.expanduser fails on an unknown user
    try:
        if folder.is_dir():
            return _from_folder(folder.resolve())
    except OSError:  # a name that no folder can have: too long
        pass
    if model == embedded.NAME:
        return Source(embedded.MODEL, embedded.NAME, None, hub=False)
    if is_gguf(model):
        if not folder.is_file():
            raise ModelError(f"there is no file {model}.")
        raise ModelError(
            f"{model} is a GGUF file. Use the safetensors checkpoint of the model's original repository here. To switch a "
            f"language off in the file itself: monoglot bake {model} neurons.json --deactivate zh -o OUT.gguf"
        )
    if os.path.isfile(folder):  # noqa: PTH113  # Path.is_file fails on a name that is too long
        raise ModelError(
            kinds.instead(folder, "weights")
            or f"{model} is a file. Give the folder that holds it, with its config.json."
        )
    if not HUB_ID.fullmatch(model) or model.count("..") or folder.is_absolute():
        raise ModelError(f"there is no folder {model}, and it is not the id of a Hub model (organisation/name).")
    return _from_hub(*model.partition("@")[::2])


def _from_folder(folder: Path) -> Source:
    if not folder.name.isprintable():
        raise ModelError(f"the folder's name {folder.name!r} is not one that a model card can hold. Rename it.")
    cached = CACHED.fullmatch(folder.parent.parent.name) if folder.parent.name == "snapshots" else None
    if cached:
        return Source(folder, cached["id"].replace("--", "/"), folder.name, hub=True)
    return Source(folder, folder.name, None, hub=False)


def on_hub(model: str) -> bool:
    """Whether `resolve` would look for it on the Hub."""
    known = os.path.isdir(model) or model == embedded.NAME  # noqa: PTH112  # Path.is_dir fails on a name that is too long
    return not known and bool(HUB_ID.fullmatch(model)) and ".." not in model and not model.endswith(".gguf")


def fetch(checkpoint: str, only: Sequence[str]) -> Path:
    """Return the folder of a checkpoint; for one on the Hub, a folder with those of its files that match `only`.

    Raises ModelError as `resolve` does.
    """
    if not on_hub(checkpoint):
        return resolve(checkpoint).folder
    return _from_hub(*checkpoint.partition("@")[::2], only).folder


def _from_hub(model_id: str, revision: str, only: Sequence[str] | None = None) -> Source:
    try:  # the library reads its settings from the environment when it is imported
        from huggingface_hub import constants, snapshot_download
        from huggingface_hub.errors import (
            GatedRepoError,
            HfHubHTTPError,
            HFValidationError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )
    except (ImportError, ValueError) as error:
        raise ModelError(_unusable(error)) from None
    if not constants.HF_HUB_OFFLINE:
        check_certificates(ModelError)
    try:
        folder = snapshot_download(
            model_id, revision=revision or None, allow_patterns=only and list(only), ignore_patterns=list(IGNORED)
        )
    except GatedRepoError:
        raise ModelError(
            f"{model_id} is gated: accept its terms at https://huggingface.co/{model_id}, then run `hf auth login`."
        ) from None
    except RevisionNotFoundError:
        raise ModelError(f"{model_id} has no revision {revision!r} on the Hub.") from None
    except (RepositoryNotFoundError, HFValidationError):
        raise ModelError(
            f"there is no folder {model_id!r} here and no model of that id on the Hub "
            "(or it is private: run `hf auth login`)."
        ) from None
    except LocalEntryNotFoundError:
        raise ModelError(
            f"there is no folder {model_id!r} here, and the Hub could not be reached. Check the network "
            "(and HF_HUB_OFFLINE), or give the folder of a downloaded model."
        ) from None
    except (
        FileNotFoundError,
        ValueError,
    ) as error:  # certificates that are not there; an address or a proxy that is none
        raise ModelError(_unusable(error)) from None
    except (HfHubHTTPError, OSError, RuntimeError) as error:
        reason = reason_of(error)
        raise ModelError(
            f"downloading {model_id} failed ({reason}). Run it again: it goes on where it stopped."
        ) from None
    except Exception as error:  # an address, a token or a proxy that is none: each library below raises its own
        raise ModelError(_unusable(error)) from None
    return Source(Path(folder), model_id, Path(folder).name, hub=True)


def _unusable(error: Exception) -> str:
    """Say that the settings for the Hub are wrong, with the library's own reason."""
    reason = reason_of(error)
    return (
        f"the Hub cannot be asked with the settings of this environment ({reason}). Look at HF_ENDPOINT, HF_TOKEN, the other "
        "HF_ variables, the proxies (ALL_PROXY, HTTPS_PROXY) and SSL_CERT_FILE, or give the folder of a downloaded model."
    )


def resolve_base(name: str, revision: str | None, hub: bool, named: str | None, *, beside: Path) -> Source:
    """Find the base of a checkpoint.

    It is the one that is `named`, else the one that its manifest calls `name`, looked for as a folder beside the
    checkpoint or here, then on the Hub.
    """
    if named:
        return resolve(named)
    if hub:
        return resolve(f"{name}@{revision}" if revision else name)
    for folder in (beside.absolute().parent / name, Path(name)):
        if folder.is_dir() and Path(name).name == name:
            return resolve(str(folder))
    if name == embedded.NAME:
        return resolve(name)
    raise ModelError(f"the base of this checkpoint was a folder called {name}. Say where it is with `base`.")
