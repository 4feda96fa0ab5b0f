"""What becomes of rows, columns and biases, against the formulas of docs/method.md, computed one neuron at a time.

The networks are computed from the tensors of files, under names written here and not taken from the table of families;
the edits on single tensors from arrays that are written out.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support import tiny
from support.tiny import MOVED, TOLERANCE, logits

from monoglot.editor.edits.bake import bake
from monoglot.editor.edits.recipe import Edit, Recipe
from monoglot.editor.edits.tensor_edits import Editing, Rounding, TensorEdit, exact_level
from monoglot.editor.errors import CheckpointError, RecipeError
from monoglot.editor.files import floats
from monoglot.editor.files.checkpoint import Tensor
from monoglot.editor.live.load import load_model
from monoglot.editor.live.modules import activation_modules
from monoglot.editor.models.activations import FUNCTIONS, xielu
from monoglot.editor.models.families import family_of
from monoglot.editor.models.identity import Base
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import open_target
from monoglot.editor.neurons.neurons import Neurons

pytestmark = pytest.mark.usefixtures("one_thread")


def silu(x: torch.Tensor) -> torch.Tensor:
    return x / (1 + torch.exp(-x))


def gelu(x: torch.Tensor) -> torch.Tensor:
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def gelu_tanh(x: torch.Tensor) -> torch.Tensor:
    return x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2


def relu(x: torch.Tensor) -> torch.Tensor:
    return x * (x > 0)


def relu_squared(x: torch.Tensor) -> torch.Tensor:
    return relu(x) ** 2


class Layout(NamedTuple):
    """Where one layer's network lies, as anyone can read in a file of that family. `reads` and `writes` are the modules
    whose input and output are the network's."""

    layer: str
    reads: str
    writes: str
    act: Callable[[torch.Tensor], torch.Tensor]
    kind: str  # plain, gated, fused, conv1d


LAYOUTS = {
    "llama": Layout("model.layers.{}.mlp", "gate_proj", "down_proj", silu, "gated"),
    "gemma": Layout("model.layers.{}.mlp", "gate_proj", "down_proj", gelu_tanh, "gated"),
    "nemotron": Layout("model.layers.{}.mlp", "up_proj", "down_proj", relu_squared, "plain"),
    "phi3": Layout("model.layers.{}.mlp", "gate_up_proj", "down_proj", silu, "fused"),
    "glm4": Layout("model.layers.{}.mlp", "gate_up_proj", "down_proj", silu, "fused"),
    "phi": Layout("model.layers.{}.mlp", "fc1", "fc2", gelu_tanh, "plain"),
    "opt": Layout("model.decoder.layers.{}", "fc1", "fc2", relu, "plain"),
    "bloom": Layout("transformer.h.{}.mlp", "dense_h_to_4h", "dense_4h_to_h", gelu_tanh, "plain"),
    "falcon": Layout("transformer.h.{}.mlp", "dense_h_to_4h", "dense_4h_to_h", gelu, "plain"),
    "mpt": Layout("transformer.blocks.{}.ffn", "up_proj", "down_proj", gelu, "plain"),
    "gpt2": Layout("transformer.h.{}.mlp", "c_fc", "c_proj", gelu_tanh, "conv1d"),
}
PAIRS = [(model_type, "calibrated") for model_type in LAYOUTS] + [
    ("llama", "flag"), ("nemotron", "flag"), ("falcon", "flag"), ("phi3", "llama"),
    ("phi", "native"), ("opt", "native"), ("bloom", "native"), ("gpt2", "native"),
]  # fmt: skip

Does = dict[int, tuple[str, float]]  # neuron -> operation, and its number


def by_hand(
    layout: Layout,
    tensors: dict[str, torch.Tensor],
    layer: int,
    x: torch.Tensor,
    does: Does,
    constant: tuple[torch.Tensor, float] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The formula of docs/method.md, one neuron at a time: activations (tokens, d_ff) and the network's output (tokens, d).
    `constant` is what a calibrated carrier has for 1: s = w·x, (tokens,), and the level t."""
    start = layout.layer.format(layer) + "."
    own = {name.removeprefix(start): value.double() for name, value in tensors.items() if name.startswith(start)}
    into, out = own[f"{layout.reads}.weight"], own[f"{layout.writes}.weight"]
    biases, up_biases = own.get(f"{layout.reads}.bias"), own.get("up_proj.bias")
    width = len(out) if layout.kind == "conv1d" else out.shape[1]
    y = own.get(f"{layout.writes}.bias", torch.zeros(())) + torch.zeros(len(x), 1, dtype=torch.float64)
    activations = []
    one, level_one = torch.ones(len(x), dtype=torch.float64), torch.ones(len(x), dtype=torch.float64)
    if constant is not None:
        s, level = constant
        one, level_one = s, layout.act(level * s) / layout.act(torch.tensor(level, dtype=torch.float64))
    added_one = level_one
    if layout.kind in ("plain", "conv1d") and f"{layout.writes}.bias" in own:
        added_one = torch.ones_like(one)
    for j in range(width):
        row = into[:, j] if layout.kind == "conv1d" else into[j]
        column = out[j] if layout.kind == "conv1d" else out[:, j]
        op, number = does.get(j, ("scale", 1.0))
        z = x @ row + (0 if biases is None else biases[j])
        a = {
            "scale": lambda z=z, k=number: k * layout.act(z),
            "pin": lambda c=number: c * level_one,
            "add": lambda z=z, d=number: layout.act(z) + d * added_one,
            "shift": lambda z=z, d=number: layout.act(z + d * one),
        }[op]()  # type: ignore[operator]
        activations.append(layout.act(z))
        if layout.kind == "gated":
            a = a * (x @ own["up_proj.weight"][j] + (0 if up_biases is None else up_biases[j]))
        elif layout.kind == "fused":
            a = a * (x @ into[width + j])
        y = y + a[:, None] * column
    return torch.stack(activations, dim=1), y


def asked_of(neurons: Neurons, op: str, layer: int) -> Does:
    """What `tiny.recipe` asks for: the constant wins over deactivation, and that over scaling."""
    does: Does = {int(j): ("scale", 0.5) for j in neurons.indices["half"][layer]}
    does |= {int(j): ("scale", 0.0) for j in neurons.indices["off"][layer]}
    ops = {"deactivate": {}, "all": {"xx": "pin", "yy": "add", "zz": "shift"}}.get(op, {"xx": op})
    for language, each in ops.items():
        pairs = zip(neurons.indices[language][layer], neurons.values["mean"][language][layer], strict=True)
        does |= {int(j): (each, 1.5 * float(value)) for j, value in pairs}
    return does


@pytest.mark.slow
@pytest.mark.parametrize("op", ["deactivate", "pin", "add", "shift", "all"])
@pytest.mark.parametrize(("model_type", "carrier"), PAIRS)
def test_baked_equals_the_formula(
    saved: Callable[..., Path], model_type: str, carrier: str, op: str, tmp_path: Path
) -> None:
    """Each baked layer maps its input to what docs/method.md says, computed from the base's tensors: as transformers runs
    it, and as its own tensors say. The activation module of a neuron that is not edited puts out a_j."""
    base, layout = saved(model_type), LAYOUTS[model_type]
    target = open_target(resolve(str(base)))
    neurons, calibration = tiny.to_steer(target.feed_forward.layers, target.feed_forward.width), tiny.by_hand(target)
    recipe = tiny.recipe("pin" if op == "deactivate" else op, carrier)
    if op == "deactivate":
        recipe = replace(recipe, edits=tuple(edit for edit in recipe.edits if not edit.constant))
    bake(target, neurons, recipe, tmp_path / "out", calibration=calibration)
    now = LAYOUTS["llama"] if carrier == "llama" and op != "deactivate" else layout
    model = load_model(tmp_path / "out", device="cpu")
    seen: dict[str, torch.Tensor] = {}
    family = family_of({"model_type": "llama"}) if now is not layout else target.feed_forward.family
    for layer, module in enumerate(activation_modules(model, family)):
        reads = model.get_submodule(f"{now.layer.format(layer)}.{now.reads}")
        writes = model.get_submodule(f"{now.layer.format(layer)}.{now.writes}")
        reads.register_forward_pre_hook(lambda m, inputs, n=layer: seen.__setitem__(f"x{n}", inputs[0].clone()))
        module.register_forward_hook(lambda m, i, output, n=layer: seen.__setitem__(f"a{n}", output.clone()))
        writes.register_forward_hook(lambda m, i, output, n=layer: seen.__setitem__(f"y{n}", output.clone()))
    logits(model)
    seen = {name: tensor.flatten(0, -2).double() for name, tensor in seen.items()}
    tensors = load_file(base / "model.safetensors")
    made = {k: v for path in sorted((tmp_path / "out").glob("*.safetensors")) if path.name != "calibration.monoglot"
            for k, v in load_file(path).items()}  # fmt: skip
    for layer in range(tiny.LAYERS):
        x, does, constant = seen[f"x{layer}"], asked_of(neurons, op, layer), None
        if carrier == "calibrated":
            constant = (x @ torch.from_numpy(calibration.directions[layer]), float(calibration.levels[layer]))
        a, y = by_hand(layout, tensors, layer, x, does, constant)
        others = [j for j in range(a.shape[1]) if j not in does]
        tolerance = {"atol": 2 * TOLERANCE * max(1.0, float(y.abs().max())), "rtol": TOLERANCE}
        torch.testing.assert_close(seen[f"a{layer}"][:, others], a[:, others], atol=TOLERANCE, rtol=TOLERANCE)
        torch.testing.assert_close(seen[f"y{layer}"], y, **tolerance)
        torch.testing.assert_close(by_hand(now, made, layer, x, {})[1], y, **tolerance)
        without = {j: what for j, what in does.items() if what[0] == "scale"} if op != "deactivate" else {}
        assert float((by_hand(layout, tensors, layer, x, without)[1] - y).abs().max()) > MOVED


# --- slots ----------------------------------------------------------------------------------------------------------


def add_to(count: int, off: int, model_type: str, saved: Callable[..., Path], out: Path, carrier: str = "auto") -> None:
    """Add to `count` neurons of layer 1, with `off` others deactivated there, and many in layer 0."""
    target = open_target(resolve(str(saved(model_type))))
    empty = np.zeros(0, np.int64)
    indices = {
        "xx": (empty, np.arange(count), empty),
        "off": (np.arange(9), np.arange(count, count + off), np.arange(9)),
    }
    neurons = Neurons(indices, {"mean": {k: tuple(np.ones(len(one)) for one in v) for k, v in indices.items()}})
    recipe = Recipe(Base("tiny"), (Edit("xx", "add", 1.0, "mean"), Edit("off", "deactivate")), carrier=carrier)
    bake(target, neurons, recipe, out, calibration=tiny.by_hand(target))


@pytest.mark.parametrize(("model_type", "carrier"), [("llama", "flag"), ("qwen3", "calibrated"), ("phi3", "llama")])
def test_add_needs_a_slot_for_each_neuron_of_a_gated_layer(
    saved: Callable[..., Path], model_type: str, carrier: str, tmp_path: Path
) -> None:
    add_to(4, 4, model_type, saved, tmp_path / "enough", carrier)
    message = (
        r"layer 1: add puts 4 second neurons into slots of neurons that the recipe deactivates there, and 3 are missing\. "
        r"Deactivate another language too, .* or use `op` pin\."
    )
    with pytest.raises(RecipeError, match=message):
        add_to(4, 1, model_type, saved, tmp_path / "out", carrier)
    assert not (tmp_path / "out").exists()


def test_add_needs_one_slot_in_a_plain_layer_without_biases_and_none_with_them(
    saved: Callable[..., Path], tmp_path: Path
) -> None:
    add_to(4, 1, "mpt", saved, tmp_path / "one")
    with pytest.raises(RecipeError, match=r"layer 1: add puts 1 second neurons .* and 1 are missing"):
        add_to(4, 0, "mpt", saved, tmp_path / "none")
    for model_type, carrier in [("gpt2", "native"), ("gpt2", "calibrated"), ("falcon", "flag")]:
        add_to(4, 0, model_type, saved, tmp_path / f"{model_type} {carrier}", carrier)


def test_deactivated_neurons_that_are_no_slot_stay_as_they_were(saved: Callable[..., Path], tmp_path: Path) -> None:
    """Their rows are the base's, so only as much changes as must."""
    add_to(2, 5, "llama", saved, tmp_path / "out", "flag")
    base = load_file(saved("llama") / "model.safetensors")
    made = load_file(tmp_path / "out" / "model-00001-of-00002.safetensors")
    for part, expected in (("gate_proj", [2, 3]), ("up_proj", [2, 3]), ("down_proj", [2, 3, 4, 5, 6])):
        name = f"model.layers.1.mlp.{part}.weight"
        changed = (made[name] != base[name]).any(dim=1 if part != "down_proj" else 0)
        assert changed.nonzero().flatten().tolist() == expected


# --- levels ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name != "gpt_oss"])  # it is clamped below such levels
def test_the_activation_of_a_level_is_rounded_by_no_dtype(name: str) -> None:
    """Then what a runtime multiplies with is what W_out was divided by, in bfloat16 arithmetic too."""
    found = exact_level(FUNCTIONS[name])
    assert found.direction is None
    assert found.activated == float(FUNCTIONS[name](np.array([found.level]))[0]) != 0
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        assert torch.tensor(found.level, dtype=dtype).double() == found.level
        assert float(torch.tensor(found.activated, dtype=torch.float64).to(dtype)) == pytest.approx(
            found.activated, rel=1e-6
        )
    smaller = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0][: [1.0, 2.0, 4.0, 8.0, 16.0, 32.0].index(found.level)]
    for level in smaller:
        value = torch.tensor(float(FUNCTIONS[name](np.array([level]))[0]), dtype=torch.float64)
        assert abs(float(value.to(torch.bfloat16)) / float(value) - 1) > 1e-6


def test_a_function_that_every_dtype_rounds_has_a_level_all_the_same() -> None:
    found = exact_level(lambda x: xielu(x, alpha_p=0.8123, alpha_n=0.9, beta=0.5, eps=-1e-6))
    assert (found.level, found.activated) == (1.0, pytest.approx(0.8123 + 0.5))


# --- one tensor -----------------------------------------------------------------------------------------------------


def stored(values: Any, dtype: str) -> tuple[floats.Array, Tensor]:
    array = floats.from_float64(np.asarray(values, np.float64), dtype)
    return array, Tensor("w", dtype, array.shape, 0, array.nbytes)


def edited(array: floats.Array, tensor: Tensor, edit: TensorEdit, rows: int, rounding: Rounding | None = None) -> Any:
    """The whole tensor as float64, edited in blocks of `rows` rows."""
    data, row_bytes = bytearray(array.tobytes()), array.nbytes // len(array)
    editing, rounding = Editing(tensor, edit), rounding or Rounding()
    for row in range(0, len(array), rows):
        view = memoryview(data)[row * row_bytes : min(len(array), row + rows) * row_bytes]
        editing.apply(view, row, rounding, place=Path("file"))
    return floats.to_float64(np.frombuffer(data, array.dtype).reshape(array.shape), tensor.dtype)


@pytest.mark.parametrize("rows", [1, 2, 3, 5])
@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("axis", [0, 1])
def test_factors_and_constants_whatever_the_blocks(axis: int, dtype: str, rows: int) -> None:
    generator = np.random.default_rng(0)
    array, tensor = stored(generator.normal(size=(5, 4)), dtype)
    where, factors = np.array([0, 2, 3]), np.array([0.0, 1.0, -0.7])
    constants = generator.normal(size=(3, 4 if axis == 0 else 5))
    expected = floats.to_float64(array, dtype)
    for n, j in enumerate(where):
        line = factors[n] * (expected[j] if axis == 0 else expected[:, j]) + constants[n]
        expected[(j, slice(None)) if axis == 0 else (slice(None), j)] = torch.from_numpy(line).to(
            {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}[dtype]
        ).double().numpy()  # fmt: skip
    assert (edited(array, tensor, TensorEdit(axis, where, factors, lambda: constants), rows) == expected).all()


@pytest.mark.parametrize("rows", [1, 4])
def test_a_bias_is_a_tensor_with_rows_of_one_number(rows: int) -> None:
    array, tensor = stored([1.0, 2.0, 3.0, 4.0], "F32")
    edit = TensorEdit(0, np.array([1, 3]), np.array([1.0, 0.0]), lambda: np.array([[0.5], [-1.0]]))
    assert edited(array, tensor, edit, rows).tolist() == [1.0, 2.5, 3.0, -1.0]
    assert edited(array, tensor, replace(edit, constants=None), rows).tolist() == [1.0, 2.0, 3.0, 0.0]


@pytest.mark.parametrize("factors", [[0.0], [0.0, 2.0]])
def test_what_is_cleared_is_zero_and_not_minus_zero(factors: list[float]) -> None:
    array, tensor = stored([[-1.0, -2.0], [3.0, -4.0]], "BF16")
    where = np.arange(len(factors))
    made = edited(array, tensor, TensorEdit(1, where, np.array(factors)), 2)
    assert not np.signbit(made[:, 0]).any()


def test_the_rounding_is_relative_to_what_was_asked_for() -> None:
    """A scaled column to itself, a shifted one to the shift, a row that is written anew to all of it."""
    array, tensor = stored([[1.0, 3.0, 5.0], [1.5, 3.5, 5.5]], "BF16")
    edit = TensorEdit(
        1, np.arange(3), np.array([0.3, 1.0, 0.0]), lambda: np.array([[0.0, 0.0], [0.01, 0.02], [0.1, 0.2]])
    )
    rounding = Rounding()
    made = edited(array, tensor, edit, 1, rounding)
    exact = np.array([[0.3, 3.01, 0.1], [0.45, 3.52, 0.2]])
    asked = np.array([[0.3, 0.01, 0.1], [0.45, 0.02, 0.2]])
    expected = math.sqrt(((made - exact) ** 2).sum() / (asked**2).sum())
    assert rounding.relative == {"weights": pytest.approx(expected, rel=0.05)}
    array, tensor = stored([1.0, 2.0], "BF16")
    edited(array, tensor, TensorEdit(0, np.array([0]), np.array([1.0]), lambda: np.array([[0.001]])), 2, rounding)
    assert rounding.relative["biases"] == 1.0  # nothing is left of it


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model_type", "carrier", "op", "strength", "message"),
    [
        ("gpt2", "native", "shift", 1e6, r"transformer\.h\.0\.mlp\.c_fc\.bias: edited weights don't fit in float16"),
        ("gpt2", "native", "add", 1e6, r"mlp\.c_proj\.\w+: edited weights don't fit in float16\. Use a smaller strength"),
        ("gpt2", "native", "pin", 1e7, r"c_proj\.weight: edited weights don't fit in float16"),
        ("llama", "flag", "shift", 1e6, r"gate_proj\.bias: a constant doesn't fit in float16\. Use a smaller `strength`"),
        ("llama", "flag", "pin", 1e9, r"down_proj\.weight: edited weights don't fit in float16"),
        ("llama", "calibrated", "pin", 1e9, r"down_proj\.weight: edited weights don't fit in float16"),
        ("llama", "calibrated", "shift", 1e9, r"gate_proj\.weight: edited weights don't fit in float16"),
    ],
)  # fmt: skip
def test_constants_that_overflow_are_refused(
    saved: Callable[..., Path], model_type: str, carrier: str, op: str, strength: float, message: str, tmp_path: Path
) -> None:
    target = open_target(resolve(str(saved(model_type, dtype="float16"))))
    neurons = tiny.to_steer(target.feed_forward.layers, target.feed_forward.width)
    recipe = tiny.recipe(op, carrier)
    edits = tuple(replace(edit, strength=strength) if edit.constant else edit for edit in recipe.edits)
    with pytest.raises(RecipeError, match=message):
        bake(target, neurons, replace(recipe, edits=edits), tmp_path / "out", calibration=tiny.by_hand(target))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("part", ["gate_proj", "up_proj", "down_proj"])
def test_nan_in_any_tensor_to_edit_is_refused(saved: Callable[..., Path], part: str, tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    base = saved("llama")
    tensors = load_file(base / "model.safetensors")
    tensors[f"model.layers.2.mlp.{part}.weight"][3, 3] = math.nan
    save_file(tensors, tmp_path / "base" / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "base" / "config.json").write_bytes((base / "config.json").read_bytes())
    target = open_target(resolve(str(tmp_path / "base")))
    neurons = tiny.to_steer(tiny.LAYERS, tiny.WIDTH)
    with pytest.raises(CheckpointError, match=rf"model\.layers\.2\.mlp\.{part}\.weight holds NaN"):
        bake(target, neurons, tiny.recipe("add", "flag"), tmp_path / "out")
