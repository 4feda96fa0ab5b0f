"""`evaluation.json`: what was measured of a model and its neurons, where no checkpoint was made of them.

    {"format": 1, "model": {name, revision, model_type, layers, width, fingerprint}, "neurons": {"sha256", "method"},
     "evaluation": {"perplexity": {…}, "profile": {…}, …}}

It lies in a folder of its own, with the `neurons.json` that it is about. Of a checkpoint, the same `evaluation` stands in
its manifest.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..edits.evaluation import Evaluation
from ..errors import CheckpointError, FindingsError, MalformedError, OutputError
from ..files import schema
from ..files.checkpoint import parse_json
from ..files.output import claimed_file, replace_file
from ..models.identity import ModelInfo
from ..neurons import neurons as neurons_file
from ..neurons.neurons import Neurons

FORMAT = 1
FILE = "evaluation.json"
NEURONS = "neurons.json"
OURS = (FILE, NEURONS, "stats.safetensors", "report.html", "report.md", "figures")  # what may lie there


@dataclass(frozen=True)
class NeuronsOf:
    """The neurons that were measured: the sha256 of their file, and how they were found."""

    sha256: str
    method: dict[str, Any]


@dataclass(frozen=True)
class Findings:
    """What was measured of a model with some neurons, and how `monoglot paper` was asked to."""

    format: int
    model: ModelInfo
    neurons: NeuronsOf
    evaluation: Evaluation
    settings: dict[str, Any] | None = None

    @classmethod
    def of_data(cls, data: Any) -> "Findings":
        """Read what the file holds. Raises MalformedError."""
        schema.required_keys(data, "", ("format", "model"))
        given = schema.fields(cls, data, "", apart=("evaluation", "model"))
        model = ModelInfo.of_data(data["model"])
        return cls(**given, model=model, evaluation=Evaluation.of_data(data.get("evaluation")))

    def to_data(self) -> dict[str, Any]:
        """Give what the file holds."""
        subject = {key: schema.to_data(value) for key, value in vars(self).items() if key != "evaluation"}
        subject["model"] = self.model.to_data()
        settings = {"settings": subject.pop("settings")} if self.settings is not None else {}
        subject.pop("settings", None)
        return {**subject, "evaluation": self.evaluation.to_data(), **settings}


def plain(data: Any) -> Any:
    """As JSON gives it back: tuples as lists, keys as text."""
    return json.loads(json.dumps(data))


def about(model: ModelInfo, neurons: Neurons) -> Findings:
    """Return findings of a model and its neurons, before anything was measured."""
    text = neurons_file.serialise(neurons).encode()
    method: dict[str, Any] = json.loads(
        json.dumps(neurons.method)
    )  # as JSON gives it back: tuples as lists, keys as text
    return Findings(FORMAT, model, NeuronsOf(hashlib.sha256(text).hexdigest(), method), Evaluation({}))


def check_place(folder: Path) -> None:
    """Raise OutputError when a folder is a file, or has things in it that are none of ours: it may be a model's."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file. Name a folder.")
    others = (
        [path.name for path in folder.iterdir() if path.name not in OURS and path.name[0] != "."]
        if folder.exists()
        else []
    )
    if others:
        raise OutputError(f"{folder} has other things in it ({sorted(others)[0]}). Choose another folder.")


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Be the only one who measures into a folder, from what is there already to the last measure. Raises OutputError."""
    check_place(folder)
    with claimed_file(folder / FILE, force=True):
        yield


def of_folder(folder: Path, model: ModelInfo, neurons: Neurons) -> Findings:
    """Return the findings that a folder already has of this model and these neurons, or none yet.

    Raises OutputError when it is a file, has findings of others, or other things in it.
    """
    check_place(folder)
    subject = about(model, neurons)
    if not (folder / FILE).is_file():
        return subject
    found = read(folder)
    if (found.model, found.neurons) != (subject.model, subject.neurons):
        raise OutputError(f"{folder} has findings of another model, or of other neurons. Choose another folder.")
    return found


def read(folder: Path) -> Findings:
    """Read the findings in a folder.

    Raises FindingsError when the folder has no findings, or they are malformed or of an unknown format.
    """
    path = folder / FILE
    if not path.is_file():
        raise FindingsError(
            f"{folder} has no {FILE}. Make one with `monoglot evaluate MODEL NEURONS -o {folder.name}`."
        )
    try:
        found = parse_json(path.read_bytes(), str(path))
    except CheckpointError as error:
        raise FindingsError(str(error)) from None
    version = found.get("format") if isinstance(found, dict) else None
    if version != FORMAT:
        raise FindingsError(
            f"{path} has format {version!r}, this version reads {FORMAT}. Upgrade monoglot, or measure again into another "
            "folder."
        )
    try:
        return Findings.of_data(found)
    except MalformedError as error:
        raise FindingsError(
            f"{path} is not what monoglot writes ({error}). Measure again into another folder."
        ) from None


def write(folder: Path, found: Findings, neurons: Neurons) -> None:
    """Write findings and the neurons that they are of. Raises OutputError."""
    folder.mkdir(parents=True, exist_ok=True)
    neurons_file.save(neurons, folder / NEURONS)
    replace_file(folder / FILE, (json.dumps(found.to_data(), indent=1, ensure_ascii=False) + "\n").encode())


def narrower(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Say what an earlier measurement had and a new one lacks: prompts, tokens or texts of a language, and marks.

    The text is empty where it lacks nothing.
    """
    (what, were), (_, are) = _breadth(before), _breadth(now)
    lost = []
    if fewer := [language for language, count in were.items() if are.get(language, 0) < count]:
        lost.append(f"{what} " + ", ".join(f"{k} {were[k]:,} (now {are.get(k, 0):,})" for k in fewer))
    if before.get("judge") and not now.get("judge"):
        lost.append(f"marks by {before['judge']}")
    return "; ".join(lost)


def _breadth(measured: Mapping[str, Any]) -> tuple[str, dict[str, int]]:
    """Return the unit and the sample size of a measurement, per language or pair of languages."""
    for what in ("prompts", "tokens"):
        if isinstance(measured.get(what), dict):
            return what, measured[what]
    return "texts", dict.fromkeys(measured.get("pairs", ()), measured.get("texts", 0))
