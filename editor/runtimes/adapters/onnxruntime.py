"""ONNX Runtime, on the graph that optimum exports."""

from pathlib import Path

from . import Ask
from .greedy import by_generate

NAME = "onnxruntime"
PACKAGES = ("onnxruntime", "onnxruntime-gpu")
NEEDS = ("torch", "optimum-onnx")
INSTALL = 'pip install torch "optimum-onnx[onnxruntime]"'
NOISE = 1e-3  # float32 sums in another order: 1e-4 seen


def load(folder: Path, scratch: Path) -> Ask:
    from optimum.exporters.onnx import main_export
    from optimum.onnxruntime import ORTModelForCausalLM

    graph = scratch / "onnx"
    # do_validation compares the graph with transformers on random input: the comparison here says more
    main_export(str(folder), graph, task="text-generation-with-past", dtype="fp32", do_validation=False)
    return by_generate(ORTModelForCausalLM.from_pretrained(graph))
