"""The place that most of these tests break something in."""

from pathlib import Path

import pytest
from support.bad_input import Place


@pytest.fixture
def place(tmp_path: Path, model: Path, neurons_file: Path) -> Place:
    return Place(tmp_path, model, neurons_file)
