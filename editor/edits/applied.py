"""All that a recipe does to a live model: the hooks, hung where they belong."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from ..live.modules import input_modules, layer_modules, output_modules
from ..models.residual import route_of
from ..models.target import Target
from .hooks import edited
from .plan import Plan
from .vector_hooks import carried_vectors

if TYPE_CHECKING:
    from .layer_vector import LayerVector
    from .redirect import Redirection


def vector_parts(model: Any, target: Target, modules: Sequence[Any]) -> dict[str, Any]:
    """Return the modules that hooks of vectors hang on, as `hooks.carried_vectors` names them."""
    family, route = target.feed_forward.family, route_of(target)
    norms = output_modules(model, family, route.norm) if route.norm else []
    inputs, outputs = input_modules(model, family), output_modules(model, family)
    return {"inputs": inputs, "modules": modules, "outputs": outputs, "norms": norms, "gated": family.gated}


@contextmanager
def applied(
    model: Any,
    target: Target,
    modules: Sequence[Any],
    plan: Plan,
    redirection: "Redirection | None" = None,
    *,
    head: Any = None,
    vectors: "Sequence[LayerVector]" = (),
    routers: Mapping[int, Any] | None = None,
    stored: str | None = None,
) -> Iterator[None]:
    """Do to the model what a recipe says while the block runs: exactly, but for what a neuron reads.

    `modules` are its `activation_modules`; `head` is its output layer where that has the table that is edited, `routers` are
    needed where experts are switched off; rows of tokens that move are rounded to the dtype `stored`, by default not at all.
    """
    everywhere = [vector for vector in vectors if vector.gate is None]
    reading = [vector for vector in vectors if vector.gate is not None]
    layers = layer_modules(model, target.feed_forward.family) if everywhere else []
    with ExitStack() as stack:
        embedding = model.get_input_embeddings()
        stack.enter_context(edited(modules, plan, embedding, redirection, head, layers, everywhere, routers, stored))
        if reading:
            stack.enter_context(carried_vectors(reading, None, **vector_parts(model, target, modules)))
        yield
