"""monoglot evaluate MODEL NEURONS: every measure, against a plain second way to get it, and the folder of findings."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from support import tiny

from monoglot.editor import embedded
from monoglot.editor.edits.hooks import steered
from monoglot.editor.edits.plan import plan
from monoglot.editor.edits.recipe import Edit, Recipe
from monoglot.editor.live.generate import continuations
from monoglot.editor.live.load import load_model
from monoglot.editor.live.modules import activation_modules
from monoglot.editor.measures import findings
from monoglot.editor.measures.matrix import dominance, perplexity_matrices
from monoglot.editor.models.hf import load_tokenizer
from monoglot.editor.models.identity import Base
from monoglot.editor.models.source import resolve
from monoglot.editor.models.target import Target, model_info, open_target
from monoglot.editor.neurons import neurons
from monoglot.editor.text.corpus import open_corpus
from monoglot.editor.text.identify import language_of
from monoglot.editor.text.prompts import embedded_prompts
from monoglot.editor.text.questions import questions, with_request
from monoglot.editor.text.tokens import read_texts

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def target() -> Target:
    return open_target(resolve(embedded.NAME))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, planted: neurons.Neurons) -> Path:
    path = tmp_path_factory.mktemp("neurons") / "n.json"
    neurons.save(planted, path)
    return path


@pytest.mark.slow
def test_the_matrix_is_the_librarys(monoglot: Run, file: Path, target: Target, planted: neurons.Neurons) -> None:
    options = ("--perplexity", "--languages", "en,fr", "--text-tokens", 300, "--context", 96, "--json")
    code, out, err = monoglot("evaluate", "embedded", file, *options)
    assert code == 0, err
    found = json.loads(out)["perplexity"]
    texts = read_texts(target, open_corpus(["embedded"], ["en", "fr"]), tokens=300, context=96, held_out=True)
    matrix = perplexity_matrices(load_model(embedded.MODEL), target.feed_forward, {"": planted}, texts)[""]
    assert set(found["change"]) == set(planted.languages) and set(found["base"]) == {"en", "fr"}
    for language, row in matrix.change.items():
        assert found["change"][language] == pytest.approx(row, abs=2e-4)
    assert found["random"] == pytest.approx(matrix.random, abs=2e-4)
    assert found["dominance"]["share"] == pytest.approx(dominance(matrix).share, abs=1e-3)
    assert found["change"]["fr"]["fr"] > 1 > found["change"]["fr"]["en"]
    assert found["tokens"] == matrix.tokens and found["shared"] == "edit"
    assert "Measuring on the embedded texts" in err


def test_profile_and_overlap_need_no_model(monoglot: Run, file: Path, planted: neurons.Neurons) -> None:
    code, out, err = monoglot("evaluate", "embedded", file, "--profile", "--overlap", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["profile"]["layers"]["zh"] == [len(layer) for layer in planted.indices["zh"]]
    assert found["overlap"]["neurons"] == {k: planted.count(k) for k in planted.languages}


@pytest.mark.slow
def test_deactivate_each_is_a_plain_loop(monoglot: Run, file: Path, target: Target, planted: neurons.Neurons) -> None:
    options = ("--deactivate-each", "--languages", "en,zh", "--count", 2, "--tokens", 10, "--samples", 2, "--json")
    code, out, err = monoglot("evaluate", "embedded", file, *options)
    assert code == 0, err
    found = json.loads(out)["deactivate_each"]
    assert set(found["rows"]) == {"none", "random", *planted.languages}
    model, tokenizer = load_model(embedded.MODEL), load_tokenizer(embedded.MODEL)
    modules, shape = activation_modules(model, target.feed_forward.family), target.feed_forward
    for off in ("none", "en", "zh"):
        edits = Recipe(Base("m"), (Edit(off, "deactivate"),), "edit")
        for language, prompts in embedded_prompts(["en", "zh"], 2).items():
            if off == "none":
                texts = [continuations(model, tokenizer, [prompt], tokens=10)[0] for prompt in prompts]
            else:
                with steered(modules, plan(edits, planted, layers=shape.layers, width=shape.width)):
                    texts = [continuations(model, tokenizer, [prompt], tokens=10)[0] for prompt in prompts]
            right = sum(language_of(text, (language,)) == language for text in texts)
            assert found["rows"][off][language]["accuracy"] == right / 2
            column = "off" if off == language else off
            if off in ("none", language):
                assert [one[column] for one in found["samples"] if one["language"] == language] == texts
    assert found["rows"]["none"]["zh"]["accuracy"] == 1 and found["rows"]["zh"]["zh"]["accuracy"] == 0
    assert found["rows"]["en"]["zh"]["accuracy"] == 1 and found["neurons"]["zh"] == planted.count("zh")
    assert {"lpr", "wpr", "lcpr", "whole", "perplexity", "repetition"} <= set(found["rows"]["none"]["zh"])


def test_findings_are_kept_and_added_to(monoglot: Run, file: Path, tmp_path: Path, target: Target) -> None:
    folder = tmp_path / "kept"
    code, _, err = monoglot("evaluate", "embedded", file, "--profile", "-o", folder)
    assert code == 0, err
    code, out, err = monoglot("evaluate", "embedded", file, "--overlap", "-o", folder, "--json")
    assert code == 0, err
    found = findings.read(folder)
    assert set(found.evaluation.to_data()) == {"profile", "overlap"} == set(json.loads(out))
    assert found.model == model_info(target)
    assert neurons.load(folder / "neurons.json").count("zh") == neurons.load(file).count("zh")
    assert f"monoglot report {folder}" in err or "--json" in err or err == ""

    other = tmp_path / "other.json"
    code, _, err = monoglot("find", "--method", "random", tmp_path / "absent", "-o", other)
    changed = json.loads(file.read_text().replace('"hand"', '"another"'))
    other.write_text(json.dumps(changed))
    code, _, err = monoglot("evaluate", "embedded", other, "--profile", "-o", folder)
    assert code == 1 and "of other neurons" in err
    assert findings.read(folder) == found, "nothing lost"


def test_aligned_texts_of_ones_own(monoglot: Run, file: Path, tmp_path: Path) -> None:
    (tmp_path / "en.txt").write_text("The fox jumps.\nThe farmer smiles.\n", encoding="utf-8")
    (tmp_path / "fr.txt").write_text("Le renard saute.\n\nLe fermier sourit.\n", encoding="utf-8")
    code, out, err = monoglot("evaluate", "embedded", file, "--similarity", "--aligned", tmp_path, "--json")
    assert code == 0, err
    found = json.loads(out)["similarity"]
    assert list(found["pairs"]) == ["en-fr"] and found["texts"] == 2 and len(found["mean"]) == 7
    (tmp_path / "fr.txt").write_text("Le renard saute.\n", encoding="utf-8")
    code, out, err = monoglot("evaluate", "embedded", file, "--similarity", "--aligned", tmp_path)
    assert (code, out) == (1, "") and "different numbers of texts: en 2, fr 1" in err
    assert "Traceback" not in err


@pytest.fixture
def judge() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A judge on loopback that gives 4 to every answer, or 1 where it holds a digit run; and what it was asked."""
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._say({"data": [{"id": "kind"}]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(body)
            self._say({"choices": [{"message": {"content": "4"}, "finish_reason": "stop"}]})

        def _say(self, data: Any) -> None:
            text = json.dumps(data).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1", asked
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.slow
def test_a_judge_marks_every_answer(
    monoglot: Run, file: Path, judge: tuple[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    url, asked = judge
    options = (
        "--deactivate-each",
        "--languages",
        "en",
        "--prompts",
        "questions",
        "--count",
        2,
        "--tokens",
        6,
        "--json",
    )
    code, out, err = monoglot("evaluate", "embedded", file, *options, "--judge", url, "--judge-model", "kind")
    assert code == 0, err
    found = json.loads(out)["deactivate_each"]
    assert all(row["en"]["quality"] == 4 for row in found["rows"].values()) and found["judge"] == "kind"
    contents = [body["messages"][-1]["content"] for body in asked if "messages" in body]
    assert len(contents) >= 2 * len(found["rows"])
    assert all(any(question in content for content in contents) for question in questions(["en"], 2)["en"])
    assert any("English" in content for content in contents)
    sample = found["samples"][0]
    for name in ("none", "random", "off"):
        assert any(sample[name] in content for content in contents), "each variant's own answer is judged"

    asked.clear()
    dry = (*options, "--judge", url, "--judge-model", "kind", "--judge-dry-run", "-o", tmp_path / "kept")
    code, out, err = monoglot("evaluate", "embedded", file, *dry)
    assert code == 0 and not asked, err
    assert "nothing is sent" in err and re.search(r"requests\D+18\b", err)
    assert "quality" not in json.loads(out)["deactivate_each"]["rows"]["none"]["en"]
    assert not (tmp_path / "kept").exists() and "Kept" not in err


def test_what_a_model_is_refused_for(monoglot: Run, file: Path, tmp_path: Path) -> None:
    model = tiny.save_model(tmp_path / "m")
    used = tmp_path / "used"
    used.mkdir()
    (used / "config.json").write_text("{}")
    short = tmp_path / "short.txt"
    short.write_text("The quick brown fox jumps over the lazy dog.\n")
    for arguments, code, said in (
        ((model, "--profile"), 1, "was not made by monoglot"),
        (("embedded", file, "--generate"), 2, "for a model take --deactivate-each"),
        ((model, file, "--profile"), 1, "layers"),
        (("embedded", tmp_path / "absent.json", "--profile"), 1, "there is no file"),
        (("embedded", file, "--profile", "-o", used), 1, "has other things in it"),
        (("embedded", file, "--profile", "-o", used / "config.json"), 1, "is a file"),
        (("embedded", file, "--deactivate-each", "--languages", "de"), 1, "no prompts in 'de'"),
        (("embedded", file, "--perplexity", "--corpus", f"en={short}"), 1, "too few documents for one to be held out"),
    ):
        ended, out, err = monoglot("evaluate", *arguments)
        assert (ended, out) == (code, ""), (arguments, err)
        assert said in err and "Traceback" not in err
    assert sorted(path.name for path in used.iterdir()) == ["config.json"]


def test_requests_in_so_many_words(monkeypatch: pytest.MonkeyPatch) -> None:
    from monoglot.editor.measures.interview import with_requests
    from monoglot.editor.measures.options import Options

    asked = with_requests({"en": ["How do I sleep?"], "zh": ["怎么睡觉？"]}, Options(answer_in="fr"))
    assert asked == {
        "en": [with_request("How do I sleep?", "en", "fr")],
        "zh": [with_request("怎么睡觉？", "zh", "fr")],
    }
    assert asked["en"][0].startswith("How do I sleep? ") and "French" in asked["en"][0]
    assert with_requests({"en": ["a"]}, Options()) == {"en": ["a"]}
