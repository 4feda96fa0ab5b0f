"""Greedy answers of whatever has transformers' `generate`: transformers itself, ONNX Runtime and OpenVINO by optimum."""

from typing import Any

from . import Answer, Ask, Prompt


def by_generate(model: Any) -> Ask:
    import torch

    def ask(prompt: Prompt, tokens: int) -> Answer:
        ids = torch.tensor([prompt["ids"]])  # (1, T)
        made = by_any_cache(
            model, input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False, num_beams=1,
            repetition_penalty=1.0, output_logits=True, return_dict_in_generate=True,
        )  # fmt: skip
        chosen = made.sequences[0, ids.shape[1] :].tolist()
        steps = [torch.log_softmax(logits[0].double(), -1) for logits in made.logits]  # (vocabulary,) each
        return chosen, [float(step[token]) for step, token in zip(steps, chosen)]  # noqa: B905

    return ask


def by_any_cache(model: Any, **asked: Any) -> Any:
    """Generate, and where that fails without a cache: transformers has none for some hybrids, which answer all the same."""
    try:
        return model.generate(**asked)
    except (ValueError, AttributeError, NotImplementedError, TypeError, IndexError):
        return model.generate(**asked, use_cache=False)
