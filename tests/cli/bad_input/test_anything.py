"""Any change to neurons and recipes gives a checkpoint or one message."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support import tiny
from support.bad_input import RECIPE

from monoglot.editor.edits import bake as baking
from monoglot.editor.edits import recipe as recipe_module
from monoglot.editor.errors import MonoglotError
from monoglot.editor.files.checkpoint import read_checkpoint
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import open_target
from monoglot.editor.neurons import neurons as neurons_module

BOUNDED = settings(deadline=None, derandomize=True, database=None, max_examples=120,
                   suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])  # fmt: skip
VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.sampled_from(["fr", "zh"])
JSON = st.recursive(
    VALUES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["neurons", "mean", "name", "fr", "width"]) | st.text(max_size=3), inner, max_size=3
        )
    ),
    max_leaves=6,
)
LAYER = st.fixed_dictionaries({"neurons": st.lists(st.integers(-1, 25), max_size=4) | JSON}, optional={"mean": JSON})
LANGUAGE = st.lists(LAYER | JSON, min_size=3, max_size=3) | JSON
PARTS = st.fixed_dictionaries(
    {},
    optional={
        "format": st.just(1) | JSON,
        "model": JSON,
        "languages": st.dictionaries(st.sampled_from(["fr", "en", "zh"]), LANGUAGE, max_size=3) | JSON,
        "more": JSON,
    },
)


@contextmanager
def scratch() -> Iterator[Path]:
    """A new folder for each example; nothing is synced, which is all that the disk would slow down."""
    with tempfile.TemporaryDirectory() as folder, mock.patch("os.fsync"):
        yield Path(folder)


def bake_or_refuse(model: Path, neurons: Path, recipe: Path, folder: Path) -> None:
    """As `monoglot bake MODEL NEURONS --recipe RECIPE -o OUT` does; a failure leaves nothing in the folder."""
    before = sorted(folder.iterdir())
    try:
        asked = recipe_module.load(recipe)
        baking.bake(open_target(resolve(str(model))), neurons_module.load(neurons), asked, folder / "out")
    except MonoglotError as error:
        assert str(error)
        assert sorted(folder.iterdir()) == before
    else:
        assert neurons_module.load(folder / "out" / "neurons.json").layers == tiny.LAYERS
        read_checkpoint(folder / "out")


@pytest.mark.slow
@BOUNDED
@given(PARTS | JSON, st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=3))
@example({}, [(10**6, 0)])
def test_any_neurons_file(model: Path, neurons_file: Path, changes: Any, flips: list[tuple[int, int]]) -> None:
    with scratch() as folder:
        data = json.loads(neurons_file.read_text())
        text = bytearray(json.dumps({**data, **changes} if isinstance(changes, dict) else changes).encode())
        for at, byte in flips:
            text[at % len(text)] = byte
        (folder / "neurons.json").write_bytes(text)
        (folder / "recipe.yaml").write_text(RECIPE)
        bake_or_refuse(model, folder / "neurons.json", folder / "recipe.yaml", folder)


EDITS = st.lists(
    st.fixed_dictionaries(
        {"language": st.sampled_from(["fr", "zh", "en"]) | JSON, "op": st.sampled_from(recipe_module.OPS) | JSON},
        optional={
            "strength": st.floats() | JSON,
            "value": st.sampled_from(["mean", "p90", "mean@zh", "mean@"]) | JSON,
            "more": JSON,
        },
    )
    | JSON,
    max_size=3,
)
RECIPES = st.fixed_dictionaries(
    {},
    optional={
        "format": st.just(1) | JSON,
        "base": st.fixed_dictionaries({}, optional=dict.fromkeys(["model", "revision", "fingerprint", "more"], JSON))
        | JSON,
        "edits": EDITS | JSON,
        "shared": st.sampled_from(["keep", "edit"]) | JSON,
        "carrier": st.sampled_from(recipe_module.CARRIERS) | JSON,
        "tolerance": st.floats() | JSON,
        "above_tolerance": st.sampled_from(recipe_module.ABOVE_TOLERANCE) | JSON,
        "neurons": JSON,
        "more": JSON,
    },
)


@BOUNDED
@given(RECIPES | JSON, st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=3))
@example({}, [])
def test_any_recipe(model: Path, neurons_file: Path, changes: Any, flips: list[tuple[int, int]]) -> None:
    import yaml

    with scratch() as folder:
        data = yaml.safe_load(RECIPE)
        text = bytearray(yaml.safe_dump({**data, **changes} if isinstance(changes, dict) else changes).encode())
        for at, byte in flips:
            text[at % len(text)] = byte
        (folder / "recipe.yaml").write_bytes(text)
        bake_or_refuse(model, neurons_file, folder / "recipe.yaml", folder)
