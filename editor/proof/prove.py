"""The proof of a checkpoint, from its bytes to the certificate in its manifest and on its card."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .. import embedded
from ..edits import manifest, manifest_base, manifest_files
from ..edits.card_maker import NO_CARD, CardMaker
from ..edits.certificate import Certificate
from ..edits.manifest import Adapter
from ..files.together import updating
from ..live.streaming import AUTO, Streaming
from ..models.target import Target
from ..neurons import neurons as neurons_file
from ..progress import NOBODY, Listener, Told, in_megabytes, unheard
from ..text.corpus import Text, open_corpus
from .adapter import verify_adapter, verify_adapter_live
from .bytes import verify_bytes
from .certificate import make_certificate
from .logits import verify_live
from .settings import CONTEXT, TOKENS

NEURONS = "neurons.json"


@dataclass(frozen=True)
class Proof:
    """What was proved of a checkpoint: the certificate as it stands in the manifest, and notes on files that may differ.

    `adapter` is what it is instead of a checkpoint, if it is none.
    """

    folder: Path
    certificate: Certificate
    notes: tuple[str, ...] = ()
    adapter: Adapter | None = None

    @property
    def problems(self) -> list[str]:
        """All that is not as the recipe says."""
        return self.certificate.problems

    @property
    def passed(self) -> bool:
        """Whether the checkpoint is what its manifest says."""
        return not self.problems


def prove(
    folder: Path,
    target: Target,
    texts: Callable[[], Mapping[str, Text]] | None,
    *,
    neurons_path: Path | None = None,
    tokens: int = TOKENS,
    context: int = CONTEXT,
    device: str = "auto",
    dtype: str = "auto",
    streaming: Streaming = AUTO,
    card: CardMaker = NO_CARD,
    listener: Listener = NOBODY,
) -> Proof:
    """Prove that a checkpoint is what its recipe makes of the base `target`.

    Compares the bytes and, where they are right, the logits with those of the base under hooks, on the held-out part of
    `texts`; None compares bytes alone. Keeps the certificate in the manifest and on the card. `neurons_path` are neurons to
    hold it against instead of its own. Models that do not fit in memory run layer by layer, as `streaming` says.

    Raises VerificationError when the manifest can't be read, and what `verify_bytes` and `verify_live` raise.
    """
    before = manifest.read(folder)
    neurons = neurons_file.load(neurons_path) if neurons_path else manifest_base.neurons_of(folder, before)
    compare, run = (verify_adapter, verify_adapter_live) if before.adapter else (verify_bytes, verify_live)
    with listener.stage("compare bytes", "MB") as update:
        in_bytes = compare(folder, target, neurons, in_megabytes(update))
    logits = None
    if texts and not in_bytes.problems:
        opened = texts()
        with listener.stage("verify", "contexts") as update:
            logits = run(
                folder, target, neurons, opened, tokens=tokens, context=context, device=device, dtype=dtype,
                streaming=streaming, progress=update,
            )  # fmt: skip
    made = make_certificate(in_bytes, logits, before.adapter)
    lines: tuple[str, ...] = ()
    with updating(folder):
        now = manifest_files.unchanged(folder, before)
        certificate = made if texts else made.with_earlier(now.certificate)
        if neurons_path is None or not certificate.problems:
            # a failure against other neurons than its own says nothing of it
            lines = card.renew(folder, replace(now, certificate=certificate), neurons.method, target.source.folder, {})
    for line in lines:
        listener.told(f"Note: {line}")
    return Proof(folder, certificate, in_bytes.notes, before.adapter)


def texts_for(
    folder: Path, neurons_path: Path | None, corpus: Sequence[str], languages: Sequence[str], told: Told = unheard
) -> Callable[[], dict[str, Text]]:
    """Return a function that opens the texts that a checkpoint is proved on.

    They are those that were asked for, else the embedded ones in the languages of the neurons.
    """

    def texts() -> dict[str, Text]:
        if corpus:
            return open_corpus(corpus, languages)
        record = manifest.read(folder)
        neurons = neurons_file.load(neurons_path) if neurons_path else manifest_base.neurons_of(folder, record)
        known = neurons.languages or tuple(record.vocabulary or ())
        found = open_corpus([embedded.NAME], languages)
        told("Measuring on the embedded texts. Name your own with `corpus`.")
        if absent := [language for language in known if language not in found]:
            told(f"No text in {', '.join(absent)}: these are not measured. Give some with `corpus`.")
        return {language: text for language, text in found.items() if language in known} or found

    return texts
