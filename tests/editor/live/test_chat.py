"""A conversation: what the model is shown, what is handed over, what is remembered."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from support import tiny

from monoglot.editor.errors import CorpusError, ModelError
from monoglot.editor.live.chat import Conversation, templated
from monoglot.editor.live.generate import continuations
from monoglot.editor.models.hf import load_tokenizer

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


@pytest.fixture
def tokenizer(model: Path) -> Any:
    loaded = load_tokenizer(model)
    loaded.chat_template = TEMPLATE
    return loaded


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What the model is given, as text, and how many tokens it may add; it replies "ok" and nothing is computed."""
    seen: list[tuple[str, int]] = []

    def generate(self: Conversation, ids: list[int], tokens: int, written: Any) -> None:
        seen.append((self.tokenizer.decode(ids), tokens))
        written._hand_over("ok")

    monkeypatch.setattr(Conversation, "_generate", generate)
    return seen


def ignore(piece: str) -> None:
    pass


def test_pieces_are_the_reply_and_the_reply_is_generates(model: Path) -> None:
    loaded, tokenizer = tiny.live(model), load_tokenizer(model)
    pieces: list[str] = []
    reply = Conversation(loaded, tokenizer, False, tokens=20).reply(tiny.TEXT["zh"], pieces.append)
    assert "".join(pieces) == reply == continuations(loaded, tokenizer, [tiny.TEXT["zh"]], tokens=20)[0]
    assert len(pieces) > 3


def test_a_drawn_reply_is_that_of_its_seed(model: Path) -> None:
    loaded, tokenizer = tiny.live(model), load_tokenizer(model)

    def reply(seed: int, temperature: float = 3.0) -> str:
        return Conversation(loaded, tokenizer, False, None, 12, temperature, seed).reply("The fox", ignore)

    assert reply(1) == reply(1) != reply(2)
    assert reply(1, 0.0) == reply(2, 0.0)


def test_every_turn_is_in_the_template(model: Path, tokenizer: Any, shown: list[tuple[str, int]]) -> None:
    talk = Conversation(tiny.live(model), tokenizer, True, "be short", tokens=9)
    talk.reply("one", ignore)
    talk.reply("two", ignore)
    talk.forget()
    talk.reply("three", ignore)
    begin = "<s>[system]be short"
    assert [text for text, _ in shown] == [
        f"{begin}[user]one[assistant]",
        f"{begin}[user]one[assistant]ok[user]two[assistant]",
        f"{begin}[user]three[assistant]",
    ]
    assert {room for _, room in shown} == {9}


def test_without_a_template_a_prompt_stands_alone(model: Path, tokenizer: Any, shown: list[tuple[str, int]]) -> None:
    talk = Conversation(tiny.live(model), tokenizer, False, tokens=9)
    talk.reply("one", ignore)
    talk.reply("two", ignore)
    assert [text for text, _ in shown] == ["one", "two"]


def test_the_first_turns_are_forgotten_where_there_is_no_room(
    model: Path, tokenizer: Any, shown: list[tuple[str, int]]
) -> None:
    """The model has 128 positions."""
    talk = Conversation(tiny.live(model), tokenizer, True, tokens=100)
    talk.reply(tiny.TEXT["en"], ignore)
    talk.reply(tiny.TEXT["fr"], ignore)
    talk.reply("three", ignore)
    text, room = shown[-1]
    assert tiny.TEXT["en"] not in text and tiny.TEXT["fr"] in text
    assert [prompt for prompt, _ in talk.turns] == [tiny.TEXT["fr"], "three"]
    assert room == min(100, 128 - len(tokenizer(text)["input_ids"]))
    with pytest.raises(CorpusError, match="positions"):
        talk.reply("x " * 200, ignore)
    with pytest.raises(CorpusError, match="no tokens"):
        Conversation(tiny.live(model), tokenizer, False).reply("", ignore)


def test_what_an_interruption_left_is_remembered(model: Path) -> None:
    talk = Conversation(tiny.live(model), load_tokenizer(model), False, tokens=20)
    whole = talk.reply("The fox", ignore)
    pieces: list[str] = []

    def stop(piece: str) -> None:
        pieces.append(piece)
        if len(pieces) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        talk.reply("The fox", stop)
    assert talk.turns[-1] == ("The fox", "".join(pieces))
    assert whole.startswith("".join(pieces)) and len(whole) > len("".join(pieces))


@pytest.mark.parametrize("system", [None, "x"])
def test_a_template_that_fails(tokenizer: Any, system: str | None) -> None:
    tokenizer.chat_template = "{{ raise_exception('no such role') }}"
    messages = [{"role": "system", "content": system}] if system else [{"role": "user", "content": "x"}]
    with pytest.raises(ModelError, match=r"no such role.*" + ("`system`" if system else "Take `template=False`")):
        templated(tokenizer, messages)


def test_one_token_at_the_beginning(model: Path, tmp_path: Path) -> None:
    """Where the tokenizer puts `<s>` before every text, the template's own is left out."""
    from tokenizers import Tokenizer, processors

    folder = shutil.copytree(model, tmp_path / "bos")
    raw = Tokenizer.from_file(str(folder / "tokenizer.json"))
    raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    raw.save(str(folder / "tokenizer.json"))
    loaded = load_tokenizer(folder)
    loaded.chat_template = TEMPLATE
    ids = loaded(templated(loaded, [{"role": "user", "content": "a"}]))["input_ids"]
    assert ids.count(0) == 1 and ids[0] == 0
