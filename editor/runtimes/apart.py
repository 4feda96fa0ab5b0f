"""What a runtime is given: a folder without code, and an environment without secrets.

A checkpoint is made by anyone. Runtimes and converters are large programs, and some of them run the Python that lies in a
model's folder without being asked. So a runtime never sees that folder. It sees a view: links to the weights and to the
files that belong to a model (see `files.companions`), no `*.py`, and JSON files without `auto_map`, the key that names code.

The environment has only what a runtime needs to run: where programs and libraries are, the language of messages, and the
settings of processors and of the runtimes themselves. Tokens, keys and passwords stay out, even under such a name. HOME is
an empty folder, as tokens lie in the real one, and nothing is fetched.

What runs in the worker refuses code from the view as well (see `adapters.worker`).
"""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import MonoglotError, RunError
from ..files import card_text
from ..files.beside import beside
from ..files.checkpoint import INDEX, parse_json, read_checkpoint
from ..files.companions import check_link

CODE_KEY = "auto_map"
VOCABULARIES = (INDEX, "tokenizer.json", "vocab.json", "added_tokens.json", "tekken.json")  # any key is a word there
CARD = "README.md"  # converters copy its licence and its name into what they write
LARGEST_CARD = 2**20  # bytes

KEPT = frozenset(
    """
    PATH LANG LANGUAGE TZ TMPDIR TEMP TMP LD_LIBRARY_PATH LD_PRELOAD DYLD_LIBRARY_PATH DYLD_FALLBACK_LIBRARY_PATH
    CC CXX SYSTEMROOT
    """.split()  # noqa: SIM905  # a list of words
)
KEPT_FAMILIES = (
    "LC_",
    # processors
    "CUDA_", "NVIDIA_", "NCCL_", "ROCR_", "ROCM_", "HIP_", "HSA_", "ZE_", "SYCL_", "ONEAPI_", "OCL_",
    # libraries for arithmetic
    "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "BLIS_", "VECLIB_", "NUMEXPR_", "RAYON_", "MALLOC_",
    # runtimes
    "TORCH_", "TORCHINDUCTOR_", "PYTORCH_", "TRITON_", "VLLM_", "MISTRALRS_", "GGML_", "LLAMA_", "CT2_", "ORT_", "OV_",
    "OPENVINO_", "MLX_",
)  # fmt: skip
SECRET = re.compile(r"TOKEN|KEY|SECRET|PASS(WORD|WD|PHRASE)?|CREDENTIALS?|AUTH", re.IGNORECASE)


def environment(scratch: Path, given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a runtime that works in the folder `scratch`: what it needs of `given` (of this process)."""
    home = scratch / "home"
    home.mkdir(exist_ok=True)
    kept = {name: value for name, value in (os.environ if given is None else given).items() if _harmless(name)}
    return {
        **kept,
        "HOME": str(home),
        "HF_HOME": str(home / "huggingface"),
        "HF_HUB_OFFLINE": "1",  # a folder is given, and nothing is to be fetched
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
    }


def _harmless(name: str) -> bool:
    words = name.split("_")
    return (name in KEPT or name.startswith(KEPT_FAMILIES)) and not any(SECRET.fullmatch(word) for word in words)


def view(folder: Path, place: Path) -> Path:
    """Make a view of a checkpoint's folder at `place`, which holds no code, and return it.

    Raises RunError for a folder that is no checkpoint, and for files that are not what their names say.
    """
    try:
        checkpoint = read_checkpoint(folder, quantised=True)
        along = beside(checkpoint).along
    except MonoglotError as error:
        raise RunError(f"{folder} is not given to a runtime: {error}") from None
    place.mkdir(parents=True)
    for name in [*sorted(checkpoint.files), *along]:
        if name.endswith(".py"):
            continue
        source, link = folder / name, place / name
        link.parent.mkdir(parents=True, exist_ok=True)
        if (text := _without_code(source)) is not None:
            link.write_text(text, encoding="utf-8")
        else:
            link.symlink_to(source.resolve())
    if _readable_card(folder):
        (place / CARD).symlink_to((folder / CARD).resolve())
    return place


def _without_code(path: Path) -> str | None:
    """Return a JSON file's text without the keys that name code; None where it has none."""
    if path.suffix != ".json" or path.name in VOCABULARIES:
        return None
    try:
        parsed = parse_json(path.read_bytes(), str(path))
    except MonoglotError as error:
        raise RunError(f"the model is not given to a runtime: {error}") from None
    cleaned = _cleaned(parsed)
    return None if cleaned == parsed else json.dumps(cleaned, ensure_ascii=False, indent=2)


def _cleaned(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _cleaned(part) for key, part in value.items() if key != CODE_KEY}
    return [_cleaned(part) for part in value] if isinstance(value, list) else value


def _readable_card(folder: Path) -> bool:
    """Tell whether a folder has a card of its own whose metadata any program can read."""
    card = folder / CARD
    try:
        check_link(card, folder)
        if not card.is_file() or card.stat().st_size > LARGEST_CARD:
            return False
        card_text.split(card.read_text(encoding="utf-8"))
    except (MonoglotError, OSError, ValueError):
        return False
    return True
