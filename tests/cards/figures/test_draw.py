"""Figures: legible at 800 pixels, the same bytes every time, and nothing that can be measured makes them fail."""

import math
import re
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any
from unittest import mock
from xml.etree.ElementTree import fromstring as parsed

import numpy as np
import pytest
from support import measured

from monoglot.cards.figures import canvas, colours
from monoglot.cards.figures import draw as figures
from monoglot.cards.figures.canvas import available
from monoglot.editor.edits import bake
from monoglot.editor.errors import MonoglotError, OutputError

matplotlib = pytest.importorskip("matplotlib")

from matplotlib.figure import Figure  # noqa: E402
from matplotlib.text import Text  # noqa: E402
from PIL import Image  # noqa: E402

EVALUATION, STRENGTH = measured.evaluation(), measured.strength()
SMALL = measured.evaluation(("en", "fr", "zh"), 4)
NAMES = {"perplexity", "deactivate_each", "strength", "profile", "overlap", "similarity"}
THIRTY = tuple(f"{first}{second}-Latn" for first in "abcdef" for second in "klmno")
LANGUAGES = {"one": ("en",), "two": ("en", "fr"), "seven": measured.SEVEN, "thirty": THIRTY}
WHITE = (255, 255, 255)


def texts(figure: Figure) -> dict[Text, Any]:
    """All that is written on a figure, with its place: without the ticks that matplotlib keeps out of view."""
    written: dict[Text, Any] = {}
    draw = Text.draw

    def noted(text: Text, renderer: Any) -> None:
        if text.get_visible() and text.get_text().strip():
            written[text] = text.get_window_extent(renderer)
        draw(text, renderer)

    with mock.patch.object(Text, "draw", noted):
        figure.canvas.draw()
    return written


def pixels(data: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(BytesIO(data)).convert("RGB"))


@pytest.mark.slow
@pytest.mark.parametrize("theme", canvas.THEMES)
@pytest.mark.parametrize("many", LANGUAGES)
def test_all_text_is_large_enough_and_inside(many: str, theme: canvas.Theme) -> None:
    """11 pixels at the width at which it is shown; no text is cut off at the edge."""
    drawn = figures.draw(measured.evaluation(LANGUAGES[many], 80 if many == "thirty" else 18), STRENGTH, theme)
    assert set(drawn) == NAMES - ({"similarity"} if many == "one" else set())
    for name, figure in drawn.items():
        assert figure.bbox.width == canvas.WIDTH
        for text, box in texts(figure).items():
            assert text.get_fontsize() * canvas.DPI / 72 >= 11, (name, text)
            assert min(box.x0, box.y0) >= 0 and box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height, (
                name,
                text,
            )


@pytest.mark.slow
@pytest.mark.parametrize("many", LANGUAGES)
def test_no_two_texts_lie_on_each_other(many: str) -> None:
    for name, figure in figures.draw(measured.evaluation(LANGUAGES[many]), STRENGTH).items():
        boxes = [(box, text.get_text()) for text, box in texts(figure).items()]
        for at, (one, text) in enumerate(boxes):
            for other, second in boxes[at + 1 :]:
                apart = one.x1 <= other.x0 or other.x1 <= one.x0 or one.y1 <= other.y0 + 1 or other.y1 <= one.y0 + 1
                assert apart, (name, text, second)


@pytest.mark.slow
def test_files_are_small_and_opaque_and_say_no_version(tmp_path: Path) -> None:
    paths = figures.write(tmp_path, EVALUATION, STRENGTH)
    names = {f"figures/{name}.png" for name in NAMES}
    assert {path.relative_to(tmp_path).as_posix() for path in paths} == names
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == set(paths)
    for path in paths:
        data = path.read_bytes()
        assert len(data) < 80_000, path
        assert not re.search(rb"tEXt|iTXt|zTXt|tIME|matplotlib", data)
        shown = pixels(data)
        assert shown.shape[1] == 1600
        assert tuple(shown[0, 0]) == tuple(shown[-1, -1]) == WHITE
        assert (shown != shown[0, 0]).any(axis=2).mean() > 0.01


def test_what_is_drawn_is_what_is_not_inherited() -> None:
    """`bake` leaves these figures of a base that is a checkpoint of ours behind."""
    assert set(figures.DRAWN) == {*NAMES, "candidates"} == set(bake.FIGURES)


@pytest.mark.slow
def test_the_same_data_gives_the_same_bytes_whatever_the_user_has_set() -> None:
    first = {name: (figures.png(figure), figures.svg(figure)) for name, figure in figures.draw(SMALL, STRENGTH).items()}
    with matplotlib.rc_context({"font.size": 30, "axes.linewidth": 9, "svg.hashsalt": "x", "savefig.bbox": "tight"}):
        again = {name: (figures.png(one), figures.svg(one)) for name, one in figures.draw(SMALL, STRENGTH).items()}
        assert matplotlib.rcParams["font.size"] == 30
    assert first == again


@pytest.mark.slow
def test_svgs_can_stand_in_one_page() -> None:
    """Ids are unique over all figures and both themes, each reference has its target, and nothing refers outside."""
    seen: set[str] = set()
    for theme in canvas.THEMES:
        for figure in figures.draw(EVALUATION, STRENGTH, theme).values():
            text = figures.svg(figure)
            assert text.startswith("<svg ") and "<style" not in text and "<metadata" not in text
            assert not re.search(r"https?:|xlink|<script|<image|<!", text)
            ids = {element.get("id", "") for element in parsed(text).iter()} - {""}
            assert not ids & seen
            assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', text)) <= ids
            seen |= ids
    assert len(seen) > 100


@pytest.mark.slow
def test_text_stays_text_and_no_markup_comes_through() -> None:
    codes = ("$x_1$", "$\\frac{$", "<b>&amp;", "\\frac{", "日本", "a" * 40, "zh\nfr")
    found = measured.evaluation(codes)
    for figure in figures.draw(found, {**STRENGTH, "language": "<b>$"}).values():
        figures.png(figure)
        assert "<!--" not in figures.svg(figure)
        shown = "".join(parsed(figures.svg(figure)).itertext())
        assert "a" * 40 not in shown
    overlap = figures.svg(figures.draw(found)["overlap"])
    assert "&lt;b&gt;&amp;amp;" in overlap and "$x_1$" in overlap


ODD = (math.nan, math.inf, -math.inf, None, 0.0, -3.5, 1e12, "x")


def replaced(value: Any, by: Any) -> Any:
    """Every figure in some findings by another."""
    if isinstance(value, dict):
        return {key: replaced(one, by) for key, one in value.items()}
    if isinstance(value, list):
        return [replaced(one, by) for one in value]
    return by if isinstance(value, (int, float)) or value is None else value


@pytest.mark.slow
@pytest.mark.parametrize("odd", ODD)
def test_odd_figures_are_drawn(odd: Any) -> None:
    for figure in figures.draw(replaced(SMALL, odd), replaced(STRENGTH, odd) | {"language": "fr"}).values():
        figures.png(figure)
        parsed(figures.svg(figure))


def test_a_cell_without_a_number_is_a_dash() -> None:
    found = {"base": {"en": 3.0, "zh": 3.0}, "change": {"en": {"en": math.inf, "zh": -0.5}}}
    (figure,) = figures.draw({"perplexity": found}).values()
    assert [text.get_text() for text in figure.axes[0].texts] == ["–", "-0.50"]


def test_what_was_not_measured_is_not_drawn() -> None:
    assert figures.draw({}) == {}
    empty = {
        "similarity": {"pairs": {}, "mean": []},
        "profile": {"layers": {"en": []}},
        "overlap": {},
        "methods": {"methods": {}},
    }
    assert figures.draw(empty) == {}


def luminance(colour: Any) -> float:
    """WCAG 2's relative luminance, once more."""
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in colour[:3]]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", canvas.THEMES)
@pytest.mark.parametrize("limits", [(0.0, 1.0), (-1.0, 1.0)])
def test_figures_in_cells_can_be_read_and_steps_are_even(theme: canvas.Theme, limits: tuple[float, float]) -> None:
    ramp = colours.ramp_of(canvas.LOOKS[theme], limits)
    colours_of_it = [ramp(value) for value in np.linspace(0, 1, 129)]
    for colour in colours_of_it:
        dark, light = (sorted((luminance(colour), other)) for other in (0.0, 1.0))
        contrast = {"#000000": (dark[1] + 0.05) / (dark[0] + 0.05), "#ffffff": (light[1] + 0.05) / (light[0] + 0.05)}
        assert contrast[colours.readable(colour)] == max(contrast.values()) >= 4.5
    lightness = np.array([colours.oklab(colour[:3])[0] for colour in colours_of_it])
    for half in (lightness[:65], lightness[64:]) if limits[0] < 0 else (lightness,):
        steps = np.diff(half)
        assert (steps > 0).all() or (steps < 0).all()
        assert np.ptp(steps) < 0.2 * abs(steps.mean())


def test_oklab_is_oklab() -> None:
    """Published values of sRGB's primaries, and the way back."""
    for colour, known in {
        "#ffffff": (1, 0, 0),
        "#ff0000": (0.628, 0.2249, 0.1258),
        "#0000ff": (0.452, -0.0325, -0.3115),
    }.items():
        assert colours.oklab(colour) == pytest.approx(known, abs=1e-3)
    for colour in ((0.1, 0.5, 0.9), (0.7, 0.2, 0.0)):
        assert colours.rgb(colours.oklab(colour)) == pytest.approx(colour, abs=1e-6)


def test_lines_are_told_apart_without_colour() -> None:
    drawn = figures.draw(EVALUATION, STRENGTH)
    for name in ("similarity", "strength"):
        for axes in drawn[name].axes:
            thick = [line for line in axes.lines if line.get_linewidth() >= 1.3 and line.get_linestyle() != "None"]
            ways = {(line.get_linestyle(), str(line._dash_pattern), line.get_marker()) for line in thick}
            assert len(ways) == len(thick) > 0


def test_without_matplotlib_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert available()
    monkeypatch.setattr(canvas, "find_spec", lambda name: None)
    assert not available()
    with pytest.raises(MonoglotError, match=r"pip install 'monoglot\[plots\]'"):
        figures.write(tmp_path, EVALUATION)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "figures").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        figures.write(tmp_path, {"profile": EVALUATION["profile"]})


@pytest.mark.slow
def test_no_window_and_no_global_state() -> None:
    """matplotlib is imported when something is drawn, pyplot never."""
    code = (
        "import sys; from monoglot.cards import report; from monoglot.cards.figures import draw as figures;"
        "from monoglot.cards.words import tables; assert 'matplotlib' not in sys.modules;"
        "f = figures.draw({'profile': {'layers': {'en': [1, 2]}}}); figures.png(f['profile']); figures.svg(f['profile']);"
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
