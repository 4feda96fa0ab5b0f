"""What needs a model whole is refused where it would run layer by layer, before anything is loaded."""

from pathlib import Path

import pytest

from monoglot.editor.edits.request import AUTO, Request
from monoglot.editor.errors import ModelError
from monoglot.editor.live import memory
from monoglot.editor.live.streaming import Streaming
from monoglot.editor.measures.whole import check_whole
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import Target, open_target
from monoglot.editor.statistics.detection import Detection
from monoglot.editor.statistics.record_outputs import record_outputs
from monoglot.editor.statistics.record_readers import record_readers
from monoglot.editor.text.corpus import open_corpus

STRENGTH = Request(activate=("fr",), op="add", strength=AUTO)
OPEN = Request(activate=("fr",), choose=True).searching()
LAYERS = Detection(device="cpu", streaming=Streaming("layers"))


@pytest.fixture(scope="module")
def target(model: Path) -> Target:
    return open_target(resolve(str(model)))


@pytest.mark.parametrize(("request_", "models"), [(STRENGTH, "2 models of"), (OPEN, "the model of")])
def test_a_search_by_answers(target: Target, request_: Request, models: str) -> None:
    said = f"needs {models} {target.source.name} whole in memory, and layer by layer is asked for. Give `strength`"
    with pytest.raises(ModelError, match=said):
        check_whole(target, request_, LAYERS)
    check_whole(target, request_, Detection(device="cpu"))
    check_whole(target, request_, Detection(device="cpu", streaming=Streaming("off")))


def test_too_little_memory_for_two_models_and_enough_for_one(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    size = memory.size_of(target.source.folder, device="cpu")
    monkeypatch.setattr(memory, "available", lambda: int(1.5 * size))
    check_whole(target, OPEN, Detection(device="cpu"))
    with pytest.raises(ModelError, match=r"there is not enough memory for that.* or set `stream` to off"):
        check_whole(target, STRENGTH, Detection(device="cpu"))


@pytest.mark.parametrize(
    "asked", [Request(deactivate=("fr",), choose=True).searching(), Request(activate=("fr",), op="add", strength="2")]
)
def test_what_reads_text_alone_or_searches_for_nothing_runs_layer_by_layer(target: Target, asked: Request) -> None:
    check_whole(target, asked, LAYERS)


def test_what_is_fitted_to_text(target: Target, corpus: Path) -> None:
    texts, streaming = open_corpus([str(corpus)]), Streaming("layers")
    with pytest.raises(ModelError, match=r"one table.* second one, with `untie`, or set `stream` to off"):
        record_outputs(target, texts, device="cpu", streaming=streaming)
    with pytest.raises(ModelError, match=r"Make statistics with `monoglot detect --calibrate`"):
        record_readers(target, texts, [0], device="cpu", streaming=streaming)
