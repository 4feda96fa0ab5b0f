"""Three languages that share tokens of the tiny models, and two of them redirected to the third."""

from pathlib import Path

import numpy as np

from monoglot.editor.edits.recipe import Edit
from monoglot.editor.models.embedding import open_embedding
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import Target, model_info, open_target
from monoglot.editor.statistics.token_counts import count
from monoglot.editor.statistics.vocabulary import Vocabulary
from monoglot.editor.text.tokens import Packed

from .tiny import VOCABULARY

# Three languages that share tokens; tokens above 200 are used by none.
TEXTS = {
    language: np.random.default_rng(number).integers(low, high, 400)
    for number, (language, low, high) in enumerate((("en", 6, 90), ("fr", 60, 150), ("zh", 130, 200)))
}
REDIRECTS = (Edit("zh", "redirect", 1.5, to="en"), Edit("fr", "redirect", 0.75, to="en"))


def vocabulary_of(target: Target) -> Vocabulary:
    """In it, the tokens 200 to 203 have a script that zh has most of."""
    packed = {k: Packed(k, (own,), 0, len(own), k) for k, own in TEXTS.items()}
    words = ["a"] * 150 + ["火"] * 50 + list("水木金土") + ["?"] * (VOCABULARY - 204)
    return count(model_info(target), open_embedding(target), packed, {0, 1}, words)


def opened(folder: Path) -> Target:
    return open_target(resolve(str(folder)))
