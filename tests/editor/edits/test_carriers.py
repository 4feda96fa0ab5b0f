"""Constants in baked checkpoints, in every family and by every carrier that it can have.

An exact carrier is held against the base under the hooks of `hooks.steered`: pin, add and shift as
docs/method.md defines them.
A calibrated one against hooks written here, which have w·x where the exact ones have 1. Both checkpoints are as
transformers loads them, where a bias that it dropped would be a warning, and so an error.
"""

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support import tiny
from support.tiny import CASES, DENSE_WRAPPERS, EXACT, MOVED, TOLERANCE, Case, live, logits

from monoglot.editor.edits import calibration as calibration_file
from monoglot.editor.edits import carrier_choice
from monoglot.editor.edits.bake import bake
from monoglot.editor.edits.carriers import Carried, carried
from monoglot.editor.edits.hooks import calibrated, steered
from monoglot.editor.edits.plan import Plan
from monoglot.editor.edits.recipe import CONSTANT_OPS
from monoglot.editor.errors import NeuronsError, RecipeError
from monoglot.editor.files.checkpoint import read_checkpoint
from monoglot.editor.live.load import load_model
from monoglot.editor.live.modules import activation_modules, input_modules
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import Target, open_target
from monoglot.editor.neurons import neurons as neurons_file
from monoglot.editor.neurons.neurons import Neurons
from monoglot.editor.proof import bytes as verify
from monoglot.editor.proof.logits import ROUNDING

pytestmark = pytest.mark.usefixtures("one_thread")

PAIRS = [(name, carrier) for carrier, names in EXACT.items() for name in names]


def open_case(saved: Callable[..., Path], name: str, **config: Any) -> Target:
    case = CASES[name]
    return open_target(resolve(str(saved(case.model_type, **case.config, **config))))


def neurons_for(target: Target) -> Neurons:
    return tiny.to_steer(target.feed_forward.layers, target.feed_forward.width)


def without_constants(plan: Plan) -> Plan:
    layers = (replace(x, constants=0 * x.constants, shifts=0 * x.shifts) for x in plan.layers)
    return replace(plan, layers=tuple(layers))


def assert_equal_to_hooks(target: Target, out: Path, what: Carried, relative: float = TOLERANCE) -> None:
    model = live(target.source.folder)
    modules = activation_modules(model, target.feed_forward.family)
    with steered(modules, what.plan):
        hooked = logits(model)
    with steered(modules, without_constants(what.plan)):
        others = logits(model)
    assert_close(logits(load_model(out, device="cpu")), hooked, relative)
    assert float((others - hooked).abs().max()) > max(MOVED, relative * float(hooked.abs().max()))


def assert_close(found: torch.Tensor, wanted: torch.Tensor, relative: float = TOLERANCE) -> None:
    assert float((found - wanted).abs().max()) <= relative * max(1.0, float(wanted.abs().max()))


def test_the_neurons_are_of_every_kind(saved: Callable[..., Path]) -> None:
    """Several to a layer and one alone; held at numbers above, below and at 0; with enough deactivated beside them."""
    target = open_case(saved, "llama")
    for op in CONSTANT_OPS:
        plan = carried(target, tiny.recipe(op, "flag"), neurons_for(target)).plan
        for number, layer in enumerate(plan.layers):
            values = layer.constants + layer.shifts
            assert sorted(np.sign(values[values != 0])) == ([1.0] if number == 1 else [-1.0, -1.0, 1.0, 1.0])
            assert len(layer.freed) == (6 if number == 1 else 7 if op == "pin" else 6)
            assert (layer.factors == 0.5).sum() == 2
            assert len(layer.neurons) == (9 if number == 1 else 13)


@pytest.mark.slow
@pytest.mark.parametrize("op", [*CONSTANT_OPS, "all"])
@pytest.mark.parametrize(("name", "carrier"), PAIRS)
def test_an_exact_carrier_equals_the_hooks(
    saved: Callable[..., Path], name: str, carrier: str, op: str, tmp_path: Path
) -> None:
    target = open_case(saved, name)
    made = bake(target, neurons_for(target), tiny.recipe(op, carrier), tmp_path / "out")
    assert made.carried.carrier == carrier
    assert_equal_to_hooks(target, tmp_path / "out", made.carried)


@pytest.mark.slow
@pytest.mark.parametrize("op", CONSTANT_OPS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(
    ("name", "carrier"),
    [("gpt2", "native"), ("opt", "native"), ("llama", "flag"), ("nemotron", "flag"), ("phi3", "llama")],
)
def test_in_half_precision_it_is_within_the_bound_of_verify(
    saved: Callable[..., Path], name: str, carrier: str, dtype: str, op: str, tmp_path: Path
) -> None:
    target = open_case(saved, name, dtype=dtype)
    made = bake(target, neurons_for(target), tiny.recipe(op, carrier), tmp_path / "out")
    bound = ROUNDING[target.feed_forward.outputs[0][1].dtype]
    assert_equal_to_hooks(target, tmp_path / "out", made.carried, bound)


@pytest.mark.parametrize("op", CONSTANT_OPS)
@pytest.mark.parametrize(("name", "carrier"), [("llama", "flag"), ("bloom", "native"), ("phi3", "llama")])
def test_in_many_shards_it_is_the_same(
    saved: Callable[..., Path], name: str, carrier: str, op: str, tmp_path: Path
) -> None:
    target = open_case(saved, name, shards=True)
    assert len(target.checkpoint.shards) > 3
    made = bake(target, neurons_for(target), tiny.recipe(op, carrier), tmp_path / "out")
    assert_equal_to_hooks(target, tmp_path / "out", made.carried)


@pytest.mark.parametrize("op", CONSTANT_OPS)
def test_the_text_tower_of_a_wrapper_has_the_flag(saved: Callable[..., Path], op: str, tmp_path: Path) -> None:
    target = open_target(resolve(str(saved("llava"))))
    made = bake(target, neurons_for(target), tiny.recipe(op, "flag"), tmp_path / "out")
    assert_equal_to_hooks(target, tmp_path / "out", made.carried)


@pytest.mark.parametrize("op", CONSTANT_OPS)
def test_layers_without_a_network_leave_the_flag_to_those_that_have_one(
    saved: Callable[..., Path], op: str, tmp_path: Path
) -> None:
    """Nemotron-H without experts: its flag gives biases to the layers that are feed-forward networks, and to no other."""
    tiny.need("nemotron_h")
    target = open_target(resolve(str(saved("nemotron_h", hybrid_override_pattern="-M-*-", num_hidden_layers=5))))
    assert [block.name for block in target.feed_forward.networks] == ["0", "2", "4"]
    made = bake(target, tiny.to_steer(3, target.feed_forward.width), tiny.recipe(op, "flag"), tmp_path / "out")
    assert made.carried.carrier == "flag"
    assert_equal_to_hooks(target, tmp_path / "out", made.carried)
    before, after = (
        {tensor.name for _, tensor in read_checkpoint(folder).tensors()}
        for folder in (target.source.folder, tmp_path / "out")
    )
    assert after - before == {
        f"{target.feed_forward.prefix}layers.{layer}.mixer.{projection}.bias"
        for layer in (0, 2, 4)
        for projection in ("up_proj", "down_proj")
    }


# --- calibrated -----------------------------------------------------------------------------------------------------


@contextmanager
def stand_in(target: Target, plan: Plan, calibration: calibration_file.Calibration, op: str) -> Iterator[None]:
    """The base with w·x for the constant 1: a pinned neuron's activation function gets t·w·x, and what it puts out is
    multiplied by c/act(t); z_j + δ·w·x where it is shifted; a_j + δ·act(t·w·x)/act(t) where it is added to, or a_j + δ in
    a plain network whose output has a bias."""
    model, family = live(target.source.folder), target.feed_forward.family
    names = {tensor.name for _, tensor in target.checkpoint.tensors()}
    handles: list[Any] = []
    for number, (module, reads) in enumerate(
        zip(activation_modules(model, family), input_modules(model, family), strict=True)
    ):
        layer, act = plan.layers[number], copy.deepcopy(module)
        w, t = torch.from_numpy(calibration.directions[number]), float(calibration.levels[number])
        act_t = float(act(torch.tensor([t])).detach()[0])
        in_a_bias = (
            family.up is None and not family.fused and target.feed_forward.name(family.out, number, "bias") in names
        )
        seen: dict[str, torch.Tensor] = {}
        each = list(
            zip(layer.neurons.tolist(), layer.factors.tolist(), (layer.constants + layer.shifts).tolist(), strict=True)
        )

        def look(m: Any, inputs: Any, seen: Any = seen, w: torch.Tensor = w) -> None:
            seen["s"] = (inputs[0].double() @ w).float()

        def before(m: Any, inputs: Any, seen: Any = seen, t: float = t, each: Any = each) -> Any:
            z = inputs[0].clone()
            for j, _, value in each:
                if value and op == "pin":
                    z[..., j] = t * seen["s"]
                elif value and op == "shift":
                    z[..., j] += value * seen["s"]
            return (z,)

        def after(m: Any, inputs: Any, output: Any, seen: Any = seen, t: float = t, act: Any = act, act_t: float = act_t,
                  each: Any = each, in_a_bias: bool = in_a_bias) -> Any:  # fmt: skip
            a = output.clone()
            for j, factor, value in each:
                if value and op == "pin":
                    a[..., j] *= value / act_t
                elif value and op == "add":
                    a[..., j] += value if in_a_bias else value / act_t * act(t * seen["s"])
                else:
                    a[..., j] *= factor
            return a

        handles += [
            reads.register_forward_pre_hook(look),
            module.register_forward_pre_hook(before),
            module.register_forward_hook(after),
        ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


REFUSED = ("gemma3n+sparse", "falcon_h1+multipliers")  # no constant can be put there: see test_families
CALIBRATED = {name: case for name, case in CASES.items() if name not in REFUSED} | {
    name: Case(name, {}) for name in DENSE_WRAPPERS
}


@pytest.mark.slow
@pytest.mark.parametrize("op", CONSTANT_OPS)
@pytest.mark.parametrize("case", CALIBRATED.values(), ids=CALIBRATED)
def test_calibrated_equals_hooks_with_the_direction_for_one(
    saved: Callable[..., Path], case: Case, op: str, tmp_path: Path
) -> None:
    """On a direction that is nothing like 1, so that it matters where it stands; and shapes, names and config are the
    base's byte for byte."""
    target, out = open_target(resolve(str(saved(case.model_type, **case.config)))), tmp_path / "out"
    direction = tiny.by_hand(target)
    made = bake(target, neurons_for(target), tiny.recipe(op, "calibrated"), out, calibration=direction)
    model, family = live(target.source.folder), target.feed_forward.family
    with stand_in(target, made.carried.plan, direction, op):
        hooked = logits(model)
    modules = activation_modules(model, family)
    with steered(modules, without_constants(made.carried.plan)):
        others = logits(model)
    assert_close(logits(load_model(out, device="cpu")), hooked)
    assert float((others - hooked).abs().max()) > MOVED
    plain = not family.gated and target.checkpoint.find(target.feed_forward.name(family.out, 0, "bias")) is not None
    with calibrated(modules, input_modules(model, family), made.carried.plan, direction, exact_add=plain):
        assert_close(logits(model), hooked)
    assert (out / "config.json").read_bytes() == (target.source.folder / "config.json").read_bytes()
    shards = [(shard.path.name, shard.header, shard.size) for shard in read_checkpoint(out).shards]
    assert shards == [(shard.path.name, shard.header, shard.size) for shard in target.checkpoint.shards]


# --- which a model can have -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_carriers_are_those_of_the_table(saved: Callable[..., Path], name: str) -> None:
    target = open_case(saved, name)
    possible = {carrier for carrier, why in carrier_choice.refusals(target).items() if why is None}
    if name in REFUSED:
        assert not possible
        with pytest.raises(RecipeError, match=r"can hold no constants: .* Use deactivate or scale"):
            carrier_choice.choose("auto", target)
        return
    assert possible == {"calibrated", *(carrier for carrier, names in EXACT.items() if name in names)}
    assert carrier_choice.choose("auto", target) == ("native" if name in EXACT["native"] else "calibrated")


@pytest.mark.parametrize(
    ("name", "carrier", "message"),
    [
        ("llama", "native", r"by native: its feed-forward layers have no biases\. It can by flag, calibrated"),
        ("llama+mlp_bias", "flag", r"by flag: mlp_bias is on already\. It can by native, calibrated: `carrier` native"),
        ("gpt2", "flag", r"by flag: gpt2 has no config key that turns biases on\. It can by native, calibrated"),
        ("gemma", "llama", r"by llama: only mistral, qwen2, phi3 can be written as a Llama, not gemma\. It can by"),
        ("mistral", "llama", r"by llama: this mistral has a sliding window, and Llama has none\. It can by calibrated"),
        ("qwen2", "native", r"It can by llama, calibrated: `carrier` llama"),
    ],
)  # fmt: skip
def test_a_carrier_that_the_model_cannot_have_is_refused_with_those_it_can(
    saved: Callable[..., Path], name: str, carrier: str, message: str, tmp_path: Path
) -> None:
    target = open_case(saved, name)
    with pytest.raises(RecipeError, match=message):
        bake(target, neurons_for(target), tiny.recipe("pin", carrier), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["llama", "mistral"])
def test_biases_that_the_config_does_not_ask_for_are_no_place_for_a_constant(
    saved: Callable[..., Path], name: str, tmp_path: Path
) -> None:
    """Most runtimes drop them in silence."""
    folder = tmp_path / "base"
    folder.mkdir()
    base = open_case(saved, name).source.folder
    (folder / "config.json").write_bytes((base / "config.json").read_bytes())
    tensors = load_file(base / "model.safetensors")
    tensors |= {
        key.replace("weight", "bias"): torch.ones(len(value)) for key, value in tensors.items() if ".mlp." in key
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    target = open_target(resolve(str(folder)))
    for carrier in ("auto", "native", "calibrated"):
        with pytest.raises(RecipeError, match=r"base holds model\.layers\.0\.mlp\..*bias \(9 such .* does not ask for"):
            carried(target, tiny.recipe("pin", carrier), neurons_for(target), tiny.by_hand(target))
    plain = replace(tiny.recipe("pin"), edits=tiny.recipe("pin").edits[:1])
    assert carried(target, plain, neurons_for(target)).carrier is None


def test_native_means_every_layer(saved: Callable[..., Path], tmp_path: Path) -> None:
    """A file that lacks a single one of the biases has no place for the constants of that layer."""
    base = open_case(saved, "gpt2").source.folder
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_bytes((base / "config.json").read_bytes())
    tensors = load_file(base / "model.safetensors")
    del tensors["transformer.h.2.mlp.c_proj.bias"]
    save_file(tensors, tmp_path / "base" / "model.safetensors", metadata={"format": "pt"})
    assert carrier_choice.refusals(open_target(resolve(str(tmp_path / "base"))))["native"]


@pytest.mark.parametrize("op", ["deactivate", "scale"])
def test_without_a_constant_there_is_no_carrier(saved: Callable[..., Path], op: str) -> None:
    """Whichever is asked for, and no calibration is needed."""
    target = open_case(saved, "gemma")
    edits = tuple(edit for edit in tiny.recipe("pin").edits if edit.op == op)
    for carrier in ("auto", "native", "calibrated"):
        found = carried(target, replace(tiny.recipe("pin", carrier), edits=edits), neurons_for(target))
        assert (found.carrier, found.calibration, found.left_out) == (None, None, ())


def test_pin_needs_its_value(saved: Callable[..., Path]) -> None:
    target = open_case(saved, "gpt2")
    recipe, neurons = tiny.recipe("pin"), neurons_for(target)
    with pytest.raises(
        NeuronsError, match=r"the neurons of xx have no mean to pin to\. Find them in statistics made with"
    ):
        carried(target, recipe, replace(neurons, values={}))
    median = replace(recipe, edits=tuple(replace(e, value="median") if e.value else e for e in recipe.edits))
    with pytest.raises(NeuronsError, match=r"no median to pin to, they have mean\. Use `value` mean, or .*--quantiles"):
        carried(target, median, neurons)


# --- calibrations that are not good enough --------------------------------------------------------------------------


def test_a_calibration_is_needed_and_of_this_model(saved: Callable[..., Path]) -> None:
    target = open_case(saved, "qwen3")
    neurons, made = neurons_for(target), tiny.by_hand(target)
    with pytest.raises(
        RecipeError, match=r"qwen3 has no biases .*detect --calibrate`, and name the file with `calibration`"
    ):
        carried(target, tiny.recipe("pin"), neurons)
    with pytest.raises(
        RecipeError, match=r"of a model with fingerprint 000000000000…, qwen3 has .*Calibrate this model"
    ):
        carried(target, tiny.recipe("pin"), neurons, replace(made, fingerprint="0" * 64))


@pytest.mark.parametrize("wrong", ["a layer more", "a dimension less", "an error less"])
def test_a_calibration_of_another_shape_is_refused(saved: Callable[..., Path], wrong: str) -> None:
    """A file that was made by hand may have the fingerprint and not the shape."""
    target = open_case(saved, "qwen3")
    made = tiny.by_hand(target)
    other = {
        "a layer more": replace(
            made, directions=np.ones((4, 16)), levels=np.ones(4), ridge=np.ones(4), errors=made.errors[:1] * 4
        ),
        "a dimension less": replace(made, directions=made.directions[:, 1:]),
        "an error less": replace(made, errors=made.errors[1:]),
    }[wrong]
    with pytest.raises(RecipeError, match="the calibration does not have the shape of qwen3"):
        carried(target, tiny.recipe("pin"), neurons_for(target), other)


def with_errors(made: calibration_file.Calibration, op: str, *errors: float) -> calibration_file.Calibration:
    """One error for each layer, where the operation has it: a shift before the activation function, the others after."""
    each = zip(made.errors, errors, strict=True)
    if op == "shift":
        return replace(made, errors=tuple(replace(e, mean=1 - v / 2**0.5, deviation=v / 2**0.5) for e, v in each))
    return replace(made, errors=tuple(replace(e, after=v) for e, v in each))


@pytest.mark.parametrize("op", CONSTANT_OPS)
def test_a_calibration_above_the_tolerance_is_refused_or_left_out(
    saved: Callable[..., Path], op: str, tmp_path: Path
) -> None:
    """Left out is what needs a constant: the layer's deactivations and scalings stay."""
    target = open_case(saved, "qwen3")
    neurons, made = neurons_for(target), tiny.by_hand(target)
    made = with_errors(made, op, 0.1, 0.21, math.nan)
    message = r"of 2 layers is worse than 0\.15, layer \d at .*`above_tolerance` leave-out"
    with pytest.raises(RecipeError, match=message):
        carried(target, tiny.recipe(op), neurons, made)
    with pytest.raises(RecipeError, match=r"of 1 layers is worse than 0\.22, layer 2 at nan"):
        carried(target, tiny.recipe(op, tolerance=0.22), neurons, made)
    whole = carried(target, tiny.recipe(op), neurons, tiny.by_hand(target))
    part = carried(target, tiny.recipe(op, above_tolerance="leave-out"), neurons, made)
    assert (whole.left_out, part.left_out) == ((), (1, 2))
    assert part.plan.layers[0].constants.tolist() == whole.plan.layers[0].constants.tolist()
    for layer, before in zip(part.plan.layers[1:], whole.plan.layers[1:], strict=True):
        kept = (before.constants == 0) & (before.shifts == 0)
        assert not layer.constant
        assert layer.neurons.tolist() == before.neurons[kept].tolist()
        assert layer.factors.tolist() == before.factors[kept].tolist()
        assert len(layer.freed) == len(before.freed)
    out = tmp_path / "out"
    baked = bake(target, neurons, tiny.recipe(op, above_tolerance="leave-out"), out, calibration=made)
    carrier = baked.manifest.carrier
    assert carrier is not None and carrier.layers_left_out == (1, 2)
    with stand_in(target, part.plan, made, op):
        hooked = logits(live(target.source.folder))
    assert_close(logits(load_model(out, device="cpu")), hooked)
    with pytest.raises(RecipeError, match="no layer is calibrated well enough"):
        carried(target, tiny.recipe(op, above_tolerance="leave-out"), neurons, with_errors(made, op, 1.0, 1.0, 1.0))


def test_only_the_error_of_the_operation_counts(saved: Callable[..., Path]) -> None:
    """A shift does not care what comes after the activation function, nor the others what comes before."""
    target = open_case(saved, "qwen3")
    neurons, made = neurons_for(target), tiny.by_hand(target)
    before, after = with_errors(made, "shift", 9.0, 9.0, 9.0), with_errors(made, "pin", 9.0, 9.0, 9.0)
    for op, fine, poor in (("pin", before, after), ("add", before, after), ("shift", after, before)):
        assert carried(target, tiny.recipe(op), neurons, fine).left_out == ()
        with pytest.raises(RecipeError, match="of 3 layers is worse than"):
            carried(target, tiny.recipe(op), neurons, poor)


# --- spare neurons --------------------------------------------------------------------------------------------------


def few_slots(spare: int, shared: int = 0, off: int = 1) -> Neurons:
    """In each layer 5 neurons of `xx`, one deactivated or none, and spare ones, the first `shared` of which are edited
    anyway."""
    layers = range(tiny.LAYERS)
    own = {"xx": np.arange(5), "off": np.array([9])[:off], "half": np.array([11])}
    return Neurons(
        {language: tuple(one for _ in layers) for language, one in own.items()},
        {"mean": {language: tuple(np.ones(len(one)) for _ in layers) for language, one in own.items()}},
        spare=tuple(np.array([11, 9][:shared] + [20, 6, 23, 13, 8, 7][:spare]) for _ in layers),
    )


@pytest.mark.parametrize(("name", "carrier"), [("llama", "flag"), ("glm4", "calibrated"), ("mpt", "calibrated")])
def test_spare_neurons_give_their_places_to_what_is_added(
    saved: Callable[..., Path], name: str, carrier: str, tmp_path: Path
) -> None:
    """As many as are missing and no more, the least needed first, none that has something to do; they are deactivated, and
    the checkpoint is the hooks' for it."""
    target, neurons = open_case(saved, name), few_slots(6, shared=2)
    needed = 1 if name == "mpt" else 5
    found = carried(target, tiny.recipe("add", carrier), neurons, tiny.by_hand(target))
    assert found.spared == (needed - 1) * tiny.LAYERS
    for layer in found.plan.layers:
        assert layer.freed.tolist() == sorted([9, 20, 6, 23, 13][:needed])
        assert (np.diff(layer.neurons) > 0).all()
        assert layer.factors[np.isin(layer.neurons, [11])] == [0.5]
        assert layer.constants[:5].tolist() == [1.5] * 5
    made = bake(target, neurons, tiny.recipe("add", carrier), tmp_path / "out", calibration=tiny.by_hand(target))
    assert made.carried.spared == found.spared
    if carrier == "flag":
        assert_equal_to_hooks(target, tmp_path / "out", made.carried)
    else:
        with stand_in(target, found.plan, tiny.by_hand(target), "add"):
            hooked = logits(live(target.source.folder))
        assert_close(logits(load_model(tmp_path / "out", device="cpu")), hooked)
    own = neurons_file.load(tmp_path / "out" / "neurons.json")
    assert verify.verify_bytes(tmp_path / "out", target, own).problems == ()


def test_no_spare_neuron_is_taken_where_none_is_needed(saved: Callable[..., Path]) -> None:
    """Not for pin or shift, not with a bias at the output, not where the recipe says so, not in a layer left out."""
    for name, op, carrier in (("llama", "pin", "flag"), ("llama", "shift", "flag"), ("gpt2", "add", "native")):
        target = open_case(saved, name)
        assert carried(target, tiny.recipe(op, carrier), few_slots(6, off=0)).spared == 0
    target = open_case(saved, "gpt2")
    assert carried(target, tiny.recipe("add", "calibrated"), few_slots(6, off=0), tiny.by_hand(target)).spared == 0
    target = open_case(saved, "llama")
    assert carried(target, tiny.recipe("add", "flag", slots="deactivated"), few_slots(6)).spared == 0
    target = open_case(saved, "qwen3")
    made = with_errors(tiny.by_hand(target), "add", 0.1, 9.0, 0.1)
    found = carried(target, tiny.recipe("add", above_tolerance="leave-out"), few_slots(6), made)
    assert (found.left_out, found.spared) == ((1,), 8)
    assert found.plan.layers[1].neurons.tolist() == [9, 11]


def test_too_few_spare_neurons_are_said(saved: Callable[..., Path], tmp_path: Path) -> None:
    target = open_case(saved, "llama")
    for neurons, missing in ((few_slots(3), 1), (few_slots(0), 4), (replace(few_slots(6), spare=()), 4)):
        with pytest.raises(RecipeError, match=rf"layer 0: add puts 5 second neurons .* and {missing} are missing"):
            bake(target, neurons, tiny.recipe("add", "flag"), tmp_path / "out")


# --- calibrations of layers that need none --------------------------------------------------------------------------


def test_a_layer_without_constants_may_be_calibrated_as_badly_as_it_likes(saved: Callable[..., Path]) -> None:
    target = open_case(saved, "qwen3")
    made, neurons = tiny.by_hand(target), neurons_for(target)
    made = replace(made, errors=(made.errors[0], replace(made.errors[1], after=9.0), made.errors[2]))
    for known in (neurons.indices, neurons.values["mean"]):
        known["xx"] = (known["xx"][0], known["xx"][1][:0], known["xx"][2])  # type: ignore[index]
    assert carried(target, tiny.recipe("pin"), neurons, made).left_out == ()
