"""Export as a function: what is said before anything slow starts, and what lies where when the proof does not pass."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import packed_models, tiny
from support.folders import tree

from monoglot.cards.maker import CARD
from monoglot.editor import embedded, export
from monoglot.editor.edits import manifest
from monoglot.editor.edits.request import Request
from monoglot.editor.errors import MonoglotError, OutputError
from monoglot.editor.files.output import claimed
from monoglot.editor.measures.pick import Pick
from monoglot.editor.neurons import neurons
from monoglot.editor.statistics.detection import Detection

pytestmark = pytest.mark.filterwarnings("ignore:only .* neurons pass the bar")  # a small budget
SMALL = Detection(tokens=2048, context=128, minimum=1000)
OFF = Request(deactivate=("zh",))
ON = Request(activate=("fr",))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    (tmp_path / "texts").mkdir()
    for language in ("en", "fr", "zh"):
        shutil.copy(Path(embedded.MODEL).parent / "texts" / f"{language}.txt", tmp_path / "texts")
    return tmp_path / "texts"


@pytest.fixture
def instantly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing slow may start."""

    def slow(*_: Any, **__: Any) -> None:
        raise AssertionError("the statistics began")

    monkeypatch.setattr(export, "detect_or_reuse", slow)


def run(corpus: Path, output: Path, request: Request = OFF, **more: Any) -> export.Exported:
    return export.export(embedded.NAME, [str(corpus)], request, output, detection=SMALL, rate=0.27, **more)


def said(corpus: Path, output: Path, request: Request = OFF, **more: Any) -> str:
    before = tree(output.parent)
    with pytest.raises(MonoglotError) as caught:
        run(corpus, output, request, **more)
    assert tree(output.parent) == before
    return str(caught.value)


def test_too_few_documents_to_hold_one_out(corpus: Path, tmp_path: Path, instantly: None) -> None:
    text = (corpus / "fr.txt").read_text()
    (corpus / "fr.txt").unlink()
    (corpus / "fr.jsonl").write_text(json.dumps({"text": text}))
    assert "fr has too few documents for one to be held out" in said(corpus, tmp_path / "out")


def test_a_language_that_the_identifier_does_not_know(corpus: Path, tmp_path: Path, instantly: None) -> None:
    named = [f"{long}={corpus / short}.txt" for short, long in (("en", "eng_Latn"), ("fr", "fra_Latn"))]
    with pytest.raises(MonoglotError, match="doesn't know 'fra'"):
        export.export(embedded.NAME, named, Request(activate=("fra_Latn",)), tmp_path / "out", detection=SMALL)


@pytest.mark.parametrize("work", ["out", "out/below", "out.unproved", "a file", "link to out"])
def test_statistics_that_would_lie_in_the_checkpoint(corpus: Path, tmp_path: Path, instantly: None, work: str) -> None:
    (tmp_path / "a file").write_text("x")
    (tmp_path / "link to out").symlink_to(tmp_path / "out")
    assert "Choose another `work`" in said(corpus, tmp_path / "out", work=tmp_path / work)


def test_statistics_that_would_lie_in_the_model(corpus: Path, tmp_path: Path, instantly: None) -> None:
    model = Path(shutil.copytree(embedded.MODEL, tmp_path / "model"))
    for work in (model, model / "work"):
        with pytest.raises(OutputError, match="lies in the model's own folder"):
            export.export(str(model), [str(corpus)], OFF, tmp_path / "out", detection=SMALL, rate=0.27, work=work)
    assert tree(model) == tree(embedded.MODEL)


@pytest.mark.parametrize("place", [".", "..", "texts/.."])
def test_a_folder_that_is_there_already(
    corpus: Path, tmp_path: Path, instantly: None, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.chdir(corpus)
    for force in (False, True):
        with pytest.raises(OutputError, match=r"exists|was not made by monoglot"):
            run(corpus, Path(place), force=force)


def test_a_disk_that_is_too_small(
    corpus: Path, tmp_path: Path, instantly: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=2**24)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert "Make room" in said(corpus, tmp_path / "out")


@pytest.mark.parametrize("held", ["out", "out.unproved", "out.work/stats.safetensors"])
def test_a_place_where_another_run_is_at_work(corpus: Path, tmp_path: Path, instantly: None, held: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    (tmp_path / "out.work").mkdir()
    with (
        claimed(tmp_path / held, lambda path: None),
        ThreadPoolExecutor(1) as other,
        pytest.raises(OutputError, match="another run is writing"),
    ):
        other.submit(run, corpus, tmp_path / "out").result()


def test_what_is_not_proved_is_not_at_its_place(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in the proof, then a proof that fails, then one that passes: nothing is made twice."""
    out, unproved, real = tmp_path / "out", tmp_path / "out.unproved", export.prove

    def broken(*_: Any, **__: Any) -> Any:
        raise MemoryError

    def failing(*arguments: Any, **options: Any) -> Any:
        proof = real(*arguments, **options)
        certificate = replace(proof.certificate, bytes=replace(proof.certificate.bytes, problems=("planted",)))
        return replace(proof, certificate=certificate)

    monkeypatch.setattr(export, "prove", broken)
    with pytest.raises(MemoryError):
        run(corpus, out, fast=True)
    assert not out.exists() and manifest.read(unproved).certificate is None
    monkeypatch.setattr(export, "prove", failing)
    made = run(corpus, out, fast=True)
    assert not made.passed and made.folder == unproved and made.baked is None and not out.exists()
    monkeypatch.setattr(export, "prove", real)
    made = run(corpus, out, fast=True)
    assert made.passed and made.folder == out and made.baked is None and not unproved.exists()
    assert manifest.read(out).to_data()["certificate"]["bytes"]["passed"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.work", "texts"]


def test_a_replaced_checkpoint_stays_until_the_new_one_is_proved(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    run(corpus, out, fast=True)
    before = tree(out)

    def broken(*_: Any, **__: Any) -> Any:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(export, "prove", broken)
        with pytest.raises(MemoryError):
            run(corpus, out, Request(deactivate=("fr",)), fast=True, force=True)
    assert tree(out) == before
    assert run(corpus, out, Request(deactivate=("fr",)), fast=True, force=True).folder == out
    assert manifest.read(out).recipe.edits[0].language == "fr"


def test_after_a_search_the_proved_checkpoint_is_asked_again(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search is cut short, and chooses redirecting; the prompts are held-out documents, which are long enough."""

    def chosen(bench: Any, *_: Any, **__: Any) -> Pick:
        request = replace(bench.request, activate=(), redirect=(("others", "fr"),), strength=1.5, choose=False)
        row = {"name": "redirected", "gain": 1.0, "damage": 0.0, "accuracy": 1.0}
        record: Any = {"kind": "on", "languages": ("fr",), "reached": True, "chosen": 0, "rows": (row,)}
        return Pick(request, neurons.NONE, bench.vocabulary, None, record)

    monkeypatch.setattr(export, "search_on", chosen)
    out, request = tmp_path / "out", Request(activate=("fr",), choose=True)
    made = export.export(embedded.NAME, [str(corpus)], request, out, detection=SMALL, verify_tokens=256, card=CARD)
    found = made.answers["activated"]
    assert found["kind"] == "corpus" and set(found["by_language"]) == {"en", "zh"}
    assert found["wanted"] == {"en": ["fr"], "zh": ["fr"]}
    assert manifest.read(out).measures["activated"] == found
    card = (out / "README.md").read_text()
    assert "The search saw 100% of the answers in the language, by the base under hooks" in card
    fast = export.export(embedded.NAME, [str(corpus)], request, tmp_path / "fast", detection=SMALL, fast=True)
    assert fast.passed and not fast.answers


def test_statistics_of_changed_weights_are_not_reused(corpus: Path, tmp_path: Path) -> None:
    """One bit, at a place that no sample looked at."""
    model = Path(shutil.copytree(embedded.MODEL, tmp_path / "model"))

    def statistics_were_made(number: int) -> bool:
        seen: list[object] = []
        export.export(
            str(model), [str(corpus)], OFF, tmp_path / f"out{number}", detection=SMALL, rate=0.27, fast=True,
            work=tmp_path / "work", made=seen.append,
        )  # fmt: skip
        return any(type(one).__name__ == "Statistics" for one in seen)

    assert statistics_were_made(0) and not statistics_were_made(1)
    weights = model / "model.safetensors"
    raw = bytearray(weights.read_bytes())
    at = len(raw) // 2 + 5000
    raw[at] ^= 1
    weights.write_bytes(raw)
    assert statistics_were_made(2) and not statistics_were_made(3)


def test_a_quantised_model_with_the_neurons_of_its_original(tmp_path: Path) -> None:
    packed, twin = packed_models.save(tmp_path, "gptq-4")
    for folder in (packed, twin):
        tiny.save_tokenizer(folder)
    tiny.save_corpus(tmp_path / "texts")
    detection = Detection(tokens=2048, context=32, minimum=500)

    def made(output: str, **more: Any) -> export.Exported:
        return export.export(
            str(packed), [str(tmp_path / "texts")], OFF, tmp_path / output, detection=detection, rate=0.3, verify_tokens=64,
            card=CARD, **more,
        )  # fmt: skip

    own, done = made("own"), made("out", neurons_of=str(twin))
    assert own.proof.passed and done.proof.passed and done.neurons.model and own.neurons.model
    assert done.neurons.model.name == twin.name and own.neurons.model.name == packed.name
    record = manifest.read(done.folder)
    assert manifest.read(own.folder).found_in is None
    assert record.found_in and record.found_in.fingerprint == done.neurons.model.fingerprint != record.base.fingerprint
    card = (done.folder / "README.md").read_text()
    assert f"found in {twin.name}" in card and "can't be known" in card
    assert "can't be known" not in (own.folder / "README.md").read_text()
    again = made("out", neurons_of=str(twin), force=True)
    assert again.baked is None  # the checkpoint is there
    with pytest.raises(MonoglotError, match="lies inside the model's own folder"):
        made("twin/out", neurons_of=str(twin))
