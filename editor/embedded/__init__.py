"""The embedded default: a tiny model with planted language neurons, and aligned texts in seven languages.

`model/` is an ordinary Llama checkpoint (`model/training.json` says how it was made, `model/planted.json` which neurons
were planted); `texts/{lang}.txt` holds the same 60 short passages in en zh fr es vi id ja, an empty line between
passages. Wherever a model or a corpus is asked for, the word `embedded` means these.
"""

from pathlib import Path

NAME = "embedded"
MODEL = Path(__file__).parent / "model"
TEXTS = Path(__file__).parent / "texts"
