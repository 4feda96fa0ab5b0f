"""The page: whole in itself, nothing in it runs, and a browser shows it, light, dark and on a phone."""

import json
import math
import os
import re
import shutil
import subprocess
from collections import Counter
from html import escape, unescape
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import measured

from monoglot.cards import report
from monoglot.cards.figures import canvas
from monoglot.cards.figures.canvas import LOOKS, THEMES, Theme
from monoglot.editor.errors import FindingsError, VerificationError

MODEL = {
    "name": "org/base-270m", "revision": "9b0cfec0aa11bb22", "model_type": "gemma3_text", "layers": 18, "width": 2048,
    "fingerprint": "f" * 64,
}  # fmt: skip
METHOD = {"name": "lape", "rate": 0.01, "quantile": 0.95, "tokens": {"en": 8192, "fr": 8192}}
MANIFEST: dict[str, Any] = {
    "format": 1, "monoglot": "0.1.0",
    "base": {"model": "org/base", "revision": None, "fingerprint": "f" * 64, "hub": True, "model_type": "llama", "layers": 18,
             "width": 2048},
    "recipe": {"shared": "edit", "carrier": "native", "slots": "spare", "tolerance": 0.15, "above_tolerance": "refuse",
               "edits": [{"language": "fr", "op": "add", "strength": 1.5, "value": "mean"}]},
    "edited": {"fr": 40}, "kept": {"fr": 0}, "neurons_edited": 40,
    "carrier": {"name": "native", "layers_left_out": [], "calibration": None}, "rounding": {}, "left_out": [], "files": {},
    "certificate": {
        "bytes": {"passed": False, "edited_tensors": 1, "changed_columns": 1, "identical_tensors": 1,
                  "problems": ["<i>x</i> changed."]},
        "effect": {"tokens": {"en": 512}, "log_loss": {"base": {"en": 3.0}, "this model": {"en": 3.5},
                                                       "random neurons": {"en": 3.0}}},
    },
}  # fmt: skip
SMALL = measured.evaluation(("en", "fr", "zh"), 6)
VOID = {"meta", "br", "link", "img", "input", "hr", "path", "use"}


def checkpoint(folder: Path, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    record = {**MANIFEST, "evaluation": SMALL, "strength": measured.strength(), **changes}
    (folder / "monoglot.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


def findings(folder: Path, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    evaluation = measured.evaluation(("en", "fr"))
    del evaluation["activated"]
    record = {
        "format": 1,
        "model": MODEL,
        "neurons": {"sha256": "0" * 64, "method": METHOD},
        "evaluation": evaluation,
        **changes,
    }
    (folder / "evaluation.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


def page(folder: Path) -> str:
    return report.html(report.read(folder))


class Page(HTMLParser):
    """The elements of a page, in order, with the text right inside them; every one that opens has to close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.open: list[int] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), []))
        if tag not in VOID:
            self.open.append(len(self.elements) - 1)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), []))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.elements[self.open.pop()][0] == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.elements[self.open[-1]][2].append(data)

    def all(self, *tags: str) -> list[tuple[str, dict[str, str | None], str]]:
        return [(tag, attributes, "".join(text)) for tag, attributes, text in self.elements if tag in tags]


@pytest.mark.slow
def test_nothing_runs_and_nothing_is_fetched(tmp_path: Path) -> None:
    text = page(checkpoint(tmp_path))
    found = Page(text)
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert {"http-equiv": "Content-Security-Policy", "content": policy} in [one[1] for one in found.all("meta")]
    assert not found.all("script", "iframe", "object", "embed", "link", "img", "image", "form", "base", "foreignobject")
    for tag, attributes, _ in found.elements:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("href", "src", "xlink:href", "srcset", "action"):
                assert str(value).startswith("#"), (tag, name, value)
    assert "url(" not in re.sub(r"url\(#[\w-]+\)", "", text) and "@import" not in text
    assert re.findall(r"https?:", text) == ["http:"] * text.count("http://x.example")  # what a model wrote, as text


def test_what_models_wrote_is_text(tmp_path: Path) -> None:
    found = Page(page(checkpoint(tmp_path)))
    written = [text for _, _, text in found.all("span")]
    assert measured.HOSTILE.replace("\x07", "") in written
    assert ("strong", {"class": "bad"}, "The bytes are not what the recipe says") in found.all("strong")
    assert any("<i>x</i> changed." in text for _, _, text in found.all("p"))
    assert any(text == "nothing" for text in written)  # an empty answer


@pytest.mark.slow
def test_it_can_be_read_aloud_and_found_one_s_way_in(tmp_path: Path) -> None:
    found = Page(page(checkpoint(tmp_path)))
    assert found.elements[0][:2] == ("html", {"lang": "en"})
    levels = [int(tag[1]) for tag, _, _ in found.all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    ids = Counter(attributes["id"] for _, attributes, _ in found.elements if "id" in attributes)
    assert set(ids.values()) == {1}
    links = [str(attributes["href"])[1:] for _, attributes, _ in found.all("a")]
    headings = [str(attributes["id"]) for _, attributes, _ in found.all("h2")]
    assert links == headings and len(links) == 2 + len(measured.evaluation()) + 1  # and the strength
    tables = len(found.all("table"))
    assert tables == len(found.all("caption")) > 10
    scopes = {attributes.get("scope") for _, attributes, _ in found.all("th")}
    assert scopes == {"row", "col"}
    spans = [attributes for _, attributes, _ in found.all("span") if "class" not in attributes]
    assert {"zh", "en"} <= {attributes.get("lang") for attributes in spans}
    assert {attributes["dir"] for attributes in spans} == {"auto"}
    drawn = [attributes for _, attributes, _ in found.all("figure")]
    assert len(drawn) == 6 and all(attributes["role"] == "img" and attributes["aria-label"] for attributes in drawn)
    assert len(found.all("svg")) == 12


def test_a_language_s_name_is_no_way_out_of_an_attribute(tmp_path: Path) -> None:
    evil = 'en" onmouseover="x'
    samples = [{"language": evil, "prompt": evil, "none": evil, "random": evil, "off": evil}]
    each = {"rows": {"none": {evil: measured.answers(0.5)}}, "samples": samples}
    found = Page(page(checkpoint(tmp_path, evaluation={"deactivate_each": each}, strength=None)))
    assert not any("onmouseover" in attributes for _, attributes, _ in found.elements)
    assert [text for _, attributes, text in found.all("span") if attributes == {"dir": "auto"}] == [evil] * 4


@pytest.mark.slow
def test_the_same_findings_give_the_same_page_wherever_they_lie(tmp_path: Path) -> None:
    one, two = page(checkpoint(tmp_path / "one")), page(checkpoint(tmp_path / "two"))
    assert one == two
    assert str(tmp_path) not in one and not re.search(r"20\d\d-\d\d", one)


def test_without_matplotlib_it_says_how_to_get_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canvas, "find_spec", lambda name: None)
    found = Page(page(checkpoint(tmp_path)))
    assert not found.all("svg", "figure") and len(found.all("table")) > 10
    assert [text for _, _, text in found.all("code")][0] == "pip install 'monoglot[plots]'"  # noqa: RUF015


@pytest.mark.slow
def test_a_model_that_was_only_measured_has_a_page_too(tmp_path: Path) -> None:
    found = report.read(findings(tmp_path))
    assert found.title == "Language neurons of base-270m" and not found.recipe and not found.verdicts
    assert found.facts["model"] == "org/base-270m at 9b0cfec0aa11"
    assert found.facts["neurons found by"].startswith("LAPE (rate 0.01")
    text = report.html(found)
    assert 'id="perplexity"' in text and 'id="changed"' not in text and "The recipe" not in text


def test_markdown_has_the_same_tables_and_no_markup_of_models(tmp_path: Path) -> None:
    from markdown_it import MarkdownIt

    found = report.read(checkpoint(tmp_path))
    tokens = MarkdownIt("commonmark").enable("table").parse(report.markdown(found))
    kinds = Counter(token.type for token in tokens)
    assert kinds["table_open"] == 2 + sum(len(section.tables) for section in found.sections)
    inline = {child.type for token in tokens for child in token.children or []}
    assert inline <= {"text", "text_special", "strong_open", "strong_close", "softbreak"}
    assert "html_block" not in kinds and kinds["fence"] == 1
    text = "".join(child.content for token in tokens for child in token.children or [])
    assert " ".join(measured.HOSTILE.replace("\x07", "").split()) in text


def test_json_has_everything_and_is_json(tmp_path: Path) -> None:
    evaluation = {"perplexity": {**measured.evaluation()["perplexity"], "random": {"en": math.nan, "zh": math.inf}}}
    text = report.as_json(report.read(checkpoint(tmp_path, evaluation=evaluation)))

    def refuse(word: str) -> None:
        raise ValueError(word)

    data = json.loads(text, parse_constant=refuse)
    assert data["evaluation"]["perplexity"]["random"] == {"en": None, "zh": None}
    assert data["evaluation"]["perplexity"]["change"] == evaluation["perplexity"]["change"]
    assert data["strength"] == measured.strength() and data["recipe"] == MANIFEST["recipe"]


@pytest.mark.parametrize(
    ("evaluation", "words"),
    [
        ({"perplexity": {"change": {}}}, "evaluation.perplexity has no base"),
        ({"profile": {"layers": {"en": 3}}}, "evaluation.profile.layers.en is not a list: it is 3"),
        ({"overlap": [1]}, "evaluation.overlap is not a mapping: it is a list"),
        (
            {"deactivate_each": {"rows": {"en": {"en": 3}}}},
            "evaluation.deactivate_each.rows.en.en is not a mapping: it is 3",
        ),
        ({"guesses": {}}, "evaluation has the unknown measure 'guesses'; known: "),
    ],
)
def test_malformed_findings_are_refused(tmp_path: Path, evaluation: Any, words: str) -> None:
    with pytest.raises(VerificationError, match=f"is not what monoglot writes.*{words}.*again"):
        report.read(checkpoint(tmp_path, evaluation=evaluation))
    with pytest.raises(FindingsError, match=f"is not what monoglot writes .*{words}.*Measure again"):
        report.read(findings(tmp_path / "findings", evaluation=evaluation))


def test_nothing_measured_yet_says_what_measures(tmp_path: Path) -> None:
    bare = {"evaluation": {}, "strength": None, "certificate": None}
    with pytest.raises(VerificationError, match=r"nothing was measured of .* yet.*monoglot evaluate"):
        report.read(checkpoint(tmp_path, **bare))
    assert report.read(checkpoint(tmp_path, evaluation={}, strength=None)).effect  # verified: that is something


# --- in a browser ----------------------------------------------------------------------------------------------------

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars",
)  # fmt: skip
HEIGHT = 9000
DARK = "--blink-settings=preferredColorScheme=0"
MEASURE = """<script>
const wide = [...document.querySelectorAll("body *")].filter(one => !one.closest(".scroll, figure, pre")
  && one.getBoundingClientRect().right > innerWidth + 0.5).map(one => one.tagName + "." + one.className);
const found = JSON.stringify([innerWidth, document.documentElement.scrollWidth, wide]);
parent.document.documentElement.dataset.found = found;
</script></body>"""


def browse(tmp_path: Path, text: str, *flags: str) -> str:
    """What the browser prints for a page."""
    file = tmp_path / "page.html"
    file.write_text(text, encoding="utf-8")
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    command = [str(BROWSER), *FLAGS, profile, *flags, file.as_uri()]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env={**os.environ, "HOME": str(tmp_path)}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def screenshot(tmp_path: Path, text: str, width: int, height: int, *flags: str) -> Any:
    image = pytest.importorskip("PIL.Image")
    file = tmp_path / "page.png"
    browse(tmp_path, text, f"--screenshot={file}", f"--window-size={width},{height}", *flags)
    with image.open(file) as opened:
        return np.asarray(opened.convert("RGB")).astype(int)


def near(pixels: Any, colour: str) -> int:
    """How many pixels have a colour."""
    wanted = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    return int((abs(pixels - wanted).max(axis=2) <= 3).sum())


@pytest.mark.slow
@pytest.mark.skipif(not BROWSER, reason="no Chromium to open the page in")
@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", [800, 390])
def test_a_browser_shows_it(tmp_path: Path, theme: Theme, width: int) -> None:
    """In the theme that is preferred: figures in its colours, none in the other's; and on a phone nothing sticks out."""
    text = page(checkpoint(tmp_path / "checkpoint", evaluation=measured.evaluation()))
    pixels = screenshot(tmp_path, text, width, HEIGHT, *([DARK] if theme == "dark" else []))
    look, other = (LOOKS[one] for one in (theme, "light" if theme == "dark" else "dark"))
    assert pixels.shape[:2] == (HEIGHT, width)
    assert near(pixels[:4], look.paper) == 4 * width
    assert near(pixels, look.ink) > 2000  # words
    assert near(pixels, look.lines[0]) > 500 and near(pixels, look.warm) > 500  # lines, and a cell of the matrix
    assert near(pixels, other.warm) == 0
    edge = pixels[:, -8:]
    assert near(edge, look.paper) == edge.shape[0] * edge.shape[1]


@pytest.mark.slow
@pytest.mark.skipif(not BROWSER, reason="no Chromium to open the page in")
@pytest.mark.parametrize("width", [1200, 390])
def test_only_boxes_that_scroll_are_wider_than_the_window(tmp_path: Path, width: int) -> None:
    """Measured by a script, which the page itself would not let run."""
    whole = page(checkpoint(tmp_path / "checkpoint", evaluation=measured.evaluation())).replace(
        "<details>", "<details open>"
    )
    measuring = whole.replace("</body>", MEASURE)
    assert "data-found" not in browse(tmp_path, measuring, "--dump-dom")
    free = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", measuring)
    frame = f'<iframe style="width: {width}px; height: 900px; border: 0" srcdoc="{escape(free)}"></iframe>'
    found = re.search(r'data-found="([^"]*)"', browse(tmp_path, f"<!DOCTYPE html>{frame}", "--dump-dom"))
    assert found
    inner, scrolled, wide = json.loads(unescape(found[1]))
    assert inner == width and scrolled <= inner and wide == []
