"""What `import monoglot` offers: every name resolves and is typed, importing is cheap, and the verbs do what commands do."""

import ast
import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import monoglot as face
from monoglot import verbs
from monoglot.editor.edits import manifest
from monoglot.editor.edits.request import Request
from monoglot.editor.measures.options import Options

Run = Callable[..., tuple[int, str, str]]
SMALL = {"rate": 0.2, "quantile": 0.8, "context": 64, "verify_tokens": 200, "tokens": 2500}
HEAVY = ("torch", "transformers", "click", "numpy", "safetensors", "yaml", "rich", "huggingface_hub")


def test_all_names_resolve_and_nothing_is_missing() -> None:
    assert len(set(face.__all__)) == len(face.__all__)
    for name in face.__all__:
        assert getattr(face, name) is not None
        assert name in dir(face)
    written = {
        node.name
        for node in ast.parse(Path(verbs.__file__).read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    }
    assert written == {
        name for name in face.__all__ if getattr(getattr(face, name), "__module__", "") == verbs.__name__
    }
    with pytest.raises(AttributeError, match="has no attribute 'absent'"):
        _ = face.absent  # type: ignore[attr-defined]


def test_a_type_checker_sees_the_same_names() -> None:
    """Those that are imported for it are those that are resolved when the program runs."""
    tree = ast.parse(Path(str(face.__file__)).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    modules = {
        alias.name: f"monoglot.{node.module}"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert sorted([*modules, "__version__"]) == sorted(face.__all__)
    for name, module in modules.items():
        assert getattr(face, name).__module__ == module, name


def test_keywords_are_the_fields_that_they_set() -> None:
    assert set(verbs.EditOptions.__annotations__) == {field.name for field in dataclasses.fields(Request)}
    assert {*verbs.MeasureOptions.__annotations__, "dtype"} == {field.name for field in dataclasses.fields(Options)}


def test_importing_it_imports_nothing_heavy() -> None:
    code = f"import sys, monoglot; print(monoglot.__version__, *[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [face.__version__]


def test_it_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "monoglot", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["monoglot,", "version", face.__version__]


@pytest.fixture(scope="module")
def exported(model: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> face.Exported:
    out = tmp_path_factory.mktemp("face") / "out"
    return face.export(model, corpus=[str(corpus)], deactivate=["zh"], output=out, **SMALL)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_export_writes_what_the_command_writes(
    exported: face.Exported, monoglot: Run, model: Path, corpus: Path, tmp_path: Path
) -> None:
    assert exported.passed and exported.baked and (exported.work / "stats.safetensors").is_file()
    options = [text for name, value in SMALL.items() for text in (f"--{name.replace('_', '-')}", value)]
    code, _, err = monoglot("export", model, "--corpus", corpus, "--deactivate", "zh", "-o", tmp_path / "out", *options)
    assert code == 0, err
    assert files(tmp_path / "out") == files(exported.folder)


def test_the_steps_one_by_one(exported: face.Exported, model: Path, corpus: Path, tmp_path: Path) -> None:
    """They give the same checkpoint as `export`; verify and evaluate keep what they find of it; rebuild makes it again."""
    seen: list[tuple[str, int, int]] = []
    statistics = face.detect(
        model, str(corpus), context=64, tokens=2500, output=tmp_path / "s.safetensors",
        progress=lambda *update: seen.append(update),
    )  # fmt: skip
    assert seen and seen[-1][1] == seen[-1][2]
    assert face.find(tmp_path / "s.safetensors", rate=0.2, quantile=0.8).pairs("zh") == (
        face.find(statistics, rate=0.2, quantile=0.8, output=tmp_path / "n.json").pairs("zh")
    )
    out = tmp_path / "out"
    baked = face.bake(model, tmp_path / "n.json", out, deactivate="zh")
    weights = (exported.folder / "model.safetensors").read_bytes()
    assert baked.folder == out and (out / "model.safetensors").read_bytes() == weights
    assert (out / "neurons.json").read_bytes() == (exported.folder / "neurons.json").read_bytes()

    told: list[str] = []
    titles: set[str] = set()
    proof = face.verify(
        out, base=model, corpus=[str(corpus)], tokens=200, context=64, told=told.append,
        progress=lambda what, done, whole: titles.add(what.split()[0]),
    )  # fmt: skip
    assert proof.passed and proof.certificate.logits and proof.certificate.logits.passed
    assert titles == {"verify", "compare"} and told == []
    damaged = tmp_path / "damaged"
    face.bake(model, exported.neurons, damaged, recipe=out / "recipe.yaml")
    data = bytearray((damaged / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (damaged / "model.safetensors").write_bytes(data)
    assert not face.verify(damaged, base=model, fast=True).passed

    measured = face.evaluate(out, base=model, measures=["profile", "overlap"])
    assert set(measured) == {"profile", "overlap"}
    assert "profile" in face.inspect(out)["evaluation"]
    again = face.rebuild(out, tmp_path / "again", base=model)
    assert not again.differ and "model.safetensors" in again.same
    difference = face.diff(model, out)
    assert difference.any and face.diff(out, tmp_path / "again").weights is False


def test_what_is_wrong_is_said_without_options_of_a_command_line(model: Path, corpus: Path, tmp_path: Path) -> None:
    for edits, message in (
        ({"hold": "en"}, "the one language of `activate`"),
        ({"activate": ["fr"], "strength": 1, "layers": (1, 9)}, "`layers` goes up to 9; the last one is"),
        ({"activate": ["fr", "zh"], "strength": "auto"}, "Give `strength` a number"),
        ({}, "edits nothing"),
    ):
        with pytest.raises(face.MonoglotError, match=message) as caught:
            face.export(model, corpus=[str(corpus)], output=tmp_path / "out", **edits)  # type: ignore[arg-type]
        assert "--" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_tokens_are_redirected(model: Path, corpus: Path, tmp_path: Path) -> None:
    """In one go, and from its counts without neurons: the same weights."""
    done = face.export(
        model,
        corpus=[str(corpus)],
        redirect={"zh": "en"},
        output=tmp_path / "out",
        **{**SMALL, "minimum": 100, "fast": True},
    )
    assert done.passed and done.statistics is None
    made = face.bake(
        model, None, tmp_path / "again", redirect={"zh": "en"}, vocabulary=done.work / "vocabulary.monoglot"
    )
    assert made.manifest.files["model.safetensors"] == manifest.read(done.folder).files["model.safetensors"]
