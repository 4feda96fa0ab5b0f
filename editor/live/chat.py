"""A conversation with a model: what it is shown, and its reply piece by piece.

With a chat template the model sees every turn so far, without one it goes on from the last prompt alone. Greedy by default,
with the repetition penalty of `generate`, so a reply is what `continuations` would give. An exception that is raised while
a piece is handed over, or by Ctrl-C, ends the reply at once: nothing runs in another thread.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..errors import CorpusError, ModelError, reason_of
from ..models.hf import quiet
from .generate import BROKEN, REPETITION_PENALTY

FEWEST = 16  # tokens that a reply should have room for; earlier turns are forgotten for them

Piece = Callable[[str], None]


@dataclass
class Conversation:
    """One model's side of a conversation. `turns` are (prompt, reply), the earliest first."""

    model: Any
    tokenizer: Any
    template: bool
    system: str | None = None
    tokens: int = 200
    temperature: float = 0.0
    seed: int = 0
    turns: list[tuple[str, str]] = field(default_factory=list)

    def reply(self, prompt: str, piece: Piece) -> str:
        """Reply to `prompt`, and remember the turn.

        Each piece of the reply is given to `piece` when it is there, never a part of a character alone. When the reply is
        interrupted, what there was of it is remembered, as the user has seen it.

        Raises CorpusError when the prompt has no tokens or is too long, ModelError when the chat template fails.
        """
        ids, room = self._ids(prompt)
        written = _Written(self.tokenizer, piece)
        try:
            self._generate(ids, room, written)
        finally:
            self.turns.append((prompt, written.text))
        return written.text

    def forget(self) -> None:
        self.turns.clear()

    def _ids(self, prompt: str) -> tuple[list[int], int]:
        """Return the tokens that the model is shown, and how many it may add.

        The earliest turns are forgotten where there would be no room for a reply.
        """
        positions = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        while True:
            ids: list[int] = self.tokenizer(self._text(prompt), return_token_type_ids=False)["input_ids"]
            if not ids:
                raise CorpusError("the prompt has no tokens. Write something.")
            room = positions - len(ids) if positions else self.tokens
            if room >= min(self.tokens, FEWEST) or not self.template or not self.turns:
                break
            del self.turns[0]
        if room < 1:
            raise CorpusError(f"the prompt has {len(ids)} tokens, the model has {positions} positions. Shorten it.")
        return ids, min(self.tokens, room)

    def _text(self, prompt: str) -> str:
        if not self.template:
            return prompt
        messages = [{"role": "system", "content": self.system}] if self.system else []
        for said, answered in self.turns:
            messages += [{"role": "user", "content": said}, {"role": "assistant", "content": answered}]
        messages.append({"role": "user", "content": prompt})
        return templated(self.tokenizer, messages)

    def _generate(self, ids: list[int], tokens: int, written: "_Written") -> None:
        import torch

        tokenizer, device = self.tokenizer, next(self.model.parameters()).device
        shown = torch.tensor([ids], device=device)  # (1, T)
        sampling: dict[str, Any] = {"do_sample": False}
        if self.temperature:
            torch.manual_seed(self.seed + len(self.turns))  # so two models that are asked the same draw the same
            sampling = {"do_sample": True, "temperature": self.temperature}
        with torch.inference_mode(), quiet():
            self.model.generate(
                input_ids=shown,
                attention_mask=torch.ones_like(shown),
                max_new_tokens=tokens,
                repetition_penalty=REPETITION_PENALTY,
                pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id,
                streamer=written,
                **sampling,
            )


def templated(tokenizer: Any, messages: list[dict[str, Any]]) -> str:
    """Put messages into the model's chat template.

    The beginning-of-text token is left out where the tokenizer puts one before every text anyway. Raises ModelError when the
    template can't be filled in with these messages.
    """
    try:
        text: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    except Exception as error:  # a template is a program, and raises what it likes
        reason = reason_of(error)
        hint = (
            "Leave `system` out, or take `template=False`."
            if messages[0]["role"] == "system"
            else "Take `template=False`."
        )
        raise ModelError(f"the model's chat template fails: {reason}. {hint}") from None
    first = tokenizer("a")["input_ids"][0]
    return text.removeprefix(tokenizer.bos_token) if first == tokenizer.bos_token_id else text


class _Written:
    """What `generate` has written so far: a streamer, as transformers calls it, that hands over what is new."""

    def __init__(self, tokenizer: Any, piece: Piece) -> None:
        self.tokenizer, self.piece = tokenizer, piece
        self.ids: list[int] = []
        self.text = ""
        self.prompt = True

    def put(self, value: Any) -> None:
        if self.prompt:  # comes first
            self.prompt = False
            return
        self.ids += value.flatten().tolist()
        self._hand_over(self.tokenizer.decode(self.ids, skip_special_tokens=True).rstrip(BROKEN))

    def end(self) -> None:
        pass

    def _hand_over(self, text: str) -> None:
        new, self.text = text[len(self.text) :], text if len(text) > len(self.text) else self.text
        if new:
            self.piece(new)
