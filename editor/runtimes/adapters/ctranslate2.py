"""CTranslate2, which reads a format that its own converter makes."""

from pathlib import Path

from . import Answer, Ask, Prompt

NAME = "ctranslate2"
PACKAGES = ("ctranslate2",)
NEEDS = ("torch", "transformers")  # its converter's
INSTALL = "pip install torch ctranslate2 transformers"
NOISE = 1e-3  # float32 sums in another order: 1e-4 seen


def load(folder: Path, scratch: Path) -> Ask:
    import ctranslate2
    from ctranslate2.converters import TransformersConverter
    from transformers import AutoTokenizer

    made = TransformersConverter(str(folder)).convert(str(scratch / "ctranslate2"), quantization="float32", force=True)
    generator = ctranslate2.Generator(made, device="cpu", compute_type="float32")
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def ask(prompt: Prompt, tokens: int) -> Answer:
        words = tokenizer.convert_ids_to_tokens(prompt["ids"])
        steps = list(generator.generate_tokens(words, max_length=tokens, sampling_topk=1, return_log_prob=True))
        return [step.token_id for step in steps], [step.log_prob for step in steps]

    return ask
