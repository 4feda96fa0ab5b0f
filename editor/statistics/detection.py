"""The options of `detect`."""

from dataclasses import dataclass

from ..live.spread import NOT_SPREAD, Spread
from ..live.streaming import AUTO, Streaming
from ..text.tokens import MINIMUM_TOKENS


@dataclass(frozen=True)
class Detection:
    """Settings of `detect`, by default those of the command line too.

    `tokens` are those of a language, `minimum` without how many it is refused; `context` is tokens, `batch_size` contexts,
    0 as many as fit. `quantiles`, `per_text` and `calibrate` ask for histograms, means over single texts and inputs too;
    `lean` leaves out what only later steps need: inputs that were not asked for, counts of tokens, sums of the residual.
    `streaming` says whether the model runs layer by layer, `spread` how it lies
    on several devices.
    """

    tokens: int = 16_384
    context: int = 512
    minimum: int = MINIMUM_TOKENS
    batch_size: int = 0
    device: str = "auto"
    dtype: str = "auto"
    quantiles: bool = False
    per_text: bool = False
    calibrate: bool = False
    lean: bool = False
    streaming: Streaming = AUTO
    spread: Spread = NOT_SPREAD
