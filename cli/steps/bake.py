"""Say what the user should know of a baked checkpoint."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..console import note
from ..terminal import quoted

if TYPE_CHECKING:
    from ...editor.edits.bake import Baked


def about_config(baked: "Baked", asked: bool | None) -> None:
    """Which keys config.json got and for whom, or, where nobody `asked` for it to be left as it is, why it got none."""
    from ...editor.models.compat_config import READERS, old_keys, unread_tokenizer

    keys = {key for found in old_keys(baked.target.checkpoint.config).values() for key in found}
    named = ", ".join(f"{key} ({READERS[key]})" for key in sorted(keys))
    if baked.carried.compat_config:
        note(
            "The base's config.json has only the spelling of transformers 5. Added what others read, with the same values: "
            f"{named}. --no-compat-config leaves it as it is."
        )
    elif keys and asked is None:  # the recipe didn't say
        note(
            f"Warning: config.json has only the spelling of transformers 5, and others take their defaults for {named}. "
            "`compat_config: true` in the recipe adds what they read."
        )
    elif asked:
        note("--compat-config had nothing to add: config.json has the older spelling of all that it says.")
    if name := unread_tokenizer(baked.target.checkpoint.folder):
        note(
            f"The base's tokenizer_config.json names {name}, which transformers 4 does not know, nor what converts with it "
            '(ctranslate2, optimum-onnx): for them write "PreTrainedTokenizerFast" there, in the base, and bake again.'
        )


def about_adapter(baked: "Baked") -> None:
    """Tell how large an adapter is, what a server has to be told, and what a highest rank left out."""
    from ...cards.words.adapters import size, vllm_rank
    from ...editor.files.floats import NAMES

    adapter, manifest = baked.manifest.adapter, baked.manifest
    if adapter is None:
        return
    rank = vllm_rank(adapter.rank)
    vllm = f"vLLM needs --max-lora-rank {rank}" if rank else "vLLM takes no such rank"
    note(
        f"An adapter of rank {adapter.rank} for {adapter.modules} weights, {size(manifest)} in "
        f"{NAMES[adapter.dtype]}; {vllm}. It does nothing without {manifest.base.model}."
    )
    if adapter.cut:
        lost = ", ".join(f"{language} {count}" for language, count in adapter.left_out.items() if count)
        note(
            f"Warning: with all neurons the rank would be {adapter.needed}, so those that matter least were left out: "
            f"{lost}. `monoglot verify` measures what that loses."
        )


def about_runtimes(baked: "Baked", runtimes: Sequence[str]) -> None:
    """Which of the runtimes that it is for were seen to lose what was chosen, and which were not run."""
    from ...editor.runtimes.capabilities import dropping, seen

    model_type, carrier = baked.target.feed_forward.model_type, baked.carried.carrier or "none"
    if baked.manifest.output_table and carrier in ("none", "calibrated"):
        carrier = "untied"
    words = {"none": "such edits", "untied": "an output table of its own"}
    lost = dropping(runtimes, carrier, model_type)
    unknown = [name for name in runtimes if seen(name, carrier, model_type) is None]
    for name in lost:
        if carrier in words:
            note(
                f"Warning: {name} was seen not to run {words[carrier]} in a {model_type} as transformers does, nor its base."
            )
            continue
        note(
            f"Warning: {name} was seen not to honour constants by {carrier} in a {model_type}: it would run the model "
            "without them, or not at all. --carrier calibrated has nothing that it could drop."
        )
    if unknown:
        note(
            f"{', '.join(unknown)}: not run yet with {words.get(carrier, 'constants by ' + carrier)} in a "
            f"{model_type}. See with: monoglot verify {quoted(baked.folder)} --runtime {','.join(unknown)}"
        )
