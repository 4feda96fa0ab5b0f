"""What names a model: the base of a recipe, and the model that statistics or neurons were made of."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Base:
    """The model a recipe is for. `fingerprint` None fits any."""

    model: str
    revision: str | None = None
    fingerprint: str | None = None


@dataclass(frozen=True)
class ModelInfo:
    """Which model statistics or neurons are of: its name, revision, family and shape, and its `fingerprint`."""

    name: str
    revision: str | None
    model_type: str
    layers: int
    width: int
    fingerprint: str
