"""What models answer to prompts in several languages: in which language, and how good the text is.

accuracy    the share of answers that are in a wanted language (undetermined is not)
whole       the share that are, and are not broken (see `quality`)
interval    where the accuracy lies in 95 of 100 draws of as many prompts (see `interval`)
leaks       the share that have a letter of a script that no wanted language is written in (see `leaks`)
relevance   how much likelier they are after their own prompt than after another (see `relevance`)
lpr, wpr    the shares that hold line by line, and word by word (see `confusion`)
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..live.generate import continuations
from ..live.logits import Variant
from ..progress import Progress
from ..text.identify import check, is_in
from ..text.prompts import COUNT, passages
from .confusion import Confusion, confusion
from .interval import interval
from .leaks import CLEAN, Leaks, leaks
from .quality import Quality, quality, rounded, token_ids
from .relevance import Relevance, relevance

Writer = Callable[[Sequence[str], Progress], list[str]]  # prompts -> answers, without the prompts
HUNDRED = 100  # tokens


@dataclass(frozen=True)
class Answers:
    """Some answers, and what is to be said of them.

    `right_of` and `whole_of` say of each whether it is in a wanted language, and whole besides; `hundreds` say it of each
    hundred tokens of each. `relevance` is there where
    it was asked for, with two different prompts or more.
    """

    texts: tuple[str, ...]
    accuracy: float
    whole: float
    confusion: Confusion
    quality: Quality
    right_of: tuple[bool, ...] = ()
    whole_of: tuple[bool, ...] = ()
    hundreds: tuple[tuple[bool, ...], ...] = ()
    leaks: Leaks = CLEAN
    relevance: Relevance | None = None

    def figures(self) -> dict[str, Any]:
        """For a manifest: rounded, without the texts."""
        shares = {"accuracy": self.accuracy, "whole": self.whole, **asdict(self.confusion)}
        shares |= {"leaks": self.leaks.share, "per_thousand": self.leaks.per_thousand}
        shares |= {"relevance": self.relevance.mean} if self.relevance else {}
        return {
            **{name: value if value is None else round(value, 4) for name, value in shares.items()},
            "interval": [round(end, 4) for end in interval(self.right_of)],
            **rounded(self.quality),
        }


def _hundreds(tokenizer: Any, texts: Sequence[str], wanted: Sequence[str]) -> Iterator[tuple[bool, ...]]:
    """Say of each hundred tokens of each answer whether they are in a wanted language; a rest of less than half is left out.

    An answer of a hundred tokens or less has none: it is judged as a whole.
    """
    for row in token_ids(tokenizer, texts):
        starts = range(0, len(row) - HUNDRED // 2 + 1, HUNDRED) if len(row) > HUNDRED else ()
        yield tuple(is_in(tokenizer.decode(row[at : at + HUNDRED]), *wanted) for at in starts)


def by_hundred(answers: Sequence[Answers]) -> list[float]:
    """Return the share of answers that are in a wanted language in their first hundred tokens, their second, and so on."""
    every = [own for one in answers for own in one.hundreds]
    columns = ([own[at] for own in every if len(own) > at] for at in range(max(map(len, every), default=0)))
    return [round(sum(column) / len(column), 4) for column in columns]


def together(by_language: Mapping[str, Answers]) -> dict[str, Any]:
    """Say of all answers, whatever the prompt's language, how many there are and which share is right, with its interval."""
    right = [own for answers in by_language.values() for own in answers.right_of]
    whole = [own for answers in by_language.values() for own in answers.whole_of]
    count = len(right)
    relevant = [
        value for one in by_language.values() if one.relevance for value in one.relevance.each if value is not None
    ]
    known = {"relevance": sum(relevant) / len(relevant)} if relevant else {}
    leaking = sum(answers.leaks.share * len(answers.texts) for answers in by_language.values())
    shares = {
        "accuracy": sum(right) / max(1, count), "whole": sum(whole) / max(1, count), "leaks": leaking / max(1, count),
        **known,
    }  # fmt: skip
    drift = by_hundred(list(by_language.values()))
    return {
        "answers": count,
        **({"by_hundred": drift} if drift else {}),
        **{name: round(value, 4) for name, value in shares.items()},
        "interval": [round(end, 4) for end in interval(right)],
    }


def judged(base: Any, tokenizer: Any, texts: Sequence[str], wanted: Sequence[str], real: float | None) -> Answers:
    """`wanted` are the languages that count as right, `real` the perplexity of real text in them; `base` judges."""
    said = quality(base, tokenizer, texts, real=real)
    right = [is_in(text, *wanted) for text in texts]
    whole = [own and not broken for own, broken in zip(right, said.broken, strict=True)]
    count = max(1, len(texts))
    return Answers(
        tuple(texts), sum(right) / count, sum(whole) / count, confusion(texts, wanted), said, tuple(right), tuple(whole),
        tuple(_hundreds(tokenizer, texts, wanted)),
        leaks(texts, *wanted),
    )  # fmt: skip


def real_text(
    base: Any, tokenizer: Any, wanted: Mapping[str, Sequence[str]], tokens: int, count: int = COUNT
) -> dict[str, Quality]:
    """Measure real text as the yardstick, by the prompt's language.

    It is what the base finds of the first `count` embedded passages in the wanted languages, cut to `tokens` tokens. The
    perplexity is None in a language that is not embedded.
    """
    texts = {
        codes: [text for code in codes for text in passages(code)[:count]] for codes in map(tuple, wanted.values())
    }
    found = {codes: quality(base, tokenizer, own, tokens=tokens) for codes, own in texts.items()}
    return {language: found[tuple(codes)] for language, codes in wanted.items()}


def ask(
    variants: Sequence[Variant],
    base: Any,
    tokenizer: Any,
    prompts: Mapping[str, Sequence[str]],
    wanted: Mapping[str, Sequence[str]],
    real: Mapping[str, float | None],
    *,
    tokens: int,
    progress: Progress | None = None,
) -> dict[str, dict[str, Answers]]:
    """Ask for answers of at most `tokens` tokens, by variant and the prompt's language.

    `wanted` and `real` are by the prompt's language too. Raises CorpusError for a language that can't be identified.
    """
    written = {variant.name: local(variant, tokenizer, tokens) for variant in variants}
    return ask_writers(written, base, tokenizer, prompts, wanted, real, progress=progress)


def local(variant: Variant, tokenizer: Any, tokens: int) -> Writer:
    """Make what writes answers of at most `tokens` tokens with a live model."""

    def write(prompts: Sequence[str], progress: Progress) -> list[str]:
        with variant.inside():
            return continuations(variant.model, tokenizer, prompts, tokens=tokens, progress=progress)

    return write


def ask_writers(
    writers: Mapping[str, Writer],
    base: Any,
    tokenizer: Any,
    prompts: Mapping[str, Sequence[str]],
    wanted: Mapping[str, Sequence[str]],
    real: Mapping[str, float | None],
    *,
    read: Mapping[str, Sequence[str]] | None = None,
    progress: Progress | None = None,
) -> dict[str, dict[str, Answers]]:
    """Ask whoever writes, by name, and judge the answers, as `ask` does.

    `read` are the prompts as a model reads them, in its chat template for example, for their relevance. `base` None judges
    neither perplexity nor relevance.
    """
    read = read or prompts
    for languages in wanted.values():  # before the work
        for language in languages:
            check([language])
    asked = [prompt for own in prompts.values() for prompt in own]
    found: dict[str, dict[str, Answers]] = {}
    for name, write in writers.items():

        def advance(_: str, done: int, whole: int, name: str = name) -> None:
            if progress:
                progress(name, len(found) * whole + done, len(writers) * whole)

        texts = iter(write(asked, advance))
        found[name] = {
            language: judged(base, tokenizer, [next(texts) for _ in own], wanted[language], real.get(language))
            for language, own in prompts.items()
        }
    return {
        name: {
            language: replace(own, relevance=relevance(base, tokenizer, read[language], own.texts))
            if base is not None and len(set(read[language])) > 1
            else own
            for language, own in by.items()
        }
        for name, by in found.items()
    }
