"""Parameter variation, read from the files, against torch arithmetic on the loaded models, in every family's layout."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support import tiny
from support.tuned import PARTS, Saved, opened, tune

from monoglot.editor.errors import CheckpointError, ModelError, MonoglotError, StatisticsError
from monoglot.editor.live.load import load_model
from monoglot.editor.live.modules import trunk
from monoglot.editor.models.families import family_of
from monoglot.editor.neurons.methods import variation
from monoglot.editor.neurons.methods.variation import vary


def parameters(folder: Path) -> torch.Tensor:
    """(layers, width, all of a neuron's parameters) of the loaded model, float64. A projection's type says how it lies."""
    family = family_of(json.loads((folder / "config.json").read_text()))
    layers: list[torch.Tensor] = []
    modules = dict(trunk(load_model(folder, device="cpu")).named_modules())
    for layer in range(tiny.LAYERS):
        place = next(name for name in modules if name.endswith(f"{family.layer.format(layer)}.{family.out}"))
        place = place.removesuffix(family.out)
        columns: list[torch.Tensor] = []
        for projection in [family.into, *([family.up] if family.up else [])]:
            module = modules[place + projection]
            rows = module.weight.data.double()
            rows = rows.T if type(module).__name__ == "Conv1D" else rows
            if module.bias is not None:
                rows = torch.cat([rows, module.bias.data.double()[:, None]], 1)
            columns += rows.chunk(2) if family.fused else [rows]
        out = modules[place + family.out]
        weight = out.weight.data.double()
        columns.append(weight if type(out).__name__ == "Conv1D" else weight.T)
        layers.append(torch.cat(columns, 1))
    return torch.stack(layers)


def expected(base: Path, tuned: Path, dtype: torch.dtype = torch.float64) -> np.ndarray:
    old, new = parameters(base), parameters(tuned)
    found: np.ndarray = ((new - old.to(dtype).double()).norm(dim=2) / old.norm(dim=2)).numpy()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", tiny.CASES)
def test_every_layout(name: str, saved: Saved, tmp_path: Path) -> None:
    case = tiny.CASES[name]
    base = saved(case.model_type, **case.config)
    tuned = {language: tune(base, tmp_path / language, seed) for seed, language in enumerate(("en", "zh"))}
    found = vary(opened(base), {language: opened(folder) for language, folder in tuned.items()})
    assert found.languages == ("en", "zh")
    assert found.model.fingerprint == opened(base).fingerprint
    for language, folder in tuned.items():
        assert found.relative[language] == pytest.approx(expected(base, folder), rel=1e-9)
        assert found.relative[language].std() > 0.01


@pytest.mark.parametrize("wrapper", ["llava", "gemma3"])
def test_a_multimodal_wrapper(wrapper: str, saved: Saved, tmp_path: Path) -> None:
    base = saved(wrapper)
    tuned = {language: tune(base, tmp_path / language, seed) for seed, language in enumerate(("en", "zh"))}
    found = vary(opened(base), {language: opened(folder) for language, folder in tuned.items()})
    for language, folder in tuned.items():
        assert found.relative[language] == pytest.approx(expected(base, folder), rel=1e-9)


DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@pytest.mark.slow
@pytest.mark.parametrize("base_dtype", DTYPES)
@pytest.mark.parametrize("tuned_dtype", DTYPES)
@pytest.mark.parametrize("model_type", ["llama", "gpt2", "phi3"])
def test_other_dtypes_and_shards(
    model_type: str, base_dtype: str, tuned_dtype: str, saved: Saved, tmp_path: Path
) -> None:
    """A copy in other shards, of another dtype; with fewer digits, the base's rounding to them is no change."""
    base = saved(model_type, dtype=base_dtype, shards=base_dtype == "float16")
    tuned = {}
    for seed, language in enumerate(("en", "zh")):
        model = load_model(base, device="cpu", dtype="float32")
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator) * (parameter > 0)
        model.to(DTYPES[tuned_dtype]).save_pretrained(tmp_path / language, max_shard_size="4KB" if seed else "5GB")
        tuned[language] = tmp_path / language
    assert len(list((tmp_path / "zh").glob("*.safetensors"))) > 3
    found = vary(opened(base), {language: opened(folder) for language, folder in tuned.items()})
    for language, folder in tuned.items():
        exact = expected(base, folder, DTYPES[tuned_dtype])
        assert found.relative[language] == pytest.approx(exact, rel=1e-9)


def test_a_cast_of_the_base_was_not_tuned(saved: Saved, tmp_path: Path) -> None:
    base = saved("llama")
    load_model(base, device="cpu").to(torch.bfloat16).save_pretrained(tmp_path / "zh")
    with pytest.raises(ModelError, match=r"zh \(zh\) was not tuned: its feed-forward networks are those of"):
        vary(opened(base), {"en": opened(tune(base, tmp_path / "en", 0)), "zh": opened(tmp_path / "zh")})


PLACES = [(name, part, 5) for name, parts in PARTS.items() for part in parts]
PLACES.append(("phi3", "mlp.gate_up_proj.weight", 5 + tiny.WIDTH))


@pytest.mark.parametrize(("model_type", "part", "number"), PLACES)
def test_one_neuron_changes_alone(model_type: str, part: str, number: int, saved: Saved, tmp_path: Path) -> None:
    """Neuron 5 of layer 2, in one of its tensors. Nothing else moves, and neither does it when all else does."""
    base, axis = saved(model_type), PARTS[model_type][part]

    def only(name: str, tensor: torch.Tensor) -> torch.Tensor:
        if f".2.{part}" not in name:
            return tensor
        changed = tensor.clone()
        changed.select(axis, number).add_(0.25)
        return changed

    def all_else(name: str, tensor: torch.Tensor) -> torch.Tensor:
        changed = tensor + 0.25
        for own, along in PARTS[model_type].items():
            if f".2.{own}" in name:
                for at in (5, 5 + tiny.WIDTH) if model_type == "phi3" and along == 0 else (5,):
                    changed.select(along, at).copy_(tensor.select(along, at))
        return changed

    tuned = {"en": tune(base, tmp_path / "en", 0, only), "zh": tune(base, tmp_path / "zh", 0, all_else)}
    found = vary(opened(base), {language: opened(folder) for language, folder in tuned.items()})
    assert np.argwhere(found.relative["en"] > 0).tolist() == [[2, 5]]
    assert np.argwhere(found.relative["zh"] == 0).tolist() == [[2, 5]]


def test_the_same_in_blocks(saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for model_type in ("phi3", "gpt2"):
        base = saved(model_type)
        tuned = {k: opened(tune(base, tmp_path / f"{model_type}-{k}", n)) for n, k in enumerate(("en", "zh"))}
        whole = vary(opened(base), tuned)
        for block in (1, 50, 200):
            monkeypatch.setattr(variation, "BLOCK", block)
            found = vary(opened(base), tuned)
            for language in tuned:
                assert found.relative[language] == pytest.approx(whole.relative[language], rel=1e-12)
        monkeypatch.undo()


def test_no_model_is_built_and_progress_is_told(saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = saved("llama")
    tuned = {k: opened(tune(base, tmp_path / k, n)) for n, k in enumerate(("en", "zh"))}
    monkeypatch.setattr(torch.nn.Module, "__init__", lambda *_, **__: pytest.fail("built"))
    seen: list[tuple[str, int, int]] = []
    vary(opened(base), tuned, lambda *what: seen.append(what))
    assert seen == [("", 1, 3), ("", 2, 3), ("", 3, 3)]


# What is refused


def edited(change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})

    return edit


def without(name: str) -> Callable[[Path], None]:
    return edited(lambda tensors: tensors.__delitem__(name))


def replaced(name: str, made: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], None]:
    return edited(lambda tensors: tensors.update({name: made(tensors[name]).contiguous()}))


def poison(value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    def put(tensor: torch.Tensor) -> torch.Tensor:
        tensor[3, 3] = value
        return tensor

    return put


GATE, UP = "model.layers.1.mlp.gate_proj.weight", "model.layers.2.mlp.up_proj.weight"
BAD: dict[str, tuple[Callable[[Path], None], type[MonoglotError], str]] = {
    "missing": (without(UP), CheckpointError, rf"\(zh\) has no {UP}, which the base has\. Save it again"),
    "missing output": (without("model.layers.1.mlp.down_proj.weight"), CheckpointError, "layer 1 has no"),
    "shape": (replaced(GATE, lambda t: t[1:]), ModelError, r"has shape \[23, 16\], that of the base \[24, 16\]"),
    "NaN": (replaced(GATE, poison(math.nan)), CheckpointError, rf"{GATE} holds NaN or infinite weights"),
    "infinity": (replaced(UP, poison(-math.inf)), CheckpointError, rf"{UP} holds NaN or infinite weights"),
    "dtype": (replaced(GATE, lambda t: t.double()), ModelError, rf"{GATE} is stored as F64"),
    "a bias": (
        edited(lambda tensors: tensors.update({"model.layers.0.mlp.up_proj.bias": torch.zeros(24)})),
        ModelError, r"\(zh\) has model\.layers\.0\.mlp\.up_proj\.bias, which the base has not",
    ),
    "family": (lambda folder: tiny.edit_config(folder, model_type="mistral"), ModelError, "is mistral with 3 layers of 24"),
}  # fmt: skip


@pytest.mark.parametrize("how", BAD)
def test_bad_copies(how: str, saved: Saved, tmp_path: Path) -> None:
    base = saved("llama")
    tuned = {k: tune(base, tmp_path / k, n) for n, k in enumerate(("en", "zh"))}
    change, error, message = BAD[how]
    change(tuned["zh"])
    with pytest.raises(error, match=message):
        vary(opened(base), {language: opened(folder) for language, folder in tuned.items()})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"num_hidden_layers": 2}, "is llama with 2 layers of 24 neurons and d = 16, the base is llama with 3 layers"),
        ({"intermediate_size": 20}, "with 3 layers of 20 neurons"),
        ({"hidden_size": 8}, "and d = 8, the base is"),
    ],
)
def test_copies_of_another_shape(config: dict[str, Any], message: str, saved: Saved, tmp_path: Path) -> None:
    base = saved("llama")
    with pytest.raises(ModelError, match=message):
        vary(opened(base), {"en": opened(tune(base, tmp_path / "en", 0)), "zh": opened(saved("llama", **config))})


def test_a_base_that_is_broken(saved: Saved, tmp_path: Path) -> None:
    folders = {k: tune(saved("llama"), tmp_path / k, n) for n, k in enumerate(("base", "en", "zh"))}
    tuned = {k: opened(folders[k]) for k in ("en", "zh")}
    replaced(GATE, poison(math.nan))(folders["base"])
    with pytest.raises(CheckpointError, match=rf"base.*{GATE} holds NaN"):
        vary(opened(folders["base"]), tuned)
    without(GATE)(folders["base"])
    with pytest.raises(CheckpointError, match=rf"base has no {GATE}\. Download it again"):
        vary(opened(folders["base"]), tuned)


def test_the_base_itself_was_not_tuned(saved: Saved, tmp_path: Path) -> None:
    base = saved("llama")

    def attention(name: str, tensor: torch.Tensor) -> torch.Tensor:
        return tensor + 0.1 if "self_attn" in name or "down_proj.bias" in name else tensor

    copies = {"en": opened(tune(base, tmp_path / "en", 0)), "zh": opened(tune(base, tmp_path / "zh", 0, attention))}
    with pytest.raises(ModelError, match=r"\(zh\) was not tuned.*Give a copy that was tuned on text in zh"):
        vary(opened(base), copies)
    with pytest.raises(StatisticsError, match="tune the model on at least two"):
        vary(opened(base), {"en": copies["en"]})
