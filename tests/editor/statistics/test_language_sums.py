"""One pass records what later steps need: counts of tokens and sums of the residual stream, as plain sums give them."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from monoglot.editor.errors import MonoglotWarning, StatisticsError
from monoglot.editor.live.streaming import Streaming
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import open_target
from monoglot.editor.statistics import detect as detection
from monoglot.editor.statistics import statistics as files
from monoglot.editor.statistics.detect import detect
from monoglot.editor.statistics.language_sums import LanguageSums, TokenCounts, add
from monoglot.editor.statistics.statistics import Statistics
from monoglot.editor.text.corpus import Text, open_corpus
from monoglot.editor.text.tokens import read_texts

CONTEXT = 48


def run(folder: Path, texts: Mapping[str, Text], **more: Any) -> Statistics:
    asked = {"tokens": 150, "context": CONTEXT, "minimum": 50, "device": "cpu", **more}
    return detect(open_target(resolve(str(folder))), texts, **asked)


@pytest.fixture(scope="module")
def texts(corpus: Path) -> dict[str, Text]:
    return dict(open_corpus([str(corpus)]))


@pytest.fixture(scope="module")
def made(model: Path, texts: dict[str, Text]) -> Statistics:
    return run(model, texts)


def by_hand(folder: Path, ids: Any) -> tuple[Any, Any]:
    """Each hidden state that transformers returns of one context but the last, and the sizes of what the networks put out."""
    live = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    after: list[Any] = []
    sizes: list[Any] = []
    for layer in live.model.layers:
        layer.register_forward_hook(
            lambda _, inputs, output: after.append(output[0] if isinstance(output, tuple) else output)
        )
        layer.mlp.register_forward_hook(lambda _, inputs, output: sizes.append(output))
    with torch.inference_mode():
        first = live(torch.from_numpy(ids)[None], output_hidden_states=True).hidden_states[0]
    states = torch.stack([first[0], *(each.reshape(first.shape)[0] for each in after)]).double().numpy()
    written = torch.stack([each.reshape(first.shape)[0] for each in sizes]).double().numpy()
    return states, np.sqrt((written**2).mean(-1))


def test_sums_are_those_of_the_hidden_states(model: Path, texts: dict[str, Text], made: Statistics) -> None:
    packed = read_texts(open_target(resolve(str(model))), texts, tokens=150, context=CONTEXT)
    assert made.sums and made.inputs
    for language, own in made.sums.items():
        residual, sizes, positions = 0.0, 0.0, 0
        for context in packed[language].contexts:
            states, size = by_hand(model, context)
            residual = residual + states[:, 1:].sum(1)
            sizes = sizes + size[:, 1:].sum(1)
            positions += len(context) - 1
        assert own.positions == positions
        np.testing.assert_allclose(own.residual, residual, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(own.output_size, sizes, rtol=1e-4)
        np.testing.assert_allclose(own.means, residual / positions, rtol=1e-4, atol=1e-5)
    read = sum(own.read for own in made.sums.values() if own.read is not None)
    np.testing.assert_allclose(read, made.inputs.first_moment, rtol=1e-12)


def test_tokens_are_counted_in_more_text_than_the_model_runs_over(
    model: Path, texts: dict[str, Text], made: Statistics
) -> None:
    packed = read_texts(open_target(resolve(str(model))), texts, tokens=detection.COUNTED, context=CONTEXT)
    for language, own in (made.sums or {}).items():
        counted: dict[int, int] = {}
        for context in packed[language].contexts:
            for token in context[packed[language].skip :].tolist():
                counted[token] = counted.get(token, 0) + 1
        assert dict(zip(own.counts.ids.tolist(), own.counts.counts.tolist(), strict=True)) == counted
        assert own.counts.sha256 == packed[language].sha256 not in made.texts[language]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detection, "COUNTED", 100)
        fewer = run(model, texts)
    assert fewer.sums and all(own.counts.counts.sum() == 150 for own in fewer.sums.values())


def test_lean_statistics_have_what_they_had(model: Path, texts: dict[str, Text], made: Statistics) -> None:
    lean = run(model, texts, lean=True)
    assert lean.sums is None
    assert lean.inputs is None
    for language in made.languages:
        assert np.array_equal(lean.active_count[language], made.active_count[language])
        assert np.array_equal(lean.total[language], made.total[language])
    asked = run(model, texts, lean=True, calibrate=True)
    assert asked.sums is None
    assert asked.inputs is not None


def test_moments_that_are_large_are_recorded_only_when_asked_for(
    model: Path, texts: dict[str, Text], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detection, "MOST_MOMENTS", 1)
    found = run(model, texts)
    assert found.inputs is None
    assert found.sums and all(own.read is None for own in found.sums.values())
    asked = run(model, texts, calibrate=True)
    assert asked.inputs is not None
    assert asked.sums and all(own.read is not None for own in asked.sums.values())


def assert_equal(one: LanguageSums, other: LanguageSums) -> None:
    assert (one.positions, sorted(one.counted)) == (other.positions, sorted(other.counted))
    assert np.array_equal(one.counts.ids, other.counts.ids)
    assert np.array_equal(one.counts.counts, other.counts.counts)
    for kind in ("residual", "output_size", "read"):
        own, wanted = getattr(one, kind), getattr(other, kind)
        assert (own is None) == (wanted is None), kind
        assert own is None or np.array_equal(own, wanted), kind


def test_they_come_back_from_the_file(made: Statistics, tmp_path: Path) -> None:
    files.save(made, tmp_path / "stats.safetensors")
    back = files.load(tmp_path / "stats.safetensors")
    assert back.sums and made.sums
    for language in made.languages:
        assert_equal(back.sums[language], made.sums[language])
    files.save(back, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "stats.safetensors").read_bytes()


def recounted(own: LanguageSums, **changed: Any) -> LanguageSums:
    return replace(own, counted={own.counts.sha256: replace(own.counts, **changed)})


DAMAGE = {
    "tokens out of order": lambda own: recounted(own, ids=own.counts.ids[::-1].copy()),
    "no counts": lambda own: recounted(own, counts=own.counts.counts * 0),
    "more ids than counts": lambda own: recounted(own, counts=own.counts.counts[1:]),
    "nan": lambda own: replace(own, residual=own.residual * np.nan),
    "no positions": lambda own: replace(own, positions=0),
    "another shape": lambda own: replace(own, output_size=own.output_size[1:]),
    "another dtype": lambda own: replace(own, residual=own.residual.astype(np.float32)),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_refused(damage: str, made: Statistics, tmp_path: Path) -> None:
    broken = {language: DAMAGE[damage](own) for language, own in (made.sums or {}).items()}
    files.save(replace(made, sums=broken), tmp_path / "stats.safetensors")
    with pytest.raises(StatisticsError, match="damaged"):
        files.load(tmp_path / "stats.safetensors")


def test_parts_add_up_in_any_order(model: Path, texts: dict[str, Text], made: Statistics) -> None:
    parts = [run(model, {language: text}) for language, text in texts.items()]
    for order in (parts, parts[::-1]):
        whole = files.merge(order)
        assert whole.sums and made.sums
        for language in made.languages:
            assert_equal(whole.sums[language], made.sums[language])


def hand_made(text: str, ids: list[int], *, sizes: bool = True) -> LanguageSums:
    ones = np.ones((3, 2))
    counts = TokenCounts(np.array(ids), np.arange(1, len(ids) + 1), text)
    return LanguageSums({text: counts}, 10, ones, ones[:2, 0] if sizes else None, ones[:2])


def test_sums_of_one_language_add_up() -> None:
    whole = add([hand_made("b", [2, 5, 9]), hand_made("a", [1, 5])])
    assert (whole.counts.ids.tolist(), whole.counts.counts.tolist()) == ([1, 2, 5, 9], [1, 1, 4, 3])
    assert (sorted(whole.counted), whole.positions) == (["a", "b"], 20)
    assert whole.residual.tolist() == [[2, 2]] * 3
    assert whole.output_size is not None
    assert whole.output_size.tolist() == [2, 2]
    assert add([hand_made("a", [1]), hand_made("b", [1], sizes=False)]).output_size is None
    twice = add([hand_made("a", [1, 4]), hand_made("a", [1, 4])])  # a part of it and more of it: counted once
    assert (twice.counts.counts.tolist(), twice.positions) == ([1, 2], 20)


def test_a_lean_part_leaves_them_out(made: Statistics) -> None:
    lean = replace(made, sums=None, inputs=None, texts=dict.fromkeys(made.languages, ("other",)))
    with pytest.warns(MonoglotWarning) as said:
        whole = files.merge([made, lean])
    assert whole.sums is None
    assert any("without --lean" in str(one.message) for one in said)


@pytest.mark.parametrize("batches", [1, 4, 7])
@pytest.mark.parametrize("stream", ["off", "layers"])
def test_an_interrupted_run_gives_the_same(
    batches: int, stream: str, model: Path, texts: dict[str, Text], made: Statistics, tmp_path: Path
) -> None:
    done = 0

    def stop(*_: Any) -> None:
        nonlocal done
        done += 1
        if done == batches:
            raise KeyboardInterrupt

    resume = {"resume_file": tmp_path / ".stats.progress", "batch_size": 1, "streaming": Streaming(stream)}
    whole = run(model, texts, **{**resume, "resume_file": None})
    with pytest.raises(KeyboardInterrupt):
        run(model, texts, progress=stop, **resume)
    found = run(model, texts, **resume)
    assert found.sums and whole.sums
    for language in made.languages:
        assert_equal(found.sums[language], whole.sums[language])


def test_nan_in_the_residual_is_refused(texts: dict[str, Text], tmp_path: Path) -> None:
    from monoglot.editor.statistics.residual_sums import ResidualSums

    module = torch.nn.Identity()
    sums = np.zeros((2, 2))
    recorder = ResidualSums({0: module}, {}, sums, None)
    with recorder.attached():
        recorder.start(1, 3, 0)
        module(torch.ones(1, 3, 2))
        recorder.commit()
        assert sums.tolist() == [[2, 2], [2, 2]]  # the first position is left out
        recorder.start(1, 3, 1)
        module(torch.full((1, 3, 2), torch.nan))
        with pytest.raises(StatisticsError, match="the embedding puts out NaN"):
            recorder.commit()
    assert sums.tolist() == [[2, 2], [2, 2]]
