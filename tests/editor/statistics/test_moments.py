"""What is recorded as the input of a feed-forward network is what its first projection multiplies, in every family."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support import tiny

from monoglot.editor.live.load import load_model
from monoglot.editor.live.modules import activation_modules, input_modules, trunk
from monoglot.editor.models.families import family_of
from monoglot.editor.statistics import moments
from monoglot.editor.statistics.moments import Moments

IDS = torch.arange(6, 20).reshape(2, 7)


@pytest.mark.slow
@pytest.mark.parametrize("model_type", tiny.DENSE)
def test_the_first_projection_of_the_input_goes_into_the_activation(model_type: str, tmp_path: Path) -> None:
    """z = W_in·x + b from the tensors of the file, against what goes into the activation function."""
    tiny.need(model_type)
    folder = tiny.save_model(tmp_path / model_type, model_type, tokenizer=False)
    family = family_of({"model_type": model_type})
    live, tensors = load_model(folder, device="cpu"), load_file(folder / "model.safetensors")
    seen: dict[str, list[Any]] = {"x": [], "z": []}
    for name, modules in (("x", input_modules(live, family)), ("z", activation_modules(live, family))):
        for module in modules:
            module.register_forward_pre_hook(lambda _, inputs, name=name: seen[name].append(inputs[0].reshape(14, -1)))
    sums = [
        np.zeros((tiny.LAYERS, tiny.HIDDEN, tiny.HIDDEN)),
        *(np.zeros((tiny.LAYERS, tiny.HIDDEN)) for _ in range(2)),
    ]
    recorder = Moments(input_modules(live, family), *sums)
    with torch.inference_mode(), recorder.attached():
        recorder.start(2, 7, 1)
        trunk(live)(input_ids=IDS)
        recorder.commit()
    prefix = next(name for name in tensors if name.endswith(f"{family.layer.format(0)}.{family.into}.weight"))
    for layer in range(tiny.LAYERS):
        x, z = seen["x"][layer], seen["z"][layer]
        place = prefix.replace(family.layer.format(0), family.layer.format(layer)).removesuffix("weight")
        weight = tensors[f"{place}weight"]
        bias = tensors.get(f"{place}bias", torch.zeros(()))
        expected = x @ (weight if family.conv1d else weight.T) + bias
        assert torch.allclose(expected[:, : z.shape[1]], z, atol=1e-4)
        rows = x.reshape(2, 7, -1).double().numpy()
        assert sums[0][layer] == pytest.approx(np.einsum("bta,btc->ac", rows[:, 1:], rows[:, 1:]), abs=1e-4)
        assert sums[1][layer] == pytest.approx(rows[:, 1:].sum(axis=(0, 1)), abs=1e-4)
        assert sums[2][layer] == pytest.approx(rows[:, 0].sum(axis=0), abs=1e-4)


def test_a_pass_that_failed_does_not_count() -> None:
    """Its layers may have been read in part; only `commit` adds."""
    module = torch.nn.Identity()
    sums = [np.zeros((1, 2, 2)), np.zeros((1, 2)), np.zeros((1, 2))]
    recorder = Moments([module], *sums)
    with recorder.attached():
        recorder.start(1, 3, 1)
        module(torch.ones(1, 3, 2))
        recorder.start(1, 2, 1)  # the half of the batch
        module(torch.ones(1, 2, 2))
        recorder.commit()
        recorder.commit()
    assert [array.flatten().tolist() for array in sums] == [[1.0] * 4, [1.0] * 2, [1.0] * 2]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gpu_adds_up_the_same(dtype: torch.dtype) -> None:
    x = torch.randn(3 * moments.BLOCK + 5, 32, generator=torch.Generator().manual_seed(0)).to(dtype)
    for cpu, gpu in zip(moments._moments(x), moments._moments(x.cuda()), strict=True):
        assert gpu == pytest.approx(cpu, abs=1e-2)
