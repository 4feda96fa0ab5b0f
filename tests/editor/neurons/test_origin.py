"""The model that a quantised one was made from: what fits it, and what each that does not is told."""

from pathlib import Path
from typing import Any

import pytest
from support import packed_models, tiny

from monoglot.editor.errors import NeuronsError
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import Target, open_target
from monoglot.editor.neurons.origin import open_origin

LIKE = {"vocab_size": 300, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "mlp_bias": True}


@pytest.fixture(scope="module")
def quantised(tmp_path_factory: pytest.TempPathFactory) -> Target:
    return open_target(resolve(str(packed_models.save(tmp_path_factory.mktemp("q"), "gptq-4")[0])))


def test_a_model_of_the_same_shape_fits(quantised: Target) -> None:
    twin = quantised.source.folder.with_name("twin")
    assert open_origin(str(twin), quantised).fingerprint != quantised.fingerprint


@pytest.mark.parametrize(
    ("model_type", "more", "said"),
    [
        ("mistral", {}, "has model_type mistral, .* has llama"),
        ("llama", {"num_hidden_layers": 3}, "has layers 3, .* has 2"),
        ("llama", {"hidden_size": 32}, "has hidden size 32, .* has 64"),
        ("llama", {"intermediate_size": 96}, "has neurons a layer 96, .* has 128"),
    ],
)
def test_a_model_of_another_shape(
    quantised: Target, tmp_path: Path, model_type: str, more: dict[str, Any], said: str
) -> None:
    other = tiny.save_model(tmp_path / "other", model_type, tokenizer=False, **{**LIKE, **more})
    with pytest.raises(NeuronsError, match=said):
        open_origin(str(other), quantised)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"num_experts": 2}, "has [0-9]+ networks, .* has [0-9]+"),
        ({"mlp_only_layers": [0]}, "neurons in 0, .* in 0.0"),
    ],
)
def test_experts_that_differ(tmp_path: Path, more: dict[str, Any], said: str) -> None:
    packed, _ = packed_models.save(tmp_path, "gptq-4", "qwen3_moe")
    own = {**packed_models.COMMON, **packed_models.KINDS["qwen3_moe"][0]}
    other = tiny.save_model(tmp_path / "other", "qwen3_moe", tokenizer=False, **{**own, **more})
    with pytest.raises(NeuronsError, match=said):
        open_origin(str(other), open_target(resolve(str(packed))))


def test_one_that_is_quantised_too_and_one_for_a_model_that_is_not(quantised: Target) -> None:
    packed, twin = quantised.source.folder, quantised.source.folder.with_name("twin")
    with pytest.raises(NeuronsError, match=r"is quantised too .*Name the model"):
        open_origin(str(packed), quantised)
    with pytest.raises(NeuronsError, match=r"is not quantised, .*Leave `neurons_of` out"):
        open_origin(str(packed), open_target(resolve(str(twin))))
