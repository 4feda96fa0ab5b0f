"""The bytes that each token of a tokenizer writes, from what the tokenizer says of itself.

Two kinds are known, those of nearly all language models:

    byte-level       every token is a string of bytes, each written as a printable character (GPT-2, Llama 3, Qwen)
    SentencePiece    a token is text with ▁ for a space, and `<0xE4>` is a byte of what others can't spell (Llama 2, Gemma)

A SentencePiece tokenizer without such bytes writes whole characters only, which is known just as well.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import ModelError

BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
SPACE = "\u2581"


def token_bytes(tokenizer: Any) -> list[bytes | None]:
    """Return the bytes of each token, by its id; None for tokens that are no text, and for ids that stand for nothing.

    Raises ModelError where the tokenizer doesn't tell them.
    """
    data = _described(tokenizer)
    kinds = {each["type"] for each in _parts(data.get("decoder"))}
    vocabulary = tokenizer.get_vocab()
    added = {int(token["id"]): token for token in data.get("added_tokens") or ()}
    special = {*tokenizer.all_special_ids, *(number for number, token in added.items() if token.get("special"))}
    if "ByteLevel" in kinds:
        spelled = _byte_level
    elif kinds & {"ByteFallback", "Metaspace"} or (data.get("model") or {}).get("byte_fallback"):
        spelled = _sentencepiece
    else:
        raise ModelError(_unknown(tokenizer, ", ".join(sorted(kinds)) or "none"))
    found: list[bytes | None] = [None] * (max(vocabulary.values(), default=-1) + 1)
    for token, number in vocabulary.items():
        if number in special or not 0 <= number < len(found):
            continue
        found[number] = str(added[number]["content"]).encode() if number in added else spelled(token)
    return found


def _described(tokenizer: Any) -> dict[str, Any]:
    """Return the tokenizer as its tokenizer.json says it."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ModelError(_unknown(tokenizer, "one in Python"))
    data: dict[str, Any] = json.loads(backend.to_str())
    return data


def _unknown(tokenizer: Any, decoder: str) -> str:
    return (
        f"the tokenizer ({type(tokenizer).__name__}, decoder: {decoder}) does not tell which bytes its tokens write, so it "
        "is not known which of them write a script. Known are byte-level tokenizers and SentencePiece with a tokenizer.json."
    )


def _parts(decoder: Any) -> Iterator[Mapping[str, Any]]:
    """Yield a decoder and those that it is made of."""
    if isinstance(decoder, Mapping) and "type" in decoder:
        yield decoder
        for each in decoder.get("decoders") or ():
            yield from _parts(each)


def _byte_level(token: str) -> bytes | None:
    """Read a token whose characters stand for bytes; None where one of them doesn't."""
    try:
        return bytes(BYTES[character] for character in token)
    except KeyError:
        return None


def _sentencepiece(token: str) -> bytes:
    if match := BYTE.fullmatch(token):
        return bytes([int(match[1], 16)])
    return token.replace(SPACE, " ").encode()


def _of_printable() -> dict[str, int]:
    """Return which byte a character stands for: itself where it can be seen in Latin-1, else the next from U+0100 on."""
    seen = [byte for byte in range(256) if 0x21 <= byte <= 0x7E or (0xA1 <= byte <= 0xFF and byte != 0xAD)]
    others = [byte for byte in range(256) if byte not in seen]
    return {chr(byte): byte for byte in seen} | {chr(0x100 + at): byte for at, byte in enumerate(others)}


BYTES = _of_printable()
