"""Loads a tokenizer with transformers, and keeps transformers' messages quiet."""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import ModelError, reason_of

SENTENCEPIECE = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model")
VOCABULARIES = ("tokenizer.json", *SENTENCEPIECE, "vocab.json", "vocab.txt", "*.tiktoken", "tekken.json")


def load_tokenizer(folder: Path) -> Any:
    """Load a folder's tokenizer. Raises ModelError when it has none that transformers can read."""
    import transformers

    try:
        with quiet():
            return transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # tokenizers raises bare Exceptions
        raise ModelError(_why_no_tokenizer(folder, error)) from None


def has_tokenizer(folder: Path) -> bool:
    """Tell whether a folder has any file that a tokenizer is made of."""
    return any(any(folder.glob(pattern)) for pattern in VOCABULARIES)


def _why_no_tokenizer(folder: Path, error: Exception) -> str:
    """Say why a folder's tokenizer can't be loaded, and what to do."""
    if not has_tokenizer(folder):
        return (
            f"{folder.name} has no tokenizer: none of {', '.join(VOCABULARIES)} is there. Copy the tokenizer's files of the "
            "model that it was made from into the folder."
        )
    pieces = [name for name in SENTENCEPIECE if (folder / name).is_file()]
    if pieces and not (folder / "tokenizer.json").is_file() and find_spec("sentencepiece") is None:
        return (
            f"{folder.name} has its tokenizer as {pieces[0]} only, which needs a package that is not installed here: "
            "pip install sentencepiece protobuf"
        )
    reason = " ".join(str(error).split("\n\n")[0].split()) or reason_of(error)
    return f"{folder.name} has no tokenizer that transformers can load: {reason}"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' progress bars and notes on stderr; its warnings that we handle ourselves are dropped."""
    with silent(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Without transformers' progress bars and notes on stderr."""
    from transformers.utils import logging as transformers_logging

    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
