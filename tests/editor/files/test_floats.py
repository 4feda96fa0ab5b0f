"""Rounding to the stored dtypes, against torch and against exact rational arithmetic."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from monoglot.editor.files import floats

TORCH = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
# significand bits, exponent of the smallest normal number, largest finite number
FORMAT = {"F32": (24, -126, 2.0**128), "F16": (11, -14, 2.0**16), "BF16": (8, -126, 2.0**128)}
DTYPES = tuple(FORMAT)


def bits(stored: floats.Array) -> np.ndarray:
    return stored.view(f"u{stored.itemsize}")


def by_torch(values: np.ndarray, dtype: str) -> np.ndarray:
    """Rounded by torch from float32, which `values` must be exactly: torch goes from float64 to bfloat16 in two steps."""
    narrow = torch.from_numpy(values.astype(np.float32)).to(TORCH[dtype])
    return narrow.view(torch.int32 if dtype == "F32" else torch.int16).numpy().view("u4" if dtype == "F32" else "u2")


def exactly(value: float, dtype: str) -> float:
    """Nearest, ties to even, by integers alone."""
    significand, smallest, limit = FORMAT[dtype]
    if value == 0:
        return value
    exact = abs(Fraction(value))
    exponent = smallest
    while Fraction(2) ** (exponent + 1) <= exact:
        exponent += 1
    while Fraction(2) ** exponent > exact and exponent > smallest:
        exponent -= 1
    unit = Fraction(2) ** (exponent - significand + 1)
    rounded = float(round(exact / unit) * unit)  # Python rounds a Fraction half to even
    return float(np.copysign(np.inf if rounded >= limit else rounded, value))


def float32_values(rng: np.random.Generator) -> np.ndarray:
    """Every kind: any bit pattern that is finite, weights as they are, subnormals, ties, the largest, both zeros."""
    patterns = rng.integers(0, 2**32, 20_000, dtype=np.uint32)
    ties = patterns[:5000] & np.uint32(0xFFFF0000) | np.uint32(0x8000)
    subnormal = rng.integers(0, 2**23, 5000, dtype=np.uint32)
    values = np.concatenate([patterns, ties, subnormal, subnormal | np.uint32(2**31)]).view(np.float32)
    weights = rng.normal(0, 0.02, 10_000).astype(np.float32)
    special = np.array([0.0, -0.0, 65504, 65519.99, 65520, -65520, 2.0**-24, 2.0**-25, 3.0e-8, 3.3895e38, 3.4e38], "f4")
    every = np.concatenate([values, weights, special])
    return every[np.isfinite(every)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_rounds_float32_as_torch_does(dtype: str) -> None:
    values = float32_values(np.random.default_rng(0))
    assert np.array_equal(bits(floats.from_float64(values.astype(np.float64), dtype)), by_torch(values, dtype))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
def test_rounds_float64_once(dtype: str) -> None:
    """Products have more bits than float32: in two steps a number just beside a tie would go the wrong way."""
    rng = np.random.default_rng(1)
    significand, smallest, limit = FORMAT[dtype]
    scale = 2.0 ** rng.integers(smallest - significand - 1, int(np.log2(limit)) + 1, 600)
    values = rng.choice([-1.0, 1.0], 600) * rng.uniform(1, 2, 600) * scale
    tie = (rng.integers(2 ** (significand - 1), 2**significand, 300) + 0.5) * 2.0**-significand
    beside = np.concatenate([tie, np.nextafter(tie, 0), np.nextafter(tie, 1), -np.nextafter(tie, 1)])
    tiny = beside * 2.0 ** (smallest - 2)  # ties of subnormals lie elsewhere
    every = np.concatenate([values, beside, tiny, [limit * (1 - 2.0 ** -(significand + 1)), limit, 0.0, -0.0, 5e-324]])
    got = floats.to_float64(floats.from_float64(every, dtype), dtype)
    wanted = np.array([exactly(float(value), dtype) for value in every])
    assert np.array_equal(bits(got), bits(wanted))


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_every_stored_number_survives(dtype: str) -> None:
    patterns = np.arange(2**16, dtype=np.uint16)
    values = torch.from_numpy(patterns.view(np.int16)).view(TORCH[dtype]).to(torch.float64).numpy()
    patterns, values = patterns[np.isfinite(values)], values[np.isfinite(values)]
    assert np.array_equal(floats.to_float64(patterns.view(floats.STORED[dtype]), dtype), values)
    assert np.array_equal(bits(floats.from_float64(values, dtype)), patterns)


@pytest.mark.parametrize("dtype", DTYPES)
def test_finds_every_number_that_is_not_finite(dtype: str) -> None:
    good = floats.from_float64(np.array([0.0, -0.0, 1.0, -2.0, 2.0**-140]), dtype)
    assert floats.all_finite(good, dtype)
    assert floats.all_finite(good[:0], dtype)
    for bad in (np.inf, -np.inf, np.nan, -np.nan):
        assert not floats.all_finite(np.append(good, floats.from_float64(np.array([bad]), dtype)), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_overflow_is_infinite_and_seen(dtype: str) -> None:
    stored = floats.from_float64(np.array([1e300, -1e300, np.finfo(np.float64).max]), dtype)
    assert np.array_equal(floats.to_float64(stored, dtype), [np.inf, -np.inf, np.inf])
    assert not floats.all_finite(stored[:1], dtype)
