"""The older spelling is added where it can be said, and changes nothing for who reads the newer."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import folders, spellings, tiny
from support.spellings import THETA, rope
from support.tiny import logits

from monoglot.editor.edits.bake import bake
from monoglot.editor.edits.recipe import Edit, Recipe
from monoglot.editor.files.json_text import with_keys
from monoglot.editor.live.load import load_model
from monoglot.editor.models.compat_config import READERS, old_keys
from monoglot.editor.models.families import KNOWN, text_config
from monoglot.editor.models.identity import Base
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import open_target
from monoglot.editor.proof.bytes import verify_bytes

pytestmark = pytest.mark.usefixtures("one_thread")

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 16}
LONGROPE = {"rope_type": "longrope", "short_factor": [1.0], "long_factor": [2.0]}
EVERY_THIRD = ["sliding_attention", "sliding_attention", "full_attention"] * 2
GEMMA = {"full_attention": rope("linear", factor=4.0), "sliding_attention": rope(theta=500.0)}

NEWER = {"rope_parameters", "full_attention", "sliding_attention", "rope_theta", "rope_type", "type", "dtype", "layer_types",
         "partial_rotary_factor", "short_factor", "long_factor", *READERS}  # fmt: skip


def config(model_type: str = "llama", **keys: Any) -> dict[str, Any]:
    return {"model_type": model_type, **keys}


SAID: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "the dtype": (config("gpt2", dtype="bfloat16"), {"torch_dtype": "bfloat16"}),
    "plain": (config(rope_parameters=rope()), {"rope_theta": THETA}),
    "theta as it is written": (config(rope_parameters=rope(theta=10000)), {"rope_theta": 10000}),
    "a share of the head": (
        config("phi", rope_parameters=rope(partial_rotary_factor=0.4)),
        {"rope_theta": THETA, "partial_rotary_factor": 0.4},
    ),
    "scaled": (config(rope_parameters={**LLAMA3, "rope_theta": THETA}), {"rope_theta": THETA, "rope_scaling": LLAMA3}),
    "without a theta": (config(rope_parameters=LLAMA3), {"rope_scaling": LLAMA3}),
    "GPT-NeoX": (
        config("gpt_neox", rope_parameters=rope(partial_rotary_factor=0.5)),
        {"rotary_emb_base": THETA, "rotary_pct": 0.5},
    ),
    "Nemotron": (
        config("nemotron", rope_parameters=rope("linear", factor=2.0)),
        {"rope_theta": THETA, "rope_scaling": {"rope_type": "linear", "type": "linear", "factor": 2.0}},
    ),
    "Phi-3": (
        config(
            "phi3",
            original_max_position_embeddings=8,
            rope_parameters={**LONGROPE, "rope_theta": THETA, "original_max_position_embeddings": 8},
        ),
        {
            "rope_theta": THETA,
            "rope_scaling": {"type": "longrope", "short_factor": [1.0], "long_factor": [2.0]},
        },
    ),
    "Gemma 3": (
        config("gemma3_text", rope_parameters=GEMMA, layer_types=EVERY_THIRD),
        {
            "rope_theta": THETA,
            "rope_local_base_freq": 500.0,
            "rope_scaling": {"rope_type": "linear", "factor": 4.0},
            "sliding_window_pattern": 3,
        },
    ),
    "what is there and says the same": (
        config("phi3", partial_rotary_factor=1.0, rope_scaling=None, rope_parameters=rope(partial_rotary_factor=1.0)),
        {"rope_theta": THETA},
    ),
}

UNSAID: dict[str, dict[str, Any]] = {
    "the older spelling": config(rope_theta=THETA, torch_dtype="bfloat16"),
    "both": config(rope_theta=THETA, rope_parameters=rope(), torch_dtype="bfloat16", dtype="bfloat16"),
    "nothing": config(),
    "null": config(rope_parameters=None, dtype=None),
    "another dtype": config(dtype="bfloat16", torch_dtype="float16"),
    # transformers 5 takes rope_scaling for all of rope_parameters: with another theta beside it, it would read that
    "another theta": config(rope_theta=10000.0, rope_parameters={**LLAMA3, "rope_theta": THETA}),
    "scaled otherwise": config(rope_scaling={"rope_type": "linear", "factor": 2.0}, rope_parameters=rope()),
    "scaled, but for theta": config(rope_scaling=LLAMA3, rope_parameters={**LLAMA3, "rope_theta": THETA}),
    "not to be scaled": config(rope_scaling=None, rope_parameters={**LLAMA3, "rope_theta": THETA}),
    "no number": config(rope_parameters=rope(theta="large")),  # type: ignore[arg-type]
    "a kind of layer each": config(rope_parameters=GEMMA),
    "one kind for all, in Gemma 3": config("gemma3_text", rope_parameters=rope()),
    "local layers that are scaled": config("gemma3_text", rope_parameters={**GEMMA, "sliding_attention": LLAMA3}),
    "a share of the head, in Gemma 3": config(
        "gemma3_text", rope_parameters={**GEMMA, "full_attention": rope(partial_rotary_factor=0.5)}
    ),
    "Phi-3 with more than three keys": config("phi3", rope_parameters={**LONGROPE, "attention_factor": 1.5}),
    "Phi-3 with another length": config(
        "phi3", original_max_position_embeddings=16, rope_parameters={**LONGROPE, "original_max_position_embeddings": 8}
    ),
    "Ministral 3": config("ministral3", rope_parameters=rope("yarn", factor=16.0)),
}


@pytest.mark.parametrize("case", SAID.values(), ids=SAID)
def test_what_is_missing(case: tuple[dict[str, Any], dict[str, Any]]) -> None:
    newer, missing = case
    assert old_keys(newer) == {None: missing}
    assert old_keys({**newer, **missing}) == {}
    assert missing.keys() <= READERS.keys()


@pytest.mark.parametrize("newer", UNSAID.values(), ids=UNSAID)
def test_nothing_is_added_that_is_there_or_means_something_else(newer: dict[str, Any]) -> None:
    assert old_keys(newer) == {}


@pytest.mark.parametrize(
    ("kinds", "period"),
    [
        (EVERY_THIRD, 3),
        (["full_attention"] * 2, 1),
        (["sliding_attention"] * 3, None),
        ([*EVERY_THIRD, "full_attention"], None),
    ],
)
def test_only_a_regular_pattern_has_a_period(kinds: list[str], period: int | None) -> None:
    found = old_keys(config("cohere2", rope_parameters=rope(), layer_types=kinds))
    assert found[None].get("sliding_window_pattern") == period
    assert found[None]["rope_theta"] == THETA


ODD = st.recursive(
    st.none() | st.booleans() | st.floats() | st.sampled_from([0, "default", "linear", "longrope", "full_attention"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(NEWER)), inner, max_size=4),
    max_leaves=8,
)


@pytest.mark.slow
@settings(deadline=None, derandomize=True, database=None, max_examples=300)
@given(model_type=st.sampled_from([*KNOWN, "unknown"]), keys=st.dictionaries(st.sampled_from(sorted(NEWER)), ODD))
def test_whatever_a_config_holds_none_of_it_is_touched(model_type: str, keys: dict[str, Any]) -> None:
    for found in (config(model_type, **keys), {"text_config": config(model_type, **keys)}):
        for place, missing in old_keys(found).items():
            assert not missing.keys() & (found[place] if place else found).keys()
            assert None not in missing.values()


def test_the_text_tower_of_a_wrapper() -> None:
    tower = config(dtype="float16", rope_parameters=rope())
    wrapper = {"model_type": "llava", "dtype": "bfloat16", "text_config": tower}
    assert old_keys(wrapper) == {
        None: {"torch_dtype": "bfloat16"},
        "text_config": {"torch_dtype": "float16", "rope_theta": THETA},
    }


def read_by_transformers(folder: Path) -> dict[str, Any]:
    """The config as the installed transformers understands it, without what it doesn't look at."""
    import transformers

    read: dict[str, Any] = transformers.AutoConfig.from_pretrained(folder).to_dict()
    for each in (read, read.get("text_config", {})):
        parameters = each.get("rope_parameters") or {}
        for key in (*READERS, "_name_or_path"):
            each.pop(key, None)
        parameters.pop("type", None)  # its oldest name, kept beside rope_type
    return read


def assert_read_as_before(base: Path, tmp_path: Path) -> None:
    plain, compat = (spellings.baked(base, tmp_path / str(on), compat=on) for on in (False, True))
    before, after = ((folder / "config.json").read_text() for folder in (plain, compat))
    assert before == (base / "config.json").read_text()
    assert after != before
    missing = old_keys(json.loads(before))
    for place, keys in missing.items():
        before = with_keys(before, keys, place)
    assert after == before
    assert read_by_transformers(compat) == read_by_transformers(plain)
    assert torch.equal(*(logits(load_model(folder, device="cpu")) for folder in (compat, plain)))
    assert old_keys(json.loads(after)) == {}


UNSAID = ("ministral3", "gemma4_text", "gemma4_unified_text", "lfm3", "olmo3")  # nothing is added for them


@pytest.mark.slow
@pytest.mark.parametrize("model_type", tiny.DENSE)
def test_every_family_is_read_as_before(saved: Callable[..., Path], model_type: str, tmp_path: Path) -> None:
    spellings.need_new_spelling()
    base = saved(model_type)
    assert_read_as_before(base, tmp_path)
    written = json.loads((base / "config.json").read_text())
    missing = old_keys(written)[None if text_config(written) is written else "text_config"]
    assert missing["torch_dtype"] == "float32"
    positions = model_type not in UNSAID and bool(text_config(written).get("rope_parameters"))
    assert bool({"rope_theta", "rotary_emb_base"} & missing.keys()) == positions


@pytest.mark.slow
@pytest.mark.parametrize("name", spellings.CASES)
def test_other_positions_are_read_as_before(saved: Callable[..., Path], name: str, tmp_path: Path) -> None:
    spellings.need_new_spelling()
    case = spellings.CASES[name]
    assert_read_as_before(saved(case.model_type, **case.config), tmp_path)


# In a checkpoint. The config is written by hand, so that any transformers will do.


def newly_spelled(base: Path, folder: Path, **more: Any) -> Path:
    """The tiny Llama's folder with a config as transformers 5 writes it."""
    shutil.copytree(base, folder)
    written = json.loads((folder / "config.json").read_text())
    written = {key: value for key, value in written.items() if key not in READERS}
    (folder / "config.json").write_text(json.dumps({**written, "dtype": "float32", "rope_parameters": rope(), **more}))
    return folder


def test_the_recipe_says_so_and_the_bytes_are_proved(model: Path, tmp_path: Path) -> None:
    target = open_target(resolve(str(newly_spelled(model, tmp_path / "base"))))
    neurons = tiny.to_steer(target.feed_forward.layers, target.feed_forward.width)
    recipe = Recipe(Base("tiny"), (Edit("off", "deactivate"),), "edit", compat_config=True)
    out = tmp_path / "out"
    bake(target, neurons, recipe, out)
    assert folders.manifest_data(out)["recipe"]["compat_config"] is True
    text, before = ((folder / "config.json").read_text() for folder in (out, tmp_path / "base"))
    assert text == before[:-1] + f', "torch_dtype": "float32", "rope_theta": {THETA}}}'
    assert not verify_bytes(out, target, neurons).problems
    (out / "config.json").write_text(before)
    assert "config.json is not what the recipe makes of it." in verify_bytes(out, target, neurons).problems
    (out / "config.json").write_text(text)
    again = open_target(resolve(str(out)))
    bake(
        again, neurons, Recipe(Base("tiny"), (Edit("half", "deactivate"),), "edit", compat_config=True), tmp_path / "2"
    )
    assert (tmp_path / "2" / "config.json").read_text() == text
    assert "compat_config" not in folders.manifest_data(tmp_path / "2")["recipe"]


@pytest.mark.parametrize("model_type", ["mistral", "qwen2", "phi3"])
def test_a_llama_of_the_same_function_has_it_too(saved: Callable[..., Path], model_type: str, tmp_path: Path) -> None:
    base = newly_spelled(saved(model_type, sliding_window=None), tmp_path / "base")
    target = open_target(resolve(str(base)))
    neurons = tiny.to_steer(target.feed_forward.layers, target.feed_forward.width)
    made = {}
    for compat in (False, True):
        recipe = tiny.recipe("pin", "llama", compat_config=compat)
        bake(target, neurons, recipe, tmp_path / str(compat))
        made[compat] = json.loads((tmp_path / str(compat) / "config.json").read_text())
        assert not verify_bytes(tmp_path / str(compat), target, neurons).problems
    assert made[True]["model_type"] == "llama"
    added = {key: made[True][key] for key in made[True].keys() - made[False].keys()}
    assert added["rope_theta"] == THETA
    assert added["torch_dtype"] == "float32"
    assert made[True] == made[False] | added
