"""Ramps of even steps in OKLab, a perceptual colour space, and what can be read on them."""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .canvas import Look

if TYPE_CHECKING:
    from matplotlib.colors import Colormap

Float64 = npt.NDArray[np.float64]

# Ottosson's OKLab: linear sRGB → cone responses, cube root → lightness and two opponent colours
CONES = np.array([[0.4122214708, 0.5363325363, 0.0514459929],
                  [0.2119034982, 0.6806995451, 0.1073969566],
                  [0.0883024619, 0.2817188376, 0.6299787005]])  # fmt: skip
OPPONENT = np.array([[0.2104542553, 0.7936177850, -0.0040720468],
                     [1.9779984951, -2.4285922050, 0.4505937099],
                     [0.0259040371, 0.7827717662, -0.8086757660]])  # fmt: skip


def ramp_of(look: Look, limits: tuple[float, float]) -> "Colormap":
    """From `zero` to `cool`, or from `cool` over `zero` to `warm` where there are two sides, in even steps of OKLab."""
    from matplotlib.colors import ListedColormap

    ends = [look.cool, look.zero, look.warm] if limits[0] < 0 else [look.zero, look.cool]
    corners = np.array([oklab(end) for end in ends])  # (2 or 3, 3)
    at = np.linspace(0, len(ends) - 1, 257)
    lab = np.stack([np.interp(at, np.arange(len(ends)), corner) for corner in corners.T], axis=1)  # (257, 3)
    return ListedColormap(np.array([rgb(colour) for colour in lab]))


def _linear(colour: Any) -> Float64:
    from matplotlib.colors import to_rgb

    rgb = np.array(to_rgb(colour))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def oklab(colour: Any) -> Float64:
    return np.asarray(OPPONENT @ np.cbrt(CONES @ _linear(colour)), np.float64)


def rgb(lab: Float64) -> Float64:
    linear = np.clip(np.linalg.solve(CONES, np.linalg.solve(OPPONENT, lab) ** 3), 0, 1)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


def readable(colour: Any) -> str:
    """Black or white, whichever stands out more from a colour (the contrast of WCAG 2)."""
    luminance = float(np.array([0.2126, 0.7152, 0.0722]) @ _linear(colour[:3]))
    return "#ffffff" if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.05 else "#000000"
