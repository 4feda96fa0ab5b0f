"""Which tokens are sampled, and what they are called."""

import numpy as np
import pytest
from support.tables import HELD_OUT, LAYERS, Tables, packed, sample

from monoglot.editor.errors import CorpusError
from monoglot.editor.statistics import sample as sampling
from monoglot.editor.statistics.inputs import Part
from monoglot.editor.statistics.sample import kind_of
from monoglot.editor.text.tokens import Packed


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("word", "letters"), (" un", "letters"), ("日本", "letters"), ("\u0e31", "letters"), ("x2", "letters"),
        ("12", "digits"), (" 3", "digits"), ("٣", "digits"), ("½", "digits"),
        (".", "punctuation"), (" (", "punctuation"), ("。", "punctuation"), ("+=", "punctuation"), ("**", "punctuation"),
        (" ", "white space"), ("\n\n", "white space"), ("\u3000", "white space"),
        ("", "other"), ("\ufffd", "other"), ("\x00", "other"), ("1.", "other"),
    ],
)  # fmt: skip
def test_kinds(text: str, kind: str) -> None:
    assert kind_of(text) == kind


@pytest.mark.parametrize("skip", [0, 1])
@pytest.mark.parametrize("most", [7, 256])
def test_sampled_tokens_are_spread_evenly_over_the_text(skip: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "SAMPLE", most)
    model = Tables()
    texts = {language: packed(language, tokens, skip=skip) for language, tokens in (("zh", 3), ("fr", 30))}
    found = sample(model, texts)
    tokens, positions = [], []
    for language in ("fr", "zh"):
        counted = [(t, p) for c in texts[language].contexts for p, t in enumerate(c.tolist()) if p >= skip]
        n = min(most, len(counted))
        for number in range(n):
            token, position = counted[number * len(counted) // n]
            tokens.append(token)
            positions.append(position)
    assert found.tokens.tolist() == tokens
    assert found.positions.tolist() == positions
    assert found.parts == (Part("fr", texts["fr"].sha256, min(most, 30)), Part("zh", texts["zh"].sha256, 3))
    assert found.languages == ("fr",) * min(most, 30) + ("zh",) * 3
    assert found.kinds == tuple(
        "first token" if p == 0 else "letters" if t < 40 else "digits" for t, p in zip(tokens, positions, strict=True)
    )
    for layer in range(LAYERS):
        assert found.x[layer].dtype == np.float32
        assert (found.x[layer] == model.reads[layer].detach().float().numpy()[tokens]).all()


def test_no_hook_is_left() -> None:
    model = Tables()
    sample(model)
    assert not any(reader._forward_pre_hooks for reader in model.readers)


def test_a_language_without_held_out_text_is_refused() -> None:
    with pytest.raises(CorpusError, match=r"vi has too few documents .* or leave `calibrate` out"):
        sample(Tables(), {**HELD_OUT, "vi": Packed("vi", (), 1, 0, "")})
