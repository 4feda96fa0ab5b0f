"""Each activation function against torch's, and each family's against what its tiny model computes."""

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support import tiny
from transformers.activations import ACT2FN

from monoglot.editor.errors import CheckpointError, ModelError
from monoglot.editor.live.load import load_model
from monoglot.editor.live.modules import activation_modules, trunk
from monoglot.editor.models.activations import FUNCTIONS, function_name, functions, xielu
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import Target, open_target

GRID = np.concatenate([np.linspace(-12, 12, 4801), [-300.0, -1e-9, 0.0, 1e-9, 300.0]])


def test_the_function_of_gpt_oss() -> None:
    gate = torch.from_numpy(GRID).clamp(max=7.0)
    assert np.abs(FUNCTIONS["gpt_oss"](GRID) - (gate * torch.sigmoid(1.702 * gate)).numpy()).max() < 1e-12


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name != "gpt_oss"])  # which torch has no name for
def test_functions_are_torchs(name: str) -> None:
    expected = ACT2FN[name](torch.from_numpy(GRID)).numpy()
    found = FUNCTIONS[name](GRID)
    assert found.dtype == np.float64
    assert found.shape == GRID.shape
    # gelu_fast has the constant √(2/π) with ten digits
    assert np.abs(found - expected).max() < (1e-8 if name == "gelu_fast" else 1e-12)


@pytest.mark.parametrize(("alpha_p", "alpha_n", "beta", "eps"), [(0.8, 0.8, 0.5, -1e-6), (1.7, 0.3, 0.25, -0.5)])
@pytest.mark.filterwarnings("ignore")
def test_xielu_is_transformers(alpha_p: float, alpha_n: float, beta: float, eps: float) -> None:
    from transformers.activations import XIELUActivation

    module = XIELUActivation(beta=beta, eps=eps, dtype=torch.float64)
    module.alpha_p.data.fill_(alpha_p)
    module.alpha_n.data.fill_(alpha_n)
    soft = [math.log1p(math.exp(alpha)) for alpha in (alpha_p, alpha_n)]
    found = xielu(GRID, alpha_p=soft[0], alpha_n=beta + soft[1], beta=beta, eps=eps)
    assert np.abs(found - module._xielu_python(torch.from_numpy(GRID)).detach().numpy()).max() < 1e-10


def open_tiny(folder: Path, model_type: str, **config: Any) -> Target:
    tiny.need(model_type)
    return open_target(resolve(str(tiny.save_model(folder / model_type, model_type, tokenizer=False, **config))))


@pytest.mark.slow
@pytest.mark.parametrize("model_type", tiny.DENSE)
def test_each_familys_function_is_what_its_model_computes(model_type: str, tmp_path: Path) -> None:
    target = open_tiny(tmp_path, model_type)
    folder = target.source.folder
    if model_type == "apertus":  # learned: another in each layer
        tensors = load_file(folder / "model.safetensors")
        for number, name in enumerate(sorted(name for name in tensors if ".alpha_" in name)):
            tensors[name] = torch.full_like(tensors[name], 0.25 * number - 0.5)  # exact in bfloat16
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        target = open_target(resolve(str(folder)))
    live = load_model(folder, device="cpu")
    seen: list[tuple[Any, Any]] = []
    for module in activation_modules(live, target.feed_forward.family):
        module.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0].double(), output.double())))
    with torch.inference_mode():
        trunk(live)(input_ids=torch.arange(6, 20)[None])
    made = functions(target)
    assert len(made) == len(seen) == target.feed_forward.layers
    for function, (before, after) in zip(made, seen, strict=True):
        assert np.abs(before.numpy()).max() > 0.5
        assert np.abs(function(before.numpy()) - after.numpy()).max() < 1e-5 * max(1.0, float(after.abs().max()))
    if model_type == "apertus":
        assert len({float(function(np.array([1.0]))[0]) for function in made}) == target.feed_forward.layers


def test_transformers_is_asked_where_the_config_is_silent(model: Path, tmp_path: Path) -> None:
    import json

    folder = Path(shutil.copytree(model, tmp_path / "copy"))
    config = json.loads((folder / "config.json").read_text())
    assert config.pop("hidden_act") == "silu"
    (folder / "config.json").write_text(json.dumps(config))
    assert function_name(open_target(resolve(str(folder)))) == "silu"
    tiny.edit_config(folder, hidden_act="gelu_new")
    assert function_name(open_target(resolve(str(folder)))) == "gelu_new"


def test_a_wrappers_function_is_its_text_towers(tmp_path: Path) -> None:
    folder = tiny.save_model(tmp_path / "gemma3", "gemma3", tokenizer=False)
    assert function_name(open_target(resolve(str(folder)))) == "gelu_pytorch_tanh"


def test_unknown_functions_are_refused(model: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model, tmp_path / "copy"))
    tiny.edit_config(folder, hidden_act="mish")
    with pytest.raises(
        ModelError, match=r"has the activation function 'mish', .*Known: gelu, .* xielu\. Only `deactivate`"
    ):
        functions(open_target(resolve(str(folder))))


def test_xielu_that_is_not_in_the_checkpoint_is_an_error(tmp_path: Path) -> None:
    target = open_tiny(tmp_path, "apertus")
    path = target.source.folder / "model.safetensors"
    tensors = load_file(path)
    name = "model.layers.1.mlp.act_fn.alpha_n"
    for change, message in (
        (torch.zeros(2), r"alpha_n is F32 of shape \[2\], not one number"),
        (torch.tensor([math.nan]), r"layers\.1\.mlp\.act_fn holds NaN"),
        (None, r"has no model\.layers\.1\.mlp\.act_fn\.alpha_n"),
    ):
        changed = {key: tensor for key, tensor in tensors.items() if key != name}
        if change is not None:
            changed[name] = change
        save_file(changed, path, {"format": "pt"})
        with pytest.raises(CheckpointError, match=message):
            functions(open_target(resolve(str(target.source.folder))))
