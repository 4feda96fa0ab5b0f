"""What runtimes are known to honour: every one of them is named, with the carriers that it drops."""

import pytest

from monoglot.editor.models.families import KNOWN
from monoglot.editor.runtimes import capabilities, conformance
from monoglot.editor.runtimes.adapters import NAMES


def test_capabilities_name_what_there_is() -> None:
    for one in capabilities.FINDINGS:
        assert one.runtime in NAMES and one.carrier in capabilities.CARRIERS and set(one.families) <= set(KNOWN)
        assert one.verdict in conformance.VERDICTS
    cells = [(one.runtime, one.carrier, family) for one in capabilities.FINDINGS for family in one.families]
    assert len(cells) == len(set(cells))


@pytest.mark.parametrize(
    ("runtimes", "model_type", "possible", "carrier"),
    [
        (["vllm", "llama.cpp"], "llama", ("flag", "calibrated"), "flag"),
        (["vllm", "mistralrs"], "llama", ("flag", "calibrated"), "calibrated"),
        (["vllm"], "gpt2", ("native", "calibrated"), "native"),
        (["llama.cpp"], "opt", ("native", "calibrated"), "calibrated"),
        (["vllm"], "mistral", ("llama", "calibrated"), "calibrated"),  # another name of the architecture is asked for
    ],
)
def test_the_carrier_for_some_runtimes(
    runtimes: list[str], model_type: str, possible: tuple[str, ...], carrier: str
) -> None:
    assert capabilities.carrier_for(runtimes, model_type, possible) == carrier


def test_who_drops_a_carrier() -> None:
    assert capabilities.dropping(["vllm", "mistralrs"], "flag", "llama") == ["mistralrs"]
    assert capabilities.dropping(["vllm", "mistralrs"], "llama", "qwen2") == ["mistralrs"]
    assert capabilities.dropping(NAMES, "calibrated", "llama") == []
