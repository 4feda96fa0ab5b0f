"""The experts of each language, computed again expert by expert."""

import math

import numpy as np

from monoglot.editor.models.identity import Block, ModelInfo
from monoglot.editor.neurons.experts import find_experts
from monoglot.editor.neurons.find import find
from monoglot.editor.statistics.statistics import Statistics


def mixture(seed: int = 0) -> Statistics:
    """A dense layer, and two of eight experts of two neurons each; three languages, 1,000 to 3,000 tokens."""
    blocks = (Block(0, 4), *(Block(layer, 2, str(e)) for layer in (1, 2) for e in range(8)))
    info = ModelInfo("m", None, "deepseek_v3", 3, 4, "f" * 64, blocks)
    generator = np.random.default_rng(seed)
    tokens = {"en": 1000, "fr": 2000, "zh": 3000}
    routed = {
        language: np.concatenate(
            [[count], *(generator.multinomial(2 * count, generator.dirichlet([0.5] * 8)) for _ in "12")]
        )
        for language, count in tokens.items()
    }
    zeros = {language: np.zeros(36, np.int64) for language in tokens}
    texts = {language: (language,) for language in tokens}
    totals = {language: np.zeros(36) for language in tokens}
    return Statistics(info, tokens, zeros, totals, texts, {}, routed=routed)


def test_by_the_entropy_of_what_is_routed() -> None:
    made = mixture()
    assert made.routed is not None
    names = [block.name for block in made.model.blocks[1:]]
    p = {language: made.routed[language][1:] / made.tokens[language] for language in made.languages}
    numbers = sorted(value for own in p.values() for value in own)
    bar = numbers[round(0.5 * len(numbers)) - 1]
    entropies = {}
    for e, name in enumerate(names):
        own = [p[language][e] for language in made.languages]
        if max(own) > bar:
            shares = [value / sum(own) for value in own if value]
            entropies[name] = (round(-sum(share * math.log(share) for share in shares), 12), e)
    taken = sorted(entropies, key=lambda name: entropies[name])[: round(0.25 * len(names))]
    expected = {
        language: tuple(name for e, name in enumerate(names) if name in taken and p[language][e] > bar)
        for language in made.languages
    }
    found = find_experts(made, rate=0.25, quantile=0.5)
    assert found == {language: own for language, own in expected.items() if own}
    assert sum(map(len, found.values())) >= 4


def test_a_dense_model_has_none() -> None:
    info = ModelInfo("m", None, "llama", 2, 4, "f" * 64)
    counts = {language: np.arange(8).reshape(2, 4) for language in ("en", "fr")}
    totals = {language: np.zeros((2, 4)) for language in counts}
    made = Statistics(info, {"en": 10, "fr": 10}, counts, totals, {"en": ("a",), "fr": ("b",)}, {})
    assert find_experts(made, rate=0.5, quantile=0.5) == {}


def test_find_writes_them() -> None:
    """Beside neurons, and without the dense layer, which is no expert."""
    made = mixture()
    active = {
        language: np.minimum(np.arange(36) * 7 * (k + 1), np.repeat(own, [4, *[2] * 16]))
        for k, (language, own) in enumerate((made.routed or {}).items())
    }
    found = find(
        Statistics(made.model, made.tokens, active, made.total, made.texts, {}, routed=made.routed),
        rate=0.2,
        quantile=0.5,
        joint=True,
    )
    assert found.experts == find_experts(made, rate=0.2, quantile=0.5)
    assert found.experts
