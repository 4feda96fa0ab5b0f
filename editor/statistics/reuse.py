"""Statistics that are kept in a file, and taken from there while they still fit."""

from collections.abc import Mapping
from pathlib import Path

from ..errors import StatisticsError
from ..files.output import claimed_file
from ..models.target import Target
from ..progress import NOBODY, Listener
from ..text.corpus import Text
from . import statistics
from .detect import detect
from .detection import Detection
from .statistics import Statistics


def detect_or_reuse(
    target: Target,
    texts: Mapping[str, Text],
    path: Path,
    detection: Detection | None = None,
    *,
    listener: Listener = NOBODY,
) -> tuple[Statistics, bool]:
    """Return the statistics in `path` if they were made of the same model, texts and settings, else new ones, kept there.

    The second value says whether they are new. Raises what `detect` raises, and OutputError while another run has that file.
    """
    with claimed_file(path, force=True):
        before = None
        if path.is_file():
            try:
                before = statistics.load(path)
            except StatisticsError as error:
                listener.told(f"Making the statistics anew: {error}")
        with listener.stage("detect", "tokens") as update:
            made = detect(
                target, texts, **vars(detection or Detection()), reuse=before,
                resume_file=path.with_name(f".{path.name}.progress"), progress=update,
            )  # fmt: skip
        if made is before:
            listener.told(f"The statistics in {path} still fit.")
            return made, False
        statistics.save(made, path)
        return made, True
