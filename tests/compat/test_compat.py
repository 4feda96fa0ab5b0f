"""Other runtimes compute what transformers 5 does, once config.json speaks their spelling, and something else before.

Each runs in an interpreter of its own, which an environment variable names; `make compat` sets them up. The reference is
the installed transformers, and the checkpoints are the same but for config.json.
"""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from support import spellings, tiny

from monoglot.editor.live.load import load_model

pytestmark = pytest.mark.usefixtures("one_thread")
HERE = Path(__file__).parent
NOISE, WRONG = 3e-5, 3e-3  # of the largest logit


class Outcome(NamedTuple):
    """Logits of a checkpoint with the older spelling and without; empty where it was not loaded. `said` is stderr."""

    reference: Any
    compat: Any
    plain: Any
    said: str


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    spellings.need_new_spelling()
    made = {}
    for name, case in spellings.CASES.items():
        folder = tmp_path_factory.mktemp("compat")
        base = tiny.save_model(folder / "base", case.model_type, tokenizer=False, **case.config)
        made[name] = (
            spellings.baked(base, folder / "compat", compat=True), spellings.baked(base, folder / "plain", compat=False)
        )  # fmt: skip
    return made


def run(variable: str, script: str, names: list[str], checkpoints: Any, scratch: Path) -> Mapping[str, Outcome]:
    """All of `names` in one process."""
    python = os.environ.get(variable)
    if not python:
        pytest.skip(f"{variable} names no interpreter: see `make compat`")
    folders = [str(folder) for name in names for folder in checkpoints[name]]
    command = [python, str(HERE / script), json.dumps(tiny.IDS.tolist()), str(scratch / "logits.npz"), *folders]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert not done.returncode, done.stderr[-2000:]
    with np.load(scratch / "logits.npz") as file:
        arrays = [file[f"arr_{number}"] for number in range(len(folders))]
    return {
        name: Outcome(
            tiny.logits(load_model(checkpoints[name][1], device="cpu")).numpy(),
            *arrays[2 * at : 2 * at + 2],
            done.stderr,
        )
        for at, name in enumerate(names)
    }


@pytest.fixture(scope="session")
def in_transformers4(checkpoints: Any, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Outcome]:
    scratch = tmp_path_factory.mktemp("transformers4")
    return run("TRANSFORMERS4_PYTHON", "transformers_logits.py", spellings.TRANSFORMERS4, checkpoints, scratch)


@pytest.fixture(scope="session")
def in_mlx(checkpoints: Any, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Outcome]:
    return run("MLX_PYTHON", "mlx_logits.py", spellings.MLX, checkpoints, tmp_path_factory.mktemp("mlx"))


def assert_only_compat_is_right(found: Outcome) -> None:
    reference, largest = found.reference, float(np.abs(found.reference).max())
    assert found.compat.shape == reference.shape, found.said
    assert float(np.abs(found.compat - reference).max()) <= NOISE * largest
    assert not found.plain.size or float(np.abs(found.plain - reference).max()) > WRONG * largest


@pytest.mark.slow
@pytest.mark.parametrize("name", spellings.TRANSFORMERS4)
def test_transformers_4(in_transformers4: Mapping[str, Outcome], name: str) -> None:
    assert_only_compat_is_right(in_transformers4[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", spellings.MLX)
def test_mlx(in_mlx: Mapping[str, Outcome], name: str) -> None:
    assert_only_compat_is_right(in_mlx[name])
