"""What was measured, as the Hub's `model-index`: perplexity and the share of answers in the language, before and after."""

import math
from collections.abc import Iterator
from typing import Any

from ...editor.edits.manifest import Manifest
from ...editor.text import languages
from ..words import wording
from ..words.amounts import number
from ..words.generated import wanted

ASKED = {
    "activated": "",
    "same_language": "",
    "asked": ", with a request for a language",
}  # what is said of the prompts
TASK = "text-generation"


def model_index(manifest: Manifest) -> list[dict[str, Any]]:
    """Return a result for each language and kind of text, with the base's figures beside this model's; empty without any."""
    from huggingface_hub import ModelCardData

    found = [*_perplexity(manifest), *_answers(manifest)]
    if not found:
        return []
    data = ModelCardData(eval_results=found, model_name=wording.title(manifest))
    index: list[dict[str, Any]] = data.to_dict()["model-index"]
    return index


def _perplexity(manifest: Manifest) -> Iterator[Any]:
    """exp of the mean log-loss of a token, on the text that `verify` held out."""
    from huggingface_hub import EvalResult

    effect = manifest.certificate.effect if manifest.certificate else None
    loss = effect.log_loss if effect else {}
    for code in loss.get("base", {}):
        for model, name in (("this model", "perplexity"), ("base", "perplexity of the base")):
            value = _rounded(math.exp(min(number(loss.get(model, {}).get(code)), 100)))
            if not math.isnan(value):
                yield EvalResult(
                    task_type=TASK, dataset_type="held-out-text", dataset_name=f"held-out text in {languages.name(code)}",
                    dataset_config=code, metric_type="perplexity", metric_name=name, metric_value=value,
                )  # fmt: skip


def _answers(manifest: Manifest) -> Iterator[Any]:
    from huggingface_hub import EvalResult

    for kind, said in ASKED.items():
        found = manifest.measures.get(kind) or {}
        for code, by in (found.get("by_language") or {}).items():
            for model, name in (("this model", ""), ("base", ", the base")):
                value = _rounded(number((by.get(model) or {}).get("accuracy")))
                if not math.isnan(value):
                    yield EvalResult(
                        task_type=TASK, dataset_type=f"prompts-{kind.replace('_', '-')}",
                        dataset_name=f"prompts in {languages.name(code)}{said}", dataset_config=code, metric_type="accuracy",
                        metric_name=f"answers in {wanted(found)}{name}", metric_value=value,
                    )  # fmt: skip


def _rounded(value: float) -> float:
    return value if math.isnan(value) else float(f"{value:.4g}")
