"""Who runs such a checkpoint: by the carrier of its constants, as found by running each against transformers in float32.

`none` is a checkpoint without constants: columns of W_out are cleared or scaled, and nothing else is in it.
"""

from collections.abc import Mapping
from typing import Any

from ...editor import embedded
from ...editor.edits.manifest import Manifest
from .tables import Table

ALIKE = "vLLM, llama.cpp, CTranslate2, MLX, ONNX Runtime and OpenVINO"
SAME = "Any runtime that loads the base loads it in the same way"

# For whoever wants to run it, in a sentence or two.
ADVICE = {
    "none": f"{SAME}.",
    "native": f"{SAME}.",
    "calibrated": f"{SAME}.",
    "flag": "Use a runtime that honours these biases: some drop them in silence (mistral.rs on safetensors, SGLang), and "
    "then run the base without the constants.",
    "llama": "Use a runtime that honours a Llama's biases: some drop them in silence (mistral.rs on safetensors, SGLang), "
    "and then run the base without the constants.",
}

BIASES = (
    f"With a Llama {ALIKE} gave the same as transformers. mistral.rs dropped the biases in silence when it read safetensors, "
    "not when it read GGUF; SGLang's source ignores them."
)
# How such checkpoints were seen to behave, of whatever base.
KNOWN = {
    "none": f"Cleared and scaled columns are weights like any other. Tried with a Llama, {ALIKE}, and mistral.rs too, gave "
    "the same as transformers.",
    "native": "Biases that an architecture has anyway are weights like any other: vLLM gave the same as transformers with "
    "Phi, OPT, GPT-2, GPT-NeoX, StarCoder2, BLOOM and Granite, llama.cpp with GPT-2, BLOOM, Phi, GPT-NeoX and StarCoder2, "
    "CTranslate2 with OPT, BLOOM, GPT-2 and GPT-NeoX, OpenVINO with all but Granite.",
    "calibrated": "Names, shapes and what the config says are the base's, and the constants are weights like any other, so "
    "there is nothing that a runtime could drop.",
    "flag": f"{BIASES} Other architectures were not tried.",
    "llama": BIASES,
}

RESPELLED = (
    "Any runtime that loads the base loads it. Those that know only the older spelling of config.json (transformers 4, "
    "mlx-lm, mistral.rs) find their keys in this one, and not in the base's."
)

NOTE = (
    "Greedy answers in float32 beside those of transformers: on how many prompts this model and its base differ, on how many "
    "the runtime does as this model does in transformers, or as the base, and the largest difference of a token's "
    "log-probability in nats while the tokens are the same. Steered: as this model on all. Dropped: as the base on all, or "
    "as this model would without its biases; the steering was lost in silence. Different: like none of them. Undecided: this "
    "model and its base answer alike. Failed: it did not run."
)

NO_GGUF = ("opt", "xglm", "gptj", "gpt_neo", "helium")  # families that llama.cpp's converter does not know


def advice(manifest: Manifest) -> str:
    said = ADVICE[manifest.carrier_name]
    return said.replace(f"{SAME}.", RESPELLED) if manifest.recipe.compat_config else said


def unconvertible(manifest: Manifest) -> str:
    """Say what llama.cpp's converter does not know of a checkpoint; empty where it knows it all."""
    base = manifest.base
    if base.model == embedded.NAME and not base.hub:
        return "tokenizer"
    return "architecture" if base.model_type in NO_GGUF and manifest.carrier_name != "llama" else ""


def checked(manifest: Manifest) -> Table | None:
    """Make the table of runtimes that were run and their outcomes, from the manifest's `runtimes`, where it has them."""
    return conformance_table(manifest.runtimes) if manifest.runtimes else None


def conformance_table(found: Mapping[str, Any]) -> Table:
    """{name: {version, verdict, prompts, told_apart, to_steered, to_base}} as a table, for the console and the card."""
    rows = []
    for name, one in found.items():
        ours, base = (one.get(key) or {} for key in ("to_steered", "to_base"))
        rows.append(
            (
                str(name),
                str(one.get("version") or "–"),
                str(one.get("verdict", "–")),
                f"{one['told_apart']} of {one['prompts']}" if ours else "–",
                *(f"{each['agree']} of {one['prompts']}" if each else "–" for each in (ours, base)),
                f"{ours['largest']:.0e}" if ours.get("largest") is not None else "–",
            )
        )
    columns = (
        "runtime",
        "version",
        "verdict",
        "base differs on",
        "as this model",
        "as the base",
        "largest difference, nats",
    )
    return Table("runtimes", columns, tuple(rows), NOTE)


def proved(manifest: Manifest) -> str:
    """Say what the certificate proves for transformers, which `verify` runs."""
    logits = manifest.certificate.logits if manifest.certificate else None
    if not logits:
        return "None yet: `monoglot verify` runs it in transformers."
    if not logits.passed:
        return "transformers, where it does **not** do what the recipe says: see above. Others not yet."
    return "transformers: its logits were compared, see above. Others not yet."
