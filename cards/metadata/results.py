"""What was measured, as the Hub's `model-index`: perplexity and the share of answers in the language, before and after."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from ...editor.text import languages
from ..words import wording
from ..words.amounts import number
from ..words.tables import wanted

ASKED = {
    "activated": "",
    "same_language": "",
    "asked": ", with a request for a language",
}  # what is said of the prompts
TASK = "text-generation"


def model_index(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a result for each language and kind of text, with the base's figures beside this model's; empty without any."""
    from huggingface_hub import ModelCardData

    found = [*_perplexity(manifest), *_answers(manifest)]
    if not found:
        return []
    data = ModelCardData(eval_results=found, model_name=wording.title(dict(manifest)))
    index: list[dict[str, Any]] = data.to_dict()["model-index"]
    return index


def _perplexity(manifest: Mapping[str, Any]) -> Iterator[Any]:
    """exp of the mean log-loss of a token, on the text that `verify` held out."""
    from huggingface_hub import EvalResult

    loss = ((manifest.get("certificate") or {}).get("effect") or {}).get("log_loss") or {}
    for code in loss.get("base") or {}:
        for model, name in (("this model", "perplexity"), ("base", "perplexity of the base")):
            value = _rounded(math.exp(min(number((loss.get(model) or {}).get(code)), 100)))
            if not math.isnan(value):
                yield EvalResult(
                    task_type=TASK, dataset_type="held-out-text", dataset_name=f"held-out text in {languages.name(code)}",
                    dataset_config=code, metric_type="perplexity", metric_name=name, metric_value=value,
                )  # fmt: skip


def _answers(manifest: Mapping[str, Any]) -> Iterator[Any]:
    from huggingface_hub import EvalResult

    for kind, said in ASKED.items():
        found = (manifest.get("evaluation") or {}).get(kind) or {}
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
