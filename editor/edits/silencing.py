"""From a recipe and text to a silence: which tokens write a script, who needs it, and the direction that keeps them down."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CorpusError, ModelError, RecipeError, StatisticsError
from ..files.output import check_free
from ..live.load import load_model
from ..live.streaming import AUTO, Streaming
from ..models.embedding import open_embedding
from ..models.head import Head, open_head
from ..models.hf import load_tokenizer
from ..models.target import Target, model_info
from ..progress import NOBODY, Listener
from ..statistics.final_states import FinalStates, read_final_states
from ..text.corpus import Text, open_corpus
from ..text.languages import listed
from ..text.letters import LATIN, NEEDED, WRITTEN_IN, count_characters, share_of
from ..text.silenced import Found, find_tokens
from ..text.token_bytes import token_bytes
from ..text.token_sets import SETS, find_set
from ..text.tokens import read_texts
from ..text.unicode_scripts import scripts_in
from .adapter import check_adaptable
from .bake import check_place
from .floor import fit_floor, holds, one_table_floor
from .output_rows import silenced
from .recipe import Edit, Recipe
from .request import ADAPTER, CHECKPOINT, OTHERS, Request
from .script_edit import SILENCE, less_likely
from .silence import Floor, Silence, Tokens, load
from .token_hooks import silenced as kept_down

FITTED, UNSEEN = 2048, 1024  # tokens a language
CONTEXT = 256  # tokens
ATTEMPTS = 3  # directions that are tried where a model keeps one table
SHOWN = 12  # characters in a message


def prepare(
    target: Target,
    texts: Mapping[str, Text] | None,
    recipe: Recipe,
    *,
    lose: Sequence[str] = (),
    device: str = "auto",
    dtype: str = "auto",
    streaming: Streaming = AUTO,
    listener: Listener = NOBODY,
) -> Silence:
    """Find the tokens that a recipe silences or quietens, and fit the direction, where the output layer has no bias.

    Languages of `texts` that the recipe doesn't edit are kept, and so is what they write with; those in `lose` may lose the
    script. Raises RecipeError for a script that a kept language needs, or that no token writes, and where text is needed and
    there is none; ModelError for a tokenizer that doesn't tell its bytes, an output layer that is not known here, or a model
    that would have to run layer by layer for a direction;
    StatisticsError where no direction is good enough.
    """
    head = open_head(target)
    if not texts and not head.exact:
        raise RecipeError(
            f"the output layer of {target.source.name} has no bias, so what keeps tokens down is fitted to text in every "
            "language that it is to read. Name some with `corpus`."
        )
    counts = {language: count_characters(text) for language, text in (texts or {}).items()}
    lost = check_needed(recipe, counts, lose)
    wanted = {character for language, own in counts.items() if language not in lost for character in own}
    tokenizer = load_tokenizer(target.source.folder)
    written = token_bytes(tokenizer)
    scripts = [edit.script for edit in recipe.scripts if edit.script not in SETS]
    found = find_tokens(written, scripts, wanted if counts else None, recipe.except_chars) if scripts else {}
    found = {
        edit.script: found.get(edit.script) or _set_of(edit.script, written, head.rows, found, tokenizer)
        for edit in recipe.scripts
    }
    _check_found(target, head, found)
    ids = {script: own.ids for script, own in found.items()}
    direction, floor = None, None
    if not head.exact and texts:
        together = np.concatenate(list(ids.values()))
        fitted, unseen = (
            read_texts(target, texts, tokens=tokens, context=CONTEXT, held_out=held_out)
            for tokens, held_out in ((FITTED, False), (UNSEEN, True))
        )
        if short := [language for language, own in unseen.items() if not own.tokens]:
            raise CorpusError(
                f"{short[0]} has too few documents for one to be held out, so it can't be measured how far down tokens stay. "
                f"Add documents in {short[0]}."
            )
        streaming.require_whole(
            target.source.folder, "the direction that keeps tokens down", "Do it where there is more memory",
            device=device, dtype=dtype,
        )  # fmt: skip
        model = load_model(target.source.folder, device=device, dtype=dtype)
        with listener.stage("silence", "contexts") as update:
            states = read_final_states(model, head, fitted, unseen, together, progress=update)
        direction, floor = fit_floor(states, head, len(together))
    tokens = {script: Tokens(own.whole, own.mixed, own.pieces, own.staying) for script, own in found.items()}
    made = Silence(
        model_info(target), head.rows, ids, tokens, recipe.except_chars, tuple(sorted(counts)), direction, floor
    )  # fmt: skip
    if floor is None or recipe.untie or not head.table.tied or all(edit.op != SILENCE for edit in recipe.scripts):
        return made

    def read(silence: Silence) -> FinalStates:
        with (
            kept_down(model, silence, recipe.scripts, tied=True),
            listener.stage("silence, one table", "contexts") as update,
        ):
            return read_final_states(model, head, fitted, unseen, together, progress=update)

    return in_one_table(made, states, head, read)


def in_one_table(silence: Silence, states: FinalStates, head: Head, read: Callable[[Silence], FinalStates]) -> Silence:
    """Return a silence that holds where the model reads the tokens as something else, as it does with one table.

    `read` gives the final states of the model with a silence in place, `states` are those without. Where the direction
    doesn't hold there, it is fitted again to both. Raises StatisticsError when none is found that does.
    """
    together = sum(map(len, silence.ids.values()))
    for attempt in range(ATTEMPTS):
        if silence.direction is None or silence.floor is None:
            break
        shifted = read(silence)
        floor = one_table_floor(shifted, silence.direction, silence.floor)
        if holds(floor):
            return replace(silence, floor=floor)
        if attempt + 1 < ATTEMPTS:
            states = states.with_(shifted)
            try:
                direction, again = fit_floor(states, head, together)
            except StatisticsError:
                break
            silence = replace(silence, direction=direction, floor=again)
    raise StatisticsError(
        f"with one table for reading and writing, {' and '.join(silence.scripts)} can't be silenced in this model: it "
        f"reads the tokens as something else, and then w·h falls to {floor.lowest:.2g} (on {floor.lowest_kind}), so silenced "
        f"tokens reach a probability of e^{floor.highest:.0f}. Let it have a second table (`untie`), or quieten the script."
    )


def silence_for(
    target: Target,
    asked: Recipe | Request,
    corpus: Sequence[str] = (),
    file: Path | None = None,
    *,
    lose: Sequence[str] = (),
    form: str = CHECKPOINT,
    output: Path | None = None,
    force: bool = False,
    device: str = "auto",
    dtype: str = "auto",
    listener: Listener = NOBODY,
) -> Silence | None:
    """Load or make the silence that a recipe or a request needs; None where it needs none.

    Where `output` can't be written, or not in this `form`, that is said before the model runs. Raises what `prepare` and
    `load` raise, and RecipeError for an adapter.
    """
    scripts = asked.scripts if isinstance(asked, Recipe) else asked.scripts()
    if not scripts:
        return None
    if form == ADAPTER:
        check_adaptable(target, Recipe(target.base, (), scripts=scripts))
    if file is not None:
        return load(file)
    if output is not None:
        check_place(target.source.folder, output)
        check_free(output, force=force)
    texts = open_corpus(corpus) if corpus else None
    recipe = asked
    if isinstance(recipe, Request):
        edited = (*recipe.deactivate, *recipe.hold, *(language for language, _ in recipe.redirect))
        others = [language for language in texts or () if language not in recipe.activate] if OTHERS in edited else []
        named = tuple(Edit(language, "deactivate") for language in (*edited, *others) if language != OTHERS)
        one_table = recipe.untie is False and open_embedding(target).tied
        recipe = Recipe(target.base, named, scripts=scripts, except_chars=recipe.spared, untie=not one_table)
    return prepare(target, texts, recipe, lose=lose, device=device, dtype=dtype, listener=listener)


def check_needed(recipe: Recipe, counts: Mapping[str, Counter[str]], lose: Sequence[str] = ()) -> set[str]:
    """Return the languages that lose a script by the recipe, all of which were meant to.

    A language is meant that the recipe edits itself, or that is named in `lose`; where it edits none of those that need the
    script, those that are written in nothing else, unless that is Latin, which many languages are. Raises RecipeError for
    another that needs it, with what it would lose, and for one in `lose` that there is no text in.
    """
    edited = {edit.language for edit in recipe.edits if not edit.constant or edit.held}
    if counts and (absent := [language for language in lose if language not in counts]):
        raise RecipeError(
            f"there is no text in {', '.join(absent)}, so nothing is known of what to `lose` there. The text is in "
            f"{', '.join(sorted(counts))}."
        )
    lost: set[str] = set()
    for edit in recipe.scripts:
        if edit.op != SILENCE:
            continue
        shares = {language: share_of(edit.script, own) for language, own in counts.items()}
        needing = {language for language, share in shares.items() if share >= NEEDED}
        meant = needing & (edited | set(lose))
        if not needing & edited and edit.script != LATIN:
            own = {language: share_of(edit.script, counts[language], latin=False) for language in needing}
            meant |= {language for language, share in own.items() if share >= WRITTEN_IN}
        if others := sorted(needing - meant, key=lambda language: -shares[language]):
            often = _often(edit.script, counts[others[0]], recipe.except_chars)
            raise RecipeError(
                f"{edit.script} is {shares[others[0]]:.0%} of the letters of {listed(others[:1])} text, and {others[0]} is "
                f"to be kept: it could not write {often} any more. If that is meant, name it with `lose`; else leave "
                f"{edit.script} out, or spare what it needs with `except_chars`."
            )
        lost |= meant
    return lost


def offered(recipe: Recipe, counts: Mapping[str, Counter[str]]) -> list[str]:
    """Return the scripts that only deactivated languages are written in, so that they could be silenced."""
    off = [edit.language for edit in recipe.edits if edit.off and edit.language in counts]
    if recipe.scripts or not off:
        return []
    kept = [own for language, own in counts.items() if language not in off]
    written = (
        script
        for language in off
        for script in scripts_in(counts[language])
        if script != LATIN and share_of(script, counts[language], latin=False) >= WRITTEN_IN
    )
    return [script for script in dict.fromkeys(written) if all(share_of(script, own) < NEEDED for own in kept)]


def _set_of(
    name: str, written: Sequence[bytes | None], rows: int, scripts: Mapping[str, Found], tokenizer: Any
) -> Found:
    """Find the tokens of a set in a table of so many rows.

    Left out are tokens of a script that is edited too, and those that the chat template writes, such as `</think>`.
    """
    template = str(getattr(tokenizer, "chat_template", None) or "")
    added = getattr(tokenizer, "added_tokens_decoder", {})
    in_chat = [number for number, token in added.items() if str(token.content) in template]
    ids = np.setdiff1d(find_set(name, written), np.concatenate([*(own.ids for own in scripts.values()), in_chat]))
    ids = ids[ids < rows].astype(np.int64)
    return Found(ids, len(ids), 0, 0)


def _often(script: str, counts: Counter[str], spared: str) -> str:
    """Name the most frequent characters of a script in what was counted, and how many different ones there are."""
    own = [
        character
        for character, _ in counts.most_common()
        if share_of(script, {character: 1}) and character not in spared
    ]
    return f"{''.join(own[:SHOWN])}… ({len(own):,} different characters in its text)"


def _check_found(target: Target, head: Head, found: Mapping[str, Found]) -> None:
    for script, own in found.items():
        if not len(own.ids):
            raise RecipeError(
                f"no token of {target.source.name} writes {script}, so there is nothing to silence. Leave it out."
            )
        if own.ids[-1] >= head.rows:
            raise ModelError(
                f"the tokenizer of {target.source.name} has token {own.ids[-1]} in {script}, and {head.output[1].name} has "
                f"{head.rows} rows only. They are not of the same model: download it again."
            )


def told(target: Target, recipe: Recipe, silence: Silence) -> list[str]:
    """Say what a person should know before anything is written: what goes, what stays, how sure it is, what it adds."""
    lines = []
    for edit in recipe.scripts:
        own = silence.tokens[edit.script]
        can = "can't be written any more" if edit.op == SILENCE else f"are {less_likely(edit.nats)}"
        counted = f"{edit.script}: {len(silence.ids[edit.script]):,} tokens {can}"
        kinds = f": {own.whole:,} of its characters alone, {own.mixed:,} with others in them, "
        kinds += f"{own.pieces:,} pieces of characters"
        lines.append(f"{counted}{'' if edit.script in SETS else kinds}.")
        if own.staying:
            stay = list({one.piece: one for one in own.staying}.values())  # with a space before it, and without
            ways = ", ".join(f"{one.piece.upper()} ({one.needed_by})" for one in stay[:SHOWN])
            most = sum(one.characters for one in stay if len(one.piece) == 2)  # of first bytes; the others are in these
            lines.append(
                f"{edit.script}: these beginnings of a character stay, because another that is wanted needs them: {ways}. "
                f"{most:,} characters of {edit.script}, rare ones, could be spelled through them, byte by byte."
            )
    what = silenced(target, recipe, silence)
    if silence.floor:
        lines.append(about_floor(recipe, silence.floor, what.head.cap if what else None))
    if what and what.added_bytes:
        whole = sum(tensor.end - tensor.begin for _, tensor in target.checkpoint.tensors())
        lines.append(
            f"{target.source.name} reads and writes with one table, {what.head.table.tensor.name}. The checkpoint gets a "
            f"second one to write with, {what.head.table.output}: {what.added_bytes / 1e6:,.1f} MB more, "
            f"{(whole + what.added_bytes) / 1e6:,.1f} MB in all."
        )
    if what and what.tied:
        lines.append(
            "Warning: with one table for both, the model also reads the tokens of the script as something else. `verify` "
            "measures what that does to text."
        )
    return lines


def about_floor(recipe: Recipe, floor: Floor, cap: float | None) -> str:
    """Say how far down the tokens are, as measured on unseen text."""
    spread = (
        f"w·h is {floor.mean:.2f} ± {floor.deviation:.2f} on {floor.unseen:,} unseen positions, never below "
        f"{floor.lowest:.2f} (on {floor.lowest_kind})"
    )
    if all(edit.op != SILENCE for edit in recipe.scripts):
        return f"The nats are those at w·h = 1, and {spread}."
    by = f"-{floor.strength:g} × w·h" + (f", which a soft cap bounds at -{cap:g}," if cap else "")
    return (
        f"A silenced token's logit is {by} and {spread}. All silenced tokens together had a probability of "
        f"e^{floor.highest:.0f} at most."
    )
