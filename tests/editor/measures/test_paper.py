"""What is kept of an earlier run is of exactly what is read now, or it is measured anew, with a word."""

import hashlib
import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import tiny

from monoglot.editor.errors import OutputError
from monoglot.editor.measures import findings, paper
from monoglot.editor.measures.options import Options
from monoglot.editor.progress import Listener
from monoglot.editor.statistics.detection import Detection

pytestmark = pytest.mark.filterwarnings(
    "ignore::monoglot.editor.errors.MonoglotWarning"
)  # of a model that knows nothing
DETECTION = Detection(tokens=600, context=64, minimum=100, device="cpu")


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A corpus, prompts and aligned texts in three languages."""
    tiny.save_corpus(tmp_path / "texts")
    aligned = tmp_path / "aligned"
    aligned.mkdir()
    asked = []
    for language, text in tiny.TEXT.items():
        (aligned / f"{language}.txt").write_text(f"{text}\n{text} 2\n", encoding="utf-8")
        asked += [{"language": language, "prompt": text[:10]}]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(one) + "\n" for one in asked))
    return tmp_path


def run(model: Path, texts: Path, **more: Any) -> tuple[dict[str, Any], list[str]]:
    said: list[str] = []
    options = Options(
        prompts=str(texts / "prompts.jsonl"), aligned=texts / "aligned", count=1, tokens=2, text_tokens=100, **more
    )  # fmt: skip
    found = paper.experiments(
        str(model), [str(texts / "texts")], texts / "findings", rate=0.3, quantile=0.5, detection=DETECTION,
        options=options, listener=replace(Listener(), told=said.append),
    )  # fmt: skip
    return found, said


def test_another_text_of_the_same_name_is_measured_anew(texts: Path) -> None:
    model = tiny.save_model(texts / "model")
    before, _ = run(model, texts)
    again, said = run(model, texts)
    assert again == before and sum("there already" in line for line in said) == 6

    prompts = texts / "prompts.jsonl"
    prompts.write_text(prompts.read_text().replace(tiny.TEXT["fr"][:10], "Le fermier"))
    found, said = run(model, texts)
    assert any("measured with other text (prompts). It is measured anew" in line for line in said), said
    assert not any("there already" in line for line in said)
    digest = hashlib.sha256(json.dumps(["Le fermier"]).encode()).hexdigest()
    assert found["deactivate_each"]["sha256"]["fr"] == digest != before["deactivate_each"]["sha256"]["fr"]
    assert found["deactivate_each"]["sha256"]["en"] == before["deactivate_each"]["sha256"]["en"]

    file = texts / "aligned" / "en.txt"
    file.write_text(file.read_text().replace("fox", "dog"), encoding="utf-8")
    assert any("other text (aligned)." in line for line in run(model, texts)[1])

    file = texts / "texts" / "zh.txt"  # every fifth document alone, on which nothing is found, only measured
    documents = file.read_text(encoding="utf-8").split("\n\n")
    documents[4::5] = [document.replace("狐狸", "狗") for document in documents[4::5]]
    file.write_text("\n\n".join(documents), encoding="utf-8")
    found, said = run(model, texts)
    assert any("other text (held_out)." in line for line in said) and any("still fit" in line for line in said)
    assert found["perplexity"]["sha256"]["zh"] != before["perplexity"]["sha256"]["zh"]
    assert found["perplexity"]["sha256"]["en"] == before["perplexity"]["sha256"]["en"]


def test_findings_of_other_versions_are_measured_anew(texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.save_model(texts / "model")
    run(model, texts)
    for module in ("sums", "recorder", "detect"):
        monkeypatch.setattr(f"monoglot.editor.statistics.{module}.versions", lambda: {"monoglot": "99"})
    said = run(model, texts)[1]
    assert any("measured with other versions." in line for line in said), said


def test_one_run_at_a_time(texts: Path) -> None:
    model = tiny.save_model(texts / "model")
    held, done = threading.Event(), threading.Event()

    def other() -> None:
        with findings.held(texts / "findings"):
            held.set()
            done.wait(60)

    thread = threading.Thread(target=other)
    thread.start()
    try:
        assert held.wait(60)
        with pytest.raises(OutputError, match="another run is writing"):
            run(model, texts)
    finally:
        done.set()
        thread.join()
    assert not (texts / "findings").exists()


def test_what_is_wrong_with_the_prompts_is_said_first(texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.save_model(texts / "model")
    monkeypatch.setattr(paper, "detect_or_reuse", lambda *_, **__: pytest.fail("the statistics were made first"))
    (texts / "aligned" / "en.txt").write_text("Only one.\n")
    with pytest.raises(Exception, match="different numbers of texts"):
        run(model, texts)
    (texts / "prompts.jsonl").write_text('{"language": "en", "prompt": "Once upon"}\n')
    with pytest.raises(Exception, match="no prompts in 'fr'"):
        run(model, texts)
