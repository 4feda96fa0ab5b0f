"""The tiny model that the proofs are about."""

from pathlib import Path

import pytest

from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import Target, open_target


@pytest.fixture
def target(model: Path) -> Target:
    return open_target(resolve(str(model)))
