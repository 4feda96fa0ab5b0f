"""The embedded model holds what it promises: planted neurons are found, and they carry their language."""

import json
from pathlib import Path

import pytest
from support.tiny import Characters

from monoglot.cli.commands.demo import CONTEXT, TOKENS, planted_rate
from monoglot.editor import embedded
from monoglot.editor.live.load import load_model
from monoglot.editor.measures.matrix import perplexity_matrices
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import Target, open_target
from monoglot.editor.neurons.find import find
from monoglot.editor.neurons.neurons import Neurons
from monoglot.editor.statistics.detect import detect
from monoglot.editor.text.corpus import open_corpus
from monoglot.editor.text.mislabelled import mislabelled
from monoglot.editor.text.tokens import pack, read_texts

LANGUAGES = ("en", "es", "fr", "id", "ja", "vi", "zh")


@pytest.fixture(scope="module")
def target() -> Target:
    return open_target(resolve(embedded.NAME))


@pytest.fixture(scope="module")
def found(target: Target) -> Neurons:
    statistics = detect(
        target, open_corpus([embedded.NAME]), tokens=TOKENS, context=CONTEXT, minimum=1000, device="cpu"
    )
    return find(statistics, rate=planted_rate())


def test_texts_are_aligned_and_in_their_language() -> None:
    texts = open_corpus([embedded.NAME])
    assert tuple(texts) == LANGUAGES
    for text in texts.values():
        assert len(list(text.documents())) == 60
        packed = pack(text, Characters(None), tokens=10**6, context=512)
        assert mislabelled(packed, Characters(None))[0] < 0.02


def test_it_is_small_and_ordinary(target: Target) -> None:
    files = [path for path in embedded.MODEL.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 15e6
    config = json.loads((embedded.MODEL / "config.json").read_text())
    assert config["model_type"] == "llama" and config["hidden_act"] == "silu"
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"]  # both spellings, for every runtime
    assert {tensor.dtype for _, tensor in target.checkpoint.tensors()} == {"BF16"}


@pytest.mark.slow
def test_the_planted_neurons_are_found(found: Neurons) -> None:
    """Precision and recall of LAPE against the truth, per language."""
    planted = json.loads((embedded.MODEL / "planted.json").read_text())["languages"]
    for language in LANGUAGES:
        truth = {(i, j) for i, layer in enumerate(planted[language]) for j in layer}
        own = found.pairs(language)
        hits = len(own & truth)
        assert hits / len(own) >= 0.9, (language, "precision", hits / len(own))
        assert hits / len(truth) >= 0.9, (language, "recall", hits / len(truth))


@pytest.mark.slow
def test_deactivating_a_language_hurts_that_language(target: Target, found: Neurons) -> None:
    """Each language's own log-loss rises by at least 0.5 nats and 4 × more than any other's; random neurons do little."""
    texts = open_corpus([embedded.NAME])
    packed = read_texts(target, texts, tokens=TOKENS, context=CONTEXT, held_out=True)
    model = load_model(Path(embedded.MODEL), device="cpu")
    matrix = perplexity_matrices(model, target.feed_forward, {"lape": found}, packed)["lape"]
    assert set(matrix.change) == set(LANGUAGES)
    for language, row in matrix.change.items():
        others = max(row[k] for k in LANGUAGES if k != language)
        assert row[language] >= 0.5, (language, row)
        assert row[language] >= 4 * others, (language, row)
        assert row[language] >= 4 * max(matrix.random.values()), (language, matrix.random)
