"""Batches answer as each prompt would alone, in every family; nothing that a model writes is a crash."""

from pathlib import Path
from typing import Any

import pytest
import torch
from support import tiny

from monoglot.editor.errors import CorpusError, ModelError
from monoglot.editor.live import generate
from monoglot.editor.live.generate import continuations, in_chat
from monoglot.editor.live.load import load_model
from monoglot.editor.models.hf import load_tokenizer

PROMPTS = (
    "The quick brown fox jumps",
    "Le renard",
    "敏捷的棕色狐狸跳过",
    "x",
    "The old farmer looks at the evening sky and",
)


def alone(model: Any, tokenizer: Any, prompt: str, tokens: int) -> str:
    """The reference: greedy by hand, without a cache, a batch or transformers' generate()."""
    ids = tokenizer(prompt)["input_ids"]
    start = len(ids)
    for _ in range(tokens):
        with torch.no_grad():
            scores = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].float().clone()
        seen = torch.tensor(sorted(set(ids)))
        scores[seen] = torch.where(scores[seen] < 0, scores[seen] * 1.1, scores[seen] / 1.1)
        ids.append(int(scores.argmax()))
        if ids[-1] == tokenizer.eos_token_id:
            break
    return str(tokenizer.decode(ids[start:], skip_special_tokens=True)).rstrip("\ufffd")


CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {}, "gpt2": {}, "bloom": {}, "opt": {}, "gpt_neo": {"window_size": 8}, "falcon": {"alibi": True},
    "gemma3_text": {"sliding_window": 8}, "xglm": {}, "mpt": {},
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("family", CONFIGS)
def test_a_batch_is_what_greedy_by_hand_gives(family: str, tmp_path: Path) -> None:
    folder = tiny.save_model(tmp_path / "m", family, **CONFIGS[family])
    model, tokenizer = load_model(folder, device="cpu"), load_tokenizer(folder)
    together = continuations(model, tokenizer, PROMPTS, tokens=20)
    assert together == [alone(model, tokenizer, prompt, 20) for prompt in PROMPTS]
    assert len(set(together)) > 1


@pytest.mark.slow
@pytest.mark.parametrize("family", [name for name in tiny.DENSE if name not in CONFIGS])
def test_a_batch_is_what_each_alone_gives(family: str, tmp_path: Path) -> None:
    tiny.need(family)
    if family in ("ctrl", "doge", "lfm2"):
        tiny.need_5(f"transformers 4 does not leave out padding in {family}")
    folder = tiny.save_model(tmp_path / "m", family)
    model, tokenizer = load_model(folder, device="cpu"), load_tokenizer(folder)
    single = [continuations(model, tokenizer, [prompt], tokens=20)[0] for prompt in PROMPTS]
    assert continuations(model, tokenizer, PROMPTS, tokens=20) == single


def test_padding_is_not_punished_as_a_repetition(model: Path) -> None:
    """The output layer wants `</s>` always, and by so little more than `!` that a penalty on it would show."""
    live, tokenizer = load_model(model, device="cpu"), load_tokenizer(model)
    exclamation = tokenizer("!")["input_ids"][0]

    def scores(*_: Any, output: torch.Tensor) -> torch.Tensor:
        wanted = torch.zeros_like(output)
        wanted[..., tokenizer.eos_token_id], wanted[..., exclamation] = 1.0, 0.95
        return wanted

    handle = live.get_output_embeddings().register_forward_hook(lambda *given: scores(output=given[-1]))
    assert continuations(live, tokenizer, ["The quick brown fox", "Le"], tokens=4) == ["", ""]
    handle.remove()


def test_batches_are_bounded_and_keep_the_order(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    live, tokenizer = load_model(model, device="cpu"), load_tokenizer(model)
    expected = continuations(live, tokenizer, PROMPTS, tokens=6)
    sizes, seen, asked = [], [], set()
    whole = live.generate

    def counted(**given: Any) -> Any:
        sizes.append(len(given["input_ids"]))
        asked.update(frozenset(row) for row in given["input_ids"].tolist())
        return whole(**given)

    monkeypatch.setattr(live, "generate", counted)
    monkeypatch.setattr(generate, "LOGITS", 2 * tiny.VOCABULARY)
    monkeypatch.setattr("monoglot.editor.live.generate.ROWS", 64)
    assert continuations(live, tokenizer, PROMPTS, tokens=6, progress=lambda *at: seen.append(at)) == expected
    assert sizes == [2, 2, 1]
    assert seen == [("", 2, 5), ("", 4, 5), ("", 5, 5)]
    assert asked == {frozenset(ids) for ids in tokenizer(list(PROMPTS))["input_ids"]}  # padded with tokens of their own


def test_nothing_asked_nothing_written(model: Path) -> None:
    assert continuations(load_model(model, device="cpu"), load_tokenizer(model), []) == []


def test_a_model_of_nan_writes_something(model: Path) -> None:
    live = load_model(model, device="cpu")
    with torch.no_grad():
        next(live.parameters()).fill_(float("nan"))
    assert len(continuations(live, load_tokenizer(model), PROMPTS, tokens=4)) == len(PROMPTS)


def test_a_character_cut_in_half_is_left_out(model: Path) -> None:
    live, tokenizer = load_model(model, device="cpu"), load_tokenizer(model)
    first_byte = tokenizer.convert_tokens_to_ids("å")  # 0xE5 in the byte alphabet: begins a character of three bytes
    wanted = torch.zeros(tiny.VOCABULARY)
    wanted[first_byte] = 1
    handle = live.get_output_embeddings().register_forward_hook(lambda *given: wanted.expand(given[-1].shape))
    assert continuations(live, tokenizer, ["The"], tokens=3) == [""]
    handle.remove()


def test_prompts_that_no_model_can_go_on_with(model: Path) -> None:
    live, tokenizer = load_model(model, device="cpu"), load_tokenizer(model)
    with pytest.raises(CorpusError, match="has no tokens"):
        continuations(live, tokenizer, ["The", ""])
    with pytest.raises(CorpusError, match="more than the 128 positions"):
        continuations(live, tokenizer, ["word " * 200])


TEMPLATE = "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}{% endfor %} [assistant]"


@pytest.mark.parametrize("begins", [True, False])
def test_a_prompt_in_the_chat_template(begins: bool, tmp_path: Path) -> None:
    """One beginning-of-text token, whether the template or the tokenizer writes it."""
    from tokenizers.processors import TemplateProcessing

    tiny.save_tokenizer(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    if begins:
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    with pytest.raises(ModelError, match="no chat template"):
        in_chat(tokenizer, "Hello?")
    tokenizer.chat_template = TEMPLATE
    assert in_chat(tokenizer, "Hello?") == ("" if begins else "<s>") + "[user] Hello? [assistant]"
    assert tokenizer(in_chat(tokenizer, "Hello?"))["input_ids"].count(0) == 1
    tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(ModelError, match="chat template fails: roles must alternate"):
        in_chat(tokenizer, "Hello?")
