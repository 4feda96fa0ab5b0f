"""Redirected and silenced tokens as forward hooks on a live model: the reference for what `bake` writes into tables.

Redirected tokens: to the embedding module's output on token t is added Σ_s P(s | t) · (how far s moves), times the factor
that the module multiplies rows of its table with; where the row is meant as it is stored, rounded, the difference that makes.
Where the output layer has the same table, to the logit of token t is added h·(the same sum), h being what the layer is given.

Silenced tokens: what the output layer gives for token t, with h what it reads and w the direction of the silence,

    silence    becomes −β·w·h               tied   −β·w·h is added, and −β·w to the token's embedding
    quieten    −n·w·h is added
    by a bias  −DROP or −n is added
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .redirect import Redirection
    from .script_edit import ScriptEdit
    from .silence import Silence


@contextmanager
def redirected(embedding: Any, redirection: "Redirection | None", stored: str | None = None) -> Iterator[None]:
    """Move tokens of a live model while the block runs. `embedding` is its `get_input_embeddings()`.

    `stored` is the dtype, as safetensors name it, that the moved rows are rounded to; none by default.
    """
    if redirection is None:
        yield
        return
    handle = embedding.register_forward_hook(_move(embedding, redirection, stored))
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def written(head: Any, redirection: "Redirection") -> Iterator[None]:
    """Move the rows of a live model's output layer while the block runs. `head` is its `get_output_embeddings()`."""
    import torch

    ids, shares, moves = map(torch.from_numpy, (redirection.ids, redirection.shares, redirection.moves))

    def add(module: Any, inputs: Any, output: Any) -> Any:
        along = inputs[0].double() @ moves.to(output.device).T  # (…, S)
        changed = output.clone()
        changed[..., ids.to(output.device)] += (along @ shares.to(output.device).T).to(output.dtype)
        return changed

    handle = head.register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()


def _move(embedding: Any, redirection: "Redirection", stored: str | None) -> Any:
    import torch

    from ..files.floats import NAMES

    shares = torch.zeros(len(embedding.weight), len(redirection.moves), dtype=torch.float64)  # (V, S)
    shares[torch.from_numpy(redirection.ids)] = torch.from_numpy(redirection.shares)
    moves = torch.from_numpy(redirection.moves)
    scale = _scale(embedding)

    def move(module: Any, inputs: Any, output: Any) -> Any:
        ids = inputs[0]
        delta = shares.to(ids.device)[ids] @ moves.to(ids.device)  # (B, T, d)
        if stored:
            rows = module.weight.detach()[ids].double()
            delta = (rows + delta.to(rows.device)).to(getattr(torch, NAMES[stored])).double() - rows
        return (output.double() + scale * delta.to(output.device)).to(output.dtype)

    return move


@contextmanager
def silenced(
    model: Any, silence: "Silence | None", scripts: "Sequence[ScriptEdit]", *, tied: bool = False
) -> Iterator[None]:
    """Keep a live model from writing scripts, as a recipe's `scripts` say, while the block runs."""
    if silence is None or not scripts:
        yield
        return
    handles = [model.get_output_embeddings().register_forward_hook(_hold_down(silence, scripts, tied))]
    if tied:
        embedding = model.get_input_embeddings()
        handles.append(embedding.register_forward_hook(_shift_reading(embedding, silence, scripts)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hold_down(silence: "Silence", scripts: "Sequence[ScriptEdit]", tied: bool) -> Any:
    import torch

    def rewrite(module: Any, inputs: Any, output: Any) -> Any:
        changed = output.clone()
        one = (
            1.0
            if silence.direction is None
            else inputs[0].double() @ torch.from_numpy(silence.direction).to(output.device)
        )
        for edit in scripts:
            where = torch.from_numpy(silence.ids[edit.script]).to(output.device)
            before = output[..., where].double()
            down = torch.as_tensor(_amount(silence, edit) * one, device=output.device)
            down = (down if silence.direction is None else down[..., None]).expand(before.shape)
            replaced = edit.nats is None and silence.direction is not None and not tied
            changed[..., where] = (-down if replaced else before - down).to(output.dtype)
        return changed

    return rewrite


def _shift_reading(embedding: Any, silence: "Silence", scripts: "Sequence[ScriptEdit]") -> Any:
    import torch

    amounts = torch.zeros(len(embedding.weight), dtype=torch.float64)  # (V,)
    for edit in scripts:
        amounts[torch.from_numpy(silence.ids[edit.script])] = _amount(silence, edit)
    scale = _scale(embedding)

    def move(module: Any, inputs: Any, output: Any) -> Any:
        by = amounts.to(output.device)[inputs[0]][..., None] * torch.from_numpy(silence.direction).to(output.device)
        return (output.double() - scale * by).to(output.dtype)

    return move


def _amount(silence: "Silence", edit: "ScriptEdit") -> float:
    """Return what stands before w·h, or before 1 where there is a bias."""
    from .silence import DROP

    if edit.nats is not None:
        return edit.nats
    return silence.floor.strength if silence.floor else DROP


def _scale(embedding: Any) -> float:
    """Return what a module multiplies rows of its table with: √d in Gemma, 1 in most. Measured on its largest row."""
    import torch

    row = embedding.weight.detach().abs().amax(dim=1).argmax()
    out, stored = embedding.forward(row[None])[0].double(), embedding.weight.detach()[row].double()
    place = stored.abs().argmax()
    with torch.inference_mode():
        return float(out[place] / stored[place])
