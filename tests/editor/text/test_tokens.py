"""Documents packed into contexts: the text and nothing else, and what is said where there is too little."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from support import tiny
from support.texts import text_of
from support.tiny import Characters

from monoglot.editor.errors import CheckpointError, CorpusError, ModelError
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import open_target
from monoglot.editor.text.tokens import pack, read_texts, require

# Packing


@pytest.mark.parametrize("bos", [None, 0, 7])
@pytest.mark.parametrize("tokens", [1, 15, 16, 31, 32, 100, 161])
def test_contexts_hold_the_text_and_nothing_else(bos: int | None, tokens: int) -> None:
    documents = [f"document {number}" * (number % 3 + 1) for number in range(40)]
    kept = [document for number, document in enumerate(documents, start=1) if number % 5]
    wanted = [ord(character) for character in "".join(document + "\n\n" for document in kept)][:tokens]
    packed = pack(text_of(documents), Characters(bos), tokens=tokens, context=16)
    assert packed.tokens == tokens == len(wanted)
    assert packed.skip == (bos is not None)
    assert all(context.dtype == np.int64 for context in packed.contexts)
    assert [len(context) for context in packed.contexts[:-1]] == [16] * (len(packed.contexts) - 1)
    assert packed.skip < len(packed.contexts[-1]) <= 16
    if bos is not None:
        assert all(context[0] == bos for context in packed.contexts)
    assert [int(token) for context in packed.contexts for token in context[packed.skip :]] == wanted


def test_less_text_than_asked_for_gives_what_there_is() -> None:
    packed = pack(text_of(["abc", "de"]), Characters(0), tokens=1_000, context=16)
    assert packed.tokens == len("abc\n\nde\n\n")
    assert pack(text_of([]), Characters(0), tokens=10, context=16).contexts == ()


def test_parts_have_their_own_tokens_and_fingerprints() -> None:
    documents = [str(number) for number in range(10)]
    found = pack(text_of(documents), Characters(0), tokens=99, context=16)
    held = pack(text_of(documents), Characters(0), tokens=99, context=16, held_out=True)
    assert bytes(int(t) for c in held.contexts for t in c[1:]).decode() == "4\n\n9\n\n"
    assert found.sha256 != held.sha256
    # the fingerprint is the text's, however it is cut into contexts
    assert found.sha256 == pack(text_of(documents), Characters(None), tokens=99, context=5).sha256


def test_a_real_tokenizer_adds_nothing_of_its_own(model: Path) -> None:
    from monoglot.editor.models.hf import load_tokenizer

    tokenizer = load_tokenizer(model)
    packed = pack(text_of(["The quick brown fox"] * 50), tokenizer, tokens=99, context=32)
    ids = [int(token) for context in packed.contexts for token in context[1:]]
    assert "".join(tokenizer.decode(ids)).startswith("The quick brown fox\n\nThe quick")
    assert not {tokenizer.bos_token_id, tokenizer.eos_token_id} & set(ids)
    assert {int(context[0]) for context in packed.contexts} == {tokenizer.bos_token_id}


def test_a_context_must_have_room() -> None:
    with pytest.raises(CorpusError, match=r"1 positions has no room"):
        pack(text_of(["abc"]), Characters(0), tokens=10, context=1)


def test_too_little_text_says_how_much_is_missing() -> None:
    packed = pack(text_of(["abcdefgh"] * 5, "vi"), Characters(0), tokens=1_000, context=16)
    require(packed, 40)
    with pytest.raises(CorpusError, match=r"vi has 40 tokens of text, 1,960 fewer than the 2,000 .* Add text in vi"):
        require(packed, 2_000)


@pytest.mark.parametrize("bos", [False, True], ids=["in the text", "the beginning-of-text token"])
def test_a_token_without_a_row(tmp_path: Path, bos: bool) -> None:
    """A tokenizer that got tokens, and a table that did not: said with both numbers, before the model is built."""
    folder = tiny.save_model(tmp_path / "model")
    tensors, rows = load_file(folder / "model.safetensors"), 20
    for name in [name for name, own in tensors.items() if own.shape[0] == tiny.VOCABULARY]:
        tensors[name] = tensors[name][:rows].copy()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=rf"{tiny.VOCABULARY} tokens \(vocab_size\), .* has {rows} rows"):
        open_target(resolve(str(folder)))
    tiny.edit_config(folder, vocab_size=rows)
    target = open_target(resolve(str(folder)))
    tokenizer = Characters(rows + 1 if bos else None)
    text = text_of([("\x05" if bos else "z") * 40] * 40)
    with pytest.raises(ModelError, match=r"gives token \d+ in .*, and model.embed_tokens.weight has 20 rows only"):
        read_texts(target, {"en": text}, tokens=100, context=32, tokenizer=tokenizer)
