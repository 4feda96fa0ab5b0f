"""What runtimes have in common: what each takes, and the noise of its arithmetic."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from support import packed_models

from monoglot.editor.models.activations import FUNCTIONS
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import open_target
from monoglot.editor.runtimes import conformance, process
from monoglot.editor.runtimes.adapters import NAMES, llama_cpp, module, vllm


def test_every_runtime_says_what_it_takes() -> None:
    for name in NAMES:
        found = module(name)
        assert name == found.NAME and found.PACKAGES and "pip install" in found.INSTALL and callable(found.load)
        assert 0 < found.NOISE < 0.01


def test_the_noise_is_the_runtime_s_and_more_where_it_rounds_more(saved: Callable[..., Path]) -> None:
    gemma, llama, bloom = (open_target(resolve(str(saved(name)))) for name in ("gemma3_text", "llama", "bloom"))
    for name in NAMES:
        assert conformance.noise_of(name, llama) == module(name).NOISE
        rounded = {"llama.cpp": 2e-2, "mlx": 5e-2}
        assert conformance.noise_of(name, gemma) == rounded.get(name, module(name).NOISE)
    assert conformance.noise_of("llama.cpp", bloom) == 2e-2 and conformance.noise_of("mlx", bloom) == 3e-3
    assert set(llama_cpp.NOISIER) == {name for name in FUNCTIONS if "gelu" in name}


def test_the_other_side_needs_nothing_but_the_standard_library(tmp_path: Path) -> None:
    """-S leaves out site-packages: monoglot, click and all."""
    for name in NAMES:
        command = [sys.executable, "-I", "-S", str(process.WORKER), "probe", name]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["version"] is None


def test_quantised_weights_are_computed_with_in_half_precision(tmp_path: Path) -> None:
    packed, twin = packed_models.save(tmp_path, "gptq-4")
    assert conformance.noise_of("vllm", open_target(resolve(str(packed)))) == conformance.OF_CODES
    assert conformance.noise_of("vllm", open_target(resolve(str(twin)))) == module("vllm").NOISE
    assert [vllm.dtype(folder) for folder in (packed, twin)] == ["bfloat16", "float32"]
