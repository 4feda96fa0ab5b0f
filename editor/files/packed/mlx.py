"""MLX, as mlx-lm converts models: config.json's "quantization" gives bits and group_size, for all modules or by name.

What has "scales" beside it is quantised, what hasn't is not, as mlx-lm itself decides.
"""

from collections.abc import Mapping
from typing import Any

from ...errors import ModelError
from .matrix import Matrix
from .settings import whole
from .stored import Stored
from .words import Affine

METHODS = ("mlx",)
BITS = (2, 3, 4, 5, 6, 8)


def open_matrix(stored: Stored, settings: Mapping[str, Any]) -> Matrix | None:
    own = settings.get(stored.module, settings)
    if own is False or not stored.has("scales"):
        return None
    if not isinstance(own, Mapping):
        raise ModelError(f"config.json's quantization has {own!r} for {stored.module}, which is no setting.")
    mode = own.get("mode", settings.get("mode", "affine"))
    bits, group = whole(own, "bits", "MLX"), whole(own, "group_size", "MLX")
    if mode != "affine" or bits not in BITS or group <= 0:
        raise ModelError(
            f"{stored.module} is in MLX's mode {mode!r} with {bits} bits and groups of {group}; monoglot edits affine with "
            f"{', '.join(map(str, BITS))} bits. Convert the original in that."
        )
    return Affine(stored, bits, group)
