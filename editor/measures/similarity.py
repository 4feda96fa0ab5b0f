"""SES, sentence embedding similarity: how alike a model's hidden states of one text in two languages are, layer by layer.

    e^k_l(text) = mean over the text's tokens of the hidden state after layer l      (the beginning-of-text token left out)
    SES_l(a, b) = mean over the texts of cos(e^a_l, e^b_l)                           l = 0 are the embeddings

In the paper it is low in the first layers, high in the middle ones and falls again: an inverted U. Hidden states of any two
texts have a cosine far above 0, for a few dimensions are large in all of them. So beside it stand two things *(ours)*: a
control, the same with each text paired with the next one in the other language, which is no translation of it; and SES
*centred*, of e^k_l(text) − mean over the texts of e^k_l, from which what a language's texts have in common is gone and
the meaning is left (its control lies a little below 0, at −1/(texts − 1) for texts that have nothing in common).

After the last layer comes the final norm, as everywhere in transformers' hidden states; states are averaged and compared
in float64. At most TOKENS tokens of a text are read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import CorpusError
from ..live.modules import trunk
from ..progress import Progress

TOKENS = 256
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Similarity:
    """The similarity of hidden states across languages.

    `pairs["en-zh"]` and their `mean`, the control `unrelated`, and `centred` with its control each have layers + 1 values in
    [−1, 1]. `texts` is how many there were. Of a single text there are only the first two.
    """

    texts: int
    pairs: dict[str, list[float]]
    mean: list[float]
    unrelated: list[float] | None
    centred: list[float] | None
    centred_unrelated: list[float] | None


def similarity(
    model: Any, tokenizer: Any, texts: Mapping[str, Sequence[str]], *, progress: Progress | None = None
) -> Similarity:
    """SES of every pair of languages; text i of one language is the translation of text i of another.

    Raises CorpusError when there are fewer than two languages, a text without tokens, or not as many texts in each.
    """
    check(texts)
    embedded = {}  # (texts, layers + 1, d) each
    for done, (language, own) in enumerate(texts.items()):
        rows = []
        for at, text in enumerate(own):
            rows.append(embed(model, tokenizer, text))
            if progress:
                progress(language, done * len(own) + at + 1, len(texts) * len(own))
        embedded[language] = np.stack(rows)
    count = len(next(iter(texts.values())))
    pairs = {f"{a}-{b}": _cosine(embedded[a], embedded[b]).tolist() for a, b in combinations(embedded, 2)}
    mean, unrelated = _pairs_and_control(embedded)
    centred, none_left = _pairs_and_control({k: own - own.mean(0) for k, own in embedded.items()})
    if count == 1:
        return Similarity(count, pairs, mean, None, None, None)
    return Similarity(count, pairs, mean, unrelated, centred, none_left)


def _pairs_and_control(embedded: Mapping[str, Float64]) -> tuple[list[float], list[float]]:
    """Return the mean over all pairs of languages: of translations, and of each text with the next one's translation."""
    pairs = list(combinations(embedded.values(), 2))
    translations = [_cosine(a, b) for a, b in pairs]
    others = [_cosine(a, np.roll(b, 1, axis=0)) for a, b in pairs]
    return np.mean(translations, axis=0).tolist(), np.mean(others, axis=0).tolist()


def check(texts: Mapping[str, Sequence[str]]) -> None:
    """Raise CorpusError for texts that can't be compared."""
    if len(texts) < 2:
        raise CorpusError(f"similarity compares languages, and there is text in {', '.join(texts) or 'none'} only.")
    counts = {language: len(own) for language, own in texts.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{language} {count}" for language, count in counts.items())
        raise CorpusError(
            f"the languages have different numbers of texts: {listed}. Text i of one has to be the translation of text i "
            "of the others."
        )
    if not min(counts.values()):
        raise CorpusError("there are no texts to compare.")


def embed(model: Any, tokenizer: Any, text: str) -> Float64:
    """Return the mean hidden state of a text after the embeddings and after each layer, float64 (layers + 1, d)."""
    import torch

    ids = tokenizer(text, add_special_tokens=False)["input_ids"][:TOKENS]
    if not ids:
        raise CorpusError(f"the text {text[:40]!r} has no tokens. Leave it out in every language.")
    head = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    device = next(model.parameters()).device
    with torch.inference_mode():
        states = trunk(model)(
            input_ids=torch.tensor([head + ids], device=device), use_cache=False, output_hidden_states=True
        ).hidden_states
    pooled = [state[0, len(head) :].float().cpu().double().mean(0) for state in states]
    found: Float64 = torch.stack(pooled).numpy()
    return found


def _cosine(a: Float64, b: Float64) -> Float64:
    """Mean over the texts, (layers + 1,), of the cosine of (texts, layers + 1, d) each."""
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    cosines: Float64 = (a * b).sum(-1) / np.maximum(norms, np.finfo(np.float64).tiny)
    mean: Float64 = cosines.mean(0)
    return mean
