"""An interrupted run goes on where it stopped, and gives what one that wasn't interrupted does."""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file, save_file
from support.tables import INFO, TEXTS, Tables, packed, plain, run, same

from monoglot.editor.statistics import recorder as record
from monoglot.editor.statistics import resume
from monoglot.editor.statistics.recorder import collect
from monoglot.editor.statistics.statistics import Statistics


def interrupted(path: Path, after: int, model: Tables | None = None, **options: Any) -> None:
    """A run that is stopped at its `after`-th batch."""
    batches = itertools.count(1)

    def stop(*_: Any) -> None:
        if next(batches) == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(model, resume_file=path, progress=stop, **options)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Progress is saved after every batch."""
    monkeypatch.setattr(resume, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(resume.Resume, "cost", property(lambda self: 0.0, lambda self, value: None), raising=False)


@pytest.mark.slow
@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("after", [2, 5, 8, 9, 10, 13])
@pytest.mark.parametrize("batch_size", [0, 2])
@pytest.mark.parametrize(
    "more", [{}, {"quantiles": True, "calibrate": True}], ids=["plain", "with histograms and inputs"]
)
def test_an_interrupted_run_goes_on(
    tmp_path: Path, after: int, batch_size: int, more: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With sums that do not add up exactly by themselves: a third has no end in binary."""
    monkeypatch.setitem(record.BATCH_TOKENS, "cpu", 16)
    path = tmp_path / "progress"
    whole = Tables(denominator=3)
    expected = run(whole, batch_size=batch_size, settings={"context": 8}, **more)
    interrupted(path, after, Tables(denominator=3), batch_size=batch_size, settings={"context": 8}, **more)
    assert path.is_file()
    model, seen = Tables(denominator=3), []
    found = run(
        model, batch_size=batch_size, settings={"context": 8}, resume_file=path,
        progress=lambda language, done, of: seen.append((language, done, of)), **more,
    )  # fmt: skip
    assert same(found, expected)
    # the batch it was stopped at is the first one that was not saved, and so the first to be done again
    assert model.batches == whole.batches[after - 1 :]
    assert seen[-1] == ("en", 166, 166)
    assert not path.exists()


@pytest.mark.usefixtures("often")
def test_a_run_can_be_interrupted_again_and_again(tmp_path: Path) -> None:
    path = tmp_path / "progress"
    for _ in range(6):
        interrupted(path, 3, batch_size=2)
    model = Tables()
    assert same(run(model, resume_file=path, batch_size=2), plain(model, TEXTS))
    assert len(model.batches) == 14 - 6 * 2


@pytest.mark.usefixtures("often")
def test_a_halved_batch_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(record.BATCH_TOKENS, "cpu", 64)
    path, narrow = tmp_path / "progress", Tables()
    narrow.most = 20
    interrupted(path, 3, narrow)
    model = Tables()
    assert same(run(model, resume_file=path), plain(model, TEXTS))
    assert max(shape[0] for shape in model.batches) == 2


OTHER: dict[str, Callable[[Tables], Statistics]] = {
    "settings": lambda model: run(model, resume_file=Path("p"), settings={"context": 9}),
    "batch size": lambda model: run(model, resume_file=Path("p"), batch_size=1),
    "text": lambda model: run(model, {**TEXTS, "zh": packed("zh", 61, seed=1)}, resume_file=Path("p")),
    "histograms": lambda model: run(model, resume_file=Path("p"), quantiles=True),
    "inputs": lambda model: run(model, resume_file=Path("p"), calibrate=True),
    "languages": lambda model: run(model, {"fr": TEXTS["fr"]}, resume_file=Path("p")),
    "model": lambda model: collect(
        model, list(model.acts), replace(INFO, fingerprint="0" * 64), TEXTS, resume_file=Path("p")
    ),
}


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("what", OTHER)
def test_progress_of_something_else_is_ignored(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(record.BATCH_TOKENS, "cpu", 16)
    interrupted(Path("p"), 4)
    model = Tables()
    found = OTHER[what](model)
    assert sum(math.prod(shape) - shape[0] for shape in model.batches) == sum(found.tokens.values())


def damage(path: Path, how: str) -> None:
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:-50])
    elif how == "not safetensors":
        path.write_bytes(b"no")
    elif how == "half of it":
        from safetensors import safe_open

        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata()
        arrays = load_file(path)
        del arrays["zh.total"]
        save_file(arrays, path, metadata)
    else:
        save_file(load_file(path), path)


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("how", ["truncated", "not safetensors", "half of it", "no metadata"])
def test_damaged_progress_is_ignored(how: str, tmp_path: Path) -> None:
    """Above all nothing of it may be counted."""
    path = tmp_path / "p"
    interrupted(path, 12, batch_size=2)
    damage(path, how)
    model = Tables()
    assert same(run(model, resume_file=path, batch_size=2), plain(model, TEXTS))
    assert len(model.batches) == 14


@pytest.mark.usefixtures("often")
def test_progress_that_cannot_be_kept_does_not_end_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert same(run(resume_file=tmp_path / "file" / "p"), run())


def test_saving_takes_a_small_part_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most every 20 s; less often when it is slow. Time is counted here in batches: one second each, two a save."""
    now, saves = itertools.count(), []
    monkeypatch.setattr(resume.time, "monotonic", lambda: float(next(now)))
    monkeypatch.setattr(resume, "replace_file", lambda path, data: saves.append(len(data)))
    run(texts={"fr": packed("fr", 700)}, resume_file=tmp_path / "p", batch_size=1)
    assert 3 <= len(saves) <= 5  # 100 batches


def test_ctrl_c_in_the_forward_pass_loses_nothing(
    model: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without waiting for the next regular save: what was done before the interrupted batch is on disk."""
    from monoglot.editor.models.source import resolve
    from monoglot.editor.models.target import open_target
    from monoglot.editor.statistics.detect import detect
    from monoglot.editor.text.corpus import open_corpus

    target, texts = open_target(resolve(str(model))), open_corpus([str(corpus)])
    passes = 0
    forward = record._forward

    def interrupted(*arguments: Any) -> None:
        nonlocal passes
        passes += 1
        if passes == 4:
            raise KeyboardInterrupt
        forward(*arguments)

    def run() -> Statistics:
        return detect(
            target, texts, tokens=1500, context=64, minimum=1, batch_size=4, device="cpu", resume_file=tmp_path / "half"
        )

    monkeypatch.setattr(record, "_forward", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run()
    resumed = run()
    done = passes - 1  # of both runs, without the interrupted pass
    passes = 4  # past the interruption: only counting from here
    whole = run()
    assert done == passes - 4, "a batch was run twice"
    for language in texts:
        assert (resumed.active_count[language] == whole.active_count[language]).all()
        assert (resumed.total[language] == whole.total[language]).all()
