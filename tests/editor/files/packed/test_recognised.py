"""What config.json and tensors say of a module: formats told apart, exceptions by module, and everything that contradicts."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import packed_writers as writers
from support.packed_writers import FORMATS, MODULE, Made, Tensors

from monoglot.editor.errors import CheckpointError, ModelError, MonoglotError
from monoglot.editor.files import packed
from monoglot.editor.files.checkpoint import read_checkpoint
from monoglot.editor.models.feed_forward import unstacked


def opened(folder: Path, made: Made, module: str = MODULE) -> packed.Matrix:
    writers.save(folder, made, module)
    checkpoint = read_checkpoint(folder, quantised=True)
    parts = {tensor.name.removeprefix(f"{module}."): (shard, tensor) for shard, tensor in checkpoint.tensors()}
    quantisation = packed.quantisation_of(checkpoint.config)
    assert quantisation
    return quantisation.matrix(module, parts)


def changed(name: str, *, tensors: dict[str, Any] | None = None, without: str | None = None, **own: Any) -> Made:
    made = FORMATS[name](np.random.default_rng(0))
    made.settings |= own
    made.tensors |= tensors or {}
    if without:
        del made.tensors[without]
    return made


def plain() -> Tensors:
    return {"weight": ("BF16", np.ones((32, 64), np.uint16))}


@pytest.mark.parametrize("method", sorted(packed.REFUSED))
def test_formats_without_bytes_of_a_neuron_are_refused_by_name(method: str) -> None:
    with pytest.raises(ModelError, match=f"quantised by {method}, in which a neuron can't be cleared exactly: "):
        packed.quantisation_of({"quantization_config": {"quant_method": method}})


def test_an_unknown_format_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        ModelError, match=r"quantised by 'new', which monoglot doesn't know. Known: awq, bitsandbytes, "
    ):
        packed.quantisation_of({"quantization_config": {"quant_method": "new"}})
    with pytest.raises(CheckpointError, match="no object"):
        packed.quantisation_of({"quantization_config": "gptq"})


def test_where_the_config_says_it() -> None:
    settings = {"quant_method": "awq"}
    assert packed.quantisation_of({}) is None
    assert packed.quantisation_of({"quantization_config": None}) is None
    for config in ({"quantization_config": settings}, {"text_config": {"quantization_config": settings}}):
        found = packed.quantisation_of(config)
        assert found and found.method == "awq"
    mlx = packed.quantisation_of({"quantization": {"bits": 4, "group_size": 64}})
    assert mlx and mlx.method == "mlx"
    old = packed.quantisation_of({"quantization_config": {"load_in_8bit": True}})
    assert old and old.method == "bitsandbytes"


DISAGREEMENTS = {
    "another method": ("gptq-4", {"quant_method": "awq", "version": "gemm"}, {}, None, "awq .*8 columns are no whole groups"),
    "no tensor": ("gptq-4", {}, {}, "scales", r"gptq \(bits 4, .* should have scales; the file has g_idx I32 \[64\]"),
    "other bits": ("gptq-4", {"bits": 8}, {}, None, "bits 8.*so .*qzeros should be I32"),
    "other groups": ("gptq-4", {"group_size": 16}, {}, None, r"qzeros should be I32 \[4, 4\]; .* I32 \[2, 4\]"),
    "awq groups": ("awq", {"group_size": 64}, {}, None, "qzeros should be"),
    "ct bits": ("ct-int4-group", writers.ct_settings("pack-quantized", num_bits=8, type="int", strategy="channel"), {}, None,
                "weight_packed should be"),
    "ct for floats": ("ct-int4-group", {}, {"weight_packed": ("U8", np.zeros((32, 32), np.uint8))}, None,
                      r"should be I32; in the file it is U8 \[32, 32\]"),
    "fp8 blocks": ("fp8-blocks", {"weight_block_size": [128, 128]}, {}, None, "weight_scale_inv should be"),
    "fp8 that isn't": ("fp8-blocks", {}, {"weight": ("BF16", np.zeros((32, 64), np.uint16))}, None,
                       "should be F8_E4M3 or F8_E5M2; in the file it is BF16"),
    "nf4 and fp4": ("bnb-nf4", {"bnb_4bit_quant_type": "fp4"}, {}, None, "should have weight.quant_state.bitsandbytes__fp4"),
    "bnb 8 and 4 bits": ("bnb-nf4", {"load_in_8bit": True}, {}, None, "weight should be I8; in the file it is U8"),
    "hqq groups": ("hqq-4", {"quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 32, "axis": 1}}}, {}, None,
                   "W_q should be"),
    "mlx bits": ("mlx-4", {"bits": 8}, {}, None, "scales should be"),
    "modelopt": ("fp8-modelopt", {"quant_algo": "NVFP4"}, {}, None, "should have weight_scale_2"),
}  # fmt: skip


@pytest.mark.parametrize("name", DISAGREEMENTS)
def test_config_and_tensors_that_disagree(tmp_path: Path, name: str) -> None:
    made, own, tensors, without, message = DISAGREEMENTS[name]
    with pytest.raises(CheckpointError, match=message) as error:
        opened(tmp_path, changed(made, tensors=tensors, without=without, **own))
    assert MODULE in str(error.value) and "Config and weights don't belong together" in str(error.value)


UNKNOWN = {
    "gptq version": (
        "gptq-4",
        {"checkpoint_format": "marlin"},
        "format 'marlin', which monoglot doesn't edit; it does gptq",
    ),
    "gptq bits": ("gptq-4", {"bits": 5}, "GPTQ 5 bits"),
    "gptq bits of another kind": ("gptq-4", {"bits": "4"}, "bits '4'; it has to be a whole number"),
    "gptq pattern": ("gptq-4", {"dynamic": {"-:(": {}}}, "malformed pattern"),
    "awq version": ("awq", {"version": "gemv"}, "version 'gemv' with 4 bits"),
    "ct format": ("ct-int4-group", {"format": "marlin-24"}, "marlin-24.*doesn't edit"),
    "ct three bits": ("ct-int4-group", writers.ct_settings("pack-quantized", num_bits=3, strategy="channel"), "3 bits"),
    "ct without groups": ("ct-int4-group", {"config_groups": []}, "no config_groups"),
    "rotated": ("ct-int4-group", {"transform_config": {"config_groups": {"u": {}}}}, "after a rotation"),
    "sparse": ("ct-int4-group", {"sparsity_config": {"format": "sparse-24-bitmask"}}, "stored sparse"),
    "bnb type": ("bnb-nf4", {"bnb_4bit_quant_type": "nf3"}, "type 'nf3'; known are nf4, fp4"),
    "hqq axis": ("hqq-4", {"quant_config": {"nbits": 4, "group_size": 16, "axis": 0}}, "along axis 0"),
    "hqq floats": (
        "hqq-4",
        {"quant_config": {"nbits": 4, "group_size": 16, "view_as_float": True}},
        "viewed as floats",
    ),
    "mlx mode": ("mlx-4", {"mode": "mxfp4"}, "mode 'mxfp4'"),
    "modelopt": ("fp8-modelopt", {"quant_algo": "W4A8_AWQ"}, "W4A8_AWQ"),
    "fp8 blocks": ("fp8-blocks", {"weight_block_size": [0, 128]}, "two whole numbers"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_unknown_versions_and_settings(tmp_path: Path, name: str) -> None:
    made, own, message = UNKNOWN[name]
    with pytest.raises(ModelError, match=message):
        opened(tmp_path, changed(made, **own))


@pytest.mark.parametrize("kind", ["Int4TilePackedTo4dTensor", "torch.Tensor", None])
def test_torchao_layouts_for_one_kernel(tmp_path: Path, kind: str | None) -> None:
    made = changed("torchao-Int8Tensor")
    made.metadata = {} if kind is None else {f"{MODULE}.weight": f'{{"_type": "{kind}"}}'}
    with pytest.raises(ModelError, match=f"is a {kind} of torchao"):
        opened(tmp_path, made)


@pytest.mark.parametrize(
    ("name", "own", "message"),
    [
        ("gptq-without-g_idx", {"group_size": 24}, "64 columns are no whole groups of 24"),
        ("awq", {"group_size": 24}, "64 columns are no whole groups of 24"),
        ("mlx-4", {"group_size": 24}, "64 columns are no whole groups of 24"),
        ("hqq-4", {"quant_config": {"nbits": 4, "group_size": 24, "axis": 1}}, "64 numbers are no whole groups of 24"),
        (
            "ct-int4-group",
            writers.ct_settings("pack-quantized", num_bits=4, strategy="group", group_size=24),
            "groups of 24",
        ),
    ],
)
def test_a_group_size_that_does_not_divide(tmp_path: Path, name: str, own: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        opened(tmp_path, changed(name, **own))


def test_gptq_zero_points_that_run_over(tmp_path: Path) -> None:
    made = writers.gptq(np.random.default_rng(0), 32, 64)
    zeros = made.tensors["qzeros"][1].copy()
    zeros[1, 0] |= 15 << 8  # row 2 in the second group: 16, or 0 in loaders that add to whole words
    made.tensors["qzeros"] = ("I32", zeros)
    matrix = opened(tmp_path, made)
    assert matrix.clear_columns([0, 31])  # of the first group
    with pytest.raises(ModelError, match="a stored 15 stands for two numbers"):
        matrix.clear_columns([32])
    assert matrix.clear_rows([2])
    with pytest.raises(ModelError, match="loaders disagree"):
        matrix.read(0, 4)
    assert matrix.read(8, 12).shape == (4, 64)


def test_gptq_order_that_names_a_group_that_is_not_there(tmp_path: Path) -> None:
    made = changed("gptq-4", tensors={"g_idx": ("I32", np.full(64, 2, "<i4"))})
    with pytest.raises(CheckpointError, match="g_idx names groups"):
        opened(tmp_path, made).clear_columns([0])


@pytest.mark.parametrize(
    "name", ["fp8-blocks", "fp8-ct-channel", "ct-w8a8", "fp4-nvfp4", "bnb-nf4", "bnb-int8", "torchao-Int8Tensor"]
)
def test_broken_scales_of_what_is_cleared(tmp_path: Path, name: str) -> None:
    made = FORMATS[name](np.random.default_rng(0))
    kind = next(kind for kind in made.tensors if "scale" in kind or kind in ("weight.absmax", "SCB"))
    dtype, numbers = made.tensors[kind]
    broken = numbers.copy()
    broken.reshape(-1)[0] = {"F32": np.nan, "BF16": 0x7FC0, "F8_E4M3": 0x7F}[dtype]
    made.tensors[kind] = (dtype, broken)
    matrix = opened(tmp_path, made)
    with pytest.raises(CheckpointError, match="NaN or infinite scales"):
        matrix.clear_rows([0])
    assert matrix.clear_rows([31])


LEFT_OUT = {
    "gptq-4": [{"dynamic": {r"-:.*layers\.0\.": {}}}, {"modules_to_not_convert": ["layers.0.mlp"]}],
    "awq": [{"modules_to_not_convert": ["up_proj"]}, {"modules_to_not_convert": ["model.layers.0.mlp"]}],
    "fp8-blocks": [{"modules_to_not_convert": [MODULE]}, {"ignored_layers": ["model.layers.0"]}],
    "ct-int4-group": [{"ignore": [MODULE]}, {"ignore": [r"re:.*\.mlp\..*"]}, {"ignore": ["Linear"]},
                      {"config_groups": {"g": {"targets": [r"re:.*self_attn.*"], "weights": {"num_bits": 4}}}}],
    "bnb-nf4": [{"llm_int8_skip_modules": ["up_proj"]}],
    "fp8-modelopt": [{"ignore": ["model.layers.0*"]}],
    "hqq-4": [{"skip_modules": ["up_proj"]}],
    "torchao-Int8Tensor": [{"modules_to_not_convert": ["up_proj"]}, {}],
    "mlx-4": [{MODULE: False}, {}],
}  # fmt: skip


@pytest.mark.parametrize(("name", "own"), [(name, own) for name, each in LEFT_OUT.items() for own in each])
def test_modules_that_were_left_as_they_were(tmp_path: Path, name: str, own: dict[str, Any]) -> None:
    made = changed(name, **own)
    if own:
        with pytest.raises(CheckpointError, match=r"which leaves model\.layers\.0\.mlp\.up_proj as it was"):
            opened(tmp_path, changed(name, **own, tensors={"weight": ("I8", np.zeros((32, 64), np.int8))}))
    made.tensors = plain()
    matrix = opened(tmp_path, made)
    assert matrix.form == "bfloat16" and (matrix.rows, matrix.columns) == (32, 64)
    assert {name: packed.size(runs) for name, runs in matrix.clear_rows([1, 2]).items()} == {
        f"{MODULE}.weight": 2 * 64 * 2
    }
    assert {name: packed.size(runs) for name, runs in matrix.clear_columns([5]).items()} == {f"{MODULE}.weight": 32 * 2}


@pytest.mark.parametrize(
    "name", ["gptq-4", "awq", "fp8-blocks", "ct-int4-group", "bnb-nf4", "hqq-4", "torchao-Int8Tensor"]
)
def test_floats_where_the_config_says_codes(tmp_path: Path, name: str) -> None:
    made = changed(name)
    made.tensors = plain()
    if name.startswith("torchao"):  # nothing in its config names what its filter left out
        assert opened(tmp_path, made).form == "bfloat16"
        return
    with pytest.raises(CheckpointError, match=r"config\.json says"):
        opened(tmp_path, made)


def test_names_may_differ_in_what_stands_before_the_layers(tmp_path: Path) -> None:
    made = changed("awq", modules_to_not_convert=["model.layers.0.mlp.up_proj"])
    made.tensors = plain()
    assert opened(tmp_path, made, "language_model.model.layers.0.mlp.up_proj").form == "bfloat16"
    made = changed("ct-int4-group", ignore=["model.language_model.layers.0.mlp.up_proj"])
    made.tensors = plain()
    assert opened(tmp_path, made, "model.layers.0.mlp.up_proj").form == "bfloat16"
    assert opened(tmp_path, changed("awq", modules_to_not_convert=["layers.10", "layer"])).form.startswith("AWQ")


def test_formats_that_differ_by_module(tmp_path: Path) -> None:
    layered = writers.ct_settings("mixed-precision", num_bits=8)
    layered["config_groups"] = {
        "group_0": {"targets": ["Linear"], "format": "int-quantized",
                    "weights": {"num_bits": 8, "type": "int", "strategy": "channel", "symmetric": True}},
        "group_1": {"targets": [r"re:.*layers\.0\..*"], "format": "pack-quantized",
                    "weights": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32, "symmetric": True}},
    }  # fmt: skip
    assert "pack-quantized (4 bits" in opened(tmp_path, changed("ct-int4-group", **layered)).form
    eight = changed("ct-w8a8", **layered)
    assert "int-quantized (8 bits" in opened(tmp_path, eight, "model.layers.1.mlp.up_proj").form
    assert "(8 bits" in opened(tmp_path, changed("gptq-8", bits=4, dynamic={r"+:.*\.0\..*up": {"bits": 8}})).form
    assert "(8 bits" in opened(tmp_path, changed("mlx-8", bits=4, **{MODULE: {"bits": 8, "group_size": 32}})).form


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 300), st.floats(), st.text(max_size=3), st.just([]), st.just({}),
    st.lists(st.integers(-2, 40), max_size=3), st.just("re:("), st.just(["re:("]),
)  # fmt: skip
DTYPES = {"U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E8M0": 1, "F16": 2, "BF16": 2, "I32": 4, "U32": 4, "F32": 4, "I64": 8}


@pytest.mark.parametrize("name", ["gptq-3-act-order", "gptq-4", "awq", "ct-int4-group-asymmetric", "ct-w8a8-asymmetric",
"fp8-blocks",
                                  "fp8-ct-block", "fp4-nvfp4", "fp4-deepseek", "bnb-nf4-nested", "bnb-int8", "hqq-3", "mlx-5",
                                  "torchao-IntxUnpackedToInt8Tensor", "fp8-modelopt"])  # fmt: skip
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(draw=st.data())
def test_malformed_checkpoints_are_refused_or_read(tmp_path: Path, name: str, draw: st.DataObject) -> None:
    """Whatever settings, shapes and bytes are: an error of ours, or a matrix whose edits stay inside its tensors."""
    made = FORMATS[name](np.random.default_rng(0))
    made.settings = copy.deepcopy(made.settings)
    places: list[Any] = [made.settings]
    for place in places:
        places.extend(value for value in place.values() if isinstance(value, dict))
    if draw.draw(st.booleans()):
        place = draw.draw(st.sampled_from(places))
        place[draw.draw(st.sampled_from(sorted(place)))] = draw.draw(VALUES)
    kind = draw.draw(st.sampled_from(sorted(made.tensors)))
    what = draw.draw(st.sampled_from(["nothing", "gone", "other form", "other bytes"]))
    dtype, numbers = made.tensors[kind]
    if what == "gone":
        del made.tensors[kind]
    elif what == "other form":
        dtype = draw.draw(st.sampled_from(sorted(DTYPES)))
        shape = tuple(draw.draw(st.lists(st.integers(0, 70), max_size=3)))
        made.tensors[kind] = (dtype, np.zeros(shape, f"u{DTYPES[dtype]}"))
    elif what == "other bytes" and numbers.size:
        raw = np.random.default_rng(draw.draw(st.integers(0, 9))).bytes(numbers.nbytes)
        made.tensors[kind] = (dtype, np.frombuffer(raw, numbers.dtype).reshape(numbers.shape))
    try:
        matrix = opened(tmp_path, made)
        tensors = read_checkpoint(tmp_path, quantised=True).tensors()
        lengths = {tensor.name: tensor.end - tensor.begin for _, tensor in tensors}
        last = matrix.rows - 1
        edits = [matrix.clear_rows([0, last])] if matrix.rows else []
        if name not in ("hqq-3", "mlx-5"):
            edits += [matrix.clear_columns([0, matrix.columns - 1])] if matrix.columns else []
        for tensor, runs in ((tensor, runs) for each in edits for tensor, runs in each.items()):
            for run in runs:
                assert run.begin >= 0 and run.begin + (run.count - 1) * run.stride + run.length <= lengths[tensor]
        with np.errstate(all="ignore"):
            assert matrix.read(0, matrix.rows).shape == (matrix.rows, matrix.columns)
    except MonoglotError as error:
        assert len(str(error)) < 2000


def test_gpt_oss_experts_in_one_tensor(tmp_path: Path) -> None:
    """gate_up_proj of three experts of 4 neurons that read 64 numbers: each a module, found among its stack's parts."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 16, (3, 8, 2, 32))
    scales = rng.integers(110, 130, (3, 8, 2)).astype(np.uint8)
    blocks = (codes[..., ::2] | codes[..., 1::2] << 4).astype(np.uint8)
    tensors: Tensors = {"gate_up_proj_blocks": ("U8", blocks), "gate_up_proj_scales": ("U8", scales)}
    made = Made({"quant_method": "mxfp4"}, tensors, np.zeros(0), lambda which: tensors, None)
    writers.save(tmp_path, made, "model.layers.0.mlp.experts")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "gpt_oss"}))
    values = np.array([writers.e2m1(int(code)) for code in codes.reshape(-1)]).reshape(codes.shape)
    weights = (values * 2.0 ** (scales.astype(np.int64) - 127)[..., None]).reshape(3, 8, 64)

    def matrices() -> list[packed.Matrix]:
        checkpoint = unstacked(read_checkpoint(tmp_path, quantised=True))
        method = packed.quantisation_of(checkpoint.config)
        modules = packed.modules_of(checkpoint)
        assert method and list(modules) == [f"model.layers.0.mlp.experts.gate_up_proj[{number}]" for number in range(3)]
        return [method.matrix(module, parts) for module, parts in modules.items()]

    for matrix, expert in zip(matrices(), weights, strict=True):
        np.testing.assert_array_equal(matrix.read(0, 8), expert.astype(np.float32))
    checkpoint = unstacked(read_checkpoint(tmp_path, quantised=True))
    ((name, runs),) = matrices()[1].clear_rows([0, 6]).items()
    place = checkpoint.find(name)
    assert place
    raw = bytearray(place[0].path.read_bytes())
    before = np.frombuffer(bytes(raw), np.uint8)
    packed.write(runs, np.frombuffer(raw, np.uint8, place[1].end - place[1].begin, place[1].begin), 0)
    differ = np.flatnonzero(before != np.frombuffer(raw, np.uint8))
    place[0].path.write_bytes(raw)
    weights[1, [0, 6]] = 0
    for matrix, expert in zip(matrices(), weights, strict=True):
        np.testing.assert_array_equal(matrix.read(0, 8), expert.astype(np.float32))
    first = next(tensor.begin for _, tensor in checkpoint.tensors() if tensor.name.endswith("blocks[0]"))
    assert set(differ.tolist()) <= {first + (8 + row) * 32 + at for row in (0, 6) for at in range(32)}
