"""What a model's output table is given on text in each language: for an edit of a table that a model also writes with.

With h the final hidden state at a position, the logit of token t is h·e_t (and what some families do to it). A change δ_t of
its row changes the logit by h·δ_t. The mean of h is the direction in which every position is large, so a δ_t without it
hardly moves a logit; what it moves still is measured on a sample of held-out positions.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

PARTS = ("mean", "states", "language", "targets", "losses")


@dataclass(frozen=True)
class Outputs:
    """What the output table is given.

    `mean`, float64 (d,), over positions of each language's text, all languages weighing alike. Of a sample of held-out
    positions: `states`, float32 (n, d); the number of each one's `language` among the vocabulary's, and the next token,
    `targets`, int64 (n,); and −ln P of that in nats by the model, `losses`, float64 (n,).
    """

    mean: Float64
    states: Float32
    language: Int64
    targets: Int64
    losses: Float64

    def check(self, rows: int, hidden: int, languages: int) -> None:
        """Raise ValueError where that can't be what was recorded of a table of so many rows."""
        n = len(self.states)
        kinds = (
            (self.mean, np.float64, (hidden,)), (self.states, np.float32, (n, hidden)), (self.language, np.int64, (n,)),
            (self.targets, np.int64, (n,)), (self.losses, np.float64, (n,)),
        )  # fmt: skip
        if not n or any(array.dtype != dtype or array.shape != shape for array, dtype, shape in kinds):
            raise ValueError("what the output table is given has other shapes than it should")
        if not all(np.isfinite(array).all() for array in (self.mean, self.states, self.losses)) or not self.mean.any():
            raise ValueError("what the output table is given holds NaN, infinity, or nothing")
        if ((self.targets < 0) | (self.targets >= rows) | (self.language < 0) | (self.language >= languages)).any():
            raise ValueError("the sampled tokens are not ids of the table, or not of its languages")
