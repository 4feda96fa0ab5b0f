"""OpenVINO, on the graph that optimum exports."""

from pathlib import Path

from . import Ask
from .greedy import by_generate

NAME = "openvino"
PACKAGES = ("openvino",)
NEEDS = ("torch", "optimum-intel")
INSTALL = 'pip install torch "optimum-intel[openvino]"'
NOISE = 2e-3  # float32 sums in another order, in fused kernels: 2e-4 seen

FLOAT32 = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}  # by default the cache has 8 bits


def load(folder: Path, scratch: Path) -> Ask:
    from optimum.intel import OVModelForCausalLM

    # 8 bits are the default of large models
    return by_generate(OVModelForCausalLM.from_pretrained(folder, export=True, load_in_8bit=False, ov_config=FLOAT32))
