"""The dtype that answers come fastest in: by timing where nothing was asked for, on a CPU, of bfloat16 weights alone."""

from pathlib import Path

import pytest

from monoglot.editor.live import fast


@pytest.mark.parametrize(
    ("stored", "asked", "bfloat16", "expected"),
    [
        ("bfloat16", "auto", 1.0, "bfloat16"),
        ("bfloat16", "auto", 2.0, "float32"),  # a little faster is not worth the rounding
        ("bfloat16", "auto", 9.0, "float32"),
        ("bfloat16", "float32", 1.0, "float32"),
        ("float32", "auto", 1.0, "float32"),
        ("float16", "auto", 1.0, "float32"),
    ],
)
def test_the_faster_one(
    stored: str, asked: str, bfloat16: float, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text(f'{{"model_type": "llama", "dtype": "{stored}"}}')
    monkeypatch.setattr(fast, "seconds", lambda dtype: bfloat16 if dtype == "bfloat16" else 2.5)
    assert fast.fastest(tmp_path, "cpu", asked) == expected


def test_a_product_takes_time() -> None:
    assert fast.seconds("float32") > 0
