"""Where the up projection lies in a GGUF file, by llama.cpp's architectures: the gated ones that monoglot finds neurons in.

In a gated network a_j reaches the output only in its product with the up projection's u_j·x + b_j,

    y = Σ_j act(g_j·x) · (u_j·x + b_j) · W_out[:, j]

so u_j = 0 and b_j = 0 is a_j ≡ 0. Row j of `blk.N.ffn_up.weight` is u_j, and a row is whole quantisation blocks: zero bytes
in its place are exact in every quantisation, which a column of W_out, one number out of many blocks, would not be. Fused
architectures hold gate and up in `ffn_up`, the gate's d_ff rows first.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import CheckpointError, ModelError
from ..files.gguf import Gguf, Tensor
from ..files.packed.gguf_blocks import GgufBlocks

# What the converter calls the families of `families`. Each was run in llama.cpp: tests/real_gguf.py.
SEPARATE = (
    "llama", "mistral3", "granite", "smollm3", "seed_oss", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "stablelm",
    "olmo", "olmo2", "command-r", "cohere2", "exaone4", "hunyuan-dense",
)  # fmt: skip
FUSED = ("phi3", "chatglm", "glm4")
KNOWN = tuple(sorted(SEPARATE + FUSED))
INSTEAD = "Bake the model's safetensors checkpoint, then convert the result to GGUF."


@dataclass(frozen=True)
class Up:
    """The up projections of a model: `layers` of `width` neurons, reading `hidden` numbers.

    `weights` and `biases` are a tensor a layer; row `first` + j, and number `first` + j, are those of neuron j.
    """

    path: Path
    layers: int
    width: int
    hidden: int
    first: int
    weights: tuple[Tensor, ...]
    biases: tuple[Tensor | None, ...]

    def ranges(self, neurons: Sequence[Sequence[int]]) -> Iterator[tuple[int, int]]:
        """Yield the bytes [begin, end) of the file that are the neurons' rows and biases, in no order."""
        for weight, bias, own in zip(self.weights, self.biases, neurons, strict=True):
            rows = [self.first + int(j) for j in own]
            for tensor in (weight, *([bias] if bias else [])):
                for run in GgufBlocks(self.path, tensor).clear_rows(rows)[tensor.name]:
                    yield tensor.begin + run.begin, tensor.begin + run.begin + run.length


def locate_up(gguf: Gguf) -> Up:
    """Find the up projection of every layer.

    Raises ModelError when the architecture isn't a known gated one, is a mixture of experts, or a row is of a type in which
    zero bytes aren't known to be zeros; CheckpointError when tensors are missing or of other shapes than the keys say.
    """
    name = gguf.architecture
    if (kind := gguf.keys.get("general.type", "model")) != "model":
        raise ModelError(f"{gguf.path} holds {kind!r}, not a model. Name the model's own file.")
    if gguf.keys.get(f"{name}.expert_count") or any(".ffn_gate_inp." in tensor for tensor in gguf.tensors):
        raise ModelError(
            f"{gguf.path} is a mixture of experts ({name}), which monoglot does not edit yet: its feed-forward network is "
            "many small ones. Use a dense model."
        )
    if name not in KNOWN:
        raise ModelError(
            f"{gguf.path} is of the architecture {name!r}, whose neurons can't be cleared in a GGUF: it has no gate, or its "
            f"layout is not known. {INSTEAD} Known: {', '.join(KNOWN)}."
        )
    layers, width = _count(gguf, "block_count"), _count(gguf, "feed_forward_length")
    fused = name in FUSED
    outputs = [_tensor(gguf, layer, "ffn_down.weight") for layer in range(layers)]
    hidden = outputs[0].shape[-1] if outputs[0].shape else 0
    weights = [_tensor(gguf, layer, "ffn_up.weight") for layer in range(layers)]
    biases = tuple(gguf.tensors.get(f"blk.{layer}.ffn_up.bias") for layer in range(layers))
    gates = [] if fused else [_tensor(gguf, layer, "ffn_gate.weight") for layer in range(layers)]
    rows = 2 * width if fused else width
    wanted: list[tuple[Tensor, tuple[int, ...]]] = [(one, (width, hidden)) for one in outputs]
    wanted += [(one, (hidden, rows)) for one in (*weights, *gates)] + [(one, (rows,)) for one in biases if one]
    for tensor, shape in wanted:
        if tensor.shape != shape:
            raise CheckpointError(
                f"{gguf.path}: {tensor.name} has shape {list(tensor.shape)}, a {name} model of {width} neurons a layer has "
                f"{list(shape)} there. monoglot does not know this layout. {INSTEAD}"
            )
    for tensor in (*weights, *(one for one in biases if one)):
        if not tensor.type.zero:
            raise ModelError(
                f"{gguf.path}: {tensor.name} is stored as {tensor.type.name}, of which it isn't proved that zero bytes are "
                f"zeros. {INSTEAD}"
            )
    return Up(gguf.path, layers, width, hidden, rows - width, tuple(weights), biases)


def _count(gguf: Gguf, what: str) -> int:
    """Return a number of the architecture, which may stand there once for every layer."""
    key = f"{gguf.architecture}.{what}"
    value = gguf.keys.get(key)
    if isinstance(value, tuple) and len(set(value)) == 1:
        value = value[0]
    if type(value) is not int or not 0 < value <= 2**24:
        raise CheckpointError(
            f"{gguf.path} has the {key} {value!r}: monoglot edits models with as many in every layer. {INSTEAD}"
        )
    return value


def _tensor(gguf: Gguf, layer: int, name: str) -> Tensor:
    if (tensor := gguf.tensors.get(f"blk.{layer}.{name}")) is None:
        raise CheckpointError(
            f"{gguf.path} has no blk.{layer}.{name}, as a {gguf.architecture} model has. It is damaged or of another "
            f"layout. {INSTEAD}"
        )
    return tensor
