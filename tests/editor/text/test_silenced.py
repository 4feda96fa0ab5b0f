"""The tokens of a script, against a search through all characters that each token may become part of."""

import codecs
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tiny import save_model

from monoglot.editor.models.hf import load_tokenizer
from monoglot.editor.text.silenced import byte_level, cut, find_tokens
from monoglot.editor.text.token_bytes import token_bytes
from monoglot.editor.text.unicode_scripts import characters

KANA = "かなカナ"
TEXTS = [
    None,
    "a",
    "火",
    " 火山",
    "T恤",
    "と思",
    "か",
    b"\xe4",
    b"\xe3",
    b"\x81",
    "。",
    b"\xe3\x80",
    b"x\xe5\xb1",
    b"\xf0",
]
WRITTEN = [text.encode() if isinstance(text, str) else text for text in TEXTS]


def test_whole_mixed_and_pieces() -> None:
    found = find_tokens(WRITTEN, ["Han"], set(KANA))["Han"]
    assert found.ids.tolist() == [2, 3, 4, 5, 7, 11, 12]
    assert (found.whole, found.mixed, found.pieces) == (2, 2, 3)
    assert [(one.token, one.piece, one.needed_by) for one in found.staying] == [(8, "e3", "Hiragana"), (13, "f0", "🀄")]
    assert found.staying[0].characters == sum(one.encode()[0] == 0xE3 for one in characters("Han"))
    assert set(found.examples) == {"T恤", "と思"}


def test_pieces_that_no_wanted_text_needs() -> None:
    first = [b"\xe8", b"\xe3\x91", "か".encode(), b"\xd0", b"\xce"]
    assert find_tokens(first, ["Han"], set("abc"))["Han"].ids.tolist() == [0, 1]
    assert find_tokens(first, ["Cyrillic"], set("abc"))["Cyrillic"].ids.tolist() == [3]
    assert find_tokens(first, ["Greek", "Cyrillic"], None)["Greek"].ids.tolist() == [4]
    assert find_tokens(first, ["Hiragana"], None)["Hiragana"].ids.tolist() == [2]


def test_in_sentencepiece_a_character_with_a_token_needs_no_bytes() -> None:
    written = [b"\xe3", "か".encode(), "な".encode(), "火".encode()]
    assert not byte_level(written)
    assert find_tokens(written, ["Han"], {"か"})["Han"].ids.tolist() == [0, 3]
    assert find_tokens(written, ["Han"], {"か", "カ"})["Han"].ids.tolist() == [3]


def test_spared_characters() -> None:
    found = find_tokens([b"\xe7", "的".encode(), "火".encode()], ["Han"], set(), "的")["Han"]
    assert found.ids.tolist() == [0, 2]
    assert find_tokens([b"\xe7", "火".encode()], ["Han"], set(), "的")["Han"].ids.tolist() == [1]


def test_a_token_of_two_scripts_is_of_the_first() -> None:
    found = find_tokens(["жはж".encode(), "火ж".encode()], ["Han", "Cyrillic"], set())
    assert found["Han"].ids.tolist() == [1]
    assert found["Cyrillic"].ids.tolist() == [0]


@given(st.text(max_size=4), st.integers(0, 12), st.integers(0, 12))
def test_cut(text: str, start: int, end: int) -> None:
    """Any part of the bytes of a text, against a search for the longest text in it."""
    whole = text.encode(errors="ignore")[start:end]
    found, piece = cut(whole)
    ends = [at for at in range(len(whole), -1, -1) if not broken_end(whole[:at])]
    assert whole == whole[: ends[0]] + piece
    assert found == whole[: ends[0]].decode(errors="ignore")


def broken_end(written: bytes) -> bool:
    """Whether the decoder would wait for more."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="ignore")
    decoder.decode(written)
    return bool(decoder.getstate()[0])


@given(st.binary(max_size=8))
def test_cut_of_any_bytes(written: bytes) -> None:
    assert written.endswith(cut(written)[1])


@pytest.mark.parametrize("script", ["Han", "Latin", "Cyrillic"])
def test_every_way_is_closed_or_listed(script: str, tmp_path: Path) -> None:
    """Any character of the script, spelled in any way that tokens allow, needs a token that goes or one that is listed."""
    written = token_bytes(load_tokenizer(save_model(tmp_path / "model", "llama")))
    found = find_tokens(written, [script], set("abc. 火か"))[script]
    gone = {*found.ids.tolist(), *(one.token for one in found.staying)}
    left = {text for number, text in enumerate(written) if text and number not in gone}
    for character in sorted(characters(script))[::97]:
        spelled = character.encode()
        for token in left:
            for at in range(len(token)):
                rest = token[at:]
                starts = spelled.startswith(rest) and len(rest) < len(spelled)
                assert not starts, (character, token)
                assert spelled not in token
