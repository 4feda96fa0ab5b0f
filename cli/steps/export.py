"""Runs detect, find, bake and verify in a row, and shows each result as soon as it is ready."""

from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from ..console import answer, listener, note
from ..show import show_baked
from .bake import about_adapter, about_config, about_runtimes
from .detect import show_statistics
from .evaluate import show_answers
from .find import show_neurons
from .push import finish
from .tokens import show_vocabulary
from .verify import show_proof

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Unpack

    from ...editor.edits.bake import Baked
    from ...editor.edits.request import Request
    from ...editor.neurons.neurons import Neurons
    from ...editor.statistics.detection import Detection
    from ...editor.statistics.statistics import Statistics
    from ...editor.statistics.vocabulary import Vocabulary


class Settings(TypedDict, total=False):
    """What `editor.export.export` may be told besides."""

    languages: "Sequence[str]"
    rate: float | None
    quantile: float | None
    detection: "Detection"
    verify_tokens: int
    base_id: str | None
    neurons_of: str | None
    work: Path | None
    force: bool


def run_export(
    model: str,
    corpus: "Sequence[str]",
    request: "Request",
    output: Path,
    *,
    as_json: bool = False,
    push: str | None = None,
    yes: bool = False,
    fast: bool = False,
    **settings: "Unpack[Settings]",
) -> bool:
    """Export, show and, where it was asked for, push what was proved; whether the proof passed."""
    from ...cards.maker import CARD
    from ...editor.edits import manifest
    from ...editor.edits.bake import Baked
    from ...editor.export import export
    from ...editor.neurons.neurons import Neurons
    from ...editor.statistics.vocabulary import Vocabulary

    def made(thing: "Statistics | Neurons | Vocabulary | Baked") -> None:
        if isinstance(thing, Baked):
            if thing.manifest.adapter:
                about_adapter(thing)
            else:
                about_config(thing, request.compat_config)
                about_runtimes(thing, request.for_runtimes)
        if as_json:
            return
        if isinstance(thing, Baked):
            show_baked(thing, False)
        elif isinstance(thing, Neurons):
            show_neurons(thing, False)
        elif isinstance(thing, Vocabulary):
            show_vocabulary(thing, False)
        else:
            show_statistics(thing, False)

    done = export(
        model, corpus, request, output, fast=fast, card=CARD, listener=listener(), made=made, **settings
    )  # fmt: skip
    show_proof(done.proof, fast, as_json=False, silent=as_json)
    if done.answers and not as_json:
        show_answers(done.answers, manifest.read(done.folder).candidates)
    if not done.passed:
        note(f"{output} was not written: what was baked is kept in {done.folder}, for you to look at.")
    made_of = "statistics and neurons" if done.statistics else "the counts of tokens"
    note(f"The card is {done.folder / 'README.md'}; {made_of} are in {done.work}.")
    if done.silenceable:
        scripts = ",".join(done.silenceable)
        note(
            f"The language is made worse, not erased: single characters of {' and '.join(done.silenceable)} may still "
            f"appear, which no kept language needs. --silence {scripts} makes them impossible to write, in any runtime."
        )
    pushed = {"pushed": finish(output, push, yes, silent=as_json)} if push and done.passed else {}
    if as_json:
        record = manifest.read(done.folder).to_data()
        keys = (
            "neurons_edited", "edited", "kept", "found_in", "redirected", "silenced", "floor", "output_table", "carrier",
            "rounding", "strength", "candidates", "certificate", "evaluation",
        )  # fmt: skip
        answer({"folder": str(done.folder), **{key: record.get(key) for key in keys}, **pushed})
    return done.passed
