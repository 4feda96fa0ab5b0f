"""Verify, keep the certificate, and show it."""

from pathlib import Path
from typing import Any

import click

from ..console import answer, bar, note, table


def run_verify(
    folder: Path,
    target: Any,
    neurons_file: Path | None,
    corpus: tuple[str, ...],
    languages: list[str],
    *,
    tokens: int,
    context: int,
    device: str,
    dtype: str,
    fast: bool,
    as_json: bool,
    silent: bool = False,
) -> bool:
    """Verify, record and show; whether it passed."""
    from ...editor.edits import manifest
    from ...editor.neurons import neurons
    from ...editor.proof import bytes as verify
    from ...editor.proof.certificate import failures, make_certificate
    from ...editor.proof.logits import verify_live

    before = manifest.read(folder)
    found = neurons.load(neurons_file or folder / "neurons.json")
    in_bytes = verify.verify_bytes(folder, target, found)
    logits = None
    if not fast and not in_bytes.problems:
        with bar("verify", "contexts") as update:
            logits = verify_live(
                folder, target, found, _texts(corpus, languages, found), tokens=tokens, context=context, device=device,
                dtype=dtype, progress=update,
            )  # fmt: skip
    made = _record(folder, before, target, neurons_file, found, make_certificate(in_bytes, logits), fast=fast)
    show_certificate(folder, made, in_bytes.notes, fast, as_json, silent)
    return not failures(made)


def _record(
    folder: Path,
    before: dict[str, Any],
    target: Any,
    neurons_file: Path | None,
    found: Any,
    made: dict[str, Any],
    *,
    fast: bool,
) -> dict[str, Any]:
    """Put a certificate into the manifest and onto the card; as it is then, with what is kept of an earlier one. `before` is
    the manifest of what was verified."""
    from ...cards.refresh import renew
    from ...editor.edits import manifest
    from ...editor.files.output import updating
    from ...editor.proof.certificate import failures, with_earlier

    lines: tuple[str, ...] = ()
    with updating(folder):
        record = manifest.unchanged(folder, before)
        record["certificate"] = with_earlier(made, record["certificate"]) if fast else made
        if neurons_file is None or not failures(record["certificate"]):
            # a failure against other neurons than its own says nothing of it
            lines = renew(folder, record, found.method, target.source.folder)
    for line in lines:
        note(f"Note: {line}")
    certificate: dict[str, Any] = record["certificate"]
    return certificate


def _texts(corpus: tuple[str, ...], languages: list[str], found: Any) -> Any:
    """The corpus that was asked for; else the embedded texts in the languages of the neurons."""
    from ...editor import embedded
    from ...editor.text.corpus import open_corpus

    if corpus:
        return open_corpus(corpus, languages)
    texts = open_corpus([embedded.NAME], languages)
    note("Measuring on the embedded texts. Name your own with --corpus.")
    if absent := [language for language in found.languages if language not in texts]:
        note(f"No text in {', '.join(absent)}: these are not measured. Give some with --corpus.")
    return {language: text for language, text in texts.items() if language in found.languages} or texts


def show_certificate(
    folder: Path, certificate: dict[str, Any], notes: tuple[str, ...], fast: bool, as_json: bool, silent: bool
) -> None:
    from ...editor.proof.certificate import failures

    problems = failures(certificate)
    for line in notes:
        note(f"Note: {line}")
    if fast and "logits" in certificate:
        note("The bytes are those whose logits were compared before: that part of the certificate is kept.")
    if as_json:
        answer(certificate)
    elif not silent:
        _show_tables(folder, certificate)
    for problem in problems[:10]:
        note(f"Failed: {problem}")
    if len(problems) > 10:
        note(f"… and {len(problems) - 10} more.")
    note(f"{folder} is {'NOT ' if problems else ''}what its recipe says.")


def _show_tables(folder: Path, certificate: dict[str, Any]) -> None:
    from ...cards.words.amounts import change, perplexity

    found = certificate["bytes"]
    click.echo(
        f"bytes: {found['changed_columns']:,} columns changed in {found['edited_tensors']} tensors, "
        f"{found['identical_tensors']} tensors identical"
    )
    if "logits" in certificate:
        _show_difference("baked against hooked", certificate["logits"]["by_language"])
    if "approximation" in certificate:
        found = certificate["approximation"]
        _show_difference("baked against the exact constants, which a direction approximates", found["by_language"])
        off = found["activation"]
        click.echo(
            f"activations that should be constant are off by {off['all']:.1%} (root mean square; worst layer "
            f"{off['worst_layer']:.1%}), on a text's first token by up to {off['first_token']:.0%}"
        )
    if "effect" in certificate:
        loss = certificate["effect"]["log_loss"]
        table(
            "effect on held-out text",
            ("text in", "perplexity, base", "this model", "random neurons", "Δ log-loss", "Δ by random"),
            [
                (
                    k,
                    perplexity(loss["base"][k]),
                    perplexity(loss["this model"][k]),
                    perplexity(loss["random neurons"][k]),
                    change(loss["this model"][k] - loss["base"][k]),
                    change(loss["random neurons"][k] - loss["base"][k]),
                )
                for k in loss["base"]
            ],
        )


def _show_difference(title: str, by_language: dict[str, Any]) -> None:
    table(
        title,
        ("text in", "positions", "largest difference", "of logits up to", "KL, nats", "same top token"),
        [
            (
                k,
                r["positions"],
                f"{r['max_logit']:.1e}",
                f"{r['largest_logit']:.0f}",
                f"{r['kl']:.1e}",
                f"{r['same_top']:.2%}",
            )
            for k, r in by_language.items()
        ],
    )
