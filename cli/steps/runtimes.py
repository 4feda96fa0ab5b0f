"""Let runtimes answer, and show which are steered."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..console import answer, as_options, bar, note, table

if TYPE_CHECKING:
    from ...editor.models.target import Target
    from ...editor.neurons.neurons import Neurons
    from ...editor.runtimes.conformance import Outcome


def conform(
    folder: Path,
    target: "Target",
    found: "Neurons",
    runtimes: Sequence[str],
    *,
    interpreters: Mapping[str | None, str],
    asked_in: Mapping[str, Sequence[str]],
    timeout: float,
    as_json: bool,
) -> bool:
    """Let each runtime answer, record and show the verdicts; whether all of them are "steered"."""
    from ...cards.refresh import renew
    from ...editor.edits import manifest, manifest_files
    from ...editor.edits.carrier_choice import EXACT
    from ...editor.edits.evaluation import Run
    from ...editor.files import schema
    from ...editor.files.together import updating
    from ...editor.live.load import load_model
    from ...editor.models.hf import load_tokenizer
    from ...editor.runtimes import conformance, process

    record = manifest.read(folder)
    if absent := [language for language in found.languages if language not in asked_in]:
        note(f"No prompts in {', '.join(absent)}: these are not asked. Give some with --prompts.")
    base = target.source.folder
    tokenizer = load_tokenizer(folder)
    noises = {name: conformance.noise_of(name, target) for name in runtimes}
    asked: tuple[conformance.Asked, ...] = ()
    installed = [process.probe(name, process.python_for(name, interpreters)) for name in runtimes]
    if any(one.ready for one in installed):
        steered, plain = (load_model(each, device="cpu", dtype="float32") for each in (folder, base))
        with bar("references", "languages") as update:
            asked = conformance.choose(
                steered,
                plain,
                tokenizer,
                asked_in,
                noise=max(noises.values()),
                biased=record.carrier_name in EXACT,
                progress=update,
            )
        del steered, plain  # the runtimes need the memory
    ends = conformance.ends_of(folder, tokenizer)
    outcomes = []
    for one in installed:
        note(f"{one.name} …")
        outcome = conformance.conform(one, folder, base, asked, noise=noises[one.name], ends=ends, timeout=timeout)
        outcomes.append(outcome)
        if outcome.verdict == "missing" or outcome.late:
            continue  # nothing was learned: what was measured of these bytes before stays
        with updating(folder):
            now = manifest_files.unchanged(folder, record)
            now = replace(now, runtimes={**(now.runtimes or {}), one.name: schema.read(Run, outcome.record())})
            lines = renew(folder, now, found.method, base)
        for line in lines:
            note(f"Note: {line}")
    if as_json:
        answer({one.name: replace(one, reason=as_options(one.reason)).record() for one in outcomes})
    else:
        show_answers(outcomes)
    return all(one.verdict == "steered" for one in outcomes)


def show_answers(outcomes: "Sequence[Outcome]") -> None:
    from ...cards.words.runtimes import conformance_table

    found = conformance_table({one.name: one.record() for one in outcomes})
    table("what the runtimes make of it", found.columns, found.rows)
    for one in outcomes:
        if one.reason:
            note(f"{one.name}: {one.reason}")
        if one.verdict == "dropped":
            as_what = "base" if all(match.agrees for match in one.to_base) else "checkpoint without its biases"
            note(
                f"{one.name} loses the steering in silence: it answers as the {as_what} does. Use another runtime, or bake "
                f"with a carrier that it honours: --for {one.name}."
            )
        if one.verdict == "undecided":
            note(
                f"{one.name}: on these prompts base and checkpoint answer alike, so its answers say nothing. Give others "
                "with --prompts, or look with `monoglot verify` whether the edit does anything."
            )
        if one.verdict == "failed" and one.base_alike:
            note(
                f"{one.name} runs the base, and not this checkpoint. Bake with a carrier that it honours: --for {one.name}."
            )
        if one.base_alike is False:
            said = "does not run the base either" if one.verdict == "failed" else "runs the base in another way too"
            note(f"{one.name} {said}, so it is not the steering that is the matter.")
