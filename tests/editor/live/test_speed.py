"""The measured second: numbers of the right size, and of the shapes that were asked for."""

import time

import pytest
import torch

from monoglot.editor.live import speed
from monoglot.editor.live.speed import measure_speed


def test_it_counts_what_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products that take a known time each."""
    monkeypatch.setattr(speed, "SECONDS", 0.2)
    seen: list[tuple[int, ...]] = []

    def product(rows: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
        seen.append((*rows.shape, *matrix.shape))
        time.sleep(0.01)
        return rows

    monkeypatch.setattr(torch.Tensor, "__matmul__", product)
    found = measure_speed(6, 10, device="cpu", dtype="bfloat16")
    assert set(seen) == {(speed.ROWS, 6, 6, 10), (1, 6, 6, 10)}
    assert found.operations / (2 * speed.ROWS * 60) == pytest.approx(found.weights / (60 * 2), rel=0.5)
    assert 5 < found.weights / (60 * 2) <= 100


def test_for_real() -> None:
    found = measure_speed(64, 128, device="cpu")
    assert found.operations > 1e6 and found.weights > 1e5
