"""What is to be done to which model: the file that a person writes and reviews.

    format: 1
    base:
      model: google/gemma-3-270m     # a Hub id, or the name of a folder
      revision: 9b0cfec…             # commit of the Hub, or null
      fingerprint: 4f1c…             # checkpoint.fingerprint, or null: any
    neurons: neurons.json            # relative to the recipe
    shared: keep                     # a neuron that an unedited language owns too: keep it, or edit it
    edits:
      - {language: zh, op: deactivate}
      - {language: fr, op: scale, strength: 2.0}

Operations (a_j is the activation of a language's neuron; both rewrite its column of W_out):

    deactivate   a_j ≡ 0         column := 0
    scale α      a_j → α·a_j     column *= α
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import RecipeError
from .neurons import Neurons, check_fit, check_languages

FORMAT = 1
OPS = ("deactivate", "scale")
SHARED = ("keep", "edit")
FILE = "recipe.yaml"


@dataclass(frozen=True)
class Base:
    """The model a recipe is for. `fingerprint` None fits any."""

    model: str
    revision: str | None = None
    fingerprint: str | None = None


@dataclass(frozen=True)
class Edit:
    """One operation on the neurons of one language; `strength` is the α of scale."""

    language: str
    op: str
    strength: float | None = None


@dataclass(frozen=True)
class Recipe:
    base: Base
    edits: tuple[Edit, ...]
    shared: str = "keep"
    neurons: str = "neurons.json"

    @property
    def deactivated(self) -> tuple[str, ...]:
        return tuple(edit.language for edit in self.edits if edit.op == "deactivate")


def check(recipe: Recipe) -> None:
    """Raise RecipeError when a recipe says something impossible."""
    if not recipe.edits:
        raise RecipeError("the recipe edits nothing. Name a language, for example --deactivate zh.")
    if recipe.shared not in SHARED:
        raise RecipeError(f"shared is {recipe.shared!r}; it can be {' or '.join(SHARED)}.")
    seen: set[str] = set()
    for edit in recipe.edits:
        if edit.op not in OPS:
            raise RecipeError(f"unknown operation {edit.op!r} for {edit.language}; known: {', '.join(OPS)}.")
        if edit.op == "deactivate" and edit.strength is not None:
            raise RecipeError(f"deactivate takes no strength, {edit.language} has {edit.strength}.")
        if edit.op == "scale" and (edit.strength is None or not math.isfinite(edit.strength)):
            raise RecipeError(f"scale needs a finite strength, for example --scale {edit.language}=2.")
        if edit.language in seen:
            raise RecipeError(f"{edit.language} is edited twice. Keep one of the two edits.")
        seen.add(edit.language)


def to_yaml(recipe: Recipe) -> str:
    import yaml

    edits = [
        {"language": edit.language, "op": edit.op} | ({} if edit.strength is None else {"strength": edit.strength})
        for edit in recipe.edits
    ]
    data = {
        "format": FORMAT,
        "base": vars(recipe.base),
        "neurons": recipe.neurons,
        "shared": recipe.shared,
        "edits": edits,
    }
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)


def load(path: Path) -> Recipe:
    """Read a recipe. Raises RecipeError when it is missing or malformed; a key that is not known is an error too."""
    import yaml

    if not path.is_file():
        raise RecipeError(f"there is no recipe {path}.")
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        recipe = _parse(data)
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        reason = str(error).replace("\n", " ")
        raise RecipeError(f"{path} is not a recipe ({type(error).__name__}: {reason}).") from None
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}") from None
    check(recipe)
    return recipe


def _parse(data: Any) -> Recipe:
    _only(data, "the recipe", {"format", "base", "neurons", "shared", "edits"})
    if data["format"] != FORMAT:
        raise RecipeError(f"format is {data['format']!r}, this version reads {FORMAT}. Upgrade monoglot.")
    _only(data["base"], "base", {"model", "revision", "fingerprint"})
    edits = []
    for edit in data["edits"]:
        _only(edit, "an edit", {"language", "op", "strength"})
        strength = edit.get("strength")
        # YAML 1.1 reads an unquoted `no` (Norwegian) as False
        language = "no" if edit["language"] is False else _text(edit["language"], "a language")
        if strength is not None and (isinstance(strength, bool) or not isinstance(strength, (int, float))):
            raise RecipeError(f"the strength for {language} is not a number.")
        edits.append(Edit(language, _text(edit["op"], "an op"), None if strength is None else float(strength)))
    base = data["base"]
    for key in ("revision", "fingerprint"):
        if base.get(key) is not None:
            _text(base[key], key)
    _text(base["model"], "the base's model")
    shared, neurons = (
        _text(data.get(key, usual), key) for key, usual in (("shared", "keep"), ("neurons", "neurons.json"))
    )
    return Recipe(Base(**base), tuple(edits), shared, neurons)


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise RecipeError(f"{what} is not a text. Put it in quotes if it is meant.")
    return value


def _only(data: Any, what: str, keys: set[str]) -> None:
    if not isinstance(data, dict):
        raise RecipeError(f"{what} is not a mapping.")
    if unknown := set(data) - keys:
        raise RecipeError(f"{what} has the unknown key {min(map(str, unknown))!r}; known: {', '.join(sorted(keys))}.")


@dataclass(frozen=True)
class LayerPlan:
    """Of one layer: sorted neurons, int64 (n,), and what each one's column is multiplied by, float64 (n,); 0 clears it."""

    neurons: npt.NDArray[np.int64]
    factors: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Plan:
    """What a recipe does to each layer, and per language how many neurons are edited and how many kept because they
    are shared."""

    layers: tuple[LayerPlan, ...]
    edited: dict[str, int]
    kept: dict[str, int]

    @property
    def size(self) -> int:
        return sum(len(layer.neurons) for layer in self.layers)


def plan(recipe: Recipe, neurons: Neurons, *, layers: int, width: int) -> Plan:
    """Which neurons get which factor.

    A neuron may belong to several languages. With shared="keep" it is edited only when every language it belongs to gets
    the same edit; with "edit" it is edited by whichever language asks, and where they ask for different things
    deactivation wins over scaling, and of two scalings the later one in the recipe. `edited` and `kept` count each
    language's own neurons, so a shared one counts once for each of its languages; `size` counts it once.
    Raises NeuronsError when neurons and model don't fit or a language is missing, RecipeError when nothing is left.
    """
    check(recipe)
    check_fit(neurons, layers, width, recipe.base.model)
    check_languages(neurons, [edit.language for edit in recipe.edits])
    factor_of = {edit.language: 0.0 if edit.op == "deactivate" else float(edit.strength or 0) for edit in recipe.edits}
    order = sorted(recipe.edits, key=lambda edit: edit.op == "deactivate")  # deactivation last: it wins
    edited, kept = dict.fromkeys(factor_of, 0), dict.fromkeys(factor_of, 0)
    plans = []
    for i in range(layers):
        factors = np.ones(width)
        chosen = np.zeros(width, dtype=np.bool_)
        for edit in order:
            own = neurons.indices[edit.language][i]
            if recipe.shared == "keep":
                free = np.ones(width, dtype=np.bool_)
                for other in neurons.languages:
                    if factor_of.get(other) != factor_of[edit.language]:
                        free[neurons.indices[other][i]] = False
                kept[edit.language] += int((~free[own]).sum())
                own = own[free[own]]
            edited[edit.language] += len(own)
            factors[own] = factor_of[edit.language]
            chosen[own] = True
        indices = np.flatnonzero(chosen)
        plans.append(LayerPlan(indices, factors[indices]))
    result = Plan(tuple(plans), edited, kept)
    if not result.size:
        shared = sum(kept.values())
        hint = f" All {shared} are shared with other languages: see --shared edit." if shared else ""
        raise RecipeError(f"no neuron of {', '.join(factor_of)} would be edited.{hint}")
    return result


def parse_edits(deactivate: Sequence[str], scale: Sequence[str]) -> tuple[Edit, ...]:
    """Edits from `zh,ja` and `fr=2` as they stand on a command line. Raises RecipeError for what is neither."""
    edits = [Edit(language, "deactivate") for language in _items(deactivate)]
    for edit in edits:
        if "=" in edit.language:
            raise RecipeError(f"--deactivate {edit.language}: it takes no number; to weaken neurons there is --scale.")
    for item in _items(scale):
        language, equals, strength = (part.strip() for part in item.partition("="))
        try:
            edits.append(Edit(language, "scale", float(strength if equals else "")))
        except ValueError:
            raise RecipeError(f"--scale {item}: write the language and a number, for example --scale fr=2.") from None
    return tuple(edits)


def _items(groups: Sequence[str]) -> list[str]:
    return [item.strip() for group in groups for item in group.split(",") if item.strip()]
