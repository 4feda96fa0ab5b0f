"""What identifies a model: a change of anything that bears on a result changes it, and nothing else does."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import tiny

from monoglot.editor.files.checkpoint import read_checkpoint
from monoglot.editor.files.fingerprint import fingerprint, sampled


def of(folder: Path) -> str:
    return fingerprint(read_checkpoint(folder))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny.save_model(tmp_path / "model")
    (tmp_path / "model" / "tokenizer.json").write_text('{"version": "1.0"}')
    (tmp_path / "model" / "generation_config.json").write_text('{"do_sample": false, "transformers_version": "5.0"}')
    return tmp_path / "model"


def test_every_byte_of_every_tensor_counts(folder: Path) -> None:
    """Independent of the library's reader: the data of a safetensors file begins behind its header."""
    path = folder / "model.safetensors"
    raw = bytearray(path.read_bytes())
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    header.pop("__metadata__", None)
    seen = {of(folder)}
    for entry in header.values():
        begin, end = entry["data_offsets"]
        for at in {begin, (begin + end) // 2, end - 1}:
            raw[8 + length + at] ^= 1
            path.write_bytes(raw)
            seen.add(of(folder))
            raw[8 + length + at] ^= 1
    assert len(seen) == 1 + sum(len({b, (b + e) // 2, e - 1}) for b, e in (v["data_offsets"] for v in header.values()))


def text_file(name: str, text: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)

    return change


def config(**values: Any) -> Callable[[Path], None]:
    return lambda folder: tiny.edit_config(folder, **values)


@pytest.mark.parametrize(
    "change",
    [
        config(rope_theta=12345.0), config(hidden_act="relu"), config(rms_norm_eps=1e-3), config(num_attention_heads=1),
        config(tie_word_embeddings=True), config(something_new=1), config(torch_dtype="float16"),
        text_file("tokenizer.json", '{"version": "2.0"}'), text_file("tokenizer.model", "x"), text_file("vocab.txt", "x"),
        text_file("tokenizer_config.json", "{}"), text_file("special_tokens_map.json", "{}"),
        text_file("chat_template.jinja", "x"), text_file("additional_chat_templates/tool.jinja", "x"),
        text_file("generation_config.json", '{"do_sample": true}'), text_file("merges.txt", "a b"),
    ],
)  # fmt: skip
def test_what_bears_on_a_result_counts(folder: Path, change: Callable[[Path], None]) -> None:
    before = of(folder)
    change(folder)
    assert of(folder) != before


@pytest.mark.parametrize(
    "change",
    [
        config(transformers_version="9"), config(_name_or_path="/home/somebody/model"), config(use_cache=False),
        text_file("README.md", "x"), text_file("LICENSE", "x"), text_file("training_args.json", "{}"),
        text_file("generation_config.json", '{"transformers_version": "9", "do_sample":false}'),
    ],
)  # fmt: skip
def test_what_bears_on_none_does_not(folder: Path, change: Callable[[Path], None]) -> None:
    before = of(folder)
    change(folder)
    assert of(folder) == before


def test_the_layout_of_a_config_and_the_name_of_the_folder_do_not_count(folder: Path) -> None:
    before = of(folder)
    data = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(dict(reversed(data.items())), indent=7))
    assert of(folder.rename(folder.with_name("other"))) == before


def test_what_is_given_takes_the_place_of_what_is_not_there(folder: Path) -> None:
    before = of(folder)
    found = fingerprint(read_checkpoint(folder), {"model.safetensors": "0" * 64})
    assert found != before == fingerprint(read_checkpoint(folder), {"elsewhere.safetensors": "0" * 64})


def test_a_config_that_is_nested_deeply_is_an_error_or_a_fingerprint(folder: Path) -> None:
    from monoglot.editor.errors import MonoglotError

    for depth in (100, 900, 3000):
        (folder / "generation_config.json").write_text("[" * depth + "]" * depth)
        try:
            assert len(of(folder)) == 64
        except MonoglotError as error:
            assert "nested too deeply" in str(error)


def test_the_sampled_one_is_as_earlier_versions_made_it(folder: Path) -> None:
    """By its rule, written once more: each shard's header, then 16 blocks of 4 KiB at even distances."""
    import hashlib

    raw = (folder / "model.safetensors").read_bytes()
    start = 8 + struct.unpack("<Q", raw[:8])[0]
    digest = hashlib.sha256(raw[:start])
    for number in range(16):
        at = start + (len(raw) - start) * number // 16
        digest.update(raw[at : at + 4096])
    assert sampled(read_checkpoint(folder)) == digest.hexdigest() != of(folder)
