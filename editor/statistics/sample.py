"""The sample of what the feed-forward networks read on held-out text (see `inputs`)."""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import CorpusError, StatisticsError
from ..live.load import hooked
from ..live.modules import trunk
from ..live.spread import inputs_device
from ..text.tokens import Packed
from .inputs import Float32, Int64, Part, Sample

if TYPE_CHECKING:
    import torch

SAMPLE = 256  # tokens a language
HELD_OUT_TOKENS = 4 * SAMPLE  # what they are taken from, evenly


def take_sample(
    model: Any, modules: Sequence[Any], texts: Mapping[str, Packed], tokenizer: Any, *, checked: bool = True
) -> Sample:
    """Run the trunk over held-out text and keep what goes into `modules` at SAMPLE tokens a language, evenly spread.

    Unless it is to be `checked`, it may hold NaN: `recorder.collect`, which knows in which layer, says so. Raises CorpusError
    when a language has no held-out text, StatisticsError for NaN.
    """
    import torch

    decoder, device = trunk(model), inputs_device(model)
    taken = taken_rows(texts)
    keepers = [Keeper() for _ in modules]
    with ExitStack() as attached:
        for keeper, module in zip(keepers, modules, strict=True):
            attached.enter_context(keeper.attached(module))
        for one in taken:
            for keeper in keepers:
                keeper.rows = one.rows
            with torch.inference_mode():
                decoder(input_ids=torch.from_numpy(one.context)[None].to(device), use_cache=False)
    rows = [require_finite(keeper.result()) if checked else keeper.result() for keeper in keepers]
    return sample_of(rows, texts, taken, tokenizer)


class Taken(NamedTuple):
    """A context of held-out text, and the positions in it that are kept."""

    context: Int64
    rows: list[int]


def taken_rows(texts: Mapping[str, Packed]) -> list[Taken]:
    """Choose SAMPLE tokens a language, evenly spread; contexts of which none is taken are left out. Raises CorpusError."""
    found = []
    for _, packed in sorted(texts.items()):
        require_held_out(packed)
        n = min(SAMPLE, packed.tokens)
        chosen = iter((np.arange(n) * packed.tokens // n).tolist())  # of the counted tokens
        following, seen = next(chosen), 0
        for context in packed.contexts:
            rows = []
            counted = len(context) - packed.skip
            while following < seen + counted:
                rows.append(following - seen + packed.skip)
                following = next(chosen, packed.tokens)
            seen += counted
            if rows:
                found.append(Taken(context, rows))
    return found


class Keeper:
    """Keeps what goes into a module at `rows`, positions of the context that runs."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self._found: list[Float32] = []

    @contextmanager
    def attached(self, module: Any) -> Iterator[None]:
        with hooked([module.register_forward_pre_hook(self._keep)]):
            yield

    def _keep(self, module: Any, inputs: "tuple[torch.Tensor, ...]") -> None:
        x = inputs[0].detach().reshape(-1, inputs[0].shape[-1])[self.rows]
        self._found.append(x.float().cpu().numpy())

    def result(self) -> Float32:
        """Return the rows of all contexts, (n, d)."""
        return np.concatenate(self._found)


def require_finite(x: Float32) -> Float32:
    """Return what a layer read. Raises StatisticsError when there is NaN or infinity in it."""
    if not np.isfinite(x).all():
        raise StatisticsError(
            "a layer reads NaN or infinity. Try `dtype` float32; if it stays, the checkpoint is broken."
        )
    return x


def sample_of(x: Sequence[Float32], texts: Mapping[str, Packed], taken: Sequence[Taken], tokenizer: Any) -> Sample:
    """Make a sample of what each layer read, (n, d), at the rows that were taken."""
    tokens = [token for one in taken for token in one.context[one.rows].tolist()]
    positions = [position for one in taken for position in one.rows]
    kinds = tuple(
        "first token" if position == 0 else kind_of(tokenizer.decode([token]))
        for token, position in zip(tokens, positions, strict=True)
    )
    parts = (Part(name, packed.sha256, min(SAMPLE, packed.tokens)) for name, packed in sorted(texts.items()))
    return Sample(x, np.asarray(tokens, np.int64), np.asarray(positions, np.int64), kinds, tuple(parts))


def require_held_out(packed: Packed) -> None:
    if not packed.tokens:
        raise CorpusError(
            f"{packed.language} has too few documents for one to be held out, and calibration is measured on held-out "
            f"text. Add text in {packed.language}, or leave `calibrate` out."
        )


def kind_of(text: str) -> str:
    """Return one of KINDS for what a token decodes to.

    "other" are special tokens, symbols mixed with digits, and parts of characters.
    """
    if text and not text.strip():
        return "white space"
    categories = {unicodedata.category(character) for character in text.strip()}
    if not categories or "\N{REPLACEMENT CHARACTER}" in text:
        return "other"
    if any(category[0] == "L" for category in categories):
        return "letters"
    for kind, first in (("letters", "LM"), ("digits", "N"), ("punctuation", "PS")):
        if all(category[0] in first for category in categories):
            return kind
    return "other"
