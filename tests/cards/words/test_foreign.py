"""Foreign text stays text: on cards and pages of Markdown, in HTML, and in the metadata, wherever it enters."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token
from support import measured

from monoglot.cards import render, report
from monoglot.cards.words import foreign
from monoglot.cards.words.verdicts import Verdict
from monoglot.editor.edits import recipe as recipes
from monoglot.editor.edits.manifest import Manifest
from monoglot.editor.errors import MalformedError
from monoglot.editor.measures import findings
from monoglot.editor.models.identity import ModelInfo
from monoglot.editor.neurons import neurons

MANIFEST: dict[str, Any] = {
    "format": 1, "monoglot": "0.1.0",
    "base": {"model": "org/base", "revision": None, "fingerprint": "f" * 64, "hub": True, "model_type": "llama", "layers": 4,
             "width": 32},
    "recipe": {"shared": "keep", "edits": [{"language": "zh", "op": "deactivate"}]},
    "edited": {"zh": 5}, "kept": {"zh": 2}, "neurons_edited": 5, "carrier": None, "rounding": {}, "left_out": [], "files": {},
    "certificate": None,
}  # fmt: skip
CERTIFICATE: dict[str, Any] = {
    "bytes": {"passed": True, "edited_tensors": 4, "changed_columns": 12, "identical_tensors": 30, "problems": []},
    "logits": {"passed": True, "bound": 1e-4, "problems": [], "by_language": {}},
}
HOSTILE = (
    "</script><img src=x onerror=alert(1)>", "| x | y |", "a`b``c", "[a](javascript:alert(1))", "![p](http://x.example/p.png)",
    "**b** _i_ ~~s~~ $x$", "# Title", "- item", "<!-- monoglot: end -->", "&lt;b&gt;", "a\\", "---", "```", "{{ 7*7 }}",
    "{% raw %}",
)  # fmt: skip
READER = MarkdownIt("commonmark").enable("table")
OURS = ("<!-- monoglot: ", '<img src="figures/', "<details>", "</details>", "<summary>Table: ")


def tokens(text: str) -> list[Token]:
    """Every token of a Markdown text, those within a line too."""
    return [one for block in READER.parse(text) for one in (block, *(block.children or ()))]


def acts(text: str) -> list[str]:
    """What in a Markdown text is a link, a picture or HTML that is none of ours."""
    found = []
    for one in tokens(text):
        if one.type in ("html_block", "html_inline") and not one.content.startswith(OURS):
            found.append(one.content)
        if one.type == "link_open" and not str(one.attrs["href"]).startswith("https://"):
            found.append(str(one.attrs["href"]))
        if one.type == "image":
            found.append(str(one.attrs["src"]))
    return found


@pytest.mark.parametrize(
    "text", [*HOSTILE, "two\nlines", "red\x1b[31m\x07", "a\u202eb\u2066c", "\u2028x", measured.HOSTILE]
)
def test_a_cell_a_line_and_code_are_text_alone(text: str) -> None:
    shown = " ".join("".join(one for one in text if one.isprintable() or one in "\n\u2028").split())
    for written in (foreign.cell(text), foreign.code(text)):
        assert "\n" not in written and "\x1b" not in written and "\u202e" not in written
        read = tokens(f"x {written} y")
        assert (
            "".join(one.content for one in read if one.type in ("text", "code_inline", "text_special"))
            == f"x {shown} y"
        )
        assert not acts(f"x {written} y")
    row = tokens(f"| a | b |\n|---|---|\n| {foreign.code(text)} | {foreign.cell(text)} |")
    assert sum(one.type == "td_open" for one in row) == 2


@pytest.mark.parametrize("text", ["a: b\n", "```\n# out\n", "x ````` y\n```", "\x1b[31m"])
def test_a_block_of_code_ends_where_it_should(text: str) -> None:
    (block,) = READER.parse(foreign.fenced(text, "yaml"))
    assert (block.type, block.info) == ("fence", "yaml")
    assert block.content.rstrip() == foreign.printable(text).rstrip()


def hostile_manifest(text: str) -> Manifest:
    """A manifest in which text of somebody else's stands in every place that takes any."""
    data: dict[str, Any] = copy.deepcopy(MANIFEST)
    data["base"] |= {"model": text, "revision": text, "hub": True, "model_type": text, "fingerprint": text}
    data["quantised"] = text
    data["found_in"] = {"model": text, "revision": text, "fingerprint": text}
    data["output_table"] = {"tensor": text, "bytes": 5}
    data["redirected"], data["vocabulary"] = {"zh": {"to": "en", "tokens": 5}}, {"zh": 5, "en": 5}
    data["recipe"]["edits"].append({"language": "zh", "op": "redirect", "to": "en", "strength": 1.0})
    data["rounding"] = {text: 0.5}
    data["carrier"] = {"name": "native", "layers_left_out": [1], "calibration": None}
    data["certificate"] = copy.deepcopy(CERTIFICATE)
    for proof in ("bytes", "logits"):
        data["certificate"][proof] |= {"passed": False, "problems": [f"{text} is changed"]}
    data["evaluation"] = measured.evaluation(("en", "zh"))
    answers = {"base": {"accuracy": 0.5}, "this model": {"accuracy": 0.5}, text: {"accuracy": 0.5}}
    data["evaluation"]["activated"] = {
        "wanted": {text: [text]}, "by_language": {text: answers}, "prompts": {text: 2},
        "samples": [{"language": text, "prompt": text, "base": text, "this model": text}],
    }  # fmt: skip
    data["evaluation"]["profile"]["layers"][text] = [1, 2]
    data["evaluation"]["perplexity"]["change"][text] = {"en": 1.0, text: 2.0}
    data["runtimes"] = {text: {"version": text, "verdict": text, "prompts": 2, "told_apart": 2}}
    return Manifest.of_data(json.loads(json.dumps(data)))


@pytest.mark.parametrize("text", HOSTILE)
def test_a_card_of_hostile_names(tmp_path: Path, text: str) -> None:
    manifest = hostile_manifest(text)
    method = {"name": text, "file": text}
    recipe = recipes.to_yaml(recipes.of_data({**recipes.as_data(manifest.recipe), "base": {"model": text}}))
    # the metadata would be refused where it names such a base: that the text is right does not rest on it
    context = render.context(manifest, recipe, method)
    whole = environment_of(context)
    assert not acts(whole), acts(whole)
    headings = [one.map for one in READER.parse(whole) if one.type == "heading_open"]
    plain = environment_of(render.context(hostile_manifest("org/base"), "a: b", {"name": "hand"}))
    assert len(headings) == sum(one.type == "heading_open" for one in READER.parse(plain))
    assert sum(one.type == "td_open" for one in READER.parse(whole)) == sum(
        one.type == "td_open" for one in READER.parse(plain)
    )
    assert [one.type for one in READER.parse(whole)].count("fence") == [one.type for one in READER.parse(plain)].count(
        "fence"
    )


def environment_of(context: dict[str, Any]) -> str:
    from importlib.resources import files

    import jinja2

    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)  # noqa: S701
    text = files("monoglot.cards").joinpath("card.md").read_text(encoding="utf-8")
    return environment.from_string(text).render(**context, base_card="")


@pytest.mark.parametrize("text", HOSTILE)
def test_a_page_of_hostile_names(tmp_path: Path, text: str) -> None:
    model = ModelInfo(text, text, text, 4, 32, "f" * 64)
    hand = neurons.Neurons({}, {}, model, {"name": text, "file": text})
    found = findings.about(model, hand)
    evaluation = found.evaluation.adding(hostile_manifest(text).measures)
    folder = tmp_path / "findings"
    findings.write(folder, findings.Findings(1, model, found.neurons, evaluation), hand)
    read = report.read(folder)
    assert not acts(report.markdown(read))
    page = report.html(read)
    assert (
        "<img" not in page.replace('<img src="data:', "") and "<script" not in page and "onerror=alert(1)>" not in page
    )
    assert "\u202e" not in report.html(report.read(folder))


def test_what_reorders_a_line_is_on_no_page(tmp_path: Path) -> None:
    text = "x\u202ey\x1b[31m"
    hand = neurons.Neurons({}, {}, None, {"name": "hand"})
    model = ModelInfo(text, None, "llama", 4, 32, "f" * 64)
    found = findings.about(model, hand)
    folder = tmp_path / "findings"
    evaluation = found.evaluation.adding({"profile": {"width": 32, "layers": {"en": [1, 2]}}})
    findings.write(folder, findings.Findings(1, model, found.neurons, evaluation), hand)
    for form in (report.html, report.markdown):
        page = form(report.read(folder))
        assert "xy[31m" in page.replace("\\", "") and "\u202e" not in page and "\x1b" not in page


@pytest.mark.parametrize("place", [("monoglot",), ("base", "model"), ("base", "revision"), ("quantised",)])
@pytest.mark.parametrize("text", ["0.1\n```\n# x", "a\u202eb", "\x1b[31m", "x" * 300])
def test_what_no_card_can_hold_is_refused_where_it_enters(place: tuple[str, ...], text: str) -> None:
    data: dict[str, Any] = copy.deepcopy({**MANIFEST, "quantised": "q"})
    inner = data
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = text
    with pytest.raises(MalformedError, match=f"{'.'.join(place)} is not a"):
        Manifest.of_data(data)


@pytest.mark.parametrize("version", ["0.1.0; rm -rf ~", "$(id)", "0.1.0`id`", ""])
def test_no_command_comes_of_a_version(version: str) -> None:
    with pytest.raises(MalformedError, match="monoglot is not a version"):
        Manifest.of_data({**copy.deepcopy(MANIFEST), "monoglot": version})


@pytest.mark.parametrize("text", [*HOSTILE, "no", "null", "a: b", "x #y", "'"])
def test_a_licence_of_a_hostile_name_is_text_in_the_metadata(tmp_path: Path, text: str) -> None:
    data = {"license": "other", "license_name": text, "license_link": "https://example.com", "tags": [text]}
    (tmp_path / "README.md").write_text(f"---\n{yaml.safe_dump(data)}---\nBase.\n")
    card = render.render(Manifest.of_data(copy.deepcopy(MANIFEST)), tmp_path, "format: 1\n", {"name": "hand"})
    read = yaml.safe_load(card.split("\n---\n")[0].removeprefix("---\n"))
    assert read["license_name"] == text and text in read["tags"]


def test_a_verdict_names_a_tensor_as_text() -> None:
    verdict = Verdict("[x](javascript:1) is changed", "The bytes are not what the recipe says")
    assert not acts(verdict.markdown()) and "strong_open" in [one.type for one in tokens(verdict.markdown())]
