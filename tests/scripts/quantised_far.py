"""The far side of `quantised.py`: runs in a library's own environment, and imports nothing of monoglot.

python quantised_far.py make ORIGINAL FOLDER KIND…     the tiny model in ORIGINAL quantised, to FOLDER/KIND/base
python quantised_far.py run FOLDER NAME KIND…          of FOLDER/KIND/NAME: logits as they are and with the neurons of
                                                       FOLDER/neurons.json switched off by hooks, and the weights that the
                                                       library computes from what is stored, to FOLDER/KIND/NAME.npz
"""

import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

KINDS = {
    "llmcompressor": (
        "ct-w4a16", "ct-w4a16-asymmetric", "ct-w4a16-channel", "ct-w8a16", "ct-w8a8", "ct-fp8", "ct-fp8-tensor",
        "ct-fp8-block",
        "ct-nvfp4", "ct-mxfp4", "ct-mxfp8", "ct-mixed",
    ),
    "bitsandbytes": ("bnb-nf4", "bnb-nf4-nested", "bnb-fp4", "bnb-int8"),
    "gptqmodel": (
        "gptq-2", "gptq-3", "gptq-4", "gptq-8", "gptq-4-act-order", "gptq-4-asymmetric", "gptq-4-v2", "awq-4",
    ),
    "torchao": ("torchao-int8", "torchao-int8-dynamic", "torchao-fp8", "torchao-intx"),
    "mlx": ("mlx-2", "mlx-3", "mlx-4", "mlx-5", "mlx-6", "mlx-8"),
    "hqq": ("hqq-8", "hqq-4", "hqq-3", "hqq-2", "hqq-1"),
}  # fmt: skip  # library -> what it makes
IDS = [[5, 17, 200, 3, 42, 99, 250, 11, 64, 7, 180, 23], [9, 9, 120, 77, 31, 2, 66, 280, 145, 12, 50, 88]]


def llmcompressor(
    scheme: str | dict[str, Any], original: Path, folder: Path, ignore: tuple[str, ...] = ("lm_head",)
) -> None:
    from llmcompressor import oneshot
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(original, dtype="bfloat16")
    chosen: Any = {"config_groups": scheme} if isinstance(scheme, dict) else {"targets": "Linear", "scheme": scheme}
    oneshot(model=model, recipe=QuantizationModifier(ignore=list(ignore), **chosen))
    model.save_pretrained(folder, save_compressed=True)


def ct_group(bits: int, kind: str = "int", **weights: Any) -> dict[str, Any]:
    return {"group_0": {"targets": ["Linear"], "weights": {"num_bits": bits, "type": kind, **weights}}}


def by_transformers(quantisation: Callable[[], Any], original: Path, folder: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        original, dtype="bfloat16", quantization_config=quantisation(), device_map="cpu"
    )
    model.save_pretrained(folder)


def bnb(**settings: Any) -> Callable[[Path, Path], None]:
    def make(original: Path, folder: Path) -> None:
        from transformers import BitsAndBytesConfig

        by_transformers(lambda: BitsAndBytesConfig(**settings), original, folder)

    return make


def torchao(name: str, **settings: Any) -> Callable[[Path, Path], None]:
    def make(original: Path, folder: Path) -> None:
        import torchao.quantization as ao
        from transformers import TorchAoConfig

        kind = getattr(ao, name)
        own = {key: value() if callable(value) else value for key, value in settings.items()}
        by_transformers(lambda: TorchAoConfig(kind(**own)), original, folder)

    return make


def hqq(bits: int) -> Callable[[Path, Path], None]:
    """As transformers 4 saved it: the state of hqq's own layers. transformers 5 has no HQQ yet."""

    def make(original: Path, folder: Path) -> None:
        import torch
        from hqq.core.quantize import BaseQuantizeConfig, HQQLinear
        from safetensors.torch import save_file
        from transformers import AutoModelForCausalLM

        config = BaseQuantizeConfig(nbits=bits, group_size=32, axis=1)
        model = AutoModelForCausalLM.from_pretrained(original, dtype=torch.float16)
        linear = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
        for name, module in linear.items():
            if name != "lm_head":
                packed = HQQLinear(module, config, compute_dtype=torch.float16, device="cpu", del_orig=False)
                model.set_submodule(name, packed)
        state = {name: tensor for name, tensor in model.state_dict().items() if isinstance(tensor, torch.Tensor)}
        folder.mkdir(parents=True)
        own = {name: tensor.contiguous().clone() for name, tensor in state.items()}
        save_file(own, folder / "model.safetensors", {"format": "pt"})
        about = json.loads((original / "config.json").read_text())
        about["quantization_config"] = {"quant_method": "hqq", "quant_config": config, "skip_modules": ["lm_head"]}
        (folder / "config.json").write_text(json.dumps(about))

    return make


def gptq(**settings: Any) -> Callable[[Path, Path], None]:
    def make(original: Path, folder: Path) -> None:
        os.environ["GPTQMODEL_CPU_WORKERS"] = "2"  # it needs as many, whatever the machine has
        from gptqmodel import GPTQModel, QuantizeConfig

        model = GPTQModel.load(str(original), QuantizeConfig(**settings), device="cpu")
        generator = np.random.default_rng(0)
        texts = [{"input_ids": generator.integers(6, 300, 64).tolist(), "attention_mask": [1] * 64} for _ in range(8)]
        model.quantize(texts, batch_size=1)
        model.save(str(folder))

    return make


def mlx(bits: int, group: int) -> Callable[[Path, Path], None]:
    def make(original: Path, folder: Path) -> None:
        from mlx_lm import convert

        convert(str(original), str(folder), quantize=True, q_bits=bits, q_group_size=group)

    return make


MAKERS: dict[str, Callable[[Path, Path], None]] = {
    **{
        name: lambda original, folder, scheme=scheme: llmcompressor(scheme, original, folder)
        for name, scheme in {
            "ct-w4a16": ct_group(4, strategy="group", group_size=32),
            "ct-w4a16-asymmetric": ct_group(4, strategy="group", group_size=32, symmetric=False),
            "ct-w4a16-channel": ct_group(4, strategy="channel"),
            "ct-w8a16": ct_group(8, strategy="channel"),
            "ct-w8a8": "W8A8",
            "ct-fp8": "FP8_DYNAMIC",
            "ct-fp8-tensor": ct_group(8, "float", strategy="tensor"),
            "ct-fp8-block": "FP8_BLOCK",
            "ct-nvfp4": "NVFP4A16",
            "ct-mxfp4": "MXFP4A16",
            "ct-mxfp8": "MXFP8A16",
        }.items()
    },
    "ct-mixed": lambda original, folder: llmcompressor(
        ct_group(4, strategy="group", group_size=32), original, folder, ("lm_head", r"re:.*layers\.0\.mlp.*")
    ),
    "bnb-nf4": bnb(load_in_4bit=True, bnb_4bit_quant_type="nf4"),
    "bnb-nf4-nested": bnb(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True),
    "bnb-fp4": bnb(load_in_4bit=True, bnb_4bit_quant_type="fp4"),
    "bnb-int8": bnb(load_in_8bit=True),
    "torchao-int8": torchao("Int8WeightOnlyConfig", version=2),
    "torchao-int8-dynamic": torchao("Int8DynamicActivationInt8WeightConfig", version=2),
    "torchao-fp8": torchao("Float8WeightOnlyConfig", version=2),
    "torchao-intx": torchao("IntxWeightOnlyConfig", version=2),
    **{f"hqq-{bits}": hqq(bits) for bits in (8, 4, 3, 2, 1)},
    **{f"gptq-{bits}": gptq(bits=bits, group_size=32) for bits in (2, 3, 4, 8)},
    "gptq-4-act-order": gptq(bits=4, group_size=32, desc_act=True),
    "gptq-4-asymmetric": gptq(bits=4, group_size=32, sym=False),
    "gptq-4-v2": gptq(bits=4, group_size=32, sym=False, format="gptq_v2"),
    "awq-4": gptq(bits=4, group_size=32, quant_method="awq", format="gemm"),
    **{f"mlx-{bits}": mlx(bits, 32) for bits in (2, 3, 4, 5, 6, 8)},
}


def run(folder: Path, neurons: list[list[int]], out: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    if "quantization" in config:
        run_mlx(folder, neurons, out)
        return
    import torch
    from transformers import AutoModelForCausalLM

    if config["quantization_config"]["quant_method"] == "hqq":
        model: Any = load_hqq(folder)
    elif config["quantization_config"]["quant_method"] in ("gptq", "awq"):
        model = load_gptq(folder)
    else:
        model = AutoModelForCausalLM.from_pretrained(folder, device_map="cpu").eval()

    def logits() -> np.ndarray:
        with torch.no_grad():
            found: np.ndarray = model(torch.tensor(IDS)).logits.float().numpy()
        return found

    found = {}
    for number, layer in enumerate(
        model.model.layers
    ):  # before it runs: bitsandbytes lays weights out anew for the CPU then
        for name in ("up_proj", "down_proj"):
            weight = dequantised(getattr(layer.mlp, name))
            if weight is not None:
                found[f"{number}.{name}"] = weight.float().numpy()
    found |= {"plain": logits(), "again": logits()}
    for layer, own in zip(model.model.layers, neurons, strict=True):

        def clear(module: Any, inputs: Any, output: Any, own: list[int] = own) -> Any:
            output[..., own] = 0
            return output

        layer.mlp.act_fn.register_forward_hook(clear)
    found["hooked"] = logits()
    up = model.model.layers[-1].mlp.up_proj
    print("loaded as", type(up).__name__, type(getattr(up, "weight", None)).__name__)
    np.savez(out, **found)


def load_gptq(folder: Path) -> Any:
    """With the kernel that is written in torch: the others are compiled first, for many minutes."""
    from gptqmodel import BACKEND, GPTQModel
    from safetensors.torch import load_file

    kernel = BACKEND.AWQ_TORCH if "awq" in folder.parent.name else BACKEND.GPTQ_TORCH
    model = GPTQModel.load(str(folder), backend=kernel, device="cpu").model.eval()
    stored = {name: value for path in folder.glob("*.safetensors") for name, value in load_file(path).items()}
    for name, module in model.named_modules():
        if hasattr(module, "dequantize_weight"):
            module.stored_scales = stored[f"{name}.scales"].float()
    return model


def load_hqq(folder: Path) -> Any:
    import torch
    from hqq.core.quantize import HQQLinear
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder)
    del config.quantization_config
    model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float16)
    state = load_file(folder / "model.safetensors")
    for name in {key.removesuffix(".W_q") for key in state if key.endswith(".W_q")}:
        own = HQQLinear(None, None, compute_dtype=torch.float16, device="cpu", initialize=False)
        own.load_state_dict({key.removeprefix(f"{name}."): state[key] for key in state if key.startswith(f"{name}.")})
        model.set_submodule(name, own)
    model.load_state_dict({key: value for key, value in state.items() if key in model.state_dict()}, strict=False)
    return model.eval()


def dequantised(module: Any) -> Any:
    """The weight as the library computes it from what it stores, (outputs, inputs); None where it has no way to say."""
    import torch

    name = type(module).__name__
    if name == "Linear4bit":
        from bitsandbytes.functional import dequantize_4bit

        return dequantize_4bit(module.weight.data, module.weight.quant_state)
    if name == "Linear8bitLt":
        return module.weight.data.float() * module.weight.SCB[:, None] / 127
    if name == "HQQLinear":
        return module.dequantize()
    if getattr(module, "quantization_scheme", None) is not None:
        import copy

        from compressed_tensors.compressors import decompress_module

        own = copy.deepcopy(module)
        decompress_module(own)
        return own.weight.data
    if hasattr(
        module, "dequantize_weight"
    ):  # gptqmodel, (inputs, outputs), from scales that it has rounded to bfloat16
        rounded, module.scales = module.scales, module.stored_scales
        weight = module.dequantize_weight().T
        module.scales = rounded
        return weight
    weight = getattr(module, "weight", None)
    if weight is None:
        return None
    if hasattr(weight, "dequantize") and type(weight) not in (torch.Tensor, torch.nn.Parameter):
        return weight.dequantize()
    return weight.data


def run_mlx(folder: Path, neurons: list[list[int]], out: Path) -> None:
    import mlx.core as mx
    from mlx_lm import load

    model, _ = load(str(folder))

    def logits() -> np.ndarray:
        return np.array(model(mx.array(IDS)).astype(mx.float32))

    found = {"plain": logits(), "again": logits()}
    for number, layer in enumerate(model.model.layers):
        for name in ("up_proj", "down_proj"):
            one = getattr(layer.mlp, name)
            scales, biases = (
                each.astype(mx.float32) for each in (one.scales, one.biases)
            )  # bfloat16 would round the sum
            weight = mx.dequantize(one.weight, scales, biases, group_size=one.group_size, bits=one.bits)
            found[f"{number}.{name}"] = np.array(weight)
    for layer, own in zip(model.model.layers, neurons, strict=True):
        layer.mlp.up_proj = Without(layer.mlp.up_proj, own)
    found["hooked"] = logits()
    print("loaded as", type(model.model.layers[-1].mlp.up_proj).__name__)
    np.savez(out, **found)


class Without:
    """An up projection of MLX with some of its outputs at zero."""

    def __init__(self, module: Any, neurons: list[int]) -> None:
        self.module, self.neurons = module, neurons

    def __call__(self, x: Any) -> Any:
        import mlx.core as mx

        output = self.module(x)
        keep = np.ones(output.shape[-1], np.float32)
        keep[self.neurons] = 0
        return mx.where(mx.array(keep > 0), output, 0)


def main() -> None:
    command, first, second, *kinds = sys.argv[1:]
    failed = 0
    for kind in kinds:
        try:
            if command == "make":
                MAKERS[kind](Path(first), Path(second) / kind / "base")
            else:
                own = json.loads((Path(first) / "neurons.json").read_text())
                run(Path(first) / kind / second, own, Path(first) / kind / f"{second}.npz")
        except Exception:  # of many kinds; the others go on
            traceback.print_exc()
            print(f"{kind} FAILED", flush=True)
            failed += 1
        else:
            print(f"{kind} done", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
