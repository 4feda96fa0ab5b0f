"""The paper's masks: what is no such file is named for what it is, and nothing of it is run."""

from pathlib import Path

import numpy as np
import pytest
import torch

from monoglot.editor.errors import CheckpointError, NeuronsError
from monoglot.editor.neurons.mask import read_mask, write_mask


def test_written_and_read(tmp_path: Path) -> None:
    torch.save(
        [[torch.tensor([5, 1]), torch.tensor([])], [torch.tensor([0, 1]), torch.tensor([3])]], tmp_path / "a.pth"
    )
    found = read_mask(tmp_path / "a.pth", ["en", "zh"])
    assert [layer.tolist() for layer in found.indices["en"]] == [[1, 5], []]
    write_mask(found, tmp_path / "b.pth")
    again = read_mask(tmp_path / "b.pth", ["en", "zh"])
    assert all(
        np.array_equal(a, b) for k in ("en", "zh") for a, b in zip(found.indices[k], again.indices[k], strict=True)
    )


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.int64])
def test_zeros_and_ones_are_no_indices(tmp_path: Path, dtype: torch.dtype) -> None:
    layer = torch.zeros(768, dtype=dtype)
    layer[[3, 9]] = 1
    torch.save([[layer] * 2] * 2, tmp_path / "a.pth")
    with pytest.raises(NeuronsError, match=r"en is a mask of zeros and ones, not a list of indices.*nonzero"):
        read_mask(tmp_path / "a.pth", ["en", "zh"])


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"), (b"<!DOCTYPE html>", "web page")],
)
def test_what_it_is_not(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_mask(tmp_path / "a.pth", ["en"])


def test_dangerous_advice_is_not_passed_on(tmp_path: Path) -> None:
    for content in (b"x", b"\x80\x02cos\nsystem\nq\x00X\x04\x00\x00\x00trueq\x01\x85q\x02Rq\x03."):
        (tmp_path / "a.pth").write_bytes(content)
        with pytest.raises(NeuronsError, match="nothing else is loaded") as caught:
            read_mask(tmp_path / "a.pth", ["en"])
        assert "weights_only" not in str(caught.value)
