"""What is to be done to which model: the file that a person writes and reviews.

    format: 1
    base:
      model: google/gemma-3-270m     # a Hub id, or the name of a folder
      revision: 9b0cfec…             # commit of the Hub, or null
      fingerprint: 4f1c…             # files.fingerprint, or null: any
    neurons: neurons.json            # relative to the recipe; not there where no neuron is edited
    vocabulary: vocabulary.monoglot  # relative to the recipe; where tokens are redirected
    shared: keep                     # a neuron that an unedited language owns too: keep it, or edit it
    carrier: auto                    # where constants live: auto, native, flag, llama, calibrated
    slots: spare                     # where `add` finds room in a gated network: see carriers
    tolerance: 0.15                  # calibrated: the largest error of a layer; untie false: the largest rise of a log-loss
    above_tolerance: refuse          # … and what becomes of a layer above it: refuse, or leave-out
    experts: ["3.17", zh]            # mixtures: experts to switch off, by number (layer.expert), or a language's
    untie: false                     # redirected or silenced tokens: no second table to write with; true if left out
    compat_config: true              # give config.json the older spelling too: see compat_config; false if left out
    silence: silence.monoglot        # relative to the recipe; where the tokens of a script go
    except_chars: 々〆               # characters of such scripts that may still be written
    scripts:
      - {script: Han, op: silence}
      - {script: Cyrillic, op: quieten, nats: 4}
    edits:
      - {language: zh, op: deactivate}
      - {language: es, op: scale, strength: 0.5}
      - {language: fr, op: pin, strength: 2.0, value: mean, layers: [0, 14]}
      - {language: en, op: pin, strength: 1.0, value: mean@fr}
      - {language: zh, op: redirect, to: en, strength: 1.5}
      - {language: fr, op: vector, point: embedding, strength: 1.5}
      - {language: en, op: redirect, to: fr, point: 9, strength: 1.5}

Operations, on the activation a_j = act(z_j) of each of a language's neurons; v_j is a statistic (mean, median or p90) of
a_j on text in the language (`mean@fr`: the mean on text in French, whichever language the neuron is of), k the strength:

    deactivate   a_j ≡ 0
    scale        a_j → k·a_j
    pin          a_j ≡ k·v_j                 the paper's activation
    add          a_j → a_j + k·v_j
    shift        z_j → z_j + k·v_j           before the activation function

The last three need a constant, and so a place for one: a carrier (see carrier_choice). `layers` are the first and the last
layer whose neurons are edited, counted from 0; all where it is left out.

One operation is on the rows e_t of the embedding table instead, with μ_k the centre of language k and P(k | t) the share of
k in token t (see redirect), k the language and T the one named by `to`:

    redirect     e_t → e_t + strength · P(k | t) · (μ_T − μ_k)        text in k is read, and answered, as if it were in T

After a layer it is done by a neuron that reads h, and answers p_k(h) ≈ 1 on text in k (see statistics.readers)

    redirect     h → h + strength · p_k(h) · (μ_T − μ_k)              `point` is the layer

And one adds a constant to the residual stream, wherever it is read: at the embedding, or after a layer (see vectors)

    vector       h → h + strength · (μ_k − mean of the other languages' μ)

Two are on the logits of the tokens t that write a script (see silenced), by the rows of the output table or its bias:

    silence      logit_t → far below all others                       it can't be written
    quieten      logit_t → logit_t − nats                             its odds are e^nats times smaller
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import MalformedError, RecipeError, reason_of
from ..files import kinds, schema, yaml_text
from ..models.identity import Base
from ..text.languages import Code, is_code
from .script_edit import ScriptEdit, check_scripts, script_edit

FORMAT = 1
CONSTANT_OPS = ("pin", "add", "shift")
REDIRECT = "redirect"
VECTOR = "vector"
EMBEDDING = "embedding"  # the point before the first layer; other points are the numbers of layers
NEURON_OPS = ("deactivate", "scale", *CONSTANT_OPS)
OPS = (*NEURON_OPS, REDIRECT, VECTOR)
REDIRECT_STRENGTH = 1.5
VECTOR_STRENGTH = 1.5
ONE_TABLE_STRENGTH = 1.0  # where the table is the output's too: more, and what is written suffers
VALUES = ("mean", "median", "p90")
SHARED = ("keep", "edit")
CARRIERS = ("auto", "native", "flag", "llama", "calibrated")
SLOTS = ("spare", "deactivated")
ABOVE_TOLERANCE = ("refuse", "leave-out")
TOLERANCE = 0.15
FILE = "recipe.yaml"
TEXTS = ("shared", "neurons", "vocabulary", "carrier", "slots", "above_tolerance", "silence", "except_chars")
KEYS = ("format", "base", "edits", "scripts", "tolerance", "compat_config", "untie", "experts", *TEXTS)
EXPERT = re.compile(r"(0|[1-9][0-9]{0,4})\.(0|[1-9][0-9]{0,4})")  # layer.expert


@dataclass(frozen=True)
class Edit:
    """One operation on the neurons or the tokens of one language, or a vector of it.

    Deactivate has neither strength nor value, scale has no value; only redirect has the language that it goes `to`, only
    vector and redirect the `point` that they act at: EMBEDDING, or the number of the layer that they come after. Without one
    a redirect is of tokens.
    """

    language: str
    op: str
    strength: float | None = None
    value: str | None = None
    layers: tuple[int, int] | None = None
    to: str | None = None
    point: str | int | None = None

    def reaches(self, layer: int) -> bool:
        return self.layers is None or self.layers[0] <= layer <= self.layers[1]

    @property
    def constant(self) -> bool:
        """Whether it needs a carrier."""
        return self.op in CONSTANT_OPS

    @property
    def off(self) -> bool:
        """Whether it switches its language off: its neurons write nothing, or the opposite."""
        return self.op == "deactivate" or (self.op == "scale" and (self.strength or 0) <= 0)

    @property
    def held(self) -> str | None:
        """The language whose text the neurons are held at the values of, where it isn't their own."""
        return (self.value or "").partition("@")[2] or None


@dataclass(frozen=True)
class Recipe:
    base: Base
    edits: tuple[Edit, ...]
    shared: str = "keep"
    neurons: str = "neurons.json"
    carrier: str = "auto"
    slots: str = "spare"
    tolerance: float = TOLERANCE
    above_tolerance: str = "refuse"
    compat_config: bool = False
    vocabulary: str = "vocabulary.monoglot"
    untie: bool = True
    scripts: tuple[ScriptEdit, ...] = ()
    silence: str = "silence.monoglot"
    except_chars: str = ""
    experts: tuple[str, ...] = ()

    @property
    def needs_neurons(self) -> bool:
        """Whether it speaks of a language's neurons or experts."""
        return bool(self.of_neurons) or not all(map(EXPERT.fullmatch, self.experts))

    @property
    def activated(self) -> tuple[str, ...]:
        """The languages that the model is to speak."""
        return tuple(dict.fromkeys(e.language for e in self.edits if (e.constant and not e.held) or e.op == VECTOR))

    @property
    def of_neurons(self) -> tuple[Edit, ...]:
        """The edits of neurons."""
        return tuple(edit for edit in self.edits if edit.op not in (REDIRECT, VECTOR))

    @property
    def redirects(self) -> tuple[Edit, ...]:
        """The languages that are read as another, by their tokens or in a layer."""
        return tuple(edit for edit in self.edits if edit.op == REDIRECT)

    @property
    def of_tokens(self) -> tuple[Edit, ...]:
        """The redirects that move tokens."""
        return tuple(edit for edit in self.redirects if edit.point is None)

    @property
    def readers(self) -> tuple[Edit, ...]:
        """The redirects by a neuron that reads, after a layer."""
        return tuple(edit for edit in self.redirects if edit.point is not None)

    @property
    def vectors(self) -> tuple[Edit, ...]:
        """The vectors that are added."""
        return tuple(edit for edit in self.edits if edit.op == VECTOR)

    @property
    def of_vocabulary(self) -> bool:
        """Whether an edit needs the vocabulary."""
        return bool(self.redirects or self.vectors)


def check(recipe: Recipe) -> None:
    """Raise RecipeError when a recipe says something impossible."""
    if not recipe.edits and not recipe.experts and not recipe.scripts:
        raise RecipeError("the recipe edits nothing. Name a language, for example `deactivate` zh.")
    if recipe.shared not in SHARED:
        raise RecipeError(f"shared is {recipe.shared!r}; it can be {' or '.join(SHARED)}.")
    if recipe.carrier not in CARRIERS:
        raise RecipeError(f"unknown carrier {recipe.carrier!r}; known: {', '.join(CARRIERS)}.")
    if recipe.slots not in SLOTS:
        raise RecipeError(f"slots is {recipe.slots!r}; it can be {' or '.join(SLOTS)}.")
    if recipe.above_tolerance not in ABOVE_TOLERANCE:
        raise RecipeError(f"above_tolerance is {recipe.above_tolerance!r}; it can be {' or '.join(ABOVE_TOLERANCE)}.")
    if not recipe.tolerance > 0:
        raise RecipeError(f"the tolerance is {recipe.tolerance}; it must be above 0.")
    _check_experts(recipe.experts)
    seen: set[tuple[str, str | None, str | int | None]] = set()
    sources = {edit.language for edit in recipe.redirects}
    for edit in recipe.edits:
        if edit.op not in OPS:
            raise RecipeError(f"unknown operation {edit.op!r} for {edit.language}; known: {', '.join(OPS)}.")
        if edit.op == "deactivate" and edit.strength is not None:
            raise RecipeError(f"deactivate takes no strength, {edit.language} has {edit.strength}.")
        if edit.op == "scale" and (edit.strength is None or not math.isfinite(edit.strength)):
            raise RecipeError(f"scale needs a finite strength, for example `scale` {edit.language}=2.")
        if not edit.constant and edit.value is not None:
            raise RecipeError(f"{edit.op} takes no value, {edit.language} has {edit.value}.")
        if edit.constant and str(edit.value).partition("@")[0] not in VALUES:
            raise RecipeError(f"{edit.op} needs a value for {edit.language}: {', '.join(VALUES)}, or mean@LANGUAGE.")
        if edit.constant and (edit.strength is None or not math.isfinite(edit.strength) or not edit.strength):
            raise RecipeError(
                f"{edit.op} needs a finite strength other than 0 for {edit.language}; 1 is the value itself."
            )
        if edit.layers and not 0 <= edit.layers[0] <= edit.layers[1]:
            raise RecipeError(
                f"the layers of {edit.language} are {list(edit.layers)}: write the first and the last, from 0."
            )
        if edit.op == VECTOR:
            _check_vector(edit)
        elif edit.point is not None and edit.op != REDIRECT:
            raise RecipeError(f"{edit.op} has no point, {edit.language} has {edit.point}. Only vector does.")
        if edit.op == REDIRECT:
            _check_redirect(edit, sources)
        elif edit.to is not None:
            raise RecipeError(
                f"{edit.op} goes to no other language, {edit.language} has {edit.to}. Only redirect does."
            )
        kind = (edit.language, edit.op if edit.op in (REDIRECT, VECTOR) else None, edit.point)
        if kind in seen:
            raise RecipeError(f"{edit.language} is edited twice. Keep one of the two edits.")
        seen.add(kind)
    check_scripts(recipe.scripts, recipe.except_chars)
    if recipe.except_chars and not recipe.scripts:
        raise RecipeError("`except_chars` goes with `silence` or `quieten`. Name a script, or leave it out.")


def _check_vector(edit: Edit) -> None:
    at_layer = type(edit.point) is int and edit.point >= 0
    if edit.point != EMBEDDING and not at_layer:
        raise RecipeError(
            f"vector needs the `point` where that of {edit.language} is added: {EMBEDDING}, or the number of a layer, from 0."
        )
    if edit.strength is None or not math.isfinite(edit.strength) or not edit.strength:
        raise RecipeError(
            f"vector needs a finite strength other than 0 for {edit.language}; 1 is the difference of centres."
        )
    if edit.layers is not None:
        raise RecipeError(f"vector is added at one point, so {edit.language} takes no layers.")


def _check_experts(names: tuple[str, ...]) -> None:
    for name in names:
        if not EXPERT.fullmatch(name) and not is_code(name):
            raise RecipeError(
                f"{name!r} names no experts. Write a layer and an expert, for example 3.17, or a language."
            )
    if len(set(names)) < len(names):
        raise RecipeError("an expert is switched off twice. Name it once.")


def _check_redirect(edit: Edit, sources: set[str]) -> None:
    """Return `sources` are all languages that are redirected."""
    if not edit.to:
        raise RecipeError(f"redirect needs the language that {edit.language} goes to, for example `to: en`.")
    if edit.to == edit.language:
        raise RecipeError(f"{edit.language} is redirected to itself. Name another language.")
    if edit.to in sources:
        raise RecipeError(
            f"{edit.language} is redirected to {edit.to}, which is redirected itself. Redirect both to one language that "
            "stays."
        )
    if edit.strength is None or not math.isfinite(edit.strength) or edit.strength <= 0:
        raise RecipeError(
            f"redirect needs a strength above 0 for {edit.language}; 1 moves its centre onto that of {edit.to}."
        )
    if edit.point is not None and not (type(edit.point) is int and edit.point >= 0):
        raise RecipeError(
            f"the `point` of {edit.language} is {edit.point}; write the number of a layer, from 0, or leave it out: then its "
            "tokens move."
        )
    if edit.layers is not None:
        raise RecipeError(f"redirect is done before the first layer, so {edit.language} takes no layers.")


def to_yaml(recipe: Recipe) -> str:
    return yaml_text.written(as_data(recipe))


def as_data(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe as its file says it.

    Of carriers it speaks only where an edit needs one, of the config where it changes.
    """
    constant = any(edit.constant or edit.point not in (None, EMBEDDING) for edit in recipe.edits)
    carried = ("carrier", "slots", "tolerance", "above_tolerance") if constant else ()
    of_neurons = ("neurons",) * recipe.needs_neurons + ("shared",) * bool(recipe.of_neurons)
    silence = ("silence",) if recipe.scripts else ()
    needed = (*of_neurons, *carried, *(("vocabulary",) if recipe.of_vocabulary else ()), *silence)
    one_table = {"untie": False, "tolerance": recipe.tolerance} if recipe.of_tokens and not recipe.untie else {}
    if recipe.scripts and not recipe.untie:
        one_table = {"untie": False, **one_table}
    given = {"except_chars": recipe.except_chars} if recipe.except_chars else {}
    return {
        "format": FORMAT,
        "base": vars(recipe.base),
        **one_table,
        **{key: getattr(recipe, key) for key in needed},
        **({"experts": list(recipe.experts)} if recipe.experts else {}),
        **({"compat_config": True} if recipe.compat_config else {}),
        **given,
        **({"scripts": [_edit_data(edit) for edit in recipe.scripts]} if recipe.scripts else {}),
        **({"edits": [_edit_data(edit) for edit in recipe.edits]} if recipe.edits or not recipe.scripts else {}),
    }


def _edit_data(edit: Edit | ScriptEdit) -> dict[str, Any]:
    data = {key: value for key, value in vars(edit).items() if value is not None}
    return data | ({"layers": list(edit.layers)} if isinstance(edit, Edit) and edit.layers else {})


def of_data(data: Any) -> Recipe:
    """Read a recipe from what its file says. Raises RecipeError when it is malformed; an unknown key is an error too."""
    try:
        recipe = _parse(data)
    except MalformedError as error:
        raise RecipeError(f"it is not a recipe: {error}.") from None
    check(recipe)
    return recipe


def load(path: Path) -> Recipe:
    """Read a recipe. Raises RecipeError when it is missing or malformed."""
    import yaml

    if not path.is_file():
        raise RecipeError(f"there is no recipe {path}.")
    try:
        with path.open(encoding="utf-8") as file:
            return of_data(yaml_text.parse(file.read(yaml_text.LONGEST + 1)))
    except (yaml.YAMLError, MalformedError, ValueError, RecursionError) as error:
        reason = reason_of(error) if isinstance(error, RecursionError) else " ".join(str(error).split())
        raise RecipeError(kinds.instead(path, "recipe") or f"{path} is not a recipe ({reason}).") from None
    except RecipeError as error:
        raise RecipeError(kinds.instead(path, "recipe") or f"{path}: {error}") from None


def _parse(data: Any) -> Recipe:
    found = schema.keys(data, "the recipe", KEYS, ("format", "base"))
    if found["format"] != FORMAT or isinstance(found["format"], bool):
        raise RecipeError(f"format is {found['format']!r}, this version reads {FORMAT}. Upgrade monoglot.")
    base = schema.read(Base, found["base"], "base")
    if "edits" not in found and "scripts" not in found:
        raise MalformedError("the recipe has no edits")
    edits = tuple(_edit(edit) for edit in schema.listed(found.get("edits", []), "edits"))
    scripts = tuple(script_edit(edit) for edit in schema.listed(found.get("scripts", []), "scripts"))
    texts = {key: schema.text(found[key], key) for key in TEXTS if key in found}
    tolerance = schema.figure(found.get("tolerance", TOLERANCE), "the tolerance")
    compat_config = schema.truth(found.get("compat_config", False), "compat_config")
    untie = schema.truth(found.get("untie", True), "untie")
    experts = tuple(schema.text(name, "an expert") for name in schema.listed(found.get("experts", []), "experts"))
    return Recipe(
        base, edits, tolerance=float(tolerance), compat_config=compat_config, scripts=scripts, untie=untie,
        experts=experts, **texts
    )  # fmt: skip


def _edit(data: Any) -> Edit:
    found = schema.keys(
        data, "an edit", ("language", "op", "strength", "value", "layers", "to", "point"), ("language", "op")
    )
    language = _language(found["language"], "a language")
    op = schema.text(found["op"], "an op")
    strength, value, to = found.get("strength"), found.get("value"), found.get("to")
    if op in CONSTANT_OPS:
        strength, value = 1.0 if strength is None else strength, "mean" if value is None else value
    if isinstance(value, str) and (held := value.partition("@")[2]):
        _code(held, f"what the value for {language} is of")
    if strength is None:
        strength = {REDIRECT: REDIRECT_STRENGTH, VECTOR: VECTOR_STRENGTH}.get(op)
    return Edit(
        language,
        op,
        None if strength is None else float(schema.figure(strength, f"the strength for {language}")),
        None if value is None else schema.text(value, f"the value for {language}"),
        _layers(found.get("layers"), language),
        None if to is None else _language(to, f"where {language} goes to"),
        _point(found.get("point"), language),
    )


def _point(value: Any, language: str) -> str | int | None:
    if value is None or type(value) is int:
        return value
    return schema.text(value, f"the point of {language}")


def _code(value: Any, place: str) -> str:
    code: str = schema.read(Code, value, place)
    return code


def _language(value: Any, place: str) -> str:
    """Read a language's code; YAML 1.1 reads an unquoted `no` (Norwegian) as False."""
    return "no" if value is False else _code(value, place)


def _layers(value: Any, language: str) -> tuple[int, int] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 2 or not all(type(layer) is int for layer in value):
        raise RecipeError(f"the layers of {language} are not a list of two whole numbers, the first and the last.")
    return (value[0], value[1])
