"""Every row of the table of families is held against a tiny model of that family as transformers saves and loads it.

The references: forward hooks on the unedited model, and the config classes of transformers. (test_tensor_edits computes the
network neuron by neuron, under names of its own; test_carriers has the edits that need a constant.)
Neurons and weights are random, and every edit must move the logits by more than MOVED, or a test could not fail.
"""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support import tiny
from support.tiny import CASES, IDS, MOVED, TOLERANCE, Case, live, logits
from transformers.activations import ACT2FN
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from monoglot.editor.edits.bake import bake
from monoglot.editor.edits.hooks import steered
from monoglot.editor.edits.plan import Plan
from monoglot.editor.edits.recipe import Edit, Recipe
from monoglot.editor.errors import CheckpointError, ModelError, MonoglotWarning
from monoglot.editor.files.checkpoint import read_checkpoint
from monoglot.editor.live.load import choose_dtype, load_model
from monoglot.editor.live.modules import activation_modules, input_modules, trunk
from monoglot.editor.models.activations import functions
from monoglot.editor.models.families import FAMILIES, KNOWN, Family, family_of, text_config
from monoglot.editor.models.feed_forward import FeedForward, locate
from monoglot.editor.models.identity import Base
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import Target, open_target
from monoglot.editor.neurons.neurons import Neurons

pytestmark = pytest.mark.usefixtures("one_thread")
EDITS = {
    "off": Edit("xx", "deactivate"),
    "half": Edit("xx", "scale", 0.5),
    "triple": Edit("xx", "scale", 3.0),
}


def pick(feed_forward: FeedForward, seed: int = 1) -> Neurons:
    """One to five random neurons in each layer."""
    generator = np.random.default_rng(seed)
    layers = [
        np.sort(generator.choice(feed_forward.width, generator.integers(1, 6), replace=False))
        for _ in range(feed_forward.layers)
    ]
    return Neurons({"xx": tuple(layers)})


def baked(target: Target, edit: Edit, out: Path) -> Plan:
    return bake(target, pick(target.feed_forward), Recipe(Base("tiny"), (edit,)), out).carried.plan


def assert_baked_equals_hooked(base: Path, edit: Edit, out: Path) -> None:
    target = open_target(resolve(str(base)))
    steps = baked(target, edit, out)
    model = live(base)
    with steered(activation_modules(model, target.feed_forward.family), steps):
        hooked = logits(model)
    bound = TOLERANCE * max(1.0, float(hooked.abs().max()))
    assert float((logits(load_model(out, device="cpu")) - hooked).abs().max()) <= bound
    assert float((logits(model) - hooked).abs().max()) > MOVED


@pytest.mark.slow
@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_baked_equals_hooked(saved: Callable[..., Path], case: Case, edit: Edit, tmp_path: Path) -> None:
    assert_baked_equals_hooked(saved(case.model_type, **case.config), edit, tmp_path / "out")


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_trunk_runs_every_activation_module(saved: Callable[..., Path], case: Case) -> None:
    """Statistics run the trunk alone: each layer's module fires once, with (…, d_ff) of every token, and in the order of
    the layers."""
    base = saved(case.model_type, **case.config)
    feed_forward = locate(read_checkpoint(base))
    model = live(base)
    fired: list[tuple[int, torch.Size]] = []
    modules = activation_modules(model, feed_forward.family)
    handles = [
        module.register_forward_hook(lambda m, i, output, layer=layer: fired.append((layer, output.shape)))
        for layer, module in enumerate(modules)
    ]
    try:
        with torch.inference_mode():
            output = trunk(model)(input_ids=IDS, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    assert [layer for layer, _ in fired] == list(range(tiny.LAYERS)) == list(range(feed_forward.layers))
    assert {shape[-1] for _, shape in fired} == {feed_forward.width}
    assert {math.prod(shape[:-1]) for _, shape in fired} == {IDS.numel()}
    assert not hasattr(output, "logits")


BETWEEN = ("gemma3n+sparse", "falcon_h1+multipliers")  # something stands between projection and activation function
WIRED = {name: case for name, case in CASES.items() if name not in BETWEEN}


@pytest.mark.parametrize("case", WIRED.values(), ids=WIRED)
def test_into_activation_up_and_out_are_wired_as_the_table_says(saved: Callable[..., Path], case: Case) -> None:
    """The activation module reads what `into` writes (its first half where gate and up are fused), and `out` reads the
    activation, times what `up` writes (the second half) in a gated family."""
    base = saved(case.model_type, **case.config)
    feed_forward, model = locate(read_checkpoint(base)), live(base)
    family, width, seen = feed_forward.family, feed_forward.width, dict[str, torch.Tensor]()
    modules = activation_modules(model, family)  # they may be made here
    name = {module: name for name, module in model.named_modules()}
    handles = []
    for layer, module in enumerate(modules):
        start = name[module].removesuffix(family.activation)
        watched = {"into": family.into, "up": family.up, "a": family.activation, "out": family.out}
        for part, path in watched.items():
            if path is not None:

                def watch(module: Any, inputs: Any, output: Any, key: str = f"{part}{layer}") -> None:
                    seen[key], seen[f"{key} reads"] = output.clone(), inputs[0].clone()

                handles.append(model.get_submodule(start + path).register_forward_hook(watch))
    logits(model)
    for handle in handles:
        handle.remove()
    for layer in range(feed_forward.layers):
        into, a = seen[f"into{layer}"], seen[f"a{layer}"]
        assert torch.equal(seen[f"a{layer} reads"], into[..., :width])
        through = a * (into[..., width:] if family.fused else seen[f"up{layer}"]) if family.gated else a
        assert torch.equal(seen[f"out{layer} reads"], through)


@pytest.mark.parametrize("name", BETWEEN)
def test_what_stands_between_projection_and_activation_function(saved: Callable[..., Path], name: str) -> None:
    """Gemma 3n keeps the largest pre-activations of each token alone, the share that a normal distribution says, and lowers
    them by the bar; Falcon-H1 multiplies them. No constant can be put there, which `functions` says."""
    case = CASES[name]
    base = saved(case.model_type, **case.config)
    target, model = open_target(resolve(str(base))), live(base)
    family, seen = target.feed_forward.family, dict[str, torch.Tensor]()
    modules = activation_modules(model, family)
    for layer, (module, into) in enumerate(zip(modules, input_modules(model, family), strict=True)):
        share = case.config.get("activation_sparsity_pattern", [0.0] * 3)[layer]
        handles = [
            into.register_forward_hook(lambda m, i, output: seen.update(z=output)),
            module.register_forward_pre_hook(lambda m, inputs: seen.update(read=inputs[0])),
        ]
        logits(model)
        for handle in handles:
            handle.remove()
        z = seen["z"]
        if share:
            bar = z.mean(-1, keepdim=True) + torch.special.ndtri(torch.tensor(share)) * z.std(
                -1, keepdim=True, correction=0
            )
            expected = (z - bar).clamp(min=0)
            assert abs(float((seen["read"] > 0).float().mean()) - (1 - share)) < 0.15  # what is not active: exactly 0
        else:
            expected = z * case.config.get("mlp_multipliers", [1.0])[0]
        torch.testing.assert_close(seen["read"], expected)
    with pytest.raises(ModelError, match="Only deactivate and scale work with it"):
        functions(target)


# --- the columns of the table ---------------------------------------------------------------------------------------


def row(model_type: str) -> Family:
    return family_of({"model_type": model_type})


def test_no_family_has_two_rows() -> None:
    names = [name for family in FAMILIES for name in family.model_types]
    assert len(names) == len(set(names))


BIAS_KEYS = ("mlp_bias", "bias", "use_bias", "enable_bias")


@pytest.mark.slow
@pytest.mark.parametrize("asked", [True, False], ids=["asked", "refused"])
@pytest.mark.parametrize("model_type", tiny.DENSE)
def test_biases_are_where_the_table_says(saved: Callable[..., Path], model_type: str, asked: bool) -> None:
    """With every config key that any family knows turned on, or off, all of the network's projections have a bias or
    none has: as `bias` and `flag` say."""
    family = row(model_type)
    folder = saved(model_type, **dict.fromkeys(BIAS_KEYS, asked))
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        names = set(file.keys())
    expected = (family.bias is not False or family.flag is not None) if asked else family.bias is True
    feed_forward = locate(read_checkpoint(folder))
    for layer in range(feed_forward.layers):
        start = f"{feed_forward.prefix}{family.layer.format(layer)}."
        for projection in filter(None, (family.into, family.up, family.out)):
            assert f"{start}{projection}.weight" in names
            assert (f"{start}{projection}.bias" in names) == expected, projection
        network = start + (family.out.rpartition(".")[0] + "." if "." in family.out else "fc")
        projections = {name for name in names if name.startswith(network) and name.endswith(("weight", "bias"))}
        assert len(projections) == (2 + (family.up is not None)) * (1 + expected)


@pytest.mark.parametrize("model_type", tiny.DENSE)
def test_biases_where_the_config_is_silent(model_type: str) -> None:
    """Many config.json leave out what is the default: `bias` keys are then True, flags are False."""
    tiny.need(model_type)
    family, config = row(model_type), CONFIG_MAPPING[model_type]()
    if isinstance(family.bias, str):
        assert getattr(config, family.bias) is True
    if family.flag:
        assert getattr(config, family.flag) is False


@pytest.mark.slow
@pytest.mark.parametrize("model_type", tiny.DENSE)
def test_the_activation_function_is_the_one_named(saved: Callable[..., Path], model_type: str) -> None:
    """Either always the one that the table names, or the one that the config key names: the default, and another."""
    family, x = row(model_type), torch.linspace(-4, 4, 81)
    key = family.function
    for changed in (None, "relu") if not key.startswith("=") else (None,):
        folder = saved(model_type, **({key: changed} if changed else {}))
        config = text_config(json.loads((folder / "config.json").read_text()))
        name = key[1:] if key.startswith("=") else config[key]
        assert name == (changed or name)
        if name == "xielu":  # has parameters of its own
            continue
        for module in activation_modules(live(folder), family):
            torch.testing.assert_close(module(x), ACT2FN[name](x), atol=1e-6, rtol=0)


def test_gemmas_gelu_is_the_approximation(saved: Callable[..., Path]) -> None:
    """google/gemma-2b says `hidden_act: gelu` and was trained with the tanh approximation."""
    if int(transformers.__version__.partition(".")[0]) < 5:
        pytest.skip("transformers 4 takes gelu by its word")
    (module, *_), x = (
        activation_modules(live(saved("gemma", hidden_act="gelu")), row("gemma")),
        torch.linspace(-4, 4, 81),
    )
    torch.testing.assert_close(module(x), ACT2FN[row("gemma").function[1:]](x), atol=0, rtol=0)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_shapes_are_read_from_the_file(saved: Callable[..., Path], case: Case) -> None:
    base = saved(case.model_type, **case.config)
    feed_forward = locate(read_checkpoint(base))
    factor = {"bloom": 4, "mpt": 4, "gpt_neox_japanese": 2}.get(case.model_type)
    width = factor * tiny.HIDDEN if factor else tiny.WIDTH
    width = tiny.HIDDEN if tiny.HIDDEN in (case.config.get("n_inner"), case.config.get("intermediate_size")) else width
    assert (feed_forward.layers, feed_forward.width, feed_forward.hidden) == (tiny.LAYERS, width, tiny.HIDDEN)
    assert feed_forward.model_type == case.model_type


# --- names that files on the Hub have -------------------------------------------------------------------------------


def renamed(base: Path, out: Path, rename: Callable[[str], str], extra: dict[str, torch.Tensor] | None = None) -> Path:
    """A copy of a checkpoint whose tensors have other names, and perhaps some tensors more."""
    shutil.copytree(base, out)
    tensors = {rename(name): tensor for name, tensor in load_file(base / "model.safetensors").items()}
    assert tensors.keys() != load_file(base / "model.safetensors").keys()
    save_file(tensors | (extra or {}), out / "model.safetensors", metadata={"format": "pt"})
    return out


@pytest.mark.parametrize("model_type", ["gpt2", "bloom"])
def test_old_names_without_prefix(saved: Callable[..., Path], model_type: str, tmp_path: Path) -> None:
    """openai-community/gpt2 and bigscience/bloom name their tensors `h.0.mlp.…`; the former holds its causal mask too."""
    mask = {f"h.{i}.attn.bias": torch.ones(1, 1, 8, 8) for i in range(tiny.LAYERS)} if model_type == "gpt2" else {}
    base = renamed(saved(model_type), tmp_path / "base", lambda name: name.removeprefix("transformer."), mask)
    feed_forward = locate(read_checkpoint(base))
    assert feed_forward.prefix == ""
    assert feed_forward.outputs[1][1].name.startswith("h.1.mlp.")
    assert locate(read_checkpoint(saved(model_type))).prefix == "transformer."
    assert torch.equal(logits(live(base)), logits(live(saved(model_type))))
    assert_baked_equals_hooked(base, EDITS["triple"], tmp_path / "out")


def test_opt_without_its_first_prefix(saved: Callable[..., Path], tmp_path: Path) -> None:
    """The larger OPT checkpoints say `decoder.layers.0.fc2`, not `model.decoder.layers.0.fc2`."""
    base = renamed(saved("opt"), tmp_path / "base", lambda name: name.removeprefix("model."))
    assert locate(read_checkpoint(base)).prefix == "decoder."
    assert_baked_equals_hooked(base, EDITS["off"], tmp_path / "out")


# --- multimodal wrappers --------------------------------------------------------------------------------------------


NEWER = "model.language_model."
PARTS = {  # what precedes the layers in the file, what is no text tower, and W_out
    "gemma4": (NEWER, "model.vision_tower.", "mlp.down_proj"),
    "glm4v": (NEWER, "model.visual.", "mlp.down_proj"),
    "lfm2_vl": (NEWER, "model.vision_tower.", "feed_forward.w2"),
    "qwen2_vl": ("model.", "visual.", "mlp.down_proj"),
    "qwen2_5_vl": ("model.", "visual.", "mlp.down_proj"),
    "qwen3_vl": (NEWER, "model.visual.", "mlp.down_proj"),
    "qwen3_5": (NEWER, "model.visual.", "mlp.down_proj"),
}
WITHOUT_IMAGES = ("qwen3_5",)  # transformers has a class for its text tower alone


@pytest.mark.slow
@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
@pytest.mark.parametrize("wrapper", tiny.DENSE_WRAPPERS)
def test_wrappers_resolve_to_their_text_tower(
    saved: Callable[..., Path], wrapper: str, edit: Edit, tmp_path: Path
) -> None:
    """Loaded by the wrapper's own class, compared on text; everything but the text tower's W_out stays as it was."""
    base, out = saved(wrapper), tmp_path / "out"
    assert_baked_equals_hooked(base, edit, out)
    whole = "ForCausalLM" if wrapper in WITHOUT_IMAGES else "ForConditionalGeneration"
    assert type(load_model(out, device="cpu")).__name__.endswith(whole)
    old, new = load_file(base / "model.safetensors"), load_file(out / "model.safetensors")
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    prefix, vision, down = PARTS.get(wrapper, ("language_model.model.", "vision_tower.", "mlp.down_proj"))
    assert changed == {f"{prefix}layers.{i}.{down}.weight" for i in range(tiny.LAYERS)}
    assert any(name.startswith(vision) for name in old)


@pytest.mark.parametrize("wrapper", tiny.DENSE_WRAPPERS)
def test_the_trunk_of_a_wrapper_is_its_text_tower(saved: Callable[..., Path], wrapper: str) -> None:
    base = saved(wrapper)
    model = live(base)
    fired: list[torch.Size] = []
    modules = activation_modules(model, locate(read_checkpoint(base)).family)
    assert len(modules) == tiny.LAYERS
    handles = [module.register_forward_hook(lambda m, i, output: fired.append(output.shape)) for module in modules]
    with torch.inference_mode():
        output = trunk(model)(input_ids=IDS, use_cache=False)
    for handle in handles:
        handle.remove()
    assert fired == [(*IDS.shape, tiny.WIDTH)] * tiny.LAYERS
    assert not hasattr(output, "logits")
    assert not any(name.startswith("vision") for name, _ in trunk(model).named_modules())


@pytest.mark.parametrize("wrapper", ["gemma3", "llava"])
def test_wrappers_with_new_names(saved: Callable[..., Path], wrapper: str, tmp_path: Path) -> None:
    """Some files name the text tower as the live module is named: `model.language_model.layers.0.…`."""

    def rename(name: str) -> str:
        if name.startswith("language_model.lm_head."):
            return name.removeprefix("language_model.")
        return "model." + name.replace("language_model.model.", "language_model.")

    base = renamed(saved(wrapper), tmp_path / "base", rename)
    assert locate(read_checkpoint(base)).prefix == "model.language_model."
    assert torch.equal(logits(live(base)), logits(live(saved(wrapper))))
    assert_baked_equals_hooked(base, EDITS["off"], tmp_path / "out")


def test_draft_heads_are_neither_counted_nor_touched(saved: Callable[..., Path], tmp_path: Path) -> None:
    """Qwen3.5 files hold a layer that drafts tokens, `mtp.layers.0.…`, laid out as a decoder layer is."""
    drafts = {f"mtp.layers.0.mlp.{name}_proj.weight": torch.ones(30, 30) for name in ("gate", "up", "down")}
    base = tmp_path / "base"
    shutil.copytree(saved("qwen3_5"), base)
    tensors = load_file(base / "model.safetensors") | drafts
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    assert locate(read_checkpoint(base)).layers == tiny.LAYERS
    assert_baked_equals_hooked(base, EDITS["off"], tmp_path / "out")
    after = load_file(tmp_path / "out" / "model.safetensors")
    changed = {name for name in tensors if not torch.equal(tensors[name], after[name])}
    assert changed == {f"{NEWER}layers.{i}.mlp.down_proj.weight" for i in range(tiny.LAYERS)}


@pytest.mark.parametrize("model_type", ["lfm2", "lfm3"])
def test_a_module_for_an_inline_function_changes_nothing(saved: Callable[..., Path], model_type: str) -> None:
    model = load_model(saved(model_type), device="cpu")
    before = logits(model)
    modules = activation_modules(model, row(model_type))
    assert modules == activation_modules(model, row(model_type))
    assert torch.equal(logits(model), before)


def test_a_text_config_without_a_type_is_not_taken_for_one() -> None:
    assert text_config({"model_type": "llama", "text_config": {"hidden_size": 16}})["model_type"] == "llama"
    assert text_config({"model_type": "llava", "text_config": {"model_type": "llama"}})["model_type"] == "llama"


# --- what is refused ------------------------------------------------------------------------------------------------


def fake(folder: Path, config: dict[str, Any], tensors: dict[str, torch.Tensor] | None = None) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors or {"x": torch.zeros(2, 2)}, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("model_type", ["llama4", "dbrx", "jetmoe", "zaya", "longcat_flash", "deepseek_v4"])
def test_mixtures_of_an_unknown_layout_are_refused(model_type: str, tmp_path: Path) -> None:
    tiny.need(model_type)
    whole = CONFIG_MAPPING[model_type]().to_dict()
    whole.pop("quantization_config", None)
    with pytest.raises(ModelError, match=r"mixture of experts of an unknown layout|unknown model family") as caught:
        open_target(resolve(str(fake(tmp_path / "whole", whole))))
    assert "A new one is a row in editor/models/families.py" in str(caught.value)


@pytest.mark.parametrize("config", [{"model_type": "x_moe"}, {"model_type": "x"} | {"n_routed_experts": 64}])
def test_a_mixture_is_known_by_its_name_or_its_experts(config: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="mixture of experts"):
        family_of(config)


@pytest.mark.parametrize(
    "place", ["mlp.experts.0.down_proj.weight", "mlp.experts.down_proj", "block_sparse_moe.output_linear.weight"]
)
def test_experts_in_a_family_that_has_none_are_refused(saved: Callable[..., Path], place: str, tmp_path: Path) -> None:
    shutil.copytree(saved("llama"), tmp_path / "base")
    tensors = load_file(tmp_path / "base" / "model.safetensors")
    tensors[f"model.layers.1.{place}"] = torch.ones(3, 3)
    save_file(tensors, tmp_path / "base" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="is a mixture of experts in a layout that llama models are not known to have"):
        open_target(resolve(str(tmp_path / "base")))


@pytest.mark.parametrize(
    ("model_type", "config", "part"),
    [("doge", {"is_moe": True, "num_experts": 4, "num_experts_per_tok": 2}, "down_embed"), ("llama", {}, "sub_norm")],
)
def test_an_unknown_part_of_the_network_is_refused(
    saved: Callable[..., Path], model_type: str, config: dict[str, Any], part: str, tmp_path: Path
) -> None:
    """Editing what is known of it would edit something else than a neuron."""
    shutil.copytree(saved(model_type, **config), tmp_path / "base")
    if not config:
        tensors = load_file(tmp_path / "base" / "model.safetensors")
        tensors[f"model.layers.1.mlp.{part}.weight"] = torch.ones(3)
        save_file(tensors, tmp_path / "base" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=rf"has a part that {model_type} models don't have, model\.layers\..*{part}"):
        open_target(resolve(str(tmp_path / "base")))


@pytest.mark.parametrize(
    ("model_type", "switch"), [("llama", None), ("doge", "is_moe"), ("gemma4_text", "enable_moe_block")]
)
def test_a_dense_file_whose_config_counts_experts_is_refused(
    saved: Callable[..., Path], model_type: str, switch: str | None, tmp_path: Path
) -> None:
    """Unless the config has them switched off: Doge's counts 16,384 of them in a dense model too."""
    shutil.copytree(saved(model_type), tmp_path / "base")
    switches = {switch: True} if switch else {}
    tiny.edit_config(tmp_path / "base", num_experts=4, **switches)
    with pytest.raises(CheckpointError, match="the config says 4 experts, the file has none"):
        open_target(resolve(str(tmp_path / "base")))
    tiny.edit_config(tmp_path / "base", **({switch: False} if switch else {"num_experts": None}))
    assert not open_target(resolve(str(tmp_path / "base"))).feed_forward.mixture


def test_a_dense_model_of_one_expert_is_not_a_mixture() -> None:
    assert family_of({"model_type": "llama", "num_experts": 1, "num_local_experts": None}) is row("llama")


@pytest.mark.parametrize("model_type", ["rwkv", "t5", None, 7])
def test_an_unknown_family_is_refused_with_the_known_ones(model_type: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="unknown model family") as caught:
        open_target(resolve(str(fake(tmp_path / "model", {"model_type": model_type}))))
    assert all(name in str(caught.value) for name in KNOWN)


@pytest.mark.parametrize("nested", [False, True], ids=["whole", "text tower"])
@pytest.mark.parametrize("method", ["gptq", "awq", "bitsandbytes", "fp8", "compressed-tensors", "mxfp4"])
def test_quantised_checkpoints_are_refused(method: str, nested: bool, tmp_path: Path) -> None:
    config: dict[str, Any] = {"model_type": "llama", "quantization_config": {"quant_method": method, "bits": 4}}
    if nested:
        config = {"model_type": "llava", "text_config": config}
    with pytest.raises(ModelError, match=rf"quantised \({method}\)"):
        open_target(resolve(str(fake(tmp_path / "model", config))))


def test_a_stored_dtype_that_is_not_edited_is_refused(tmp_path: Path) -> None:
    tensors = {"model.layers.0.mlp.down_proj.weight": torch.zeros(4, 6).to(torch.float8_e4m3fn)}
    with pytest.raises(ModelError, match="F8_E4M3"):
        open_target(resolve(str(fake(tmp_path / "model", {"model_type": "llama"}, tensors))))


DOWN = "model.layers.{}.mlp.down_proj.weight"


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({}, r"has no layers\.\*\.mlp\.down_proj\.weight"),
        ({DOWN.format(0): (4, 6), DOWN.format(2): (4, 6)}, "layer 1 has no"),
        ({DOWN.format(0): (4, 6), DOWN.format(1): (5, 6)}, r"has shape \[5, 6\], layer 0 has \[4, 6\]"),
        ({DOWN.format(0): (4,)}, "has shape"),
        ({DOWN.format(0): (4, 6), "language_" + DOWN.format(0): (4, 6)}, "several of its towers"),
        ({"vision_tower." + DOWN.format(0): (4, 6)}, "has no"),
        ({"model.vision_model.layers.0.mlp.down_proj.weight": (4, 6)}, "has no"),
        ({"mtp.layers.0.mlp.down_proj.weight": (4, 6)}, "has no"),
    ],
    ids=["none", "a hole", "outputs differ", "one axis", "two towers", "vision tower", "vision model", "extra head"],
)
def test_layers_that_do_not_fit_are_refused(tensors: dict[str, tuple[int, ...]], message: str, tmp_path: Path) -> None:
    folder = fake(tmp_path / "model", {"model_type": "llama"}, {k: torch.zeros(v) for k, v in tensors.items()})
    with pytest.raises(CheckpointError, match=message):
        locate(read_checkpoint(folder))


def test_layers_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    """In a file layer 10 stands before layer 2."""
    tensors = {DOWN.format(i): torch.zeros(4, 6) for i in range(12)}
    feed_forward = locate(read_checkpoint(fake(tmp_path / "model", {"model_type": "llama"}, tensors)))
    assert [tensor.name for _, tensor in feed_forward.outputs] == [DOWN.format(i) for i in range(12)]


def test_another_towers_layers_do_not_count(tmp_path: Path) -> None:
    """An audio or vision tower with the text tower's own layout, and more layers, is passed by."""
    shapes = {"model.language_model.layers.{}": (2, (4, 6)), "model.vision_tower.layers.{}": (3, (5, 7))}
    tensors = {
        f"{layer.format(i)}.mlp.down_proj.weight": torch.zeros(shape)
        for layer, (count, shape) in shapes.items()
        for i in range(count)
    }
    config = {"model_type": "gemma3", "text_config": {"model_type": "gemma3_text"}}
    feed_forward = locate(read_checkpoint(fake(tmp_path / "model", config, tensors)))
    assert (feed_forward.prefix, feed_forward.layers) == ("model.language_model.", 2)
    assert (feed_forward.width, feed_forward.hidden, feed_forward.model_type) == (6, 4, "gemma3_text")


def test_a_live_model_of_another_layout_is_refused(saved: Callable[..., Path]) -> None:
    with pytest.raises(ModelError, match=r"without h\.\{\}\.mlp\.act"):
        activation_modules(live(saved("llama")), row("gpt2"))


# --- live models ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "bloom", "gemma2", "gemma3", "llava"])
def test_load_model_reads_every_weight(saved: Callable[..., Path], model_type: str) -> None:
    """In evaluation mode, float32 on a CPU, with the weights of the file (tied ones are not missing)."""
    model = live(saved(model_type))
    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    file = load_file(saved(model_type) / "model.safetensors")
    theirs = {name: tensor for name, tensor in file.items() if ".layers.1.mlp." in name or ".h.1.mlp." in name}
    ours = {tensor.data_ptr(): tensor for tensor in model.state_dict().values()}.values()
    assert all(any(torch.equal(tensor, own) for own in ours) for tensor in theirs.values())


@pytest.mark.parametrize("model_type", ["llama", "llava"])
def test_load_model_refuses_missing_weights(saved: Callable[..., Path], model_type: str, tmp_path: Path) -> None:
    """transformers alone would fill them in at random."""
    shutil.copytree(saved(model_type), tmp_path / "base")
    tensors = load_file(tmp_path / "base" / "model.safetensors")
    gone = next(name for name in tensors if name.endswith("layers.1.mlp.down_proj.weight"))
    del tensors[gone]
    save_file(tensors, tmp_path / "base" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks the weights of .*layers\.1\.mlp\.down_proj\.weight \(1 missing"):
        load_model(tmp_path / "base", device="cpu")


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [{"model_type": "nothing_like_it"}, {"model_type": "vit"}, {"hidden_size": 20}, {"hidden_size": "wide"}],
    ids=["unknown", "no language model", "other shapes", "nonsense"],
)
def test_what_transformers_cannot_build_is_a_model_error(
    saved: Callable[..., Path], config: dict[str, Any], tmp_path: Path
) -> None:
    shutil.copytree(saved("llama"), tmp_path / "base")
    tiny.edit_config(tmp_path / "base", **config)
    with pytest.raises(ModelError, match="cannot load base"):
        load_model(tmp_path / "base", device="cpu")


@pytest.mark.parametrize(("model_type", "config"), [("llama", {}), ("mistral", {"mlp_bias": True}), ("llava", {})])
def test_ignored_biases_are_told(
    saved: Callable[..., Path], model_type: str, config: dict[str, Any], tmp_path: Path
) -> None:
    """A bias whose flag is off, or in a family that has no flag, is left out by transformers without a word."""
    shutil.copytree(saved(model_type), tmp_path / "base")
    tiny.edit_config(tmp_path / "base", **config)
    tensors = load_file(tmp_path / "base" / "model.safetensors")
    downs = [name for name in tensors if name.endswith(".down_proj.weight")]
    tensors |= {name.removesuffix("weight") + "bias": torch.ones(tiny.HIDDEN) for name in downs}
    save_file(tensors, tmp_path / "base" / "model.safetensors", metadata={"format": "pt"})
    with pytest.warns(MonoglotWarning, match=rf"ignores {tiny.LAYERS} biases of base"):
        load_model(tmp_path / "base", device="cpu")


def test_dtype_is_the_text_towers_off_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monoglot.editor.live.load.choose_device", lambda device="auto": device)
    nested = {"dtype": "float32", "text_config": {"model_type": "llama", "torch_dtype": "bfloat16"}}
    for number, (config, expected) in enumerate(
        [
            ({}, "float32"),
            ({"torch_dtype": "torch.float16"}, "float16"),
            (nested, "bfloat16"),
            ({"dtype": "int4"}, "float32"),
        ]
    ):
        folder = fake(tmp_path / str(number), config)
        assert choose_dtype(folder, "cuda") == expected
        assert choose_dtype(folder, "cpu") == "float32"
        assert choose_dtype(folder, "cuda", "float16") == "float16"


@pytest.mark.parametrize(
    ("model_type", "key"),
    [("llama", "intermediate_size"), ("falcon", "ffn_hidden_size"), ("gpt2", "n_inner"), ("opt", "ffn_dim"),
     ("ctrl", "dff"), ("granitemoehybrid", "shared_intermediate_size"), ("gemma4_text", "intermediate_size")],
)  # fmt: skip
def test_a_config_that_says_another_width_is_refused(
    saved: Callable[..., Path], model_type: str, key: str, tmp_path: Path
) -> None:
    shutil.copytree(saved(model_type), tmp_path / "base")
    for width in (tiny.WIDTH // 2, tiny.WIDTH + 2):
        tiny.edit_config(tmp_path / "base", **{key: width})
        with pytest.raises(CheckpointError, match=rf"says {width} neurons a layer \({key}\), layer 0 has {tiny.WIDTH}"):
            open_target(resolve(str(tmp_path / "base")))


@pytest.mark.parametrize("projection", ["gate_proj", "up_proj", "down_proj"])
@pytest.mark.parametrize(("dtype", "named"), [("float64", "F64"), ("int8", "I8")])
def test_every_projection_is_of_a_dtype_that_can_be_edited(
    tmp_path: Path, projection: str, dtype: str, named: str
) -> None:
    """Checked when a model is opened, for every command: what is read hours later is of another dtype no more."""
    from safetensors.numpy import load_file, save_file

    folder = tiny.save_model(tmp_path / "model")
    tensors, name = load_file(folder / "model.safetensors"), f"model.layers.1.mlp.{projection}.weight"
    tensors[name] = tensors[name].astype(dtype)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=f"{name} is stored as {named}"):
        open_target(resolve(str(folder)))
