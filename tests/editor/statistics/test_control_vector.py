"""Control vectors of other programs: read, refused with the reason, written, and baked as their programs would add them."""

import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support.redirected import opened
from support.tiny import HIDDEN, LAYERS, TOLERANCE, live, logits, save_model

from monoglot import bake
from monoglot.editor.edits.request import Request, with_vector
from monoglot.editor.errors import MonoglotError, RecipeError, StatisticsError
from monoglot.editor.files.gguf import read_gguf
from monoglot.editor.live.load import load_model
from monoglot.editor.statistics.control_vector import read, write

VECTORS = {
    layer: np.random.default_rng(layer).normal(0, 0.3, HIDDEN).astype(np.float32).astype(float) for layer in (1, 2)
}


def plain_gguf(path: Path, vectors: dict[int, Any]) -> Path:
    """A file as repeng writes it, by its specification and not by our writer."""

    def text(word: str) -> bytes:
        return struct.pack("<Q", len(word)) + word.encode()

    head = b"GGUF" + struct.pack("<IQQ", 3, len(vectors), 3)
    head += text("general.architecture") + struct.pack("<I", 8) + text("controlvector")
    head += text("controlvector.model_hint") + struct.pack("<I", 8) + text("llama")
    head += text("controlvector.layer_count") + struct.pack("<Ii", 5, len(vectors))
    body = b""
    for layer, vector in vectors.items():
        head += text(f"direction.{layer}") + struct.pack("<IQIQ", 1, len(vector), 0, len(body))
        body += vector.astype("<f4").tobytes()
        body += bytes(-len(body) % 32)
    path.write_bytes(head + bytes(-len(head) % 32) + body)
    return path


def tensors() -> dict[int, torch.Tensor]:
    return {layer: torch.from_numpy(vector).float() for layer, vector in VECTORS.items()}


def saved(path: Path, form: str) -> Path:
    named = {f"direction.{layer}": tensor for layer, tensor in tensors().items()}
    rows = torch.stack([torch.zeros(HIDDEN), *tensors().values()])
    if form == "gguf":
        return plain_gguf(path.with_suffix(".gguf"), VECTORS)
    if form == "names":
        save_file(named, path.with_suffix(".safetensors"))
        return path.with_suffix(".safetensors")
    if form == "rows":
        save_file({"vectors": rows}, path.with_suffix(".safetensors"))
        return path.with_suffix(".safetensors")
    held: Any = {"dict": tensors(), "list": list(rows), "states": torch.cat([torch.ones(1, HIDDEN), rows])}[form]
    torch.save(held, path.with_suffix(".pt"))
    return path.with_suffix(".pt")


@pytest.mark.parametrize("form", ["gguf", "names", "rows", "dict", "list", "states"])
def test_read(form: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "v", form)
    found = read(path, LAYERS)
    assert {layer: vector.tolist() for layer, vector in found.items()} == {k: v.tolist() for k, v in VECTORS.items()}
    assert list(read(path, LAYERS, 2)) == [2]


@pytest.mark.parametrize("ending", ["gguf", "safetensors"])
def test_written_and_read_again(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"v.{ending}"
    write(path, VECTORS, "llama")
    found = read(path, LAYERS)
    assert {layer: vector.tolist() for layer, vector in found.items()} == {k: v.tolist() for k, v in VECTORS.items()}
    if ending == "gguf":
        keys = read_gguf(path).keys
        assert (keys["general.architecture"], keys["controlvector.layer_count"]) == ("controlvector", 3)
        with pytest.raises(StatisticsError, match="no vector after layer 0"):
            write(tmp_path / "w.gguf", {0: VECTORS[1]}, "llama")


def hooked(folder: Path, strength: float) -> torch.Tensor:
    """What repeng and llama.cpp do: after layer N, plus the strength times direction N."""
    base = live(folder)
    handles = [
        base.transformer.h[layer].register_forward_hook(
            lambda m, i, out, v=vector: (
                (out[0] + strength * v, *out[1:]) if isinstance(out, tuple) else out + strength * v
            )
        )
        for layer, vector in tensors().items()
    ]
    try:
        return logits(base)
    finally:
        for handle in handles:
            handle.remove()


def test_baked_as_it_is_meant(tmp_path: Path, monoglot: Callable[..., tuple[int, str, str]]) -> None:
    """By the command, into a model with biases: nothing else is needed."""
    folder, out = save_model(tmp_path / "model", "gpt2", tokenizer=False), tmp_path / "out"
    path = plain_gguf(tmp_path / "polite.gguf", VECTORS)
    words = f"--activate polite --op vector --vector {path} --strength 1.5 --export-vector {tmp_path}/w.gguf -o {out}"
    code, _, err = monoglot("bake", folder, *words.split())
    assert code == 0, err
    wanted = hooked(folder, 1.5)
    assert (logits(load_model(out, device="cpu")) - wanted).abs().max() <= TOLERANCE * wanted.abs().max()
    assert np.allclose(read(tmp_path / "w.gguf", LAYERS)[2], 1.5 * VECTORS[2], atol=1e-6)
    bake(folder, None, tmp_path / "again", activate="polite", op="vector", vector=path)
    wanted = hooked(folder, 1.0)
    assert (logits(load_model(tmp_path / "again", device="cpu")) - wanted).abs().max() <= TOLERANCE * wanted.abs().max()


class Evil:
    def __reduce__(self) -> Any:
        return (print, ("it ran",))


def test_what_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the reason, and without running anything."""
    one = torch.ones(HIDDEN)

    def file(name: str, held: Any) -> Path:
        path = tmp_path / name
        if name.endswith(".safetensors"):
            save_file(held, path)
        elif isinstance(held, bytes):
            path.write_bytes(held)
        else:
            torch.save(held, path)
        return path

    for path, reason in (
        (file("a.pt", Evil()), "nothing else is loaded"),
        (file("b.pt", pickle.dumps(Evil())), "nothing else is loaded"),
        (file("c.pt", {"1": one, "x": [1]}), "something else than tensors"),
        (file("d.pt", {"1": one.int()}), "no vector of floats"),
        (file("e.pt", torch.ones(7, HIDDEN)), "nor one for each of 3 layers"),
        (file("f.pt", one), "does not say after which layer"),
        (file("g.pt", {"1": one * float("nan")}), "NaN or infinity"),
        (file("h.pt", {"9": one}), "the model's last one is 2"),
        (file("i.pt", {"1": one, "2": one[1:]}), "different lengths"),
        (file("j.pt", {"1": one * 0}), "nothing but zeros"),
        (file("k.safetensors", {"a": one, "b": one + 1}), "does not end in the number of a layer"),
        (file("l.safetensors.txt", b"x"), "is to end in"),
        (tmp_path / "absent.gguf", "no file"),
    ):
        with pytest.raises(MonoglotError, match=reason):
            read(path, LAYERS)
    whole = plain_gguf(tmp_path / "m.gguf", VECTORS).read_bytes()
    (tmp_path / "model.gguf").write_bytes(whole.replace(b"controlvector", b"controlpotato", 1))
    with pytest.raises(StatisticsError, match="is a model"):
        read(tmp_path / "model.gguf", LAYERS)
    (tmp_path / "cut.gguf").write_bytes(whole[:-40])
    with pytest.raises(MonoglotError, match="truncated"):
        read(tmp_path / "cut.gguf", LAYERS)
    with pytest.raises(StatisticsError, match="it has some after 1, 2"):
        read(tmp_path / "m.gguf", LAYERS, 0)
    assert "it ran" not in capsys.readouterr().out


def test_of_another_model_or_another_op(tmp_path: Path) -> None:
    target = opened(save_model(tmp_path / "model", "gpt2", tokenizer=False))
    path = plain_gguf(tmp_path / "v.gguf", {1: np.ones(HIDDEN + 2)})
    with pytest.raises(RecipeError, match="They are of another model"):
        with_vector(Request(activate=("x",), op="vector"), path, target)
    for request in (Request(activate=("x",)), Request(activate=("x", "y"), op="vector")):
        with pytest.raises(RecipeError, match="goes by the one name in `activate`"):
            with_vector(request, path, target)
    with pytest.raises(RecipeError, match="not at the embedding"):
        with_vector(Request(activate=("x",), op="vector", point="embedding"), path, target)
