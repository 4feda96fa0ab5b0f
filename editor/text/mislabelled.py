"""Whether text is in the language of its label: what is read is what is checked.

The packed tokens are decoded in windows of 64, over the whole budget, and each window is identified by itself. So a long
record in another language counts by its length, wherever it stands.
"""

import re
import warnings
from collections.abc import Mapping
from typing import Any

from ..errors import MonoglotWarning
from .corpus import Text
from .identify import CERTAINTY, guess, knows
from .tokens import Packed

WINDOW = 64  # tokens
SHARE = 0.1  # of the tokens, from which a warning is due


def mislabelled(packed: Packed, tokenizer: Any) -> tuple[float, str]:
    """Return the share of tokens that an identifier places in another language than the label, and the commonest of those.

    Windows that it is unsure of (p < 0.7), or that hold no letters, count for the label. A label that the identifier does
    not know gives (0.0, "").
    """
    label = re.split(r"[-_]", packed.language)[0]
    if not knows(label):
        return 0.0, ""
    others: dict[str, int] = {}
    for context in packed.contexts:
        ids = context[packed.skip :].tolist()
        for at in range(0, len(ids), WINDOW):
            window = ids[at : at + WINDOW]
            text = tokenizer.decode(window)
            if not any(character.isalpha() for character in text):
                continue
            language, certainty = guess(text, (label,))
            if language != label and certainty >= CERTAINTY:
                others[language] = others.get(language, 0) + len(window)
    if not others:
        return 0.0, ""
    return sum(others.values()) / max(1, packed.tokens), max(others, key=lambda language: others[language])


def warn_of_mislabelled(packed: Mapping[str, Packed], texts: Mapping[str, Text], tokenizer: Any) -> None:
    """Warn (MonoglotWarning) of each language with a tenth or more of its tokens in another language."""
    for language, one in packed.items():
        share, other = mislabelled(one, tokenizer)
        if share >= SHARE:
            warnings.warn(
                f"{share:.0%} of the {language} text that is read ({texts[language].origin}) seems to be in another "
                f"language, mostly {other}. Neurons will be found for what the text is, not for what it is called.",
                MonoglotWarning,
                stacklevel=2,
            )
