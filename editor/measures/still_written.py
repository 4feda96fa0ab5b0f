"""Can a checkpoint still write a script: many answers, drawn at temperature 1, to prompts that ask for the language.

Beside the checkpoint stand its base, and the base with the script's rows of the output table halved, as other tools do it:
a logit below zero rises by that.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from ..edits.manifest_base import carried_in
from ..errors import CorpusError, VerificationError
from ..live.generate import in_chat
from ..live.load import hooked
from ..live.logits import Variant
from ..live.sampled import sampled
from ..models.hf import load_tokenizer
from ..progress import NOBODY, Listener
from ..text.letters import NEEDED, share_of
from ..text.prompts import passages
from ..text.silenced import find_tokens
from ..text.token_bytes import token_bytes
from ..text.token_sets import SETS
from ..text.unicode_scripts import scripts_in
from .interview import choose_prompts
from .leaks import leaks_of_scripts, thought_and_answer
from .options import Options
from .subject import Subject

BASE, THIS, HALVED = "base", "this model", "rows × 0.5"
TEMPERATURE, SEED, FACTOR = 1.0, 0, 0.5


def leaks(subject: Subject, options: Options, listener: Listener = NOBODY) -> dict[str, Any]:
    """Count characters of the scripts that a checkpoint is not to write, in `options.answers` answers of each variant.

    The scripts are those that are silenced or quietened in it, else those that its deactivated languages are written in; the
    prompts are in languages that use them. Raises VerificationError for what is no checkpoint, CorpusError when there are no
    such prompts.
    """
    if subject.folder is None or subject.manifest is None:
        raise VerificationError(
            f"{subject.target.source.name} is no checkpoint of monoglot's, so it has no edits to measure."
        )
    recipe = subject.manifest.recipe
    scripts = [edit.script for edit in recipe.scripts if edit.script not in SETS]
    silence = carried_in(subject.folder, subject.target, subject.neurons).silenced
    known = silence.silence.languages if silence else subject.manifest.deactivated
    prompts = choose_prompts(options, [code for code in known if _uses(code, scripts)], (), listener)
    if not scripts:
        found = scripts_in("".join(prompt for own in prompts.values() for prompt in own))
        scripts = sorted(script for script in found if script != "Latin")
    if not scripts:
        raise CorpusError(
            "the prompts are in Latin script, which nothing is silenced in. Give prompts in another language."
        )
    if silence and set(scripts) <= silence.silence.ids.keys():
        ids = np.sort(np.concatenate([silence.silence.ids[script] for script in scripts]))
    else:
        tokens = find_tokens(token_bytes(load_tokenizer(subject.target.source.folder)), scripts, None)
        ids = np.sort(np.concatenate([own.ids for own in tokens.values()]))
    variants = (
        Variant(BASE, subject.model),
        Variant(HALVED, subject.model, partial(_halved, subject.model, ids)),
        Variant(THIS, subject.baked()),
    )
    asked = [prompt for own in prompts.values() for prompt in own]
    shown = [in_chat(subject.tokenizer, prompt) for prompt in asked] if options.chat else asked
    rows: dict[str, dict[str, Any]] = {}
    samples: dict[str, list[str]] = {}
    for variant in variants:
        with variant.inside(), listener.stage(f"leaks, {variant.name}", "answers") as update:
            written = sampled(
                variant.model, subject.tokenizer, shown, options.answers, tokens=options.tokens, temperature=TEMPERATURE,
                seed=SEED, progress=update,
            )  # fmt: skip
        rows[variant.name] = _figures(written, scripts, recipe.except_chars)
        samples[variant.name] = [written[options.answers * at // len(asked)] for at in range(len(asked))]
    first = range(min(options.samples * len(prompts), len(asked), options.answers))
    languages = [language for language, own in prompts.items() for _ in own]
    return {
        "scripts": scripts,
        "answers": options.answers,
        "tokens": options.tokens,
        "temperature": TEMPERATURE,
        "prompts": {language: len(own) for language, own in prompts.items()},
        **({"chat": True} if options.chat else {}),
        "rows": rows,
        "samples": [
            {"language": languages[at], "prompt": asked[at], **{name: own[at] for name, own in samples.items()}}
            for at in first
        ],
    }


def _uses(language: str, scripts: Sequence[str]) -> bool:
    """Whether there are prompts in a language that use one of the scripts; in any other than Latin where none is named."""
    counts = dict.fromkeys("".join(passages(language)), 1)
    return any(share_of(script, counts) >= NEEDED for script in scripts or {*scripts_in(counts)} - {"Latin"})


def _figures(written: Sequence[str], scripts: Sequence[str], spared: str) -> dict[str, Any]:
    """Return the leaks of the answers, and of what was thought before them, where anything was."""
    parts = [thought_and_answer(text) for text in written]
    thoughts = [thought for thought, _ in parts if thought is not None]
    found = {"answer": [answer for _, answer in parts], **({"think": thoughts} if thoughts else {})}
    return {
        name: {key: round(value, 5) for key, value in vars(leaks_of_scripts(own, scripts, spared)).items()}
        for name, own in found.items()
    }


@contextmanager
def _halved(model: Any, ids: Any) -> Iterator[None]:
    """Halve the rows of some tokens in the output table, and so their logits."""
    import torch

    where = torch.from_numpy(ids)

    def halve(module: Any, inputs: Any, output: Any) -> Any:
        changed = output.clone()
        changed[..., where.to(output.device)] *= FACTOR
        return changed

    with hooked([model.get_output_embeddings().register_forward_hook(halve)]):
        yield
