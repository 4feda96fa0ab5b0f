"""Which runtime honours which carrier, for which family: what was seen when each ran such checkpoints beside transformers.

A row is one finding: a runtime, the version that was run, a carrier (`none`: no constants), the families, and the verdict
of `conformance`. What is in no row was not run.

    none, calibrated   weights like any other, so only a runtime that doesn't run the base can fail
    native             biases that the architecture always has
    flag, llama        biases that a config key turns on, which runtimes may not know
    untied             an output table of its own, where the base has one for both ends
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..edits.carrier_choice import EXACT, refusals
from ..edits.request import ADAPTER, AUTO, Request
from ..models.target import Target


@dataclass(frozen=True)
class Finding:
    runtime: str
    version: str
    carrier: str
    families: tuple[str, ...]
    verdict: str


LLAMA, DENSE = ("llama",), ("llama", "gemma3_text")
NATIVE = ("gpt2", "bloom", "opt", "phi", "gpt_neox", "starcoder2")
FINDINGS = (
    Finding("transformers", "5.23.0", "none", DENSE, "steered"),
    Finding("transformers", "5.23.0", "calibrated", DENSE, "steered"),
    Finding("transformers", "5.23.0", "flag", LLAMA, "steered"),
    Finding("transformers", "5.23.0", "native", NATIVE, "steered"),
    Finding("transformers", "5.23.0", "untied", ("gemma3_text",), "steered"),
    Finding("vllm", "0.32.0", "none", DENSE, "steered"),
    Finding("vllm", "0.32.0", "calibrated", DENSE, "steered"),
    Finding("vllm", "0.32.0", "flag", (*LLAMA, "granite"), "steered"),
    Finding("vllm", "0.32.0", "native", NATIVE, "steered"),
    Finding("llama.cpp", "2026.10.11549", "none", DENSE, "steered"),
    Finding("llama.cpp", "2026.10.11549", "calibrated", DENSE, "steered"),
    Finding("llama.cpp", "2026.10.11549", "flag", LLAMA, "steered"),
    Finding("llama.cpp", "2026.10.11549", "native", ("gpt2", "bloom", "phi", "gpt_neox", "starcoder2"), "steered"),
    Finding("llama.cpp", "2026.10.11549", "native", ("opt",), "failed"),
    Finding("ctranslate2", "4.8.5", "none", DENSE, "steered"),
    Finding("ctranslate2", "4.8.5", "calibrated", DENSE, "steered"),
    Finding("ctranslate2", "4.8.5", "flag", LLAMA, "steered"),
    Finding("ctranslate2", "4.8.5", "native", ("opt", "bloom", "gpt2", "gpt_neox"), "steered"),
    Finding("ctranslate2", "4.8.5", "native", ("phi", "starcoder2"), "failed"),
    Finding("onnxruntime", "1.32.0", "none", DENSE, "steered"),
    Finding("onnxruntime", "1.32.0", "calibrated", DENSE, "steered"),
    Finding("onnxruntime", "1.32.0", "flag", LLAMA, "steered"),
    Finding("onnxruntime", "1.32.0", "native", ("gpt2", "bloom", "opt", "phi", "gpt_neox"), "steered"),
    Finding("onnxruntime", "1.32.0", "native", ("starcoder2",), "failed"),
    Finding("openvino", "2026.4.1", "none", DENSE, "steered"),
    Finding("openvino", "2026.4.1", "calibrated", DENSE, "steered"),
    Finding("openvino", "2026.4.1", "flag", LLAMA, "steered"),
    Finding("openvino", "2026.4.1", "native", NATIVE, "steered"),
    Finding("mlx", "0.32.4", "none", DENSE, "steered"),
    Finding("mlx", "0.32.4", "calibrated", DENSE, "steered"),
    Finding("mlx", "0.32.4", "flag", LLAMA, "steered"),
    Finding("mlx", "0.32.4", "native", ("phi", "gpt_neox", "starcoder2"), "steered"),
    Finding("mlx", "0.32.4", "native", ("gpt2", "bloom", "opt"), "failed"),
    Finding("mistralrs", "0.9.5", "none", LLAMA, "steered"),
    Finding("mistralrs", "0.9.5", "calibrated", LLAMA, "steered"),
    Finding("mistralrs", "0.9.5", "flag", LLAMA, "dropped"),
    Finding("mistralrs", "0.9.5", "none", ("gemma3_text",), "failed"),
    Finding("mistralrs", "0.9.5", "calibrated", ("gemma3_text",), "failed"),
    Finding("mistralrs", "0.9.5", "native", ("starcoder2",), "steered"),
    Finding("mistralrs", "0.9.5", "native", ("phi",), "different"),  # and the base too
    Finding("mistralrs", "0.9.5", "native", ("gpt2", "bloom", "opt", "gpt_neox"), "failed"),
)
# Tiny models of newer families, run by `scripts.runtimes --models families`. What failed or was different did the same with
# the base. Cards don't list them, as they say nothing of other families.
NEWER = (
    Finding(
        "vllm", "0.32.0", "none",
        ("arcee", "cohere2", "dots1", "ernie4_5", "exaone4", "falcon_h1", "gemma3n_text", "gemma4_text", "glm4",
         "glm4_moe", "gpt_oss", "granitemoe", "granitemoehybrid", "hunyuan_v1_dense", "hunyuan_v1_moe", "mixtral",
         "olmo2", "olmo3", "olmoe", "qwen2_moe", "qwen3", "qwen3_moe", "seed_oss", "smollm3"),
        "steered",
    ),
    Finding("vllm", "0.32.0", "none", ("apertus", "ernie4_5_moe", "lfm2", "lfm2_moe", "phimoe"), "different"),
    Finding(
        "vllm", "0.32.0", "none",
        ("afmoe", "bailing_hybrid", "deepseek_v3", "jamba", "minimax_m2", "nemotron_h", "qwen3_5_moe_text",
         "qwen3_5_text", "qwen3_next"),
        "failed",
    ),
    Finding(
        "llama.cpp", "2026.10.11549", "none",
        ("apertus", "arcee", "cohere2", "exaone4", "falcon_h1", "granitemoe", "lfm2", "lfm2_moe", "mixtral",
         "nemotron_h", "olmo2", "olmo3", "olmoe", "qwen2_moe", "qwen3", "seed_oss", "smollm3"),
        "steered",
    ),
    Finding("llama.cpp", "2026.10.11549", "none", ("afmoe", "gpt_oss", "qwen3_moe"), "different"),
    Finding(
        "llama.cpp", "2026.10.11549", "none",
        ("bailing_hybrid", "deepseek_v3", "dots1", "ernie4_5", "ernie4_5_moe", "gemma3n_text", "gemma4_text", "glm4",
         "glm4_moe", "granitemoehybrid", "hunyuan_v1_dense", "hunyuan_v1_moe", "jamba", "minimax_m2", "phimoe",
         "qwen3_5_moe_text", "qwen3_5_text", "qwen3_next"),
        "failed",
    ),
)  # fmt: skip
CARRIERS = ("none", "untied", "calibrated", "native", "flag", "llama")
# Of biases that a config key turns on, what `conformance` does not run: tried by hand, or read in the source.
IGNORED_BY = ("SGLang",)
KEPT_FROM_GGUF = ("mistralrs",)
NO_GGUF = ("opt", "xglm", "gptj", "gpt_neo", "helium")  # families that llama.cpp's converter does not know


def seen(runtime: str, carrier: str, model_type: str) -> str | None:
    """Return the verdict on a runtime for a carrier in a family, None where it was not run.

    A model rewritten as a Llama counts as a Llama with the flag.
    """
    family = "llama" if carrier == "llama" else model_type
    wanted = "flag" if carrier == "llama" else carrier
    found = (
        one for one in (*FINDINGS, *NEWER) if (one.runtime, one.carrier) == (runtime, wanted) and family in one.families
    )
    return next((one.verdict for one in found), None)


def steered_in(model_type: str) -> tuple[str, ...]:
    """Return the runtimes in which a baked checkpoint of a family did what it does in transformers, whatever its carrier."""
    found = (one.runtime for one in (*FINDINGS, *NEWER) if model_type in one.families and one.verdict == "steered")
    return tuple(dict.fromkeys(found))


def behaviour(carrier: str) -> dict[str, dict[str, tuple[str, ...]]]:
    """Give the families that a carrier was seen with, as {verdict: {runtime: families}}, in the order of the findings."""
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    for one in FINDINGS:
        if one.carrier == ("flag" if carrier == "llama" else carrier):
            families = tuple(name for name in one.families if carrier != "llama" or name == "llama")
            if families:
                own = found.setdefault(one.verdict, {})
                own[one.runtime] = own.get(one.runtime, ()) + families
    return found


def carrier_for(runtimes: Sequence[str], model_type: str, possible: Sequence[str]) -> str:
    """Choose the best of the carriers that a model can have, for these runtimes.

    An exact carrier is chosen where each runtime was seen to honour it, native before flag. Else it is calibrated, which has
    nothing that a runtime could drop. A model is never rewritten as a Llama without being asked.
    """
    for carrier in EXACT:
        honoured = all(seen(runtime, carrier, model_type) == "steered" for runtime in runtimes)
        if carrier in possible and carrier != "llama" and honoured:
            return carrier
    return "calibrated"


def dropping(runtimes: Sequence[str], carrier: str, model_type: str) -> list[str]:
    """Return the runtimes that were seen not to honour a carrier."""
    return [runtime for runtime in runtimes if seen(runtime, carrier, model_type) in ("dropped", "failed", "different")]


def settled(request: Request, target: Target) -> Request:
    """Give the request with what the runtimes in it call for, where it leaves that open.

    That is the carrier, and whether a model that reads and writes with one table gets a second one: only where each was seen
    to load it.
    """
    if not request.for_runtimes or request.form == ADAPTER:
        return request
    if request.redirect and request.untie is None:
        model_type = target.feed_forward.model_type
        untie = all(seen(runtime, "untied", model_type) == "steered" for runtime in request.for_runtimes)
        request = replace(request, untie=untie)
    if request.carrier != AUTO:
        return request
    possible = [name for name, why in refusals(target).items() if not why]
    return replace(request, carrier=carrier_for(request.for_runtimes, target.feed_forward.model_type, possible))
