"""What a recipe comes to in one model: its plan, what carries its constants, and the rows of tables that it moves.

Redirected tokens need no carrier: they are rows of the embedding table. A model that has the same table at its output gets
the base's rows there as a tensor of its own, so that only what it reads changes; or it keeps the one table, see `one_table`.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from ..errors import RecipeError
from ..models.compat_config import old_keys
from ..models.embedding import Embedding, open_embedding
from ..models.families import text_config
from ..models.target import Target, about_sampled
from ..neurons.neurons import Neurons
from ..statistics.vocabulary import Vocabulary
from .byte_edits import refuse_others
from .calibration import Calibration, LayerError
from .carrier_choice import EXACT, choose, has_biases, ignored_biases
from .experts import check_experts
from .layer_vector import LayerVector
from .one_table import outputs_of, projected
from .output_rows import Silenced, silenced
from .plan import LayerPlan, Plan, plan
from .recipe import EMBEDDING, Recipe
from .redirect import Redirection, redirection
from .silence import Silence
from .tensor_edits import slots_needed
from .vectors import check_finite, in_layers, layer_vectors


@dataclass(frozen=True)
class Carried:
    """A plan that can be carried out.

    What becomes of which neuron, by which carrier (None: no constant, none needed), the layers whose constants were left
    out because the calibration is not good enough there, how many spare neurons gave their place, whether the config gets
    keys in the older spelling, which tokens move in which table, which vectors are added after layers, the vocabulary
    that these two are known from, without what they don't need of it, and which tokens can't be written any more.
    """

    plan: Plan
    carrier: str | None
    calibration: Calibration | None
    left_out: tuple[int, ...] = ()
    spared: int = 0
    compat_config: bool = False
    tokens: "Tokens | None" = None
    vectors: tuple[LayerVector, ...] = ()
    vocabulary: Vocabulary | None = None
    silenced: Silenced | None = None

    @property
    def untied(self) -> bool:
        """Whether a model with one table for input and output gets a second."""
        return bool(self.tokens and self.tokens.table.tied and not self.tokens.one_table) or bool(
            self.silenced and self.silenced.untied
        )

    @property
    def table(self) -> Embedding | None:
        """The embedding table, where some of its rows or of the output's are edited."""
        return self.tokens.table if self.tokens else self.silenced.head.table if self.silenced else None


@dataclass(frozen=True)
class Tokens:
    """Which tokens move, and the table that they lie in.

    `one_table` says that the output keeps the same table; where that is no exact edit, `asked` is what it approximates.
    """

    redirection: Redirection
    table: Embedding
    one_table: bool = False
    asked: Redirection | None = None

    @property
    def added_bytes(self) -> int:
        """What the output's own table adds to a model that is tied; 0 where it has one already, or gets none."""
        return 0 if self.table.has_output or self.one_table else self.table.tensor.end - self.table.tensor.begin


def carried(
    target: Target,
    recipe: Recipe,
    neurons: Neurons,
    calibration: Calibration | None = None,
    vocabulary: Vocabulary | None = None,
    silence: Silence | None = None,
) -> Carried:
    """Plan a recipe and find a place for what it says: constants and moved tokens.

    Raises NeuronsError and RecipeError as `plan` does, and RecipeError when the model can't have the carrier or holds
    biases that its config doesn't ask for, when a calibration is needed and there is none, is of another model, or is
    worse than the recipe's tolerance in some layer (unless the recipe leaves such layers out), and when tokens are
    redirected and there is no vocabulary, or it is of another model; what `silenced` raises.
    """
    feed_forward = target.feed_forward
    steps = plan(recipe, neurons, layers=feed_forward.layers, width=feed_forward.width, blocks=feed_forward.blocks)
    refuse_others(target, steps.layers)
    check_experts(target, steps.experts)
    counts = _counts(target, recipe, vocabulary)
    silent = silenced(target, recipe, silence)
    tokens = _apart(_tokens(target, recipe, counts), silent)
    compat = recipe.compat_config and bool(old_keys(target.checkpoint.config))
    at_layers = in_layers(recipe)
    kept = counts and needed_of(counts, recipe)
    if not steps.constant and not at_layers:
        return Carried(steps, None, None, compat_config=compat, tokens=tokens, vocabulary=kept, silenced=silent)
    if ignored := ignored_biases(target):
        raise RecipeError(
            f"{target.source.name} holds {ignored[0]} ({len(ignored)} such biases in all), which its config does not ask "
            "for: some runtimes apply them, most drop them, so what a constant would do is uncertain. Remove them, or "
            "correct the config."
        )
    carrier = choose(recipe.carrier, target)
    asked = steps
    if recipe.slots == "spare":
        steps = _with_spare_slots(steps, target, neurons, exact=carrier != "calibrated")
    vectors = (
        layer_vectors(target, recipe, counts, steps, neurons, biased=carrier in EXACT) if counts and at_layers else ()
    )
    check_finite(vectors, feed_forward.outputs[0][1].dtype)
    if carrier != "calibrated":
        return Carried(steps, carrier, None, (), steps.size - asked.size, compat, tokens, vectors, kept, silent)
    if not steps.constant and not any(vector.calibrated for vector in vectors):
        reading = all(vector.gate is not None for vector in vectors)  # else the file has biases at the output
        return Carried(steps, None if reading else "native", None, (), 0, compat, tokens, vectors, kept, silent)
    if calibration is None:
        raise RecipeError(
            f"{target.source.name} has no biases that could hold a constant, so a direction has to stand in for one: record "
            "what it takes with `monoglot detect --calibrate`, and name the file with `calibration`."
        )
    if calibration.fingerprint != target.fingerprint:
        raise RecipeError(
            f"the calibration is of a model with fingerprint {calibration.fingerprint[:12]}…, {target.source.name} has "
            f"{target.fingerprint[:12]}…. Calibrate this model with `monoglot detect --calibrate`."
            f"{about_sampled(target, calibration.fingerprint)}"
        )
    shape = (len(feed_forward.networks), feed_forward.hidden)
    if calibration.directions.shape != shape or len(calibration.errors) != shape[0]:
        raise RecipeError(
            f"the calibration does not have the shape of {target.source.name}. Calibrate this model again."
        )
    errors = [_error(layer, calibration.errors[number]) for number, layer in enumerate(steps.layers)]
    for vector in vectors:
        if vector.calibrated:
            errors[vector.block] = max(errors[vector.block], vector_error(calibration.errors[vector.block]))
    poor = [(number, error) for number, error in enumerate(errors) if not error <= recipe.tolerance]
    if poor and recipe.above_tolerance == "refuse":
        number, error = max(poor, key=lambda one: one[1])
        raise RecipeError(
            f"the calibration of {len(poor)} layers is worse than {recipe.tolerance:g}, layer {number} at {error:.2f}. "
            "Calibrate on more text, allow more with `tolerance`, or leave these layers out with "
            "`above_tolerance` leave-out."
        )
    left_out = tuple(number for number, _ in poor)
    layers = [
        before.take((before.constants == 0) & (before.shifts == 0)) if number in left_out else layer  # needs no slots
        for number, (before, layer) in enumerate(zip(asked.layers, steps.layers, strict=True))
    ]
    left = Plan(tuple(layers), steps.edited, steps.kept, steps.experts)
    vectors = tuple(vector for vector in vectors if not vector.calibrated or vector.block not in left_out)
    if not left.constant and not vectors:
        raise RecipeError("no layer is calibrated well enough to carry a constant. Calibrate on more text.")
    spared = sum(len(now.freed) - len(before.freed) for now, before in zip(layers, asked.layers, strict=True))
    spared += sum(vector.slot is not None for vector in vectors)
    return Carried(left, carrier, calibration, left_out, spared, compat, tokens, vectors, kept, silent)


def _apart(tokens: Tokens | None, silent: Silenced | None) -> Tokens | None:
    """Return the moved tokens where an output table of its own is needed for silenced ones anyway.

    Raises RecipeError where both would be edits of one table.
    """
    if tokens is None or silent is None or silent.head.exact:
        return tokens
    if silent.tied:
        raise RecipeError(
            "tokens that are moved at the embedding and silenced ones can't share one table. Give the model a second one "
            "with `untie`."
        )
    return replace(tokens, one_table=False, asked=None)


def needed_of(vocabulary: Vocabulary, recipe: Recipe) -> Vocabulary:
    """Return a vocabulary without what a recipe does not need of it."""
    one_table = recipe.of_tokens and not recipe.untie
    names = {(edit.language, edit.point) for edit in recipe.vectors}
    read = {(edit.language, edit.point) for edit in recipe.readers}
    return replace(
        vocabulary,
        outputs=vocabulary.outputs if one_table else None,
        residual=vocabulary.residual if in_layers(recipe) else None,
        vectors={key: vector for key, vector in vocabulary.vectors.items() if key in names},
        readers={key: reader for key, reader in vocabulary.readers.items() if key in read},
    )


def _counts(target: Target, recipe: Recipe, vocabulary: Vocabulary | None) -> Vocabulary | None:
    """Return the vocabulary, of this model, where the recipe needs one."""
    if not recipe.of_vocabulary:
        return None
    if vocabulary is None:
        raise RecipeError(
            f"to move tokens of {target.source.name}, which language uses which has to be known: count them with "
            "`monoglot tokens`, and give its file along."
        )
    if vocabulary.model.fingerprint != target.fingerprint:
        raise RecipeError(
            f"the vocabulary is of a model with fingerprint {vocabulary.model.fingerprint[:12]}…, {target.source.name} has "
            f"{target.fingerprint[:12]}…. Count the tokens of this model with `monoglot tokens`."
        )
    return vocabulary


def _tokens(target: Target, recipe: Recipe, vocabulary: Vocabulary | None) -> Tokens | None:
    vectors = [edit for edit in recipe.vectors if edit.point == EMBEDDING]
    if vocabulary is None or not (recipe.of_tokens or vectors):
        return None
    table = open_embedding(target)
    shape = (vocabulary.rows, *(len(centre) for centre in list(vocabulary.centres.values())[:1]))
    if vocabulary.ids and shape != (table.rows, table.hidden):
        raise RecipeError(
            f"the vocabulary is of a table of {shape[0]} tokens and {shape[1]} numbers each, {target.source.name} has "
            f"{table.rows} and {table.hidden}. Count the tokens again."
        )
    moved = redirection(recipe.of_tokens, vocabulary, vectors)
    if not recipe.of_tokens and table.tied and _keeps_probabilities(target):
        return Tokens(moved, table, one_table=True)
    if recipe.untie or not table.tied:
        return Tokens(moved, table)
    if vectors and not _keeps_probabilities(target):
        raise RecipeError(
            f"{target.source.name} caps its logits, so a vector at the embedding would change what it writes with the same "
            "table: give it a second one with `untie`."
        )
    fitted = projected(moved, outputs_of(target, vocabulary), len(recipe.of_tokens))
    return Tokens(fitted, table, one_table=True, asked=moved)


def _keeps_probabilities(target: Target) -> bool:
    """Whether adding one number to all logits of a position changes nothing: not where they are capped afterwards."""
    return not text_config(target.checkpoint.config).get("final_logit_softcapping")


def vector_error(found: LayerError) -> float:
    """Return the relative error of a vector by a neuron that is on: that of its activation, and of w·x, which it is times."""
    return math.hypot(found.after, found.mean - 1, found.deviation)


def _error(layer: LayerPlan, found: LayerError) -> float:
    """Return the relative error of a layer's constants: after the activation function, or, for a shift, before it."""
    before = math.hypot(found.mean - 1, found.deviation) if np.any(layer.shifts) else 0.0
    after = found.after if np.any(layer.constants) else 0.0
    return float(np.max([before, after]))  # NaN if one of them is


def _with_spare_slots(steps: Plan, target: Target, neurons: Neurons, *, exact: bool) -> Plan:
    """Where `add` has fewer slots than it needs, the neurons that matter least make room: they are deactivated."""
    feed_forward = target.feed_forward
    biases = exact or has_biases(target)
    layers = []
    for number, layer in enumerate(steps.layers):
        network = feed_forward.located[number].network
        missing = slots_needed(layer, network, biased=biases) - len(layer.freed)
        spare = neurons.spare[number] if missing > 0 and neurons.spare else np.zeros(0, np.int64)
        taken = spare[~np.isin(spare, layer.neurons)][: max(0, missing)]
        layers.append(layer.with_freed(taken) if len(taken) else layer)
    return Plan(tuple(layers), steps.edited, steps.kept, steps.experts)
