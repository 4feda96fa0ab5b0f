"""The card: what the Hub reads, what a person reads, and what must never be on it."""

import copy
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from huggingface_hub import ModelCard
from monoglot.cards import languages, render

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
    return render.render({**copy.deepcopy(MANIFEST), **changes}, folder, "format: 1\n", METHOD)


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
