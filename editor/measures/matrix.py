"""What an edit does to a model: log-loss per language, of several variants on the same tokens.

    log-loss = −(1/n) Σ_t ln P(x_t | x_<t)      nats a token; perplexity = exp(log-loss)

The beginning-of-text token is context, not counted as a prediction's target.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

from ..edits.controls import random_plan
from ..edits.experts import reachable
from ..edits.hooks import steered, unrouted
from ..edits.plan import Plan, named_experts, plan
from ..edits.recipe import Edit, Recipe
from ..errors import NeuronsError, RecipeError
from ..live.layered import Layered
from ..live.log_loss import measure
from ..live.logits import Variant
from ..live.modules import activation_modules, router_biases
from ..live.streaming import AUTO, Streaming
from ..models.feed_forward import FeedForward
from ..models.identity import Base
from ..models.routers import taken_by_a_token
from ..neurons.neurons import Neurons
from ..progress import Progress
from ..text.tokens import Packed


@dataclass(frozen=True)
class Matrix:
    """The perplexity matrix.

    change[deactivated][text] is the change of log-loss in nats, by language; `random` is the control's row; `base` the
    log-loss itself; `tokens` what it was measured on, and `sha256` that of their ids; `neurons` how many each row
    deactivates.
    """

    change: dict[str, dict[str, float]]
    random: dict[str, float]
    base: dict[str, float]
    tokens: dict[str, int]
    neurons: dict[str, int]
    sha256: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Dominance:
    """The dominance of a matrix's diagonal.

    `share` is that of all damage (rises of log-loss) that falls on the language switched off: 1/K if it fell evenly, None
    where there is no damage at all. The mean changes on the `diagonal`, `elsewhere`, and by `random` neurons are in nats.
    """

    share: float | None
    diagonal: float
    elsewhere: float
    random: float


def dominance(matrix: Matrix) -> Dominance:
    """Over the rows and columns that the matrix has; a language's row without its own text is left out."""
    rows = {off: row for off, row in matrix.change.items() if off in row}
    diagonal = [row[off] for off, row in rows.items()]
    others = [change for off, row in rows.items() for text, change in row.items() if text != off]
    damage = sum(max(0.0, change) for change in (*diagonal, *others))
    return Dominance(
        sum(max(0.0, change) for change in diagonal) / damage if damage else None,
        _mean(diagonal),
        _mean(others),
        _mean(list(matrix.random.values())),
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(1, len(values))


def deactivations(neurons: Neurons, feed_forward: FeedForward, shared: str) -> dict[str, Plan]:
    """By language, the plan that deactivates its neurons; a language without any of its own has none.

    Raises NeuronsError when no language has one."""
    plans = {}
    for language in neurons.languages:
        recipe = Recipe(Base("model"), (Edit(language, "deactivate"),), shared)
        with suppress(RecipeError):
            plans[language] = plan(
                recipe, neurons, layers=feed_forward.layers, width=feed_forward.width, blocks=feed_forward.blocks
            )
    if not plans:
        raise NeuronsError("no language has neurons of its own, so there is nothing to deactivate. Find more: `rate`.")
    return plans


def switched_off(
    model: Any, feed_forward: FeedForward, neurons: Neurons, shared: str
) -> tuple[list[Variant], dict[str, int]]:
    """Make a variant of the model under hooks for each language, named by it, with the language off.

    "random" has as many random neurons off in each layer as the language with the most has. Where routers have a bias,
    "zh-experts" has the experts of zh off. How many neurons, or experts, each variant has off is returned too.
    """
    modules, routers = activation_modules(model, feed_forward.family), router_biases(model, feed_forward.family)
    plans = deactivations(neurons, feed_forward, shared)
    plans["random"] = random_plan(
        max(plans.values(), key=lambda one: one.size), feed_forward.width, blocks=feed_forward.blocks
    )
    variants = [Variant(name, model, partial(steered, modules, one)) for name, one in plans.items()]
    sizes = {name: one.size for name, one in plans.items()}
    nothing = replace(next(iter(plans.values())), layers=(), edited={}, kept={})
    for language in neurons.experts if routers else ():
        off = named_experts(Recipe(Base("model"), (), experts=(language,)), neurons)
        if not _enough_left(model, routers, off):
            continue
        name = f"{language}-experts"
        variants.append(Variant(name, model, partial(unrouted, routers, replace(nothing, experts=off))))
        sizes[name] = len(off)
    return variants, sizes


def _enough_left(model: Any, routers: Mapping[int, Any], off: Sequence[tuple[int, int]]) -> bool:
    """Whether a token finds as many experts as it goes to when some are off."""
    config = model.config.get_text_config(decoder=True).to_dict()
    by_layer: dict[int, set[int]] = {}
    for layer, expert in off:
        by_layer.setdefault(layer, set()).add(expert)
    taken = taken_by_a_token(config)
    return all(reachable(config, routers[at].shape[-1], own) >= taken for at, own in by_layer.items())


def perplexity_matrices(
    model: Any,
    feed_forward: FeedForward,
    sets: Mapping[str, Neurons],
    texts: Mapping[str, Packed],
    *,
    shared: str = "edit",
    progress: Progress | None = None,
    layered: Sequence[Layered] = (),
    streaming: Streaming = AUTO,
) -> dict[str, Matrix]:
    """Measure every language's log-loss with each language deactivated in turn, for each set of neurons.

    Neurons are deactivated by hooks on one model. The control deactivates random neurons, as many in each layer as
    the language with the most neurons has. `shared` says what to do with neurons that another language owns too, as
    in a recipe: the paper takes them all ("edit").
    `layered` is the model where it runs layer by layer. Raises NeuronsError when a set has nothing to deactivate.
    """
    variants, sizes = [Variant("base", model)], {}
    for name, neurons in sets.items():
        off, sizes[name] = switched_off(model, feed_forward, neurons, shared)
        variants += [replace(variant, name=f"{name} {variant.name}") for variant in off]
    measured = measure(variants, texts, progress=progress, layered=layered, streaming=streaming)
    base, ids = measured.log_loss["base"], {language: text.sha256 for language, text in texts.items()}
    found = {}
    for name, own in sizes.items():
        rows = {off: {k: measured.log_loss[f"{name} {off}"][k] - base[k] for k in texts} for off in own}
        found[name] = Matrix(rows, rows.pop("random"), base, measured.tokens, own, ids)
    return found


def as_data(matrix: Matrix, shared: str) -> dict[str, Any]:
    """Return a matrix and the dominance of its diagonal as plain data, rounded to what they are worth."""
    data: dict[str, Any] = _rounded({"shared": shared, **asdict(matrix), "dominance": asdict(dominance(matrix))})
    return data


def _rounded(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _rounded(value) for key, value in data.items()}
    return round(data, 5) if isinstance(data, float) else data
