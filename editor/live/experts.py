"""The experts of a live mixture, each with a module for its activation function.

transformers runs all experts of a layer in one module, by one of several implementations, none of which has a place where the
activation of a single neuron could be seen. `activations` gives such a module another way to run: a plain loop over the
experts that were chosen, each with an activation module of its own, so that hooks attach to an expert as they do to a layer.
The module computes what it did, whichever implementation was chosen.

    out[t] = Σ_e w[t, e] · W_out_e (act(gate_e x_t) · up_e x_t)           over the experts e that token t was given

While an expert's activation module runs, its `tokens` says which tokens of the batch, flattened, its rows are.
"""

from functools import partial
from typing import Any

from ..errors import ModelError

PLACE = "monoglot_activations"


def activations(experts: Any) -> list[Any]:
    """Return the activation modules of a transformers module of experts, by their numbers.

    Raises ModelError for a module that is laid out, or gates, in a way that is not known.
    """
    if not hasattr(experts, PLACE):
        import torch

        _check(experts)
        modules = torch.nn.ModuleList(_activation(experts) for _ in range(experts.num_experts))
        setattr(experts, PLACE, modules)
        experts.forward = partial(_forward, experts)
    return list(getattr(experts, PLACE))


def _check(experts: Any) -> None:
    parts = ("num_experts", "down_proj", "has_gate", "has_bias", "is_transposed", "is_concatenated")
    gate = getattr(type(experts), "_apply_gate", None)
    plain = getattr(gate, "__name__", "") == "_default_apply_gate" or not getattr(experts, "has_gate", True)
    if not all(hasattr(experts, part) for part in parts) or not (plain or _is_glu(experts)):
        raise ModelError(
            f"the installed transformers runs the experts of {type(experts).__name__} in a way that monoglot doesn't know. "
            "Install a version that it was tested with (see its constraints.txt)."
        )


def _is_glu(experts: Any) -> bool:
    """Whether it gates as gpt-oss does: g·σ(α·g)·(up + 1), both clamped."""
    return type(experts).__name__ == "GptOssExperts" and hasattr(experts, "alpha") and hasattr(experts, "limit")


def _activation(experts: Any) -> Any:
    import torch

    class Activation(torch.nn.Module):
        """act of one expert: pre-activations in, activations out, (tokens, width)."""

        tokens: Any = None

        def forward(self, z: Any) -> Any:
            if _is_glu(experts):
                z = z.clamp(max=experts.limit)
                return z * torch.sigmoid(z * experts.alpha)
            return experts.act_fn(z)

    return Activation()


def _forward(experts: Any, hidden_states: Any, top_k_index: Any, top_k_weights: Any) -> Any:
    """hidden_states (T, d), top_k_index and top_k_weights (T, k)."""
    import torch

    out = torch.zeros_like(hidden_states)
    for expert, module in enumerate(getattr(experts, PLACE)):
        tokens, place = torch.where(top_k_index == expert)
        if len(tokens):
            made = _one(experts, expert, module, hidden_states[tokens], tokens) * top_k_weights[tokens, place, None]
            out.index_add_(0, tokens, made.to(out.dtype))
    return out


def _one(experts: Any, expert: int, activation: Any, x: Any, tokens: Any) -> Any:
    """Return what one expert makes of its tokens, (n, d)."""
    into = _times(experts, "gate_up_proj" if experts.has_gate else "up_proj", expert, x)
    up: Any = None
    if experts.has_gate:
        into, up = into.chunk(2, dim=-1) if experts.is_concatenated else (into[..., ::2], into[..., 1::2])
    activation.tokens = tokens
    a = activation(into)
    if _is_glu(experts):
        a = a * (up.clamp(min=-experts.limit, max=experts.limit) + 1)
    elif up is not None:
        a = a * up
    return _times(experts, "down_proj", expert, a)


def _times(experts: Any, projection: str, expert: int, x: Any) -> Any:
    import torch

    weight = getattr(experts, projection)[expert]
    bias = getattr(experts, f"{projection}_bias")[expert] if experts.has_bias else None
    return torch.nn.functional.linear(x, weight.T if experts.is_transposed else weight, bias)
