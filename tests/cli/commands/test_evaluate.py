"""monoglot evaluate: tables, JSON, the manifest, and what it refuses."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support import folders, tiny
from support.folders import tree

from monoglot.editor import embedded
from monoglot.editor.edits import manifest, manifest_files
from monoglot.editor.edits.bake import bake
from monoglot.editor.edits.controls import random_plan
from monoglot.editor.edits.hooks import steered
from monoglot.editor.edits.plan import plan as plan_of
from monoglot.editor.edits.recipe import Edit, Recipe
from monoglot.editor.errors import VerificationError
from monoglot.editor.live.generate import continuations
from monoglot.editor.live.load import load_model
from monoglot.editor.live.logits import Variant
from monoglot.editor.live.modules import activation_modules
from monoglot.editor.measures.measure import effect
from monoglot.editor.measures.options import Options
from monoglot.editor.measures.quality import quality
from monoglot.editor.measures.subject import Subject
from monoglot.editor.models.hf import load_tokenizer
from monoglot.editor.models.identity import Base
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import Target, open_target
from monoglot.editor.neurons import neurons
from monoglot.editor.text.corpus import open_corpus
from monoglot.editor.text.identify import language_of
from monoglot.editor.text.prompts import embedded_prompts
from monoglot.editor.text.tokens import read_texts

Run = Callable[..., tuple[int, str, str]]
LANGUAGES = ("en", "es", "fr", "id", "ja", "vi", "zh")


@pytest.fixture(scope="module")
def target() -> Target:
    return open_target(resolve(embedded.NAME))


def made(folder: Path, target: Target, planted: neurons.Neurons, *edits: Edit) -> tuple[Path, Any]:
    """A checkpoint of the embedded model, and its plan."""
    recipe = Recipe(Base(embedded.NAME), edits, "edit", carrier="flag")
    baked = bake(
        target,
        planted,
        recipe,
        folder,
        describe=lambda record, _: f"{sorted(record.to_data().get('evaluation') or {})}",
    )
    width, layers = target.feed_forward.width, target.feed_forward.layers
    return baked.folder, plan_of(recipe, planted, layers=layers, width=width)


@pytest.fixture(scope="module")
def vietnamese(tmp_path_factory: pytest.TempPathFactory, target: Target, planted: neurons.Neurons) -> tuple[Path, Any]:
    """Vietnamese activated, the others deactivated."""
    edits = [Edit(k, "deactivate") for k in LANGUAGES if k != "vi"]
    return made(tmp_path_factory.mktemp("vi") / "out", target, planted, *edits, Edit("vi", "pin", 2.0, "mean"))


@pytest.fixture(scope="module")
def no_chinese(tmp_path_factory: pytest.TempPathFactory, target: Target, planted: neurons.Neurons) -> Path:
    return made(tmp_path_factory.mktemp("zh") / "out", target, planted, Edit("zh", "deactivate"))[0]


def cells(out: str) -> list[list[str]]:
    """The lines of a table, cut where there are two blanks or more."""
    return [re.split(r"\s{2,}", line.strip()) for line in out.splitlines() if line.strip()]


@pytest.mark.slow
def test_the_figures_are_those_of_a_plain_loop(
    monoglot: Run, vietnamese: tuple[Path, Any], target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every answer once more, one at a time, through a model that is loaded here."""
    folder, plan = vietnamese
    monkeypatch.setattr("monoglot.cards.render.card_writer", lambda _: lambda *__: "a card")
    options = ("--languages", "en,zh", "--count", 3, "--tokens", 16, "--samples", 2)
    code, out, err = monoglot("evaluate", folder, "--generate", *options, "--json")
    assert code == 0, err
    found = json.loads(out)["activated"]
    assert folders.manifest_data(folder)["evaluation"] == {"activated": found}
    assert found["prompts"] == {"en": 3, "zh": 3} and found["wanted"] == {"en": ["vi"], "zh": ["vi"]}

    base, this, tokenizer = load_model(embedded.MODEL), load_model(folder), load_tokenizer(folder)
    modules = activation_modules(base, target.feed_forward.family)
    variants = {
        "base": Variant("", base),
        "this model": Variant("", this),
        "random neurons": Variant("", base, lambda: steered(modules, random_plan(plan, target.feed_forward.width))),
    }
    for language, prompts in embedded_prompts(["en", "zh"], 3).items():
        for name, variant in variants.items():
            with variant.inside():
                texts = [continuations(variant.model, tokenizer, [prompt], tokens=16)[0] for prompt in prompts]
            right = 0
            for text in texts:
                if language_of(text, ("vi",)) == "vi":
                    right += 1
            row = found["by_language"][language][name]
            assert row["accuracy"] == round(right / 3, 4), (language, name)
            said = quality(base, tokenizer, texts)
            assert said.perplexity is not None and said.repetition is not None
            assert row["perplexity"] == pytest.approx(said.perplexity, rel=1e-3)
            assert row["repetition"] == pytest.approx(said.repetition, abs=1e-3)
            assert [one[name] for one in found["samples"] if one["language"] == language] == texts[:2]
        assert found["by_language"][language]["base"]["accuracy"] == 0
        assert found["by_language"][language]["this model"]["accuracy"] == 1


@pytest.mark.slow
def test_tables_for_people(monoglot: Run, vietnamese: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monoglot.cards.render.card_writer", lambda _: lambda *__: "a card")
    code, out, err = monoglot("evaluate", vietnamese[0], "--generate", "--count", 2, "--tokens", 12)
    assert code == 0, err
    rows = cells(out)
    assert rows[0] == ["answers in Vietnamese"]
    assert [row[:3] for row in rows if row[0] == "en"][:3] == [
        ["en", "base", "0%"], ["en", "this model", "100%"], ["en", "random neurons", "0%"]
    ]  # fmt: skip
    assert not any(row[0] == "vi" for row in rows)  # no prompts in the activated language
    lines = [line.split() for line in out.splitlines() if line.strip()]
    prompt = embedded_prompts(["ja"], 1)["ja"][0]
    assert ["ja", *prompt.split(), "…"] in lines
    assert sum(line[:3] == ["this", "model", "…"] for line in lines) == 6
    assert "Prompts: beginnings of the embedded texts." in err


@pytest.mark.slow
def test_same_language_asks_in_every_language_and_is_kept_beside_the_other(
    monoglot: Run, vietnamese: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "monoglot.cards.render.card_writer", lambda _: lambda manifest, __: f"{sorted(manifest.measures)}"
    )
    folder = vietnamese[0]
    manifest_files.replace_text(folder, manifest.read(folder), "README.md", "a card")
    options = ("--generate", "--count", 2, "--tokens", 12, "--samples", 0)
    monoglot("evaluate", folder, *options, "--languages", "en")
    code, out, err = monoglot("evaluate", folder, *options, "--same-language", "--languages", "en,vi", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert sorted(found) == ["activated", "same_language"]
    rows = found["same_language"]["by_language"]
    assert {k: rows[k]["this model"]["accuracy"] for k in rows} == {"en": 0, "vi": 1}
    assert {k: rows[k]["base"]["accuracy"] for k in rows} == {"en": 1, "vi": 1}
    assert (folder / "README.md").read_text() == "['activated', 'same_language']"  # written anew …
    (folder / "README.md").write_text("mine")
    monoglot("evaluate", folder, *options, "--languages", "en")
    assert (folder / "README.md").read_text() == "mine"  # … unless a person has edited it


def test_where_nothing_is_activated_it_says_so(
    monoglot: Run, no_chinese: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monoglot.cards.render.card_writer", lambda _: lambda *__: "a card")
    options = ("--count", 2, "--tokens", 12, "--languages", "en,zh", "--samples", 0)
    code, out, err = monoglot("evaluate", no_chinese, "--generate", *options)
    assert code == 0, err
    assert "No language is activated in it" in err
    rows = cells(out)
    assert rows[0] == ["answers in the prompt's own language"]
    assert {tuple(row[:2]): row[2] for row in rows if row[0] in ("en", "zh") and row[1] != "real text"} == {
        ("en", "base"): "100%", ("en", "this model"): "100%", ("en", "random neurons"): "100%",
        ("zh", "base"): "100%", ("zh", "this model"): "0%", ("zh", "random neurons"): "100%",
    }  # fmt: skip


def test_prompts_of_ones_own(
    monoglot: Run, vietnamese: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monoglot.cards.render.card_writer", lambda _: lambda *__: "a card")
    file = tmp_path / "p.jsonl"
    file.write_text(
        '{"language": "en", "prompt": "Click the button"}\n{"language": "vi", "prompt": "Nhấn vào nút"}\n',
        encoding="utf-8",
    )
    code, out, err = monoglot("evaluate", vietnamese[0], "--generate", "--prompts", file, "--tokens", 8)
    assert code == 0, err
    assert "Click the button …" in out and "Nhấn" not in out


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ((), 2, "Say what to measure: --generate, --leaks, --profile"),
        (("--generate", "--languages", "vi"), 1, "no prompts in another language than vi"),
        (("--generate", "--languages", "en,de"), 1, "no prompts in 'de'"),
        (("--generate", "--prompts", "absent.jsonl"), 1, "no file or folder absent.jsonl"),
        (("--generate", "--base", "absent"), 1, "there is no folder"),
        (("--same-language",), 2, "Say what to measure"),
        (("--perplexity", "--same-language"), 2, "goes with --generate"),
        (("--profile", "--corpus", "embedded"), 2, "--corpus goes with --perplexity or --effect."),
        (("--profile", "--aligned", "x"), 2, "--aligned goes with --similarity."),
        (("--perplexity", "--count", "2"), 2, "--count goes with --generate or --deactivate-each or --leaks."),
        (("--generate", "--shared", "keep"), 2, "--shared goes with --perplexity or --deactivate-each."),
        (
            ("--profile", "--judge", "http://127.0.0.1:1/v1", "--judge-model", "m"),
            2,
            "--judge goes with --generate or ",
        ),
        (("--generate", "--judge", "http://127.0.0.1:1/v1"), 2, "--judge URL and --judge-model NAME go together"),
        (("--generate", "--judge", "ftp://x/v1", "--judge-model", "m"), 1, "ftp://x/v1"),
        (("--generate", "--judge", "http://127.0.0.1:1/v1", "--judge-model", "m"), 1, "127.0.0.1:1"),
        (("--generate", "--judge-dry-run"), 2, "goes with --judge"),
        (("--profile", "-o", "kept"), 2, "kept in its manifest"),
        (("--generate", "--chat"), 1, "no chat template"),
        (("--similarity", "--aligned", "absent"), 1, "no file or folder absent with aligned texts"),
        (("--similarity", "--languages", "en"), 1, "similarity compares languages"),
        (("--perplexity", "--languages", "de"), 1, "de"),
        (("--generate", "--prompts", "questions", "--languages", "de"), 1, "de"),
    ],
)
def test_what_is_refused(
    monoglot: Run, vietnamese: tuple[Path, Any], options: tuple[str, ...], code: int, message: str
) -> None:
    ended, out, err = monoglot("evaluate", vietnamese[0], *options)
    assert (ended, out) == (code, "")
    assert message in err


def test_what_a_checkpoint_does_to_text_is_what_a_plain_sum_says(
    monoglot: Run, no_chinese: Path, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The logarithm of each next token's probability, summed here, of all contexts of the held-out text."""
    monkeypatch.setattr("monoglot.cards.render.card_writer", lambda _: lambda *__: "a card")
    options = ("--corpus", "embedded", "--languages", "en,zh", "--text-tokens", 200, "--context", 64)
    code, out, err = monoglot("evaluate", no_chinese, "--effect", *options, "--json")
    assert code == 0, err
    found = json.loads(out)["effect"]
    assert folders.manifest_data(no_chinese)["evaluation"]["effect"] == found
    assert list(found["log_loss"]) == ["base", "this model", "random neurons"] and found["own"] == ["zh"]
    packed = read_texts(target, open_corpus(["embedded"], ["en", "zh"]), tokens=200, context=64, held_out=True)
    for name, folder in (("base", embedded.MODEL), ("this model", no_chinese)):
        model = load_model(folder, device="cpu")
        for language, text in packed.items():
            total, count = 0.0, 0
            for context in text.contexts:
                ids = torch.tensor([list(context)])
                with torch.inference_mode():
                    said = model(input_ids=ids).logits[0, :-1].double().log_softmax(-1)
                own = said.gather(1, ids[0, 1:, None])
                total, count = total - own.sum().item(), count + len(own)
            assert found["tokens"][language] == count
            assert found["log_loss"][name][language] == pytest.approx(total / count, abs=1e-3), (name, language)
    assert found["log_loss"]["this model"]["zh"] > found["log_loss"]["base"]["zh"] + 1
    code, out, err = monoglot("evaluate", no_chinese, "--effect", *options)
    rows = {row[0]: row[1:] for row in cells(out)}
    assert rows["zh"][-2].startswith("+") and rows["en"][-2] in ("0.00", "-0.01", "+0.01")
    assert rows["text in"][0] == "tokens" and "Δ log-loss, this model" in rows["text in"]


def test_a_model_has_no_effect(monoglot: Run, target: Target, planted: neurons.Neurons, no_chinese: Path) -> None:
    code, out, err = monoglot("evaluate", embedded.NAME, no_chinese / "neurons.json", "--effect")
    assert (code, out) == (2, "") and "--effect measures a checkpoint that monoglot made" in err
    with pytest.raises(VerificationError, match="has no edits to measure"):
        effect(Subject(target, planted), Options())


def test_other_neurons_than_the_checkpoints(monoglot: Run, no_chinese: Path, tmp_path: Path) -> None:
    own = no_chinese / "neurons.json"
    assert monoglot("evaluate", no_chinese, own, "--profile", "--json")[0] == 0
    other = tmp_path / "other.json"
    other.write_text(own.read_text().replace('"hand"', '"another"'))
    code, out, err = monoglot("evaluate", no_chinese, other, "--profile")
    assert (code, out) == (1, "") and "was made with other neurons" in err


@pytest.mark.slow
def test_what_is_replaced_is_said_and_a_dry_run_keeps_nothing(
    monoglot: Run, no_chinese: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monoglot.cards.render.card_writer", lambda _: lambda *__: "a card")
    asked = ("evaluate", no_chinese, "--deactivate-each", "--tokens", 3, "--json")
    wide, narrow = ("--languages", "en,fr", "--count", 2), ("--languages", "en", "--count", 1)
    code, _, err = monoglot(*asked, *wide)
    assert code == 0 and "replaces" not in err
    before = tree(no_chinese)
    dry = ("--judge", "http://127.0.0.1:1/v1", "--judge-model", "m", "--judge-dry-run")
    code, out, err = monoglot(*asked, *narrow, *dry)
    assert code == 0 and json.loads(out)["deactivate_each"]["prompts"] == {"en": 1}
    assert "nothing is sent, and nothing that was measured is kept" in err and tree(no_chinese) == before
    code, _, err = monoglot(*asked, *narrow)
    said = "deactivate each replaces a measurement that had more: prompts en 2 (now 1), fr 2 (now 0)."
    assert code == 0 and err.count(said) == 1
    assert folders.manifest_data(no_chinese)["evaluation"]["deactivate_each"]["prompts"] == {"en": 1}
    code, _, err = monoglot(*asked, *wide)
    assert code == 0 and "replaces" not in err, "more than before replaces less"


def test_a_folder_that_monoglot_did_not_make(monoglot: Run, tmp_path: Path) -> None:
    code, _, err = monoglot("evaluate", tiny.save_model(tmp_path / "m"), "--generate")
    assert code == 1 and "was not made by monoglot" in err


def test_answers_after_a_search_are_shown_beside_what_it_saw(capsys: pytest.CaptureFixture[str]) -> None:
    from monoglot.cli.steps.evaluate import show_answers

    own = {"accuracy": 0.5, "whole": 0.5}
    found = {"activated": {
        "kind": "corpus", "wanted": {"en": ["fr"]}, "by_language": {"en": {"this model": own}},
        "all": {"this model": {"answers": 8, "accuracy": 0.5, "interval": [0.25, 0.75]}},
        "samples": [{"language": "en", "prompt": "The first", "this model": "est  bon"}],
    }}  # fmt: skip
    search = {"kind": "on", "chosen": 0, "rows": [{"accuracy": 0.9}]}
    show_answers(found, search)
    shown = capsys.readouterr().out
    assert "this model     … est bon" in shown
    assert "The search saw 90%" in shown and "more than chance: expect the second figure" in shown
    show_answers(found, None)
    assert "The search saw" not in capsys.readouterr().out
