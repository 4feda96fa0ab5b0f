"""The search for a strength: on stand-ins whose curve is known, and with the embedded model's planted neurons."""

import json
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from monoglot.editor import embedded
from monoglot.editor.edits.hooks import steered
from monoglot.editor.edits.plan import Plan, plan
from monoglot.editor.edits.recipe import Edit, Recipe
from monoglot.editor.errors import CorpusError, MonoglotWarning, RecipeError
from monoglot.editor.live.load import load_model
from monoglot.editor.live.modules import activation_modules
from monoglot.editor.measures import strength
from monoglot.editor.measures.strength import Task, of_checkpoint, search, to_json
from monoglot.editor.models.hf import load_tokenizer
from monoglot.editor.models.identity import Base
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import open_target
from monoglot.editor.neurons.neurons import Neurons
from monoglot.editor.text.prompts import embedded_prompts, passages

FRENCH = "Pour préparer un bon thé, faites bouillir de l'eau fraîche et réchauffez la théière."
ENGLISH = "Rinse the rice in cold water until the water runs almost clear, then drain it well."
LOOP = "le bon thé est dans la théière, " * 4


@pytest.fixture(scope="module")
def small() -> tuple[Any, Any]:
    return load_model(embedded.MODEL, device="cpu"), load_tokenizer(embedded.MODEL)


Script = Callable[[dict[float, str]], list[float]]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    """Makes the answers those that are given per strength: f(rench), e(nglish) or l(oop), one letter an answer. Gives the
    list of strengths that are tried, as it grows."""
    now = [0.0]

    @contextmanager
    def hooks(_: Any, wanted: float) -> Any:
        now[0] = wanted
        yield
        now[0] = 0.0

    def install(answers: dict[float, str]) -> list[float]:
        tried: list[float] = []

        def continuations(_: Any, __: Any, prompts: Any, *, tokens: int, progress: Any) -> list[str]:
            tried.append(now[0])
            progress("", len(prompts), len(prompts))
            return [{"f": FRENCH, "e": ENGLISH, "l": LOOP}[letter] for letter in answers[now[0]]]

        monkeypatch.setattr(strength, "continuations", continuations)
        monkeypatch.setattr(strength, "steered", hooks)
        return tried

    return install


PROMPTS = {"en": ["a", "b"], "fr": ["never asked"], "es": ["c", "d"]}


def run(small: tuple[Any, Any], **options: Any) -> strength.Curve:
    """`plan_of` is the identity: the stand-in for hooks is told the strength itself."""
    as_plan: Any = lambda value: value  # noqa: E731
    return search(Task(*small, "fr", PROMPTS), [], as_plan, **{"strengths": (1, 2, 3, 4), **options})


def test_it_stops_at_the_first_strength_that_is_enough(small: tuple[Any, Any], script: Script) -> None:
    tried = script({0: "eeee", 1: "feee", 2: "ffff", 3: "ffff"})
    seen: list[tuple[str, int, int]] = []
    curve = run(small, strengths=(3, 1, 2), progress=lambda *at: seen.append(at))
    assert tried == [0, 1, 2]
    assert (curve.chosen, curve.reached) == (2, True)
    assert [point.accuracy for point in (curve.base, *curve.points)] == [0, 0.25, 1]
    assert curve.samples == (("a", FRENCH), ("b", FRENCH), ("c", FRENCH))
    assert seen == [("base", 4, 16), ("× 1", 8, 16), ("× 2", 12, 16)]


def test_text_that_has_fallen_apart_is_not_enough(small: tuple[Any, Any], script: Script) -> None:
    """Of four answers two are loops: all are French, but more than a third is broken. Twice in a row ends the search."""
    tried = script({0: "eeee", 1: "ffee", 2: "ffll", 3: "llll", 4: "ffff"})
    with pytest.warns(
        MonoglotWarning, match="no strength makes 90% of the answers fr and leaves them whole; the best is 1"
    ):
        curve = run(small)
    assert tried == [0, 1, 2, 3]
    assert (curve.chosen, curve.reached) == (1, False)
    assert [point.fallen_apart for point in curve.points] == [False, True, True]
    assert [point.answers.whole for point in curve.points] == [0.5, 0.5, 0]


def test_one_bad_strength_does_not_end_it(small: tuple[Any, Any], script: Script) -> None:
    script({0: "eeee", 1: "llll", 2: "fffe", 3: "ffll", 4: "fffl"})
    curve = run(small)
    assert (curve.chosen, curve.reached) == (4, True)  # one of four broken is not fallen apart


def test_loops_at_weak_strengths_do_not_end_it(small: tuple[Any, Any], script: Script) -> None:
    script({0: "eeee", 0.25: "llll", 0.5: "llll", 1: "ffff"})
    assert run(small, strengths=(0.25, 0.5, 1)).chosen == 1


def test_the_bar_can_be_moved(small: tuple[Any, Any], script: Script) -> None:
    script({0: "eeee", 1: "ffee"})
    assert run(small, target_accuracy=0.5).chosen == 1


def test_where_none_is_enough_the_best_is_taken(small: tuple[Any, Any], script: Script) -> None:
    script({0: "eeee", 1: "feee", 2: "fffe", 3: "ffee", 4: "fffe"})
    with pytest.warns(MonoglotWarning, match="the best is 2: 75% are fr, 75% are that and whole"):
        curve = run(small)
    assert (curve.chosen, curve.reached) == (2, False)


def test_what_cannot_be_searched(small: tuple[Any, Any]) -> None:
    with pytest.raises(CorpusError, match="no prompts in another language than fr"):
        search(Task(*small, "fr", {"fr": ["a"]}), [], Any)
    with pytest.raises(CorpusError, match="doesn't know 'tlh'"):
        search(Task(*small, "tlh", PROMPTS), [], Any)
    with pytest.raises(RecipeError, match="no strengths"):
        search(Task(*small, "fr", PROMPTS), [], Any, strengths=())


@pytest.fixture(scope="module")
def planted(small: tuple[Any, Any]) -> tuple[list[Any], Callable[[float], Plan]]:
    """The embedded model's activation modules, and the plan that pins Vietnamese at a strength and deactivates the others.
    Means are measured here, with hooks of our own."""
    model, tokenizer = small
    feed_forward = open_target(resolve(embedded.NAME)).feed_forward
    modules = activation_modules(model, feed_forward.family)
    data = json.loads((Path(embedded.MODEL) / "planted.json").read_text())["languages"]
    indices = {k: tuple(np.array(layer, np.int64) for layer in layers) for k, layers in data.items()}
    means: dict[str, tuple[Any, ...]] = {}
    for language in data:
        seen: list[list[torch.Tensor]] = [[] for _ in modules]
        handles = [
            module.register_forward_hook(lambda *given, own=own: own.append(given[2].flatten(0, -2)))
            for module, own in zip(modules, seen, strict=True)
        ]
        for text in passages(language)[12:24]:
            with torch.inference_mode():
                model(torch.tensor([[0, *tokenizer(text, add_special_tokens=False)["input_ids"]]]))
        for handle in handles:
            handle.remove()
        means[language] = tuple(
            torch.cat(own).double().mean(0).numpy()[index] for own, index in zip(seen, indices[language], strict=True)
        )
    neurons = Neurons(indices, {"mean": means})

    def plan_of(value: float) -> Plan:
        edits = [Edit(k, "deactivate") for k in data if k != "vi"]
        recipe = Recipe(Base("embedded"), (*edits, Edit("vi", "pin", value, "mean")), "edit")
        return plan(recipe, neurons, layers=feed_forward.layers, width=feed_forward.width)

    return modules, plan_of


@pytest.mark.slow
def test_planted_neurons_force_their_language(
    small: tuple[Any, Any], planted: tuple[list[Any], Callable[[float], Plan]]
) -> None:
    modules, plan_of = planted
    task = Task(*small, "vi", embedded_prompts(count=2), passages("vi"), tokens=16)
    curve = search(task, modules, plan_of, strengths=(1, 2, 3))
    assert curve.reached
    assert curve.base.accuracy == 0 and curve.base.kl == 0
    chosen = curve.points[-1]
    assert chosen.strength == curve.chosen and chosen.accuracy >= 0.9
    assert chosen.kl is not None and chosen.kl > 0
    assert (curve.real.perplexity is not None and curve.real.broken == (False,) * 12) or curve.real.broken_share == 0

    with steered(modules, plan_of(curve.chosen)):  # a "checkpoint" is a model that does it by itself …
        again = of_checkpoint(task, small[0], curve.chosen)
    assert again.answers.texts == chosen.answers.texts and again.good(0.9)

    record = to_json(curve, [again])
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert record["points"][-1]["accuracy"] == chosen.accuracy
    assert {key: record["checkpoint"][0][key] for key in ("accuracy", "broken")} == {
        key: record["points"][-1][key] for key in ("accuracy", "broken")
    }
