"""What is counted, and what is no text: placeholders, rows that no token has, tokens that have no row."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
from support.redirected import REDIRECTS, TEXTS, opened, vocabulary_of
from support.tiny import VOCABULARY, WRAPPERS, save_corpus, save_model

from monoglot.editor.edits.bake import bake
from monoglot.editor.edits.recipe import Edit, Recipe
from monoglot.editor.errors import ModelError
from monoglot.editor.models.embedding import open_embedding
from monoglot.editor.models.identity import Base
from monoglot.editor.models.target import model_info
from monoglot.editor.neurons.neurons import NONE
from monoglot.editor.statistics.token_counts import count, learn, placeholders
from monoglot.editor.text.corpus import open_corpus
from monoglot.editor.text.tokens import Packed


def test_what_configs_call_placeholders() -> None:
    config = {
        "image_token_index": 5, "image_token_id": 6, "video_token_id": 7, "audio_token_id": 8, "vision_start_token_id": 9,
        "boi_token_index": 10, "eoi_token_index": 11, "image_seq_length": 99, "bos_token_id": 98, "pad_token_id": 97,
        "mm_tokens_per_image": 96, "image_break_token_index": 12, "vision_config": {}, "audio_token_index": None,
    }  # fmt: skip
    assert placeholders(config) == set(range(5, 13))


def test_a_placeholder_in_the_text_is_not_counted(tmp_path: Path) -> None:
    """The tokenizer here calls no token special that a config would name: `image_token_index` alone says so."""
    place = 70  # a byte's token that every text has
    text = WRAPPERS["gemma3"]["text_config"]
    folder = save_model(tmp_path / "model", "gemma3", text_config=text, image_token_index=place)
    texts = open_corpus([str(save_corpus(tmp_path / "texts"))])
    plain = learn(opened(save_model(tmp_path / "plain", "llama")), texts, tokens=4000, minimum=100)
    assert place in plain.ids["en"]
    found = learn(opened(folder), texts, tokens=4000, minimum=100)
    assert all(place not in own for own in found.ids.values())


def test_a_table_of_other_length_than_the_tokenizer(tmp_path: Path) -> None:
    """Rows that no token has stay in a redirect and move with a vector; a token without a row is an error."""
    folder = save_model(
        tmp_path / "model", "llama", tokenizer=False, tie_word_embeddings=True, vocab_size=VOCABULARY + 20
    )
    target = opened(folder)
    vocabulary = vocabulary_of(target)
    name = "model.embed_tokens.weight"
    old = load_file(folder / "model.safetensors")[name]
    for edits, moves in ((REDIRECTS, False), ((Edit("fr", "vector", 1.5, point="embedding"),), True)):
        out = tmp_path / ("vector" if moves else "redirect")
        bake(target, NONE, Recipe(Base("tiny"), edits), out, vocabulary=vocabulary)
        tensors = {n: t for file in out.glob("*.safetensors") for n, t in load_file(file).items()}
        changed = (tensors[name] != old).any(dim=1)[VOCABULARY:]
        assert changed.all() if moves else not changed.any()
    beyond = Packed("en", (np.array([VOCABULARY + 20]),), 0, 1, "")
    with pytest.raises(ModelError, match="They are not of the same model"):
        count(model_info(target), open_embedding(target), {**{k: Packed(k, (own,), 0, len(own), k)
              for k, own in TEXTS.items()}, "en": beyond}, (), ["a"] * VOCABULARY)  # fmt: skip
