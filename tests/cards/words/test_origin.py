"""Neurons that were found in another model: what the card says of that."""

import copy
from typing import Any

from support.checkpoints import MANIFEST

from monoglot.cards.words.origin import found_in
from monoglot.editor.edits.manifest import Manifest


def said(**more: Any) -> str:
    return found_in(Manifest.of_data(copy.deepcopy({**MANIFEST, **more})))


OTHER = {"model": "big/model", "revision": None, "fingerprint": "f"}


def test_what_is_not_known_is_said() -> None:
    assert said() == ""
    quantised = said(quantised="GPTQ, 4 bits", found_in={**OTHER, "revision": "abc"})
    assert "found in big/model at revision abc, which is as deep" in quantised
    assert "was quantised from it can't be known" in quantised
    assert said(found_in=OTHER).startswith("The neurons were found in big/model, whose weights are others than")
