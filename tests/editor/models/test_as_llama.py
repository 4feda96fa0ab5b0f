"""Families written as a Llama compute what they did, to the last bit, and those that would not are refused.

The re-expression alone is written out: a plan that edits nothing, so every new bias is zero.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support import tiny
from support.tiny import IDS, live, logits

from monoglot.editor.edits import carrier_choice, carriers
from monoglot.editor.edits.bake import bake
from monoglot.editor.edits.carriers import Carried
from monoglot.editor.edits.recipe import Edit, Recipe
from monoglot.editor.errors import RecipeError
from monoglot.editor.files.checkpoint import read_checkpoint
from monoglot.editor.live.load import load_model
from monoglot.editor.models import as_llama as llama
from monoglot.editor.models.identity import Base
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import Target, open_target
from monoglot.editor.neurons.neurons import Neurons

pytestmark = pytest.mark.usefixtures("one_thread")

WINDOWLESS = {"sliding_window": None}
GROUPED = {"num_attention_heads": 4, "num_key_value_heads": 2}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "mistral": ("mistral", WINDOWLESS),
    "mistral, heads wider than hidden/heads": ("mistral", {**WINDOWLESS, "head_dim": 12}),
    "mistral, grouped": ("mistral", {**WINDOWLESS, **GROUPED}),
    "mistral, yarn": (
        "mistral",
        {**WINDOWLESS, "rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4,
                                          "original_max_position_embeddings": 32}},
    ),
    "qwen2": ("qwen2", {}),
    "qwen2, grouped": ("qwen2", GROUPED),
    "qwen2, tied": ("qwen2", {"tie_word_embeddings": True}),
    "qwen2, another base of the rotary positions": (
        "qwen2", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
    ),
    "phi3": ("phi3", {}),
    "phi3, grouped": ("phi3", GROUPED),
    "phi3, tied": ("phi3", {"tie_word_embeddings": True}),
    "phi3, GELU": ("phi3", {"hidden_act": "gelu_pytorch_tanh"}),
    "phi3, in shards": ("phi3", {**GROUPED, "shards": True}),
    "qwen2, in bfloat16": ("qwen2", {"dtype": "bfloat16"}),
}  # fmt: skip


@pytest.fixture
def unedited(monkeypatch: pytest.MonkeyPatch) -> Callable[[Target, Path], Path]:
    """Writes a model as a Llama, and edits nothing."""

    def write(target: Target, out: Path) -> Path:
        neurons = tiny.to_steer(target.feed_forward.layers, target.feed_forward.width)
        recipe = Recipe(Base("tiny"), (Edit("xx", "scale", 1.0),), "edit", carrier="llama")
        plan = carriers.carried(target, recipe, neurons).plan
        carrier_choice.choose("llama", target)
        monkeypatch.setattr("monoglot.editor.edits.bake.carried", lambda *_: Carried(plan, "llama", None))
        made = bake(target, neurons, recipe, out)
        assert made.carried.carrier == "llama"
        return out

    return write


def assert_the_same_model(base: Path, out: Path) -> None:
    """In float64: whether rows are multiplied in one matrix or in three may change the last bit of a float32."""
    model, reference = (load_model(folder, device="cpu").double() for folder in (out, base))
    assert type(model).__name__ == "LlamaForCausalLM"
    with torch.inference_mode():
        assert torch.equal(model(input_ids=IDS).logits, reference(input_ids=IDS).logits)
    for name, bias in load_file(max(out.glob("model-*.safetensors"))).items():
        assert not bias.any(), name


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_as_a_llama_it_is_the_same_to_the_last_bit(
    saved: Callable[..., Path], case: str, unedited: Callable[[Target, Path], Path], tmp_path: Path
) -> None:
    model_type, config = CASES[case]
    base = saved(model_type, **config)
    assert_the_same_model(base, unedited(open_target(resolve(str(base))), tmp_path / "out"))


LEFT_OUT = {
    "mistral": ("num_key_value_heads", "max_position_embeddings", "rms_norm_eps", "rope_parameters", "hidden_act",
                "head_dim", "bos_token_id", "eos_token_id", "pad_token_id", "tie_word_embeddings"),
    "qwen2": ("max_position_embeddings", "rms_norm_eps", "rope_parameters", "hidden_act", "bos_token_id", "eos_token_id",
              "pad_token_id", "tie_word_embeddings", "layer_types", "sliding_window", "use_sliding_window"),
    "phi3": ("num_key_value_heads", "max_position_embeddings", "rms_norm_eps", "rope_parameters", "hidden_act",
             "tie_word_embeddings", "original_max_position_embeddings", "sliding_window"),
}  # fmt: skip
SIMPLE: dict[str, dict[str, Any]] = {"mistral": WINDOWLESS, "qwen2": {}, "phi3": {}}
# of the shape that mistral has by default: 8 key-value heads, whatever the number of heads
NEEDED = SIMPLE | {"mistral": {**WINDOWLESS, "hidden_size": 32, "num_attention_heads": 16, "num_key_value_heads": 8}}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model_type", "key"), [(model_type, key) for model_type, keys in LEFT_OUT.items() for key in keys]
)
def test_what_the_config_leaves_out_stays_the_familys_default(
    saved: Callable[..., Path], model_type: str, key: str, unedited: Callable[[Target, Path], Path], tmp_path: Path
) -> None:
    """Families differ in their defaults, so a key that is not there may mean something else in a Llama."""
    base = tmp_path / "base"
    shutil.copytree(saved(model_type, **NEEDED[model_type]), base)
    config = json.loads((base / "config.json").read_text())
    config.pop(key, None)
    (base / "config.json").write_text(json.dumps(config, indent=2))
    assert_the_same_model(base, unedited(open_target(resolve(str(base))), tmp_path / "out"))


@pytest.mark.parametrize("model_type", ["mistral", "qwen2", "phi3"])
def test_the_old_spelling_of_rotary_positions_stays(
    saved: Callable[..., Path], model_type: str, unedited: Callable[[Target, Path], Path], tmp_path: Path
) -> None:
    """As files on the Hub have it: `rope_theta` at the top, which other runtimes read."""
    base = tmp_path / "base"
    shutil.copytree(saved(model_type, **SIMPLE[model_type]), base)
    config = json.loads((base / "config.json").read_text())
    config.pop("rope_parameters", None)  # transformers 4 writes the old spelling itself
    config |= {"rope_theta": 500.0, "rope_scaling": None, "torch_dtype": config.pop("dtype")}
    (base / "config.json").write_text(json.dumps(config, indent=2))
    out = unedited(open_target(resolve(str(base))), tmp_path / "out")
    assert_the_same_model(base, out)
    assert (logits(load_model(out, device="cpu")) != logits(live(saved(model_type, **SIMPLE[model_type])))).any()
    made = json.loads((out / "config.json").read_text())
    assert {key: made[key] for key in config if key not in ("model_type", "architectures")} == {
        key: value for key, value in config.items() if key not in ("model_type", "architectures")
    }


def test_the_config_changes_in_as_few_keys_as_it_can(
    saved: Callable[..., Path], unedited: Callable[[Target, Path], Path], tmp_path: Path
) -> None:
    expected = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "attention_bias": False, "mlp_bias": True}
    for model_type, attention in (("mistral", False), ("qwen2", True)):
        base = saved(model_type, **NEEDED[model_type])
        out = unedited(open_target(resolve(str(base))), tmp_path / model_type)
        old, new = (json.loads((folder / "config.json").read_text()) for folder in (base, out))
        assert {k: v for k, v in new.items() if old.get(k, ...) != v} == {**expected, "attention_bias": attention}


def test_the_familys_own_code_is_not_asked_for(
    saved: Callable[..., Path], unedited: Callable[[Target, Path], Path], tmp_path: Path
) -> None:
    """Phi-3's config on the Hub names classes of its own, which a runtime told to trust them would build instead."""
    base = tmp_path / "base"
    shutil.copytree(saved("phi3"), base)
    tiny.edit_config(base, auto_map={"AutoConfig": "configuration_phi3.Phi3Config", "AutoModelForCausalLM": "m.Phi3"})
    out = unedited(open_target(resolve(str(base))), tmp_path / "out")
    assert json.loads((out / "config.json").read_text())["auto_map"] == {}
    assert_the_same_model(saved("phi3"), out)


def test_a_window_that_is_not_used_is_not_left_in_the_config(
    saved: Callable[..., Path], unedited: Callable[[Target, Path], Path], tmp_path: Path
) -> None:
    """Qwen2's configs on the Hub have `sliding_window` beside `use_sliding_window: false`."""
    base = tmp_path / "base"
    shutil.copytree(saved("qwen2"), base)
    tiny.edit_config(base, sliding_window=4, use_sliding_window=False)
    out = unedited(open_target(resolve(str(base))), tmp_path / "out")
    assert json.loads((out / "config.json").read_text())["sliding_window"] is None
    assert_the_same_model(base, out)


def test_no_byte_of_the_weights_moves(
    saved: Callable[..., Path], unedited: Callable[[Target, Path], Path], tmp_path: Path
) -> None:
    """Phi-3's tensors of three and two are split in the header; each part is the rows that it was."""
    base = saved("phi3", **GROUPED)
    out = unedited(open_target(resolve(str(base))), tmp_path / "out")
    (old,), (new, _) = read_checkpoint(base).shards, read_checkpoint(out).shards
    assert new.path.read_bytes()[len(new.header) :] == old.path.read_bytes()[len(old.header) :]
    was, now = load_file(old.path), load_file(new.path)
    for layer in range(tiny.LAYERS):
        start = f"model.layers.{layer}."
        q, k, v = torch.split(was[f"{start}self_attn.qkv_proj.weight"], [16, 8, 8])
        gate, up = was[f"{start}mlp.gate_up_proj.weight"].chunk(2)
        names = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj")
        for name, part in zip(names, (q, k, v, gate, up), strict=True):
            assert torch.equal(now[f"{start}{name}.weight"], part)
        assert torch.equal(now[f"{start}mlp.down_proj.weight"], was[f"{start}mlp.down_proj.weight"])
    assert json.loads(new.header[8:])["__metadata__"] == {"format": "pt"}


# --- what is refused ------------------------------------------------------------------------------------------------

LONG = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [2.0] * 4,
        "original_max_position_embeddings": 64}  # fmt: skip


@pytest.mark.parametrize(
    ("model_type", "config", "message"),
    [
        ("mistral", {}, "this mistral has a sliding window"),
        ("mistral", {"sliding_window": 64}, "this mistral has a sliding window"),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}, "qwen2 has a sliding window"),
        ("qwen2", {"layer_types": ["full_attention", "sliding_attention", "full_attention"], "use_sliding_window": True,
                   "sliding_window": 8}, "qwen2 has a sliding window"),
        ("phi3", {"sliding_window": 8}, "this phi3 has a sliding window"),
        ("phi3", {"rope_parameters": LONG, "original_max_position_embeddings": 64}, "this phi3 scales its rotary positions"),
        ("phi3", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}},
         "this phi3 scales its rotary positions"),
        ("llama", {}, "only mistral, qwen2, phi3 can be written as a Llama, not llama"),
        ("qwen3", {}, "not qwen3"),
        ("mistral3", {}, "not mistral3"),
    ],
)  # fmt: skip
def test_what_is_no_llama_is_refused(
    saved: Callable[..., Path], model_type: str, config: dict[str, Any], message: str, tmp_path: Path
) -> None:
    target = open_target(resolve(str(saved(model_type, **config))))
    assert message in str(llama.refusal(target.checkpoint))
    neurons = tiny.to_steer(target.feed_forward.layers, target.feed_forward.width)
    with pytest.raises(RecipeError, match=message):
        bake(target, neurons, tiny.recipe("pin", "llama"), tmp_path / "out")


@pytest.mark.parametrize(
    ("model_type", "config", "message"),
    [
        ("mistral", {"sliding_window": ...}, "sliding window"),  # left out, it is 4096
        ("mistral", {"sliding_window": 4096}, "sliding window"),
        ("qwen2", {"layer_types": ["full_attention", "sliding_attention", "full_attention"]}, "sliding window"),
        ("phi3", {"rope_parameters": ..., "rope_theta": 1e4, "partial_rotary_factor": 0.5}, "rotary"),
        ("phi3", {"rope_parameters": ..., "rope_theta": 1e4, "rope_scaling": {
            "type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}}, "rotary"),
    ],
)  # fmt: skip
def test_what_the_config_on_the_hub_says_is_understood(
    saved: Callable[..., Path], model_type: str, config: dict[str, Any], message: str, tmp_path: Path
) -> None:
    """In the old spelling, or by saying nothing."""
    shutil.copytree(saved(model_type, **NEEDED[model_type]), tmp_path / "base")
    path = tmp_path / "base" / "config.json"
    whole = json.loads(path.read_text()) | config
    path.write_text(json.dumps({key: value for key, value in whole.items() if value is not ...}))
    assert message in str(llama.refusal(read_checkpoint(tmp_path / "base")))


def test_a_config_that_transformers_cannot_read_is_an_error_only_where_it_matters(
    saved: Callable[..., Path], tmp_path: Path
) -> None:
    shutil.copytree(saved("mistral", **WINDOWLESS), tmp_path / "base")
    tiny.edit_config(tmp_path / "base", num_labels="two")
    target = open_target(resolve(str(tmp_path / "base")))
    with pytest.raises(
        RecipeError, match=r"by llama: transformers \S+ cannot read the config .*\. It can by calibrated"
    ):
        carrier_choice.choose("llama", target)
    assert carrier_choice.choose("auto", target) == "calibrated"


def test_neurons_are_those_of_the_halves(saved: Callable[..., Path], tmp_path: Path) -> None:
    """Of Phi-3's gate and up in one tensor: the bias of a pinned neuron is in gate_proj, at its own place."""
    import numpy as np

    target = open_target(resolve(str(saved("phi3"))))
    one = tuple(np.array([5]) for _ in range(tiny.LAYERS))
    neurons = Neurons({"xx": one}, {"mean": {"xx": tuple(np.array([0.7]) for _ in one)}})
    recipe = Recipe(Base("tiny"), (Edit("xx", "pin", 1.0, "mean"),), carrier="llama")
    bake(target, neurons, recipe, tmp_path / "out")
    first, second = (load_file(path) for path in sorted((tmp_path / "out").glob("model-*.safetensors")))
    for layer in range(tiny.LAYERS):
        start = f"model.layers.{layer}.mlp."
        assert second[f"{start}gate_proj.bias"].nonzero().flatten().tolist() == [5]
        assert not second[f"{start}up_proj.bias"].any() and not second[f"{start}down_proj.bias"].any()
        assert (first[f"{start}gate_proj.weight"] == 0).all(dim=1).nonzero().flatten().tolist() == [5]
        assert not (first[f"{start}up_proj.weight"] == 0).any()
