"""An adapter in words: what it is, and what the servers that load it have to be told. From the manifest alone."""

from typing import Any

from ...editor.edits.manifest import Manifest
from ...editor.edits.request import VLLM_RANKS
from ...editor.files.companions import ADAPTER_WEIGHTS
from ...editor.files.floats import NAMES


def about(manifest: Manifest) -> dict[str, Any] | None:
    """Return what the card says of an adapter; None for a checkpoint."""
    adapter, base = manifest.adapter, manifest.base
    if adapter is None:
        return None
    return {
        "rank": adapter.rank,
        "weights": adapter.modules,
        "size": size(manifest),
        "dtype": NAMES[adapter.dtype],
        "base": base.model if base.hub else "BASE",
        "known": base.hub,
        "vllm_rank": vllm_rank(adapter.rank),
        "exact": adapter.dtype != "F32" or not manifest.carrier,
        "option": f" --max-rank {adapter.max_rank}" if adapter.max_rank else "",
    }


def size(manifest: Manifest) -> str:
    """Say how large the matrices are: "880 KB", "2.9 MB"."""
    entry = manifest.files.get(ADAPTER_WEIGHTS)
    return in_words(entry.size if entry else 0)


def in_words(count: int) -> str:
    """Return a number of bytes in kilobytes or megabytes."""
    return f"{count / 1e3:,.0f} KB" if count < 1e6 else f"{count / 1e6:,.1f} MB"


def vllm_rank(rank: int) -> int | None:
    """Return the smallest `--max-lora-rank` of vLLM that holds a rank; None where there is none."""
    return next((one for one in VLLM_RANKS if one >= rank), None)
