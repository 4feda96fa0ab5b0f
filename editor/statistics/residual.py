"""What is known of a model's residual stream: the mean after each layer on text in each language.

μ^l_k    the mean of the residual stream after layer l over tokens of language k, the first of each context left out
r^l      the mean over tokens of the root mean square of what the layer's feed-forward network puts out
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Residual:
    """`centres`, float32 (languages, layers, d), in the vocabulary's order of languages; `rms`, float64 (layers,)."""

    centres: Float32
    rms: Float64

    def check(self, languages: int, hidden: int | None) -> None:
        """Raise ValueError where that can't be what was recorded of so many languages."""
        shape = self.centres.shape
        if (
            self.centres.dtype != np.float32
            or len(shape) != 3
            or shape[0] != languages
            or shape[2] != (hidden or shape[2])
        ):
            raise ValueError("the centres after the layers have another shape than they should")
        if self.rms.dtype != np.float64 or self.rms.shape != shape[1:2]:
            raise ValueError("there is not one size of the networks' output for each layer")
        if not np.isfinite(self.centres).all() or not (np.isfinite(self.rms).all() and (self.rms > 0).all()):
            raise ValueError("the centres after the layers hold NaN or infinity, or a network puts out nothing")

    @property
    def layers(self) -> int:
        return int(self.centres.shape[1])

    def vector(self, language: int, layer: int) -> Float64:
        """Return a language's vector after a layer: its centre, less the mean of the others', float64 (d,)."""
        centres = self.centres[:, layer].astype(np.float64)
        others = np.delete(centres, language, axis=0)
        found: Float64 = centres[language] - others.mean(axis=0)
        return found
