"""Whole characters and their probabilities, and the tokenizers that llama.cpp cuts text with."""

import json
from pathlib import Path

from monoglot.editor.runtimes.adapters import llama_cpp


def test_the_probabilities_of_whole_characters_go_to_their_last_token() -> None:
    def step(token: int) -> dict[str, float]:
        return {"id": token, "logprob": -float(token)}

    assert llama_cpp.aligned([4, 5, 6], [step(4), step(5), step(6)]) == [-4, -5, -6]
    assert llama_cpp.aligned([4, 4, 4], [step(4), step(4), step(4)]) == [-4, -4, -4]
    assert llama_cpp.aligned([4, 8, 9, 6], [step(4), step(9), step(6)]) == [-4, None, -9, -6]
    assert llama_cpp.aligned([4, 9, 9, 6], [step(4), step(9), step(6)]) == [-4, None, None, -6]  # which of the two?


def test_a_tokenizer_that_cuts_as_gpt2_does_is_known_by_its_file(model: Path, tmp_path: Path) -> None:
    assert llama_cpp.pieces(tmp_path) is None
    file = tmp_path / "tokenizer.json"
    for own, same in (
        ({**llama_cpp.GPT2, "trim_offsets": True}, True),
        ({**llama_cpp.GPT2, "use_regex": False}, False),
    ):
        file.write_text(json.dumps({"pre_tokenizer": own}))
        assert (llama_cpp.pieces(tmp_path) == llama_cpp.GPT2) == same
