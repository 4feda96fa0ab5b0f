"""Layer by layer a model gives the statistics that it gives whole, for every family; interrupted it goes on at its layer."""

import errno
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import packed_models, tiny
from support.packed_writers import FORMATS

from monoglot.editor.errors import CheckpointError, ModelError, OutputError, StatisticsError
from monoglot.editor.files.lock import holding
from monoglot.editor.live import states
from monoglot.editor.live.skeleton import Skeleton
from monoglot.editor.live.streaming import Streaming
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import open_target
from monoglot.editor.statistics import by_layer, recorder
from monoglot.editor.statistics.detect import detect
from monoglot.editor.statistics.statistics import Statistics
from monoglot.editor.text.corpus import open_corpus

FOUR = {"num_hidden_layers": 4, "layer_types": ["sliding_attention", "full_attention"] * 2, "num_kv_shared_layers": 2}
SHARING = {  # the last two layers read the keys and values of earlier ones
    "gemma3n+shared": ("gemma3n_text", {**FOUR, "activation_sparsity_pattern": [0.0] * 4}),
    "gemma4+shared": ("gemma4_text", FOUR),
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (case.model_type, case.config) for name, case in tiny.CASES.items()},
    **{name: (name, {}) for name in (*tiny.MIXTURES, *tiny.WRAPPERS)},
    **{f"{name}+experts": (name, config) for name, config in tiny.MIXED.items()},
    **SHARING,
}


def run(folder: Path, corpus: Path, stream: str, streaming: dict[str, Any] | None = None, **options: Any) -> Statistics:
    asked = {"tokens": 150, "context": 48, "minimum": 50, "device": "cpu", **options}
    return detect(
        open_target(resolve(str(folder))),
        open_corpus([str(corpus)]),
        streaming=Streaming(stream, **(streaming or {})),
        **asked,
    )


def assert_same(found: Statistics, expected: Statistics, *, rtol: float = 1e-12, atol: float = 1e-6) -> None:
    """Counts are equal, sums to the noise of float64."""
    assert (found.tokens, found.texts, found.model, found.settings) == (
        expected.tokens, expected.texts, expected.model, expected.settings,
    )  # fmt: skip
    for kind in ("active_count", "histogram", "routed"):
        own, wanted = getattr(found, kind), getattr(expected, kind)
        assert (own is None) == (wanted is None), kind
        for language in wanted or ():
            assert np.array_equal(own[language], wanted[language]), (kind, language)
    for kind in ("total", "per_text"):
        own, wanted = getattr(found, kind), getattr(expected, kind)
        assert (own is None) == (wanted is None), kind
        for language in wanted or ():
            np.testing.assert_allclose(own[language], wanted[language], rtol=rtol, atol=atol)
            assert np.abs(own[language]).sum() > 0
    assert (found.sums is None) == (expected.sums is None)
    for language, own in (found.sums or {}).items():
        wanted = (expected.sums or {})[language]
        assert (own.positions, sorted(own.counted)) == (wanted.positions, sorted(wanted.counted))
        for kind in ("residual", "output_size", "read"):
            summed, other = getattr(own, kind), getattr(wanted, kind)
            assert (summed is None) == (other is None), kind
            assert summed is None or np.allclose(summed, other, rtol=1e-12, atol=1e-6), kind
    assert (found.inputs is None) == (expected.inputs is None)
    if found.inputs and expected.inputs:
        for kind in ("second_moment", "first_moment", "first_token_total"):
            np.testing.assert_allclose(
                getattr(found.inputs, kind), getattr(expected.inputs, kind), rtol=1e-12, atol=1e-6
            )
        assert np.array_equal(np.array(found.inputs.sample.x), np.array(expected.inputs.sample.x))
        assert (found.inputs.tokens, found.inputs.contexts) == (expected.inputs.tokens, expected.inputs.contexts)
        for kind in ("kinds", "parts"):
            assert getattr(found.inputs.sample, kind) == getattr(expected.inputs.sample, kind)
        assert np.array_equal(found.inputs.sample.positions, expected.inputs.sample.positions)


@pytest.mark.parametrize("name", MODELS)
def test_every_family_gives_what_it_gives_whole(name: str, tmp_path: Path, corpus: Path) -> None:
    model_type, config = MODELS[name]
    tiny.need(model_type)
    if model_type in ("bamba", "granitemoehybrid"):
        tiny.need_5("transformers 4 builds their state spaces only with the whole model")
    folder = tiny.save_model(tmp_path / "model", model_type, **config)
    mixture = open_target(resolve(str(folder))).feed_forward.mixture
    if mixture:
        tiny.need_5("experts run in one module from transformers 5 on")
    asked = {"quantiles": True, "per_text": True, "calibrate": not mixture}
    whole, streamed = (run(folder, corpus, stream, **asked) for stream in ("off", "layers"))
    assert_same(streamed, whole)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five layers in several shards."""
    return tiny.save_model(tmp_path_factory.mktemp("five") / "model", shards=True, num_hidden_layers=5)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="Windows")
def test_moments_lie_on_disk_where_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = by_layer.on_disk(np.zeros((3, 4, 4)), tmp_path / "moments")
    assert isinstance(found, np.memmap) and found.shape == (3, 4, 4) and not found.any()
    found[1] += 2.5
    assert found.sum() == 40.0 and not list(tmp_path.iterdir())

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    zeros = np.zeros(3)
    assert by_layer.on_disk(zeros, tmp_path / "moments") is zeros and not list(tmp_path.iterdir())


class Loads:
    """Which layers were read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        load = Skeleton.load

        def spied(skeleton: Skeleton, module: Any) -> None:
            self.names.append(skeleton._names[module].rpartition(".")[2])
            load(skeleton, module)

        monkeypatch.setattr(Skeleton, "load", spied)


def stopped_after(batches: int) -> Callable[..., None]:
    counted = itertools.count(1)

    def stop(*_: Any) -> None:
        if next(counted) == batches:
            raise KeyboardInterrupt

    return stop


def left(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("where", ["in memory", "on disk"])
@pytest.mark.parametrize("batches", [1, 6, 8, 14, 29, 30])  # six a layer
def test_an_interrupted_run_goes_on_at_its_layer(
    where: str, batches: int, model: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(states, "KEEP_SECONDS", 0.0)
    monkeypatch.setattr(states.States, "_cost", property(lambda self: 0.0, lambda self, value: None), raising=False)
    if where == "on disk":
        monkeypatch.setattr(by_layer, "plan_layers", lambda *_: (True, 0))
    asked = {"quantiles": True, "calibrate": True, "resume_file": tmp_path / ".stats.progress"}
    whole = run(model, corpus, "off", quantiles=True, calibrate=True)
    with pytest.raises(KeyboardInterrupt):
        run(model, corpus, "layers", progress=stopped_after(batches), **asked)
    assert batches <= 6 or left(tmp_path) != []  # one layer at least was whole
    loads = Loads(monkeypatch)
    found = run(model, corpus, "layers", **asked)
    assert loads.names == [str(layer) for layer in range((batches - 1) // 6, 5)]
    assert_same(found, whole)
    assert left(tmp_path) == []


def test_what_a_run_of_other_settings_left_is_not_taken_up(
    model: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_layer, "plan_layers", lambda *_: (True, 0))
    resume_file = tmp_path / ".stats.progress"
    with pytest.raises(KeyboardInterrupt):
        run(model, corpus, "layers", progress=stopped_after(14), resume_file=resume_file)
    loads = Loads(monkeypatch)
    assert_same(
        run(model, corpus, "layers", resume_file=resume_file, tokens=120), run(model, corpus, "off", tokens=120)
    )
    assert loads.names[:5] == list("01234")
    assert left(tmp_path) == []


@pytest.mark.parametrize("damage", ["at.json", "states-0", "states-1", "layer-00001.safetensors"])
def test_left_overs_that_are_damaged_are_not_taken_up(
    damage: str, model: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_layer, "plan_layers", lambda *_: (True, 0))
    resume_file = tmp_path / ".stats.progress"
    with pytest.raises(KeyboardInterrupt):
        run(model, corpus, "layers", progress=stopped_after(14), resume_file=resume_file)
    (folder,) = tmp_path.iterdir()
    if damage.startswith("layer"):
        (folder / damage).unlink()
    else:
        (folder / damage).write_bytes((folder / damage).read_bytes()[:-5])
    assert_same(run(model, corpus, "layers", resume_file=resume_file), run(model, corpus, "off"))
    assert left(tmp_path) == []


def test_a_place_where_another_run_works_is_refused(model: Path, corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(model, corpus, "layers", progress=stopped_after(1), resume_file=tmp_path / ".stats.progress")
    folder = tmp_path / ".stats.layers"
    folder.mkdir(exist_ok=True)
    done, ready = threading.Event(), threading.Event()

    def work() -> None:
        with holding(folder):
            ready.set()
            done.wait()

    other = threading.Thread(target=work)
    other.start()
    ready.wait()
    try:
        with pytest.raises(OutputError, match=r"another run is writing .*\.stats\.layers now"):
            run(model, corpus, "layers", resume_file=tmp_path / ".stats.progress")
    finally:
        done.set()
        other.join()


def test_a_disk_that_is_too_small_is_found_after_the_first_batch(
    model: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_layer, "plan_layers", lambda *_: (True, 0))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(states.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(OutputError, match=r"take .* of scratch space, and .* has 1,000 bytes left.*`scratch`"):
        run(model, corpus, "layers", resume_file=tmp_path / ".stats.progress")
    assert left(tmp_path) == []


def test_a_disk_that_fills_up_ends_the_run_and_keeps_what_is_whole(
    model: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device /dev/full refuses every write."""
    monkeypatch.setattr(by_layer, "plan_layers", lambda *_: (True, 0))
    place = states.States._states
    full = lambda self, slot: Path("/dev/full") if self.done == 2 and slot != self._slot else place(self, slot)  # noqa: E731
    with monkeypatch.context() as patch:
        patch.setattr(states.States, "_states", full)
        with pytest.raises(
            OutputError, match=r"cannot be written to .*No space left on device.*goes on with the layer"
        ):
            run(model, corpus, "layers", resume_file=tmp_path / ".stats.progress")
    loads = Loads(monkeypatch)
    found = run(model, corpus, "layers", resume_file=tmp_path / ".stats.progress")
    assert loads.names == list("234")
    assert_same(found, run(model, corpus, "off"))


@pytest.mark.parametrize("name", ["layer-00001.safetensors", "at.json"])
@pytest.mark.parametrize("memory", [0, 10**9])
def test_a_disk_that_is_full_for_what_a_layer_gave(
    name: str, memory: int, model: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where states lie in memory the run goes on without keeping; where they lie on the disk, earlier layers stay."""
    monkeypatch.setattr(by_layer, "plan_layers", lambda *_: (True, memory))
    monkeypatch.setattr(states, "KEEP_SECONDS", 0)
    put, resume_file, found = states.put_file, tmp_path / ".stats.progress", None

    def full(path: Path, data: Any) -> None:
        if path.name == name and (path.parent / "layer-00000.safetensors").is_file():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        put(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(states, "put_file", full)
        if memory:
            found = run(model, corpus, "layers", resume_file=resume_file)
        else:
            with pytest.raises(OutputError, match=r"No space left on device.*goes on with the layer") as raised:
                run(model, corpus, "layers", resume_file=resume_file)
            assert "Nothing was kept" not in str(raised.value)
    if not memory:
        loads = Loads(monkeypatch)
        found = run(model, corpus, "layers", resume_file=resume_file)
        assert loads.names == list("1234" if name.startswith("layer") else "01234")
    assert found is not None
    assert_same(found, run(model, corpus, "off"))
    assert left(tmp_path) == []


def test_without_a_place_too_many_states_are_refused(
    model: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_layer, "plan_layers", lambda *_: (True, 0))
    with pytest.raises(OutputError, match=r"Name a folder for them with `scratch`, or give more `memory`"):
        run(model, corpus, "layers")


def test_no_room_for_one_layer(model: Path, corpus: Path) -> None:
    with pytest.raises(ModelError, match=r"no room for one layer: it takes .* Give more `memory`"):
        run(model, corpus, "layers", {"memory": 1000})


@pytest.mark.parametrize(("memory", "streamed"), [(1000, True), (10**12, False)])
def test_auto_runs_layer_by_layer_what_would_not_fit(
    memory: int, streamed: bool, model: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_layer, "plan_layers", lambda *_: (False, 10**9))
    loads = Loads(monkeypatch)
    assert_same(run(model, corpus, "auto", {"memory": memory}), run(model, corpus, "off"))
    assert (loads.names == list("01234")) == streamed
    with pytest.raises(ModelError, match=r"'never' is no way to run a model. Set `stream` to one of auto, layers, off"):
        run(model, corpus, "never")


def test_a_missing_weight_of_a_late_layer_is_found_before_any_is_read(
    model: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import load_file, save_file

    folder = tiny.save_model(tmp_path / "model", num_hidden_layers=5)
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.4.self_attn.q_proj.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    loads = Loads(monkeypatch)
    with pytest.raises(
        ModelError, match=r"lacks the weights of model\.layers\.4\.self_attn\.q_proj\.weight \(1 missing"
    ):
        run(folder, corpus, "layers")
    assert loads.names == []


def test_a_shard_truncated_at_a_late_layer_is_found_before_any_is_read(
    model: Path, corpus: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(model, tmp_path / "model"))
    shard = max(folder.glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"is truncated"):
        run(folder, corpus, "layers")


def test_a_file_that_changes_under_the_run_is_refused(model: Path, corpus: Path, tmp_path: Path) -> None:
    """A shard of the last layer is cut while the first one runs, in a way that no reading ahead has seen."""
    folder = Path(shutil.copytree(model, tmp_path / "model"))
    index = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    shard = folder / index["model.layers.4.mlp.down_proj.weight"]
    cut = iter([lambda: shard.write_bytes(shard.read_bytes()[:200])])
    with pytest.raises(CheckpointError, match=r"shorter|cannot be read"):
        run(folder, corpus, "layers", progress=lambda *_: next(cut, lambda: None)())


def test_nan_is_told_with_its_layer(corpus: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tiny.save_model(tmp_path / "model", num_hidden_layers=5)
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.3.mlp.gate_proj.weight"].fill_(float("nan"))
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(StatisticsError, match=r"layer 3 puts out NaN"):
        run(folder, corpus, "layers")


def test_weights_are_there_only_in_their_turn(model: Path, corpus: Path) -> None:
    """Of a layer that does not run, nor comes next, nothing is in memory."""
    seen = []
    load = Skeleton.load

    def spied(skeleton: Skeleton, module: Any) -> None:
        there = [
            number
            for number, layer in enumerate(skeleton.trunk.layers)
            if any(parameter.device.type != "meta" for parameter in layer.parameters())
        ]
        seen.append(there)
        load(skeleton, module)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Skeleton, "load", spied)
        run(model, corpus, "layers")
    assert all(len(there) <= 1 for there in seen)
    assert len(seen) == 5


def test_rows_of_a_large_table_are_read_when_they_are_looked_up(
    corpus: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from monoglot.editor.live import skeleton as skeletons

    monkeypatch.setattr(skeletons, "LARGE_TABLE", 100)
    made: list[skeletons.Rows] = []
    begin = skeletons.Rows.__init__

    def spied(self: Any, *given: Any) -> None:
        made.append(self)
        begin(self, *given)

    monkeypatch.setattr(skeletons.Rows, "__init__", spied)
    assert_same(run(model, corpus, "layers"), run(model, corpus, "off"))
    (rows,) = made
    assert 0 < rows.there.sum() < len(rows.there)


def test_a_multimodal_model_reads_no_vision_tower(corpus: Path, tmp_path: Path) -> None:
    folder = tiny.save_model(tmp_path / "model", "gemma3")
    made: list[Skeleton] = []
    with pytest.MonkeyPatch.context() as patch:
        begin = Skeleton.__init__
        patch.setattr(Skeleton, "__init__", lambda self, *a, **k: (made.append(self), begin(self, *a, **k))[1])
        run(folder, corpus, "layers")
    vision = [p for name, p in made[0].model.named_parameters() if "vision" in name]
    assert vision
    assert all(parameter.device.type == "meta" for parameter in vision)


def test_batches_are_those_of_the_whole_model(model: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(recorder.BATCH_TOKENS, "cpu", 96)
    for batch_size in (0, 1, 3):
        expected = run(model, corpus, "off", batch_size=batch_size)
        assert_same(run(model, corpus, "layers", batch_size=batch_size), expected)


@pytest.mark.parametrize("name", ["gptq", "fp8"])
def test_a_quantised_model_is_read_as_the_numbers_that_it_stands_for(name: str, corpus: Path, tmp_path: Path) -> None:
    form = next(one for one in FORMATS if name in one)
    folder, _ = packed_models.save(tmp_path, form)
    tiny.save_tokenizer(folder)
    assert_same(run(folder, corpus, "layers"), run(folder, corpus, "off"))


def command(model: Path, corpus: Path, output: Path, *more: str, before: str = "") -> subprocess.Popen[str]:
    arguments = ["detect", str(model), "--corpus", str(corpus), "--tokens", "150", "--context", "48", "--minimum", "50",
                 "--device", "cpu", "--quantiles", "--per-text", "--calibrate", "-o", str(output), *more]  # fmt: skip
    imports = (
        "from monoglot.editor.live import states\nfrom monoglot.editor.statistics import by_layer\nimport os, signal"
    )
    code = f"{imports}\n{before}\nfrom monoglot.cli.main import main\nmain()"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stderr=subprocess.PIPE, text=True, env=environment
    )


KILLED = """
by_layer.plan_layers = lambda *_: (True, 0)
turn = states.States.turn
def killed(self):
    turn(self)
    if self.done == 3:
        os.kill(os.getpid(), signal.SIGKILL)
states.States.turn = killed
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_and_writes_the_same_file(model: Path, corpus: Path, tmp_path: Path) -> None:
    whole = command(model, corpus, tmp_path / "whole.safetensors", "--stream", "off")
    assert whole.wait() == 0, whole.communicate()[1]
    out = tmp_path / "out"
    out.mkdir()
    killed = command(model, corpus, out / "s.safetensors", "--stream", "layers", before=KILLED)
    assert killed.wait() == -signal.SIGKILL
    assert (out / ".s.safetensors.layers" / "layer-00002.safetensors").is_file()
    again = command(model, corpus, out / "s.safetensors", "--stream", "layers")
    assert again.wait() == 0, again.communicate()[1]
    assert (out / "s.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    assert left(out) == ["s.safetensors"]
    for process in (whole, killed, again):
        process.communicate()


@pytest.mark.parametrize(
    ("size", "number"), [("8GB", 8 * 10**9), ("1.5 GiB", 3 * 2**29), ("500M", 5 * 10**8), ("7", 7)]
)
def test_sizes(size: str, number: int) -> None:
    from monoglot.cli.options import _size

    assert _size(None, None, size) == number  # type: ignore[arg-type]


@pytest.mark.parametrize("size", ["lots", "-3GB", "0", "3EB", "GB", ""])
def test_what_is_no_size_is_refused(size: str, monoglot: Callable[..., tuple[int, str, str]]) -> None:
    code, _, err = monoglot("detect", "model", "--corpus", "texts", "-o", "s", "--memory", size)
    assert code == 2
    assert "a size, as 8GB or 500MB" in err
