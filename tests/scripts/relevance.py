"""What relevance a translation has: `python tests/scripts/relevance.py MODEL`.

The embedded passages are the same texts in seven languages. A model is given the beginnings of some in one language. Printed
is the relevance (see `editor/measures/relevance.py`), in nats a token, of

    own          what the model goes on with
    text         the real rest of the passage
    translated   the real rest of the same passage in another language, the mean over the six others, and each

Of an answer in another language than the prompt's no more can be asked than of a translation.
"""

import argparse
from collections.abc import Sequence

from monoglot.editor.live.generate import continuations
from monoglot.editor.live.load import load_model
from monoglot.editor.measures.relevance import relevance
from monoglot.editor.models.hf import load_tokenizer
from monoglot.editor.models.source import resolve
from monoglot.editor.text.prompts import beginning, passages

LANGUAGES = ("en", "es", "fr", "id", "ja", "vi", "zh")
TOKENS = 24  # an answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--count", type=int, default=16, help="passages")
    arguments = parser.parse_args()
    folder = resolve(arguments.model).folder
    model, tokenizer = load_model(folder, device="cpu", dtype="float32"), load_tokenizer(folder)
    texts = {code: passages(code)[: arguments.count] for code in LANGUAGES}
    prompts = {code: [beginning(text, code) for text in own] for code, own in texts.items()}

    def rest(code: str) -> list[str]:
        ends = [text[len(prompt) :] for text, prompt in zip(texts[code], prompts[code], strict=True)]
        rows = tokenizer(ends, add_special_tokens=False)["input_ids"]
        return [tokenizer.decode(row[:TOKENS]) for row in rows]

    def measured(code: str, answers: Sequence[str]) -> float:
        return relevance(model, tokenizer, prompts[code], answers).mean

    rests = {code: rest(code) for code in LANGUAGES}
    for code in LANGUAGES:
        own = measured(code, continuations(model, tokenizer, prompts[code], tokens=TOKENS))
        others = {other: measured(code, rests[other]) for other in LANGUAGES if other != code}
        mean = sum(others.values()) / len(others)
        each = " ".join(f"{other} {value:.2f}" for other, value in others.items())
        print(
            f"{code}: own {own:.2f}, text {measured(code, rests[code]):.2f}, translated {mean:.2f} ({each})", flush=True
        )


if __name__ == "__main__":
    main()
