"""Statistics give the vocabulary that the text itself gives, and vectors and readers, without a second pass."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import tiny

from monoglot.editor import embedded
from monoglot.editor.errors import StatisticsError
from monoglot.editor.models.activations import functions
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import Target, open_target
from monoglot.editor.progress import NOBODY
from monoglot.editor.statistics import kept_vocabulary, vocabulary
from monoglot.editor.statistics import statistics as files
from monoglot.editor.statistics.detect import detect
from monoglot.editor.statistics.detection import Detection
from monoglot.editor.statistics.from_statistics import from_statistics, open_vocabulary
from monoglot.editor.statistics.kept_vocabulary import OUTPUTS, RESIDUAL, complete, count_or_reuse
from monoglot.editor.statistics.record_residual import record_residual
from monoglot.editor.statistics.statistics import Statistics
from monoglot.editor.statistics.token_counts import TOKENS, learn
from monoglot.editor.text.corpus import open_corpus

TEXTS = open_corpus([embedded.NAME], ["en", "fr", "zh"])
LAYER = 2


@pytest.fixture(scope="module")
def target() -> Target:
    return open_target(resolve(embedded.NAME))


@pytest.fixture(scope="module")
def made(target: Target) -> Statistics:
    return detect(target, TEXTS, tokens=2048, context=256, minimum=500, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def path(made: Statistics, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("statistics") / "stats.safetensors"
    files.save(made, path)
    return path


@pytest.fixture
def no_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model must not run."""
    for name in ("record_residual", "record_readers", "record_outputs"):
        monkeypatch.setattr(kept_vocabulary, name, lambda *_, **__: pytest.fail("the model ran"))


def test_counts_and_centres_are_those_of_the_text(target: Target, path: Path) -> None:
    found = open_vocabulary(path, target)
    counted = learn(target, TEXTS, tokens=TOKENS, minimum=500)
    assert vocabulary.serialise(replace(found, residual=None)) == vocabulary.serialise(counted)


def test_the_residual_is_that_of_the_model(target: Target, made: Statistics) -> None:
    """Recorded on the same tokens by the pass of its own."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("TOKENS", 2048), ("CONTEXT", 256)):
            patch.setattr(f"monoglot.editor.statistics.record_residual.{name}", value)
        own = record_residual(target, TEXTS, device="cpu", dtype="float32")
    found = from_statistics(made, target).residual
    assert found is not None
    np.testing.assert_allclose(found.centres, own.centres, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.rms, own.rms, rtol=1e-5)


def test_readers_fire_on_their_language(target: Target, made: Statistics) -> None:
    """What a reader is said to do is what its rows do on the sample, computed plainly."""
    found = from_statistics(made, target, [LAYER]).readers
    assert sorted(found) == [("en", LAYER), ("fr", LAYER), ("zh", LAYER)]
    assert made.inputs is not None
    sample, act = made.inputs.sample, functions(target)[LAYER]
    for (language, _), reader in found.items():
        for code in made.languages:
            rows = np.flatnonzero((np.array(sample.languages) == code) & (sample.positions > 0))
            x = np.asarray(sample.x[LAYER], np.float64)[rows[len(rows) // 2 :]]
            answers = act(x @ reader.gate) * (x @ reader.up) / act(np.array([reader.level]))
            assert reader.fires[code] == pytest.approx((answers > 0.5).mean(), abs=5e-3)
        assert reader.fires[language] > 2 * max(share for code, share in reader.fires.items() if code != language)


def test_a_reader_is_fitted_to_the_mean_of_its_language(target: Target, made: Statistics) -> None:
    assert made.sums is not None
    swapped = {"en": made.sums["fr"], "fr": made.sums["en"], "zh": made.sums["zh"]}
    wrong = {k: replace(made.sums[k], read=own.read) for k, own in swapped.items()}
    right = from_statistics(made, target, [LAYER]).readers["zh", LAYER]
    assert np.array_equal(
        from_statistics(replace(made, sums=wrong), target, [LAYER]).readers["zh", LAYER].gate, right.gate
    )
    own = from_statistics(made, target, [LAYER]).readers["fr", LAYER]
    try:
        other = from_statistics(replace(made, sums=wrong), target, [LAYER]).readers["fr", LAYER]
    except StatisticsError:
        return
    assert not np.array_equal(other.gate, own.gate)


@pytest.mark.usefixtures("no_pass")
def test_what_statistics_have_is_not_recorded_again(target: Target, path: Path, tmp_path: Path) -> None:
    counted = count_or_reuse(target, TEXTS, tmp_path / vocabulary.FILE, 500)
    found = complete(
        counted, target, TEXTS, Detection(), parts=[RESIDUAL], layers=[LAYER], statistics=path, listener=NOBODY
    )
    wanted = from_statistics(files.load(path), target, [LAYER])
    assert vocabulary.serialise(found) == vocabulary.serialise(wanted)
    vocabulary.save(found, tmp_path / vocabulary.FILE)
    again = count_or_reuse(target, TEXTS, tmp_path / vocabulary.FILE, 500)
    assert vocabulary.serialise(again) == vocabulary.serialise(found)
    assert complete(again, target, TEXTS, Detection(), parts=[RESIDUAL], layers=[LAYER]) is again


WHAT = ("of other text", "lean", "of another model", "damaged", "absent", "without inputs")


@pytest.mark.parametrize("what", WHAT)
def test_what_statistics_lack_is_recorded(
    what: str, target: Target, made: Statistics, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "stats.safetensors"
    sums: dict[str, Any] = dict(made.sums or {})
    changed = {
        "of other text": replace(made, sums={**sums, "en": replace(sums["en"], counted=sums["fr"].counted)}),
        "lean": replace(made, sums=None),
        "of another model": replace(made, model=replace(made.model, fingerprint="f" * 64)),
        "without inputs": replace(made, inputs=None),
    }
    if what == "damaged":
        other.write_bytes(path.read_bytes()[:-1])
    elif what != "absent":
        files.save(changed[what], other)
    ran: list[str] = []
    readers = from_statistics(made, target, [LAYER])

    def run(name: str, gives: Any) -> Any:
        def record(*_: Any, **__: Any) -> Any:
            ran.append(name)
            return gives

        return record

    monkeypatch.setattr(kept_vocabulary, "record_residual", run("residual", readers.residual))
    monkeypatch.setattr(kept_vocabulary, "record_readers", run("readers", readers.readers))
    monkeypatch.setattr(kept_vocabulary, "record_outputs", run("outputs", None))
    counted = count_or_reuse(target, TEXTS, tmp_path / "none", 500)
    found = complete(counted, target, TEXTS, Detection(), parts=[OUTPUTS, RESIDUAL], layers=[LAYER], statistics=other)
    assert ran == (["outputs", "readers"] if what == "without inputs" else ["outputs", "residual", "readers"])
    assert sorted(found.readers) == sorted(readers.readers)


def test_a_kept_vocabulary_of_other_counts_is_not_taken(target: Target, path: Path, tmp_path: Path) -> None:
    vocabulary.save(open_vocabulary(path, target), tmp_path / "kept")
    fewer = {code: text for code, text in TEXTS.items() if code != "zh"}
    assert count_or_reuse(target, fewer, tmp_path / "kept", 500).residual is None
    (tmp_path / "kept").write_bytes(b"no vocabulary")
    assert count_or_reuse(target, TEXTS, tmp_path / "kept", 500).residual is None


def test_a_vocabulary_file_is_opened_as_before(target: Target, path: Path, tmp_path: Path) -> None:
    found = open_vocabulary(path, target)
    vocabulary.save(found, tmp_path / "vocabulary")
    assert vocabulary.serialise(open_vocabulary(tmp_path / "vocabulary", target)) == vocabulary.serialise(found)
    with pytest.raises(StatisticsError, match="there is no"):
        open_vocabulary(tmp_path / "none", target)


def test_it_says_what_statistics_lack(target: Target, made: Statistics, tmp_path: Path) -> None:
    path = tmp_path / "stats.safetensors"

    def refused(changed: Statistics, layers: list[int], words: str) -> None:
        files.save(changed, path)
        with pytest.raises(StatisticsError, match=words):
            open_vocabulary(path, target, layers)

    refused(replace(made, sums=None), [], "holds no counts of tokens: it was made with `lean`.*`monoglot tokens`")
    refused(replace(made, inputs=None), [LAYER], "readers are fitted to.*--calibrate")
    refused(made, [99], "there is no layer 99: the last one is")
    refused(replace(made, model=replace(made.model, fingerprint="f" * 64)), [], "is of another model")
    assert made.inputs is not None
    few = replace(made.inputs.sample, positions=made.inputs.sample.positions * 0)
    refused(replace(made, inputs=replace(made.inputs, sample=few)), [LAYER], "too little held-out text in en")
    with pytest.raises(StatisticsError, match="no counts of tokens"):
        from_statistics(replace(made, sums=None), target)


def test_a_mixture_has_no_sizes(tmp_path: Path, corpus: Path) -> None:
    tiny.need_5("experts run in one module from transformers 5 on")
    folder = tiny.save_model(tmp_path / "model", "mixtral")
    target = open_target(resolve(str(folder)))
    made = detect(target, open_corpus([str(corpus)]), tokens=150, context=48, minimum=50, device="cpu")
    assert made.sums and all(own.output_size is None and own.read is None for own in made.sums.values())
    assert from_statistics(made, target).residual is None
