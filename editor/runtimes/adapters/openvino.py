"""OpenVINO, on the graph that optimum exports."""

from pathlib import Path

from . import Ask
from .greedy import by_generate

NAME = "openvino"
PACKAGES = ("openvino",)
NEEDS = ("torch", "optimum-intel")
INSTALL = 'pip install torch "optimum-intel[openvino]" "transformers<5"'  # with a newer one it exports no Gemma 3
NOISE = 2e-3  # float32 sums in another order, in fused kernels: 2e-4 seen

FLOAT32 = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}  # by default the cache has 8 bits


def load(folder: Path, scratch: Path) -> Ask:
    from optimum.intel import OVModelForCausalLM

    # 8 bits are the default of large models; in bfloat16 the factor of Gemma's embeddings, √d, would be rounded too
    given = {"load_in_8bit": False, "torch_dtype": "float32", "ov_config": FLOAT32}
    return by_generate(OVModelForCausalLM.from_pretrained(folder, export=True, **given))
