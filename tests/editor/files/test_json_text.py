"""A config changed as text means what was asked, and keeps every other byte."""

import difflib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monoglot.editor.files.json_text import with_keys

PRETTY = '{\n  "model_type": "llama",\n  "mlp_bias": false,\n  "rope_theta": 1e6,\n  "tie": [1,  2]\n}\n'


def test_a_key_is_replaced_in_place() -> None:
    assert with_keys(PRETTY, {"mlp_bias": True}) == PRETTY.replace("false", "true")


def test_a_key_is_added_in_the_layout_of_the_last() -> None:
    assert with_keys(PRETTY, {"attention_bias": True}) == PRETTY.replace("2]\n", '2],\n  "attention_bias": true\n')
    assert with_keys('{"a": 1}', {"b": "x"}) == '{"a": 1,"b": "x"}'
    assert with_keys(" {}", {"b": None}) == ' {"b": null}'


def test_inside_a_nested_object() -> None:
    text = '{"mlp_bias": 1, "text_config": {"model_type": "llama",\n "mlp_bias": false}, "x": {"mlp_bias": 0}}'
    assert with_keys(text, {"mlp_bias": True}, "text_config") == text.replace("false", "true")


def test_a_key_in_a_string_or_a_nested_object_is_not_the_key() -> None:
    text = '{"a": "\\"mlp_bias\\": false", "b": {"mlp_bias": false}, "é\\u00e9": [{"mlp_bias": 0}]}'
    changed = with_keys(text, {"mlp_bias": True})
    assert changed == text[:-1] + ', "mlp_bias": true}'


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(
    config=st.dictionaries(st.text(max_size=3), VALUES, max_size=5),
    changes=st.dictionaries(st.text(max_size=3), VALUES, min_size=1, max_size=3),
    indent=st.sampled_from([None, 2, "\t"]),
)
def test_it_means_what_was_asked(config: dict[str, Any], changes: dict[str, Any], indent: Any) -> None:
    text = json.dumps(config, indent=indent)
    assert json.loads(with_keys(text, changes)) == {**config, **changes}
    nested = json.dumps({"before": config, "text_config": config, "after": config}, indent=indent)
    outer = {"before": config, "text_config": {**config, **changes}, "after": config}
    assert json.loads(with_keys(nested, changes, "text_config")) == outer


@pytest.mark.parametrize("indent", [None, 2])
def test_nothing_else_changes(indent: Any) -> None:
    text = json.dumps({"a": 1, "b": [1, 2], "c": {"d": "é"}}, indent=indent)
    changed = with_keys(text, {"b": True})
    assert [line for line in difflib.ndiff(list(text), list(changed)) if line[0] in "+-"]
    assert changed == text.replace(json.dumps([1, 2], indent=indent).replace("\n", "\n  "), "true")
