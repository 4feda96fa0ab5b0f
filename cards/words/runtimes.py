"""Who runs such a checkpoint: by the carrier of its constants, as found by running each against transformers in float32.

`none` is a checkpoint without constants: columns of W_out are cleared or scaled, and nothing else is in it. `untied` is one
with an output table of its own, where its base has one table for both ends.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from ...editor import embedded
from ...editor.edits.manifest import Manifest
from ...editor.runtimes import capabilities
from .table import Table

SAME = "Any runtime that loads the base loads it in the same way"
RUNTIMES = {
    "vllm": "vLLM", "llama.cpp": "llama.cpp", "ctranslate2": "CTranslate2", "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO", "mlx": "MLX", "mistralrs": "mistral.rs",
}  # fmt: skip
FAMILIES = {
    "llama": "Llama", "gemma3_text": "Gemma 3", "granite": "Granite", "gpt2": "GPT-2", "bloom": "BLOOM", "opt": "OPT",
    "phi": "Phi", "gpt_neox": "GPT-NeoX", "starcoder2": "StarCoder2",
}  # fmt: skip
DID = {  # a verdict -> what a runtime did with some families
    "steered": "gave the same as transformers with",
    "dropped": "dropped the biases in silence, read from safetensors, with",
    "different": "answered in another way, as with the base, with",
    "failed": "failed, as with the base, with",
}
# How such checkpoints behave in general.
WHY = {
    "none": "Cleared and scaled columns are weights like any other.",
    "native": "Biases that an architecture has anyway are weights like any other.",
    "calibrated": "Names, shapes and what the config says are the base's, and the constants are weights like any other, so "
    "there is nothing that a runtime could drop.",
    "untied": "An output table of its own is what many architectures have, and config.json says that this model has one.",
    "flag": "",
    "llama": "",
}


def _listed(names: Iterable[str]) -> str:
    *before, last = names
    return f"{', '.join(before)} and {last}" if before else last


def known(carrier: str) -> str:
    """Say how checkpoints with such a carrier were seen to behave, of whatever base, from the one table of findings."""
    sentences = [WHY[carrier]] if WHY[carrier] else []
    for verdict, by_runtime in capabilities.behaviour(carrier).items():
        runtimes: dict[tuple[str, ...], list[str]] = {}  # by the families
        for name, families in by_runtime.items():
            if name in RUNTIMES:
                runtimes.setdefault(families, []).append(RUNTIMES[name])
        said = [
            f"{_listed(names)} {DID[verdict] if number == 0 else 'with'} {_listed(FAMILIES[one] for one in families)}"
            for number, (families, names) in enumerate(runtimes.items())
        ]
        sentences += [f"{'; '.join(said)}."] if said else []
    if carrier in ("flag", "llama"):
        kept = _listed(RUNTIMES[name] for name in capabilities.KEPT_FROM_GGUF)
        sentences.append(f"{kept} kept them from GGUF; the source of {_listed(capabilities.IGNORED_BY)} ignores them.")
    if carrier == "untied":
        sentences.append("No other runtime than transformers was tried.")
    elif carrier != "llama":  # what is rewritten as one is of no other architecture
        sentences.append("Other architectures were not tried.")
    return " ".join(sentences)


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


def carrier(manifest: Manifest) -> str:
    """Name where the constants are, or say that the output table is a new one."""
    name = manifest.carrier_name
    return "untied" if name in ("none", "calibrated") and manifest.output_table else name


def advice(manifest: Manifest) -> str:
    """Say, to whoever wants to run it, which runtimes do."""
    name = carrier(manifest)
    if name == "untied":
        said = (
            "Use a runtime that reads the output table that this model has of its own and the base has not: one that takes "
            "the input table for both, whatever config.json says, writes in the wrong language."
        )
        return f"{said} {RESPELLED}" if manifest.recipe.compat_config else said
    if name not in ("flag", "llama"):
        return RESPELLED if manifest.recipe.compat_config else f"{SAME}."
    whose = "these biases" if name == "flag" else "a Llama's biases"
    losing = [f"{RUNTIMES[one]} on safetensors" for one in capabilities.behaviour(name).get("dropped", {})]
    return (
        f"Use a runtime that honours {whose}: some drop them in silence ({', '.join([*losing, *capabilities.IGNORED_BY])}), "
        "and then run the base without the constants."
    )


def unconvertible(manifest: Manifest) -> str:
    """Say what llama.cpp's converter does not know of a checkpoint; empty where it knows it all."""
    base = manifest.base
    if base.model == embedded.NAME and not base.hub:
        return "tokenizer"
    return "architecture" if base.model_type in capabilities.NO_GGUF and manifest.carrier_name != "llama" else ""


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
