"""Foreign text made harmless: what models, prompts, answers, file names and other people's files say.

Control characters in it would act on a terminal, and characters of direction would reorder a line, so both go, wherever the
text is shown. What Markdown takes besides is in `cards.words.foreign`, what a terminal does in `cli.terminal`.
"""

import unicodedata

DIRECTION = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}  # what orders characters otherwise


def printable(text: str) -> str:
    """Remove control characters, except line ends and tabs, and characters that reorder a line."""
    return "".join(
        one for one in text
        if one in "\n\t" or (unicodedata.category(one) != "Cc" and unicodedata.bidirectional(one) not in DIRECTION)
    )  # fmt: skip
