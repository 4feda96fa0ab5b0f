"""The folder of findings: what it is about, and what it refuses to mix."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from monoglot.editor.errors import FindingsError, OutputError
from monoglot.editor.measures import findings
from monoglot.editor.models.identity import ModelInfo
from monoglot.editor.neurons.neurons import Neurons

MODEL = ModelInfo("tiny", None, "llama", 2, 8, "f" * 64)
NEURONS = Neurons(
    {"en": (np.array([1]), np.array([2, 3])), "fr": (np.array([], np.int64), np.array([4]))},
    method={"name": "lape", "rate": 0.1, "quantile": 0.9, "tokens": {"en": 5}},
)

ABOUT = {"format": 1, "model": MODEL.to_data(), "neurons": {"sha256": "0" * 64, "method": {}}}


def test_what_was_found_is_read_again(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    found = findings.of_folder(folder, MODEL, NEURONS)
    assert found.evaluation.measures == {} and not folder.exists()
    profile = {"width": 8, "layers": {"en": [1, 2]}}
    found = replace(found, evaluation=found.evaluation.adding({"profile": profile}))
    findings.write(folder, found, NEURONS)
    assert findings.read(folder) == found == findings.of_folder(folder, MODEL, NEURONS)
    assert sorted(path.name for path in folder.iterdir()) == ["evaluation.json", "neurons.json"]
    (folder / "stats.safetensors").touch()
    (folder / ".stats.safetensors.progress").touch()
    assert findings.of_folder(folder, MODEL, NEURONS) == found


def test_of_other_things(tmp_path: Path) -> None:
    findings.write(tmp_path, findings.of_folder(tmp_path, MODEL, NEURONS), NEURONS)
    other = Neurons({**NEURONS.indices, "en": (np.array([1]), np.array([2]))}, method=NEURONS.method)
    for model, neurons in ((MODEL, other), (replace(MODEL, fingerprint="0" * 64), NEURONS)):
        with pytest.raises(OutputError, match="of another model, or of other neurons"):
            findings.of_folder(tmp_path, model, neurons)
    (tmp_path / "config.json").touch()
    with pytest.raises(OutputError, match=r"other things in it \(config.json\)"):
        findings.of_folder(tmp_path, MODEL, NEURONS)
    with pytest.raises(OutputError, match="is a file"):
        findings.check_place(tmp_path / "config.json")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not valid JSON"),
        ("[]", "has format None"),
        ('{"format": 2, "evaluation": {}}', "has format 2, this version reads 1"),
        ('{"format": 1}', r"is not what monoglot writes \(it has no model\)\. Measure again"),
        (json.dumps({**ABOUT, "evaluation": []}), r"\(evaluation is not a mapping: it is a list\)\. Measure again"),
        (
            json.dumps({**ABOUT, "evaluation": {"profile": {}}}),
            r"\(evaluation\.profile has no layers\)\. Measure again",
        ),
        (
            json.dumps({**ABOUT, "model": {**MODEL.to_data(), "layers": "2"}}),
            r"model\.layers is not a whole number: it is '2'",
        ),
    ],
)
def test_malformed(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / findings.FILE).write_text(text)
    with pytest.raises(FindingsError, match=said):
        findings.read(tmp_path)


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(FindingsError, match=r"has no evaluation\.json\. Make one with `monoglot evaluate"):
        findings.read(tmp_path)


def test_plain_is_what_json_gives_back() -> None:
    assert findings.plain({"a": (1, 2)}) == json.loads('{"a": [1, 2]}')


def test_what_a_measurement_had_more_of() -> None:
    answers = {"prompts": {"en": 8, "fr": 8}, "tokens": 24}
    matrix = {"tokens": {"en": 2048, "fr": 512}}
    ses = {"texts": 8, "pairs": {"en-fr": [1.0], "en-zh": [1.0]}}
    for one in (answers, matrix, ses, {"layers": {}}, {}):
        assert findings.narrower(one, one) == ""
    assert findings.narrower(answers, {"prompts": {"en": 8, "fr": 4, "zh": 8}}) == "prompts fr 8 (now 4)"
    assert findings.narrower({"prompts": {"fr": 4}}, answers) == ""
    assert findings.narrower(matrix, {"tokens": {"en": 512}}) == "tokens en 2,048 (now 512), fr 512 (now 0)"
    assert findings.narrower(ses, {"texts": 4, "pairs": {"en-fr": [1.0]}}) == "texts en-fr 8 (now 4), en-zh 8 (now 0)"
    assert findings.narrower({**answers, "judge": "kind"}, answers) == "marks by kind"
    assert findings.narrower(answers, {**answers, "judge": "kind"}) == ""
