"""Metadata: what the Hub takes and what not, what comes of a base's however malformed, and YAML's traps."""

import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from hypothesis import given
from hypothesis import strategies as st

from monoglot.cards.metadata import metadata
from monoglot.cards.metadata.vocabulary import LICENSES, PIPELINES
from monoglot.editor.files import card_text

RESULT = {
    "task": {"type": "text-generation"},
    "dataset": {"name": "held-out text in Norwegian", "type": "held-out-text", "config": "no"},
    "metrics": [
        {"type": "perplexity", "value": 20.5},
        {"type": "bleu", "value": "20 ± 1"},
        {"type": "rouge", "value": {"1": 2}},
    ],
}
WHOLE: dict[str, Any] = {
    "license": "other", "license_name": "some-terms", "license_link": "https://example.com/terms",
    "language": ["en", "no", "yue", "multilingual"], "language_bcp47": ["pt-BR", "zh-Hans"],
    "base_model": "org/base-1b", "base_model_relation": "finetune", "library_name": "transformers",
    "pipeline_tag": "text-generation", "tags": ["monoglot", "lape", "arxiv:2402.16438"], "datasets": ["org/texts", "imdb"],
    "metrics": ["perplexity"], "model-index": [{"name": "m", "results": [RESULT]}],
    "widget": [{"text": "Hello"}], "inference": False, "co2_eq_emissions": {"emissions": 3.5}, "extra_gated_prompt": "Agree?",
}  # fmt: skip


def test_what_the_hub_takes_is_no_problem() -> None:
    assert metadata.problems(WHOLE) == []
    assert metadata.problems({}) == []
    assert metadata.problems({"language": "en", "base_model": ["gpt2", "org/b.c_d"], "datasets": "imdb"}) == []
    assert metadata.problems({"license": "apache-2.0", "license_link": "LICENSE"}) == []  # as many have it
    assert metadata.problems({"license": ["mit", "gemma"]}) == []


def within(place: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """`WHOLE` with one thing changed in its model-index."""
    import copy

    data = copy.deepcopy(WHOLE)
    at: Any = data["model-index"]
    for key in place[:-1]:
        at = at[key]
    if value is None:
        del at[place[-1]]
    else:
        at[place[-1]] = value
    return data


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"license": "Apache-2.0"}, ["license has 'Apache-2.0'", "repositories-licenses"]),
        ({"license": 3}, ["license is 3"]),
        ({"license": ["mit", 1.5]}, ["license has 1.5"]),
        ({"license": "other"}, ["needs a license_name"]),
        ({"license": "other", "license_name": ""}, ["license_name", "needs a license_name"]),
        ({"license_name": "x"}, ["license_name says nothing without a license"]),
        ({"license_link": "https://example.com"}, ["license_link says nothing without a license"]),
        ({"license": "mit", "license_link": "see below"}, ["license_link", "begins with https"]),
        ({"license": "mit", "license_link": "../LICENSE"}, ["license_link"]),
        ({"license": "mit", "license_link": "javascript:1"}, ["license_link"]),
        ({"language": False}, ['Norwegian is "no"']),
        ({"language": ["en", False]}, ['language has False', ]),
        ({"language": ["en", True]}, ["language has True"]),
        ({"language": ["EN"]}, ["two or three small letters"]),
        ({"language": "English"}, ["two or three small letters"]),
        ({"language": ["pt-BR"]}, ["language_bcp47"]),
        ({"language": ["en", "en"]}, ["'en' twice"]),
        ({"language_bcp47": ["no subtag"]}, ["BCP 47"]),
        ({"base_model": "/home/me/model"}, ["base_model", "org/name"]),
        ({"base_model": "a/b/c"}, ["org/name"]),
        ({"base_model": "https://huggingface.co/a/b"}, ["org/name"]),
        ({"base_model": "org/--x"}, ["org/name"]),
        ({"base_model": ["org/a", "org/a"]}, ["twice"]),
        ({"base_model": "org/a", "base_model_relation": "distilled"}, ["adapter, merge, quantized, finetune"]),
        ({"base_model": "org/a", "base_model_relation": ["merge"]}, ["no text"]),
        ({"base_model_relation": "merge"}, ["without a base_model"]),
        ({"pipeline_tag": "text2text"}, ["huggingface.co/tasks"]),
        ({"library_name": "trans formers"}, ["a word"]),
        ({"tags": "monoglot"}, ["tags is 'monoglot': write a list"]),
        ({"tags": ["x" * 129]}, ["up to 128"]),
        ({"tags": [""]}, ["up to 128"]),
        ({"tags": ["a\nb"]}, ["one line"]),
        ({"tags": ["a", 1.0]}, ["tags has 1.0, which is no text"]),
        ({"tags": ["a", "b", "a"]}, ["'a' twice"]),
        ({"datasets": ["/data/x.jsonl"]}, ["datasets", "no path"]),
        ({"metrics": [{"name": "x"}]}, ["metrics has"]),
        ({"thumbnail": 1}, ["thumbnail"]),
        ({"tags": None}, ["tags is empty"]),
        ({False: "x"}, ["False is no name for a key"]),
        ({"mine": {1, 2}}, ["mine holds"]),
        ({"mine": math.nan}, ["mine holds"]),
        ({"model-index": []}, ["model-index is []"]),
        ({"model-index": {"name": "m"}}, ["write a list of models"]),
        ({"model-index": ["m"]}, ["model-index[0] is 'm'"]),
        (within((0, "name"), None), ["model-index[0].name is None"]),
        (within((0, "results"), None), ["model-index[0].results"]),
        (within((0, "results", 0, "task"), {}), ["results[0].task"]),
        (within((0, "results", 0, "task"), {"name": "x"}), ["task.type"]),
        (within((0, "results", 0, "dataset", "name"), None), ["dataset.name"]),
        (within((0, "results", 0, "dataset", "type"), False), ["dataset.type"]),
        (within((0, "results", 0, "metrics"), []), ["metrics"]),
        (within((0, "results", 0, "metrics", 0, "type"), None), ["metrics[0].type"]),
        (within((0, "results", 0, "metrics", 0, "value"), None), ["metrics[0].value is None"]),
        (within((0, "results", 0, "metrics", 0, "value"), math.nan), ["metrics[0].value is nan"]),
        (within((0, "results", 0, "metrics", 0, "value"), ""), ["metrics[0].value"]),
        (within((0, "results", 0), "x"), ["results[0] is 'x'"]),
    ],
)  # fmt: skip
def test_each_problem_is_a_sentence_with_the_next_step(data: dict[Any, Any], words: list[str]) -> None:
    found = metadata.problems(data)
    assert found and all(re.fullmatch(r".+: .+\.", one) for one in found), found
    for one in words:
        assert one in " ".join(found)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(sorted(metadata.CHECKS)) | st.text(max_size=5) | st.booleans() | st.integers()


@pytest.mark.slow
@given(st.dictionaries(KEYS, JSON, max_size=6))
def test_nothing_makes_it_crash_and_what_is_inherited_is_never_a_problem(data: dict[Any, Any]) -> None:
    assert all(isinstance(one, str) and one for one in metadata.problems(data))
    kept = metadata.inherited(data, Path("absent"), "org/base")
    assert metadata.problems({key: value for key, value in kept.items() if value}) == []


LICENCE = st.sampled_from([*sorted(LICENSES), "Apache-2.0", "My Own", "", 3])
MALFORMED = {
    "license": LICENCE | st.lists(st.sampled_from(["mit", "other", None])),
    "license_name": st.sampled_from(["a", "", 3]),
    "license_link": st.sampled_from(["LICENSE", "x y", None]),
    "language": st.lists(st.sampled_from(["en", "no", False, True, "pt-BR", "EN", "English", "code", 3])),
    "tags": st.lists(st.sampled_from(["a", "a ", "", 1.0, None, "x" * 200])),
    "pipeline_tag": st.sampled_from([*sorted(PIPELINES), "?"]),
}


@given(st.fixed_dictionaries({}, optional=MALFORMED))
def test_what_is_inherited_is_valid(data: dict[str, Any]) -> None:
    for model in (None, "org/base"):
        kept = metadata.inherited(data, Path("absent"), model)
        assert metadata.problems({key: value for key, value in kept.items() if value}) == []


def test_a_licence_is_never_lost(tmp_path: Path) -> None:
    def licence(*, model: str | None = None, **data: Any) -> dict[str, Any]:
        kept = metadata.inherited(data, tmp_path, model)
        return {key: value for key, value in kept.items() if key.startswith("license")}

    assert licence() == {}
    assert licence(license="Apache-2.0") == {"license": "apache-2.0"}
    assert licence(license=["mit", "MIT", "gemma"]) == {"license": ["mit", "gemma"]}
    assert licence(license="apache-2.0", license_link="https://x.example/L") == {
        "license": "apache-2.0", "license_link": "https://x.example/L"
    }  # fmt: skip
    assert licence(license="other", license_name="n", license_link="LICENSE") == {
        "license": "other", "license_name": "n", "license_link": "LICENSE"
    }  # fmt: skip
    assert licence(license="other", model="facebook/OPT-125m") == {
        "license": "other", "license_name": "licence-of-opt-125m", "license_link": "https://huggingface.co/facebook/OPT-125m"
    }  # fmt: skip
    assert licence(license="Llama 9 Terms!") == {"license": "other", "license_name": "llama-9-terms"}
    (tmp_path / "LICENSE").write_text("terms")
    assert licence(license="??")["license_link"] == "LICENSE"


def test_codes_with_subtags_have_a_list_of_their_own() -> None:
    assert metadata.codes(["en", "pt-BR", "zh_Hans", "pt-PT", False, "EN", "English", "multilingual", None, 3]) == (
        ["en", "pt", "zh", "no", "multilingual"], ["pt-BR", "zh-Hans", "pt-PT"]
    )  # fmt: skip


# --- YAML ------------------------------------------------------------------------------------------------------------

TRAPS = [
    "no", "No", "NO", "y", "Y", "n", "yes", "on", "Off", "true", "False", "null", "Null", "~", "", "1e3", "1.0", "1_000",
    "0x1F", "0o17", "017", "12:30", "12:30:45", ".inf", "-.Inf", ".nan", "2024-01-01", "2024-01-01T00:00:00Z", "a: b", "a #b",
    "#a", "- a", "-", "---", "? a", "*a", "&a", "!a", "%a", "@a", "`a", "|", ">", "[a", "{a", "'", '"', "a'b", "\\", " a",
    "...", "a ", "a\nb", "a\tb", "\u0085", "\u2028", "\ufeff", "é", "日本語", "=", "<<", "+1", "-1", "1e-5", "e3", "NaN",
    "Infinity", "https://x.y/z?a=b#c", "a" * 300 + " " + "b" * 300, "key:", ",a", "a,b",
]  # fmt: skip


def parsed(data: dict[Any, Any]) -> None:
    """The same comes back, from PyYAML, from our own reader and from the Hub's library."""
    text = metadata.to_yaml(data)
    assert yaml.safe_load(text) == data
    card = f"---\n{text}\n---\nbody\n"
    assert card_text.split(card) == (data, "body\n")
    read = ModelCard(card).data.to_dict()
    assert {key: read.get(key) for key in data} == data


@pytest.mark.parametrize("text", TRAPS)
def test_text_stays_text(text: str) -> None:
    parsed({"language": [text], "license_name": text, "tags": [text, "x"], "mine": {text or "k": text}})


# What YAML 1.2's core schema and JavaScript's parsers read as something else than text, and YAML 1.1 besides.
OTHERWISE = re.compile(
    r"(y|n|yes|no|on|off|true|false|null|~|)|[-+]?(\d[\d_]*|0o[0-7]+|0x[\da-f]+|0b[01_]+)|"
    r"[-+]?(\.\d+|\d[\d_]*(\.[\d_]*)?)(e[-+]?\d+)?|[-+]?\.(inf|nan)|\d+(:\d+)+(\.\d*)?|\d{4}-\d\d?-\d\d?.*",
    re.IGNORECASE,
)


@given(st.text(max_size=12) | st.text("0123456789.eE+-_:xo", max_size=8) | st.sampled_from(TRAPS))
def test_no_parser_can_take_text_for_something_else(text: str) -> None:
    (line,) = metadata.to_yaml({"k": text}).split("\n")
    value = line.removeprefix("k: ")
    assert value.startswith('"') or (value == text and not OTHERWISE.fullmatch(text))
    assert yaml.safe_load(line) == {"k": text}


def test_norwegian_and_versions_as_they_stand_in_the_file() -> None:
    assert metadata.to_yaml({"language": ["no", "nb", "en"], "v": "1.0"}) == 'language:\n- "no"\n- nb\n- en\nv: "1.0"'


def test_no_anchors() -> None:
    same = ["a", "b"]
    assert "&" not in metadata.to_yaml({"x": same, "y": same})


@given(
    st.dictionaries(st.text(min_size=1, max_size=8), JSON.filter(lambda value: "nan" not in repr(value)), max_size=4)
)
def test_all_that_can_be_metadata_comes_back(data: dict[str, Any]) -> None:
    assert yaml.safe_load(metadata.to_yaml(data)) == data


def test_the_problems_of_a_card(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    (problem,) = metadata.card_problems(path)
    assert "cannot be read" in problem and "monoglot card" in problem
    for text, words in {
        "---\nlicense: mit\n---\n": None, "# Title": "no metadata", "---\nlicense: mit\n": "not closed",
        "---\nlanguage: no\n---\n": 'Norwegian is "no"', "---\nlicense: mit\nlicense: mit\n---\n": "twice",
    }.items():  # fmt: skip
        path.write_text(text)
        found = metadata.card_problems(path)
        assert found == [] if words is None else words in found[0]
    path.write_bytes(b"---\nlicense: \xff\n---\n")
    assert "UTF-8" in metadata.card_problems(path)[0]
