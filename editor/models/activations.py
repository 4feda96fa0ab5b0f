"""The activation functions of the known families, as plain float64 arithmetic.

    gelu        x · Φ(x)                                       gelu_fast, gelu_new, gelu_pytorch_tanh   its tanh form
    quick_gelu  x · σ(1.702 x)                                 silu, swish   x · σ(x)
    relu        max(x, 0)                                      relu2         max(x, 0)²
    xielu       α_p x² + β x  (x > 0),  α_n (e^min(x, ε) − 1 − x) + β x  (x ≤ 0)

xIELU has learned α_p and α_n in each layer (α_p = softplus of the stored number, α_n = β + softplus of it), so it is read
from the checkpoint; the others are a name in its config.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import CheckpointError, ModelError, reason_of
from ..files import floats
from .families import text_config, uncarried

if TYPE_CHECKING:
    from .target import Target

Float64 = npt.NDArray[np.float64]
Activation = Callable[[Float64], Float64]  # elementwise, any shape

GPT_OSS_LIMIT = 7.0
XIELU = "xielu"
XIELU_DEFAULTS = {"beta": 0.5, "eps": -1e-6}  # where a checkpoint doesn't hold them
_erf = np.vectorize(math.erf, otypes=[np.float64])


def _sigmoid(x: Float64) -> Float64:
    made: Float64 = 0.5 * (1 + np.tanh(x / 2))  # never overflows
    return made


def gelu(x: Float64) -> Float64:
    made: Float64 = 0.5 * x * (1 + _erf(x / math.sqrt(2)))
    return made


def gelu_tanh(x: Float64) -> Float64:
    made: Float64 = 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return made


def quick_gelu(x: Float64) -> Float64:
    return x * _sigmoid(1.702 * x)


def silu(x: Float64) -> Float64:
    return x * _sigmoid(x)


def gpt_oss(x: Float64) -> Float64:
    """x·σ(1.702 x) of x clamped at 7."""
    return quick_gelu(np.minimum(x, GPT_OSS_LIMIT))


def relu(x: Float64) -> Float64:
    return np.maximum(x, 0.0)


def relu2(x: Float64) -> Float64:
    return np.maximum(x, 0.0) ** 2


def xielu(x: Float64, *, alpha_p: float, alpha_n: float, beta: float, eps: float) -> Float64:
    """`alpha_p` and `alpha_n` as they enter the formula, after the softplus."""
    positive = alpha_p * x * x + beta * x
    return np.where(x > 0, positive, (np.expm1(np.minimum(x, eps)) - x) * alpha_n + beta * x)


FUNCTIONS: dict[str, Activation] = {
    "gelu": gelu,
    "gelu_python": gelu,
    "gelu_fast": gelu_tanh,
    "gelu_new": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "gelu_python_tanh": gelu_tanh,
    "quick_gelu": quick_gelu,
    "silu": silu,
    "swish": silu,
    "gpt_oss": gpt_oss,
    "relu": relu,
    "relu2": relu2,
}


def functions(target: "Target") -> list[Activation]:
    """Return the activation function of each layer.

    Raises ModelError for one that is not known, and where something else stands between a neuron's row and its
    activation, so that no constant can be put there; CheckpointError when xIELU's numbers are not in the checkpoint.
    """
    feed_forward = target.feed_forward
    if why := uncarried(target.checkpoint.config):
        raise ModelError(f"{target.source.name} can hold no constants: {why}. Only deactivate and scale work with it.")
    name = function_name(target)
    if name == XIELU:
        return [_xielu_of(target, layer) for layer in range(len(feed_forward.networks))]
    if name not in FUNCTIONS:
        raise ModelError(
            f"{target.source.name} has the activation function {name!r}, which monoglot doesn't know. Known: "
            f"{', '.join([*FUNCTIONS, XIELU])}. Only `deactivate` and `scale` work without it."
        )
    return [FUNCTIONS[name]] * len(feed_forward.networks)


def function_name(target: "Target") -> str:
    """As the family says, or its config; where the config leaves it out, transformers is asked for the default."""
    key = target.feed_forward.family.function
    if key.startswith("="):
        return key[1:]
    given = text_config(target.checkpoint.config).get(key)
    return str(_default(target, key) if given is None else given)


def _default(target: "Target", key: str) -> Any:
    import transformers

    from .hf import quiet

    try:
        with quiet():
            config = transformers.AutoConfig.from_pretrained(target.source.folder, trust_remote_code=False)
            return getattr(config.get_text_config(decoder=True), key, None)
    except Exception as error:  # of many kinds, as a config may be malformed in many ways
        reason = reason_of(error)
        raise ModelError(
            f"{target.source.name}: its config.json has no {key}, and transformers cannot read it either ({reason})."
        ) from None


def _xielu_of(target: "Target", layer: int) -> Activation:
    family, prefix = target.feed_forward.family, target.feed_forward.prefix
    place = f"{prefix}{family.layer.format(layer)}.{family.activation}"
    stored: dict[str, float] = dict(XIELU_DEFAULTS)
    for name in ("alpha_p", "alpha_n", "beta", "eps"):
        if found := target.checkpoint.find(f"{place}.{name}"):
            shard, tensor = found
            if (
                tensor.dtype not in floats.STORED
                or tensor.end - tensor.begin != np.dtype(floats.STORED[tensor.dtype]).itemsize
            ):
                raise CheckpointError(
                    f"{shard.path}: {tensor.name} is {tensor.dtype} of shape {list(tensor.shape)}, not one number. "
                    "Download the model again."
                )
            with shard.path.open("rb") as file:
                file.seek(tensor.begin)
                raw = np.frombuffer(file.read(tensor.end - tensor.begin), np.dtype(floats.STORED[tensor.dtype]))
            stored[name] = float(floats.to_float64(raw, tensor.dtype)[0])
        elif name not in stored:
            raise CheckpointError(f"{target.checkpoint.folder} has no {place}.{name}. Download the model again.")
    if not all(map(math.isfinite, stored.values())):
        raise CheckpointError(f"{target.checkpoint.folder}: {place} holds NaN or infinity. Download the model again.")
    return partial(
        xielu,
        alpha_p=_softplus(stored["alpha_p"]),
        alpha_n=stored["beta"] + _softplus(stored["alpha_n"]),
        beta=stored["beta"],
        eps=stored["eps"],
    )


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))
