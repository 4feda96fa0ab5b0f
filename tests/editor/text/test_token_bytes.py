"""What each token writes, against what the tokenizer itself makes of text."""

from pathlib import Path
from typing import Any

import pytest
import transformers
from support.tiny import TEXT, save_model
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from monoglot.editor.errors import ModelError
from monoglot.editor.models.hf import load_tokenizer
from monoglot.editor.text.token_bytes import token_bytes

PIECES = ["<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁the", "▁", "火", "▁火山", "é", "T恤", "。"]


def sentencepiece(*, decoder: Any = None, fallback: bool = True) -> Any:
    """A BPE with bytes for what it has no token for, as Llama 2 and Gemma have one."""
    tokenizer = Tokenizer(models.BPE({piece: at for at, piece in enumerate(PIECES)}, [], byte_fallback=fallback))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoder or decoders.Sequence(steps)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def test_byte_level(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(save_model(tmp_path / "model", "llama"))
    written = token_bytes(tokenizer)
    assert written[0] is written[1] is None
    for text in (*TEXT.values(), "naïve 日本 🙂\n\x00"):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert b"".join(written[number] or b"" for number in ids).decode() == text


def test_sentencepiece() -> None:
    tokenizer = sentencepiece()
    written = token_bytes(tokenizer)
    assert written[PIECES.index("▁火山")] == " 火山".encode()
    assert written[PIECES.index("<0xE4>")] == b"\xe4"
    assert written[0] is None
    ids = tokenizer("火é山", add_special_tokens=False)["input_ids"]
    assert b"".join(written[number] or b"" for number in ids).decode() == "火é山"


def test_added_tokens_are_what_they_say() -> None:
    tokenizer = sentencepiece()
    tokenizer.add_tokens(["中▁文"])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<汉>"]})
    written = token_bytes(tokenizer)
    assert written[tokenizer.convert_tokens_to_ids("中▁文")] == "中▁文".encode()
    assert written[tokenizer.convert_tokens_to_ids("<汉>")] is None


def test_a_tokenizer_that_does_not_tell() -> None:
    words = Tokenizer(models.WordPiece({"[UNK]": 0, "the": 1, "##re": 2}, unk_token="[UNK]"))
    words.pre_tokenizer, words.decoder = pre_tokenizers.Whitespace(), decoders.WordPiece()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]")
    with pytest.raises(ModelError, match="decoder: WordPiece"):
        token_bytes(fast)
    with pytest.raises(ModelError, match="decoder: one in Python"):
        token_bytes(object())
