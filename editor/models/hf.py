"""The tokenizer and the messages of transformers."""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import ModelError


def load_tokenizer(folder: Path) -> Any:
    """Raises ModelError when the folder has no tokenizer that transformers can read."""
    import transformers

    try:
        with quiet():
            return transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # tokenizers raises bare Exceptions
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{folder.name} has no tokenizer that transformers can load: {reason}") from None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' progress bars and notes on stderr; its warnings that we handle ourselves are dropped."""
    from transformers.utils import logging as transformers_logging

    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
