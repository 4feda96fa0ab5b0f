"""The search among kinds of edits: its rule and its rounds on made-up answers, and one run on the embedded model."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support import tiny

from monoglot.editor import embedded
from monoglot.editor.edits.recipe import Recipe
from monoglot.editor.edits.request import Request
from monoglot.editor.edits.silencing import prepare
from monoglot.editor.errors import MonoglotWarning, RecipeError
from monoglot.editor.measures import bench as bench_of
from monoglot.editor.measures import pick
from monoglot.editor.measures.bench import Bench, both_kinds
from monoglot.editor.measures.kinds import KINDS, candidates
from monoglot.editor.measures.pick import Tally, candidate_of, choose, going_on, leader, search_on
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import open_target
from monoglot.editor.progress import Listener
from monoglot.editor.statistics.detect import detect
from monoglot.editor.statistics.token_counts import learn
from monoglot.editor.text.corpus import open_corpus
from monoglot.editor.text.prompts import COUNT, embedded_prompts

REQUEST = Request(activate=("fr",), choose=True)
EVERY = list(candidates())
BEST = EVERY[len(KINDS)]  # not the likeliest one of its kind
PROMPTS = {code: [f"{code} {number}" for number in range(8)] for code in ("en", "es", "fr", "zh")}


def answered(right: int, count: int) -> list[bool]:
    return [number < right for number in range(count)]


def tally(right: int, count: int, damage: float, number: int = 0) -> Tally:
    return Tally(EVERY[number], 0, damage, ["x"] * count, answered(right, count), answered(right, count))


def test_the_most_for_its_damage_of_those_that_chance_cannot_tell_from_the_leader() -> None:
    """48 of 48 may be 93 % (Wilson's 48 / 51.84); 43 of 48 are 90 %, give or take 1.96 x 4.4 %; 38 may be 90 % at most."""
    tallies = [tally(48, 48, 0.5), tally(45, 48, 0.1), tally(43, 48, 0.01), tally(38, 48, 0.0), tally(10, 10, 0.0)]
    assert leader(tallies) is tallies[0]
    assert choose(tallies, 0.9) is tallies[2]
    assert choose(tallies, 0.99) is tallies[1]  # 43 of 48 are not 99 %, 45 of 48 may be
    assert choose(tallies[:2] + tallies[3:], 0.9) is tallies[1]


def test_without_enough_the_most_for_its_damage_of_those_like_the_leader() -> None:
    """30 of 48 are 49 % at least, 25 may be 66 %, 14 are 42 % at most."""
    tallies = [tally(30, 48, 0.5), tally(30, 48, 0.4), tally(25, 48, 0.1), tally(14, 48, 0.0)]
    assert leader(tallies) is tallies[1]
    assert choose(tallies, 0.9) is tallies[2]
    assert not leader(tallies).enough(0.9)


def test_an_answer_in_a_hundred_is_worth_a_hundredth_of_a_nat_and_of_equals_the_simplest_is_taken() -> None:
    """Of 100: 90 - 10, 93 - 12, 93 - 14 and 95 - 16."""
    tallies = [tally(90, 100, 0.1), tally(93, 100, 0.12, 1), tally(93, 100, 0.14, 2), tally(95, 100, 0.16, 3)]
    assert choose(tallies, 0.9) is tallies[1]
    assert choose([tallies[0], *tallies[2:]], 0.9) is tallies[0]
    assert choose([tally(44, 48, 0.1), tally(44, 48, 0.1, 1), tally(43, 48, 0.1, 2)], 0.9).candidate == EVERY[0]


def test_the_better_half_goes_on() -> None:
    """The one with the mark of 5 of 6 has the most for its damage."""
    tallies = [tally(right, 6, damage) for right, damage in ((1, 0.4), (6, 0.3), (3, 0.2), (5, 0.1), (0, 0.0))]
    assert [one.whole for one in going_on(tallies, 6, 1e9, 0.9)] == [1.0, 5 / 6, 0.5]
    assert len(going_on(tallies[:2], 6, 1e9, 0.9)) == 2


def test_what_the_rule_would_take_goes_on() -> None:
    """21 of 24 may be 96 %, as good as all, at a tenth of the damage."""
    tallies = [tally(24, 24, 0.5), tally(23, 24, 0.4, 1), tally(22, 24, 0.3, 2), tally(21, 24, 0.04, 3)]
    assert going_on(tallies, 6, 1e9, 0.9) == [tallies[0], tallies[3]]


def test_as_many_go_on_as_there_is_time_for() -> None:
    tallies = [tally(6, 6, 0.1, number) for number in range(8)]
    for one in tallies:
        one.seconds = 12.0  # an answer takes two
    assert [len(going_on(tallies, 10, left, 0.9)) for left in (80, 79, 40, 39, -5)] == [4, 3, 2, 0, 0]


def test_prompts_of_both_kinds_in_turns(tmp_path: Path) -> None:
    """Those of `evaluate` are not among them, and the same number is the same text in every language."""
    found = both_kinds(REQUEST)
    assert {len(own) for own in found.values()} == {24} == {len(set(own)) for own in found.values()}
    seen = {prompt for own in embedded_prompts(count=COUNT).values() for prompt in own}
    assert not seen & {prompt for own in found.values() for prompt in own}
    assert found["en"][0].startswith("Press Ctrl") and found["zh"][0].startswith("按 Ctrl")
    assert found["en"][1] == embedded_prompts(["en"], COUNT + 1)["en"][COUNT]
    own = tmp_path / "own.jsonl"
    own.write_text('{"language": "en", "prompt": "Once"}\n')
    assert both_kinds(replace(REQUEST, prompts=own)) == {"en": ["Once"]}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    named: Any = SimpleNamespace(
        fingerprint="f",
        source=SimpleNamespace(folder=tmp_path),
        texts={},
        feed_forward=SimpleNamespace(layers=4),
        model=SimpleNamespace(fingerprint="f"),
    )
    return Bench(named, named, None, None, {}, REQUEST, PROMPTS, 0, "cpu", "float32")


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Candidates that have, by their number, more right answers. Gives who was asked how many prompts."""
    asked: list[tuple[str, int]] = []

    def attempt(bench: Bench, own: Tally, prompts: Any, rung: int, tried: Any) -> None:
        asked.append((own.candidate.name, len(prompts)))
        own.texts = [*own.texts, *prompts]
        own.own, own.seconds = 0.1, own.seconds + 10
        right = len(own.texts) if own.candidate is BEST else EVERY.index(own.candidate) % 3
        own.whole_of = own.right_of = answered(right, len(own.texts))

    monkeypatch.setattr(pick, "_try", attempt)
    monkeypatch.setattr(pick, "possible", lambda bench, kinds: ([Tally(one, 5) for one in EVERY], {}))
    monkeypatch.setattr(Bench, "neurons", lambda *_: None)
    return asked


def test_half_of_the_candidates_answer_more(bench: Bench, made_up: list[tuple[str, int]], tmp_path: Path) -> None:
    found = search_on(bench, tmp_path)
    assert [count for _, count in made_up] == [3] * 22 + [6] * 11 + [15] * 6  # en, es and zh: one, two more, five more
    best = found.record["rows"][found.record["chosen"]]
    assert (
        found.record["reached"]
        and best["name"] == BEST.name
        and best["answers"] == 24
        and found.record["untried"] == []
    )
    assert found.request == BEST.request(REQUEST, 4)
    assert candidate_of(found.record, REQUEST, PROMPTS) == BEST
    assert candidate_of(found.record, replace(REQUEST, target_accuracy=0.8), PROMPTS) is None
    assert candidate_of(found.record, REQUEST, {"en": ["other"]}) is None


def test_a_slow_model_gets_the_likeliest_of_each_kind(
    bench: Bench, made_up: list[tuple[str, int]], tmp_path: Path
) -> None:
    lines: list[str] = []
    bench.request = replace(REQUEST, budget=176.0)  # 11 candidates take 110 s
    with pytest.warns(MonoglotWarning, match="no candidate gives 90% whole answers in fr"):
        found = search_on(bench, tmp_path, listener=Listener(told=lines.append))
    assert {name for name, _ in made_up} == {one.name for one in EVERY[: len(KINDS)]}
    assert found.record["subset"] and "only the likeliest one of each kind" in lines[0] and len(made_up) <= 19
    assert found.record["untried"] == [one.name for one in EVERY[len(KINDS) :]]


def test_when_time_is_up_the_best_so_far_is_taken(bench: Bench, made_up: list[tuple[str, int]], tmp_path: Path) -> None:
    bench.request = replace(REQUEST, budget=225.0)  # 22 candidates take 220 s
    found = search_on(bench, tmp_path)
    assert [count for _, count in made_up] == [3] * 15 + [6] * 3  # a third of the time is left for the best
    assert found.record["rows"][0]["answers"] == 9
    assert found.record["untried"] == [one.name for one in EVERY[15:]]


def test_what_was_not_tried_in_a_round_does_not_go_on(
    bench: Bench, made_up: list[tuple[str, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four of ten are tried; the better half would be five, and later rounds cost nothing here."""
    attempt = pick._try

    def cheap(bench: Bench, own: Tally, prompts: Any, rung: int, tried: Any) -> None:
        attempt(bench, own, prompts, rung, tried)
        own.seconds -= 10 if rung > 1 else 0

    monkeypatch.setattr(pick, "_try", cheap)
    monkeypatch.setattr(pick, "FIRST", 0.1)
    bench.request = replace(REQUEST, budget=400.0)
    with pytest.warns(MonoglotWarning, match="no candidate gives 90%"):
        found = search_on(bench, tmp_path)
    assert [count for _, count in made_up] == [3] * 4 + [6] * 2 + [15] * 2
    assert len(found.record["untried"]) == len(EVERY) - 4


def test_the_perplexity_of_rounds_is_that_of_all_their_tokens() -> None:
    one = tally(0, 0, 0.1)
    row = {"texts": ["x"], "right": [True], "whole": [False], "own": 0.3, "seconds": 2.0}
    assert one.perplexity is None
    one.take({**row, "nats": 4.0, "tokens": 2})
    one.take({**row, "nats": 2.0, "tokens": 4})
    assert one.perplexity == pytest.approx(2.718281828) and (one.accuracy, one.whole, one.damage) == (1.0, 0.0, 0.3)
    one.take({**row, "nats": None, "tokens": 4})
    assert one.perplexity is None and one.seconds == 6.0


def test_nothing_that_can_be_done_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: Any) -> None:
        raise RecipeError("it is all of stone.")

    monkeypatch.setattr(Bench, "carried", refuse)
    with pytest.raises(
        RecipeError, match=r"nothing that the search knows can be done to this model: it is all of stone\."
    ):
        search_on(bench, tmp_path)


def test_what_is_refused_at_one_strength_is_not_tried_at_another(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Finding that out may take a run of the model. Of neurons another rate may do."""
    asked = []

    def refuse(self: Bench, candidate: Any) -> None:
        asked.append(candidate.kind.name)
        raise RecipeError("no")

    monkeypatch.setattr(Bench, "carried", refuse)
    with pytest.raises(RecipeError, match="nothing that the search knows"):
        pick.possible(bench, KINDS)
    assert {kind.name: asked.count(kind.name) for kind in KINDS} == {
        kind.name: len(kind.strengths) * len(kind.rates) if kind.rates else 1 for kind in KINDS
    }


@pytest.mark.slow
def test_the_embedded_model_and_a_search_that_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redirecting alone, one prompt a language: rows are kept, and the base's own loss is not measured under hooks."""
    target = open_target(resolve(embedded.NAME))
    texts = open_corpus([embedded.NAME], ["en", "fr", "zh"])
    vocabulary = learn(target, texts, tokens=2048, minimum=1000)
    statistics: Any = SimpleNamespace(texts={}, model=SimpleNamespace(fingerprint=target.fingerprint))
    prompts = {"en": ["Rinse the rice in cold water until"], "zh": ["先用冷水淘米，"]}

    def run(loads: Callable[..., Any] | None = None, dtype: str = "float32") -> tuple[Bench, Any]:
        monkeypatch.setattr(bench_of, "fastest", lambda *_: dtype)
        bench = Bench(target, statistics, None, vocabulary, texts, REQUEST, prompts, 1024, "cpu")
        if loads:
            monkeypatch.setattr(pick, "continuations", loads)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MonoglotWarning)
            return bench, search_on(bench, tmp_path, kinds=KINDS[:1]).record

    bench, record = run()
    assert len(record["rows"]) == 3 and {row["answers"] for row in record["rows"]} == {2}
    bare = bench.base
    with bench.hooked(bench.carried(EVERY[0])):
        from monoglot.editor.live.log_loss import measure
        from monoglot.editor.live.logits import Variant

        after = measure([Variant("again", bench.model)], bench.own_text).log_loss["again"]["fr"]
    row = next(one for one in record["rows"] if one["name"] == EVERY[0].name)
    assert row["damage"] == pytest.approx(after - bare, abs=1e-4)

    def answers(*_: Any, **__: Any) -> None:
        raise AssertionError("it was asked again")

    assert run(answers)[1] == record
    again, found = run(answers, "bfloat16")  # which is the faster one now: it goes on in the other
    assert (again.runs_in, found) == ("float32", record)


@pytest.mark.slow
def test_scripts_that_are_silenced_besides_are_so_in_every_candidate(tmp_path: Path) -> None:
    """Chinese prompts, which the embedded model goes on with in Chinese by itself."""
    import torch

    target = open_target(resolve(embedded.NAME))
    texts = open_corpus([embedded.NAME], ["en", "fr", "zh"])
    vocabulary = learn(target, texts, tokens=2048, minimum=1000)
    request = replace(REQUEST, silence=("Han",))
    quiet = prepare(target, texts, Recipe(target.base, (), scripts=request.scripts()))
    statistics: Any = SimpleNamespace(texts={}, model=SimpleNamespace(fingerprint=target.fingerprint))
    prompts = {"zh": ["先用冷水淘米，"]}
    bench = Bench(target, statistics, None, vocabulary, texts, request, prompts, 1024, "cpu", silence=quiet)
    ids = torch.from_numpy(quiet.ids["Han"])
    read = bench.tokenizer(prompts["zh"][0], return_tensors="pt")["input_ids"]

    def down() -> Any:
        with torch.inference_mode():
            return bench.model(read).logits.float().log_softmax(-1)[0, -1, ids].logsumexp(0)

    assert down() > -1
    with bench.hooked(bench.carried(EVERY[0])):
        assert down() < -50
    assert down() > -1
    with pytest.raises(RecipeError, match="nothing that the search knows"):
        search_on(replace(bench, silence=None, vocabulary=None), tmp_path, kinds=KINDS[:1])


@pytest.mark.slow
def test_signs_are_quietened_where_that_is_tried(tmp_path: Path) -> None:
    """What keeps them down is made once for all strengths, and comes with what was chosen."""
    target = open_target(resolve(embedded.NAME))
    texts = open_corpus([embedded.NAME], ["en", "fr", "zh"])
    vocabulary = learn(target, texts, tokens=2048, minimum=1000)
    statistics: Any = SimpleNamespace(texts={}, model=SimpleNamespace(fingerprint=target.fingerprint))
    bench = Bench(target, statistics, None, vocabulary, texts, REQUEST, {"en": ["Rinse the rice"]}, 1024, "cpu")
    (kind,) = (one for one in KINDS if one.name == "redirect, quieter")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MonoglotWarning)
        found = search_on(bench, tmp_path, kinds=(kind,))
    assert len(found.record["rows"]) == 2 and len(bench.quiet) == 1
    nats = found.record["rows"][found.record["chosen"]]["strength"]
    assert found.silence is bench.quiet["signs", "spaces"]
    assert found.request.quieten == (("signs", nats), ("spaces", nats))
    assert found.request.strength == 1.5 and found.request.redirect == (("others", "fr"),)


@pytest.mark.parametrize("model_type", ["mixtral", "qwen3_moe"])
def test_in_a_mixture_tokens_are_moved_as_experts_hold_no_constants(model_type: str, tmp_path: Path) -> None:
    """Of a random model nothing is in French, so the mildest is taken, and it is said."""
    tiny.need_5("mixtures are tried with transformers 5 and later")
    target = open_target(resolve(str(tiny.save_model(tmp_path / "model", model_type))))
    texts = open_corpus([str(tiny.save_corpus(tmp_path / "texts"))])
    recorded = detect(target, texts, tokens=1200, context=64, minimum=100, device="cpu")
    vocabulary = learn(target, texts, tokens=1200, minimum=100)
    prompts = {"en": ["The kitchen"], "zh": ["米饭"]}
    request = replace(REQUEST, tolerance=9.0)
    bench = Bench(target, recorded, tiny.by_hand(target), vocabulary, texts, request, prompts, 1200, "cpu")
    kinds = tuple(
        replace(kind, strengths=kind.strengths[:1], rates=tuple(0.3 for _ in kind.rates[:1])) for kind in KINDS[:4]
    )
    with pytest.warns(MonoglotWarning, match="no candidate gives 90% whole answers in fr"):
        record = search_on(bench, tmp_path, kinds=kinds).record
    assert [row["kind"] for row in record["rows"]] in (["redirect", "vector"], ["vector", "redirect"])
    assert set(record["refused"]) == {"neurons", "both"} and "no direction is known" in record["refused"]["neurons"]
    assert record["rows"][record["chosen"]]["damage"] == min(row["damage"] for row in record["rows"])
