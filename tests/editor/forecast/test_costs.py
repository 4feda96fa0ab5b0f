"""Numbers of weights against a count by hand, and times against the formula on paper."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.tiny import HIDDEN, LAYERS, MIXED, MIXTURES, VOCABULARY, WIDTH, edit_config, live

from monoglot.editor.forecast.costs import OTHER_WORK, STARTING, costs_of, reading_speed
from monoglot.editor.live.logits import LOGITS
from monoglot.editor.live.speed import Speed
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import open_target

SPEED = Speed(operations=1e9, weights=1e8)
LLAMA = LAYERS * (4 * HIDDEN * HIDDEN + 3 * HIDDEN * WIDTH)


@pytest.mark.parametrize("tied", [False, True])
def test_of_a_llama(saved: Callable[..., Path], tied: bool) -> None:
    found = costs_of(open_target(resolve(str(saved("llama", tie_word_embeddings=tied)))), "float32", SPEED)
    table = VOCABULARY * HIDDEN
    assert (found.trunk, found.head) == (LLAMA, table)
    assert found.numbers == LLAMA + (1 if tied else 2) * table + (2 * LAYERS + 1) * HIDDEN
    assert found.memory == 4 * found.numbers
    assert (found.layers, found.hidden, found.vocabulary) == (LAYERS, HIDDEN, VOCABULARY)


def test_of_a_mixture(saved: Callable[..., Path]) -> None:
    """A token goes through some of the experts."""
    target = open_target(resolve(str(saved("mixtral", num_local_experts=4, num_experts_per_tok=2))))
    found = costs_of(target, "bfloat16", SPEED)
    experts = LAYERS * 4 * 3 * HIDDEN * WIDTH
    assert found.trunk == LAYERS * (4 * HIDDEN * HIDDEN + 4 * HIDDEN) + experts / 2
    assert found.memory == 2 * found.numbers


@pytest.mark.parametrize("name", [*MIXTURES, *MIXED])
def test_of_every_mixture(saved: Callable[..., Path], name: str) -> None:
    """Each says under a key of its own how many of four experts a token goes to: two."""
    target = open_target(resolve(str(saved(name, **MIXED.get(name, {})))))
    model = live(target.source.folder)
    tables = [module.weight for module in (model.get_input_embeddings(), model.get_output_embeddings())]
    whole = sum(
        weight.numel() for weight in model.parameters() if weight.ndim > 1 and all(weight is not one for one in tables)
    )
    experts = 0
    for block, network, _ in target.feed_forward.located:
        if block.expert:
            experts += block.width * HIDDEN * (3 if network.gated else 2)
            experts += 2 * block.width + HIDDEN if name == "gpt_oss" else 0  # biases of all experts are one tensor
    assert costs_of(target, "float32", SPEED).trunk == whole - experts / 2


def test_of_a_mixture_that_says_it_layer_by_layer(saved: Callable[..., Path], tmp_path: Path) -> None:
    """As Hunyuan's published configs do."""
    base = saved("hunyuan_v1_moe")
    folder = shutil.copytree(base, tmp_path / "model")
    edit_config(folder, moe_topk=[2] * LAYERS)
    one, other = (costs_of(open_target(resolve(str(each))), "float32", SPEED).trunk for each in (base, folder))
    assert one == other


def test_times(saved: Callable[..., Path]) -> None:
    found = costs_of(open_target(resolve(str(saved("llama")))), "float32", SPEED)
    attention = 2 * LAYERS * HIDDEN * 100
    assert found.passes(1000, 100, logits=False) == pytest.approx(OTHER_WORK * 1000 * (2 * LLAMA + attention) / 1e9)
    with_head = 2 * (LLAMA + VOCABULARY * HIDDEN) + attention
    assert found.passes(1000, 100, logits=True) == pytest.approx(OTHER_WORK * 1000 * with_head / 1e9)
    every = LLAMA + VOCABULARY * HIDDEN
    assert found.answers(65, 10, 64) == pytest.approx(OTHER_WORK * (2 * 10 * every * 4 / 1e8 + 650 * 2 * every / 1e9))
    assert found.loading(10**6, 3) == pytest.approx(3 * (10**6 / found.reading + found.memory / 1e8) + STARTING)
    assert found.logits(2) == 8 * LOGITS


def test_how_fast_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(3 * 2**20))
    assert 1e6 < reading_speed([tmp_path / "x"]) < math.inf
    assert reading_speed([]) == 1.0
