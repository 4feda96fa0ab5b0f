"""`evaluate --engine`: the same figures as without, where the engine writes what transformers would; and what is refused."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.engine_server import KEY, Broken, Engine, running

from monoglot.cards.render import card_writer
from monoglot.cards.words import generated
from monoglot.editor import embedded
from monoglot.editor.edits import manifest
from monoglot.editor.edits.bake import bake
from monoglot.editor.edits.recipe import Edit, Recipe
from monoglot.editor.live.generate import continuations, in_chat
from monoglot.editor.live.load import load_model
from monoglot.editor.models.hf import load_tokenizer
from monoglot.editor.models.identity import Base
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import open_target
from monoglot.editor.neurons.neurons import Neurons

Run = Callable[..., tuple[int, str, str]]
ASKED = ("--generate", "--languages", "en,zh", "--count", 3, "--tokens", 12, "--samples", 1)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory, planted: Neurons) -> Path:
    """Vietnamese activated in the embedded model, the others deactivated."""
    off = [Edit(code, "deactivate") for code in ("en", "es", "fr", "id", "ja", "zh")]
    recipe = Recipe(Base(embedded.NAME), (*off, Edit("vi", "pin", 2.0, "mean")), "edit", carrier="flag")
    place = tmp_path_factory.mktemp("served") / "out"
    bake(open_target(resolve(embedded.NAME)), planted, recipe, place, describe=card_writer(planted.method))
    return place


@pytest.fixture(scope="module")
def writers(out: Path) -> Callable[[str, str, dict[str, Any]], str]:
    """What transformers writes, one prompt at a time."""
    tokenizer = load_tokenizer(out)
    live = {"base": load_model(embedded.MODEL), "this": load_model(out)}

    def write(model: str, prompt: str, asked: dict[str, Any]) -> str:
        return continuations(live[model], tokenizer, [prompt], tokens=asked["max_tokens"])[0]

    return write


@pytest.fixture
def engine() -> Iterator[Engine]:
    with running() as own:
        yield own


def at(engine: Engine) -> tuple[str, ...]:
    return ("--engine", engine.url, "--served", "this", "--base-served", "base")


def figures(found: dict[str, Any]) -> dict[str, Any]:
    """All but the random neurons, which an engine has none of."""
    return {
        code: {name: row for name, row in by.items() if name != "random neurons"}
        for code, by in found["by_language"].items()
    }


@pytest.mark.slow
def test_the_same_figures(
    monoglot: Run, out: Path, engine: Engine, writers: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONOGLOT_ENGINE_KEY", KEY)
    code, said, notes = monoglot("evaluate", out, *ASKED, "--json")
    assert code == 0, notes
    here = json.loads(said)["activated"]
    engine.write, engine.pages, engine.owner = writers, {"/version": {"version": "0.32.0"}}, "vllm"
    code, said, notes = monoglot("evaluate", out, *ASKED, *at(engine), "--engine-dtype", "bfloat16", "--json")
    assert code == 0, notes
    there = json.loads(said)["activated"]
    assert figures(there) == figures(here)
    assert [{k: v for k, v in one.items() if k != "random neurons"} for one in here["samples"]] == there["samples"]
    about = {"name": "vLLM", "version": "0.32.0", "dtype": "bfloat16"}
    assert there["engine"] == {"base": about, "this model": about}
    assert (there["temperature"], there["seed"], there["repetition_penalty"]) == (0.0, 0, 1.1)
    kept = (out / "monoglot.json").read_text() + (out / "README.md").read_text()
    assert KEY not in kept + said + notes and engine.url not in kept
    assert "Answers by vLLM 0.32.0 in bfloat16, greedy" in (out / "README.md").read_text().replace("\\", "")
    assert manifest.read(out).measures["activated"] == there
    assert not list(out.glob(".answers*"))


def test_without_the_base_here(monoglot: Run, out: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """No model is loaded; loops and empty answers are seen all the same."""
    monkeypatch.setattr("monoglot.editor.measures.subject.load_model", None)
    engine.write = lambda model, prompt, asked: "" if model == "base" else "một hai ba bốn năm " * 9
    code, said, notes = monoglot("evaluate", out, *ASKED, *at(engine), "--no-base-here", "--json")
    assert code == 0, notes
    for by in json.loads(said)["activated"]["by_language"].values():
        assert by["this model"]["broken"] == by["base"]["broken"] == 1.0
        assert by["this model"]["perplexity"] is None and by["base"]["accuracy"] == 0


def test_chat_system_seed_and_temperature(monoglot: Run, out: Path, engine: Engine) -> None:
    more = ("--chat", "--system", "Be brief.", "--temperature", 0.7, "--seed", 5, "--no-base-here")
    code, said, notes = monoglot("evaluate", out, *ASKED, *at(engine), *more, "--json")
    assert code == 0, notes
    found = json.loads(said)["activated"]
    assert (found["chat"], found["system"], found["temperature"], found["seed"]) == (True, "Be brief.", 0.7, 5)
    assert {(asked["temperature"], asked["seed"], asked["messages"][0]["content"]) for asked in engine.asked} == {
        (0.7, 5, "Be brief.")
    }
    words = generated.answered_by(found)
    assert "temperature 0.7, seed 5, in its chat template, after a system prompt" in words
    assert "tests in a dtype that it does not say" in words


def test_interrupted_it_goes_on(monoglot: Run, out: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was answered is not asked again."""
    monkeypatch.setattr("monoglot.editor.measures.engine.WORKERS", 1)
    engine.every = lambda asked: Broken(401) if len(engine.asked) > 2 + 8 else None
    code, _, notes = monoglot("evaluate", out, *ASKED, *at(engine), "--no-base-here")
    assert code == 1 and "key is missing or wrong" in notes and (out / ".answers.progress").is_file()
    engine.every, before = lambda asked: None, len(engine.asked)
    code, _, notes = monoglot("evaluate", out, *ASKED, *at(engine), "--no-base-here")
    assert code == 0 and (taken := re.search(r"(\d+) answers of an interrupted run are taken", notes))
    assert len(engine.asked) - before == 2 + 12 - int(taken[1]) and int(taken[1]) == 8
    assert not (out / ".answers.progress").exists()


def test_what_is_wrong_is_said_before_the_work(
    monoglot: Run, out: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monoglot.editor.measures.subject.load_model", None)
    for given, word in (
        (("--engine", engine.url, "--served", "this"), "Say which one is meant with --base-served"),
        (("--engine", engine.url, "--served", "this", "--base-served", "this"), "are both 'this'"),
        (("--engine", engine.url, "--served", "x", "--base-served", "base"), "has no model 'x'; it has 'this', 'base'"),
        (("--engine", "nonsense"), "the engine's URL is 'nonsense'"),
        (("--engine", "vllm"), "vllm is not installed for"),
        (("--engine", "vllm", "--python", "/nowhere"), "there is no Python at /nowhere"),
    ):
        code, _, notes = monoglot("evaluate", out, *ASKED, *given)
        assert code == 1 and word in notes, notes


@pytest.mark.parametrize(
    ("given", "word"),
    [
        (("--served", "x"), "--served goes with --engine URL"),
        (("--engine", "vllm", "--served", "x"), "--served goes with --engine URL"),
        (("--engine", "http://x/v1", "--tensor-parallel-size", 2), "--tensor-parallel-size goes with --engine vllm"),
        (("--temperature", 1), "--temperature goes with --engine"),
        (("--no-base-here",), "goes with --engine"),
        (("--system", "x"), "--system goes with --chat"),
        (("--engine", "vllm", "--deactivate-each"), "--engine goes with --generate"),
    ],
)
def test_options_that_do_not_go_together(monoglot: Run, out: Path, given: tuple[Any, ...], word: str) -> None:
    generate = () if "--deactivate-each" in given else ("--generate",)
    code, _, notes = monoglot("evaluate", out, *generate, *given)
    assert code == 2 and word in notes, notes


def test_two_engines_in_words() -> None:
    found = {
        "engine": {
            "base": {"name": "llama.cpp", "version": "b1", "dtype": "F16"},
            "this model": {"name": None, "version": None, "dtype": None},
        },
        "repetition_penalty": None,
    }
    words = generated.answered_by(found)
    assert words.startswith("Answers by an engine that does not say its name in a dtype that it does not say; base by ")
    assert "base by llama.cpp b1 in F16, greedy, without a repetition penalty" in words
    assert generated.answered_by({}) == generated.answered_by({"engine": "x"}) == ""


def test_a_system_prompt_in_a_template() -> None:
    class Tokenizer:
        chat_template = "x"
        bos_token = ""
        bos_token_id = None

        def apply_chat_template(self, messages: list[dict[str, str]], **more: Any) -> str:
            return " ".join(f"{message['role']}:{message['content']}" for message in messages)

        def __call__(self, text: str) -> dict[str, list[int]]:
            return {"input_ids": [5]}

    assert in_chat(Tokenizer(), "Hi", "Be brief.") == "system:Be brief. user:Hi"
    assert in_chat(Tokenizer(), "Hi") == "user:Hi"
