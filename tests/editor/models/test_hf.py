"""A tokenizer that can't be loaded: which it lacks, and what to do."""

import json
from pathlib import Path

import pytest

from monoglot.editor.errors import ModelError
from monoglot.editor.models import hf


def test_no_tokenizer_at_all(model: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((model / "config.json").read_bytes())
    with pytest.raises(
        ModelError, match=r"has no tokenizer: none of tokenizer\.json, .* is there\. Copy the tokenizer's files"
    ):
        hf.load_tokenizer(tmp_path)


def test_a_package_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer"}))
    (tmp_path / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02")
    monkeypatch.setattr(hf, "find_spec", lambda _: None)
    with pytest.raises(ModelError, match=r"as tokenizer\.model only, .* pip install sentencepiece protobuf$"):
        hf.load_tokenizer(tmp_path)


def test_what_is_broken_is_said_in_a_whole_sentence(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="has no tokenizer that transformers can load: ") as caught:
        hf.load_tokenizer(tmp_path)
    assert not str(caught.value).endswith(":")
