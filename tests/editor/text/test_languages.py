"""The form of a language's code, held wherever a code enters."""

import json
from pathlib import Path

import pytest

from monoglot.editor.edits import recipe
from monoglot.editor.errors import MalformedError, MonoglotError
from monoglot.editor.files import schema
from monoglot.editor.neurons import neurons
from monoglot.editor.neurons.mask import read_mask
from monoglot.editor.text import corpus
from monoglot.editor.text.languages import Code, is_code

GOOD = ("zh", "yue", "pt-BR", "zh-Hans", "zh_Hans", "es-419", "sl-rozaj-biske-1994")
BAD = (
    "", "z", "ZH", "zh\n", "zh ", " zh", "[/x]", "<b>", "fr\x1b]0;x\x07", "../zh", "zh/x", "zh-", "zh--Hans", "french",
    "zh-" + "a" * 9, "zh" + "-Hans" * 10, "z\u0435", "zh|x", "`zh`", "zh\u202e", "en=x", "nan:",
)  # fmt: skip


@pytest.mark.parametrize("code", GOOD)
def test_a_code(code: str) -> None:
    assert is_code(code) and schema.read(Code, code) == code  # type: ignore[arg-type]


@pytest.mark.parametrize("code", BAD)
def test_what_is_no_code_enters_nowhere(code: str, model: Path, neurons_file: Path, tmp_path: Path) -> None:
    import torch

    assert not is_code(code)
    with pytest.raises(MalformedError, match="the code of a language"):
        schema.read(dict[Code, int], {code: 1}, "edited")
    data = json.loads(neurons_file.read_text())
    data["languages"][code] = data["languages"].pop("fr")
    (tmp_path / "neurons.json").write_text(json.dumps(data))
    with pytest.raises(MonoglotError, match="the code of a language") as error:
        neurons.load(tmp_path / "neurons.json")
    assert str(error.value).isprintable()
    (tmp_path / "mask.neuron.pth").write_bytes(b"")
    torch.save([[torch.tensor([1])]], tmp_path / "mask.neuron.pth")
    with pytest.raises(MonoglotError, match="the code of a language"):
        read_mask(tmp_path / "mask.neuron.pth", [code])
    edits = [{"language": code, "op": "deactivate"}], [{"language": "fr", "op": "pin", "value": f"mean@{code}"}]
    for edit in edits[: 2 if code else 1]:  # `mean@` alone is the mean of their own
        text = json.dumps({"format": 1, "base": {"model": "m"}, "edits": edit})
        (tmp_path / "recipe.yaml").write_text(text)
        with pytest.raises(MonoglotError, match="the code of a language") as error:
            recipe.load(tmp_path / "recipe.yaml")
        assert str(error.value).isprintable()


def test_codes_of_languages() -> None:
    """A language is two or three small letters, perhaps with subtags."""
    good = ["en", "yue", "pt-BR", "pt_br", "zh-Hans", "sr-Latn-RS"]
    bad = ["", "e", "EN", "notes", "readme", "en.", "en-", "e1", "zh-H", "en txt"]
    assert all(corpus.LANGUAGE.fullmatch(code) for code in good)
    assert not any(corpus.LANGUAGE.fullmatch(code) for code in bad)
