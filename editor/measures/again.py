"""Asks a checkpoint again after a search: the file itself, with prompts of a kind that the search did not see.

What a search says is of the base under hooks, on prompts of its own, and of the one of many ways that did best there. So it
says too much. Here the baked checkpoint goes on with the beginnings of held-out documents of the corpus; where those are the
embedded texts, or too short, it gets everyday questions. It gives ANSWERS where the model was fast enough for the whole
search, else COUNT in each language. The outcome stands in the manifest and on the card.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import embedded
from ..edits import manifest as manifest_file
from ..edits.card_maker import NO_CARD, CardMaker
from ..edits.manifest_base import neurons_of
from ..live.fast import fastest
from ..models.target import Target
from ..progress import NOBODY, Listener
from ..statistics.detection import Detection
from ..text.prompts import COUNT
from ..text.questions import questions
from .interview import from_corpus
from .keep import keeper
from .measure import evaluate
from .options import CORPUS, GENERATE, QUESTIONS, Options
from .subject import Subject

KEY = "activated"  # of what is found
ANSWERS = 200  # behind a figure that is to be relied on


def ask_again(
    folder: Path,
    target: Target,
    language: str,
    corpus: Sequence[str],
    detection: Detection,
    *,
    card: CardMaker = NO_CARD,
    listener: Listener = NOBODY,
) -> Mapping[str, Any]:
    """Ask the checkpoint in `folder`, of the base `target`, in the other languages; what was found, by measure.

    Where it was asked before, what was found then is given. A person is told where there is nothing to ask, or where base and
    checkpoint do not fit in memory together; then nothing is found.
    """
    manifest = manifest_file.read(folder)
    if before := manifest.measures.get(KEY):
        return {KEY: before}
    device, dtype = detection.device, detection.dtype
    if detection.streaming.chosen(target.source.folder, device=device, dtype=dtype, models=2):
        listener.told("The checkpoint is not asked again: base and checkpoint do not fit in memory together.")
        return {}
    neurons = neurons_of(folder, manifest)
    subject = Subject(
        target, neurons, folder, manifest, device, fastest(target.source.folder, device, dtype), detection.streaming
    )
    kind, languages = prompts_for(corpus, subject.languages, language)
    if not languages:
        listener.told(
            "The checkpoint is not asked again: no held-out document in another language is long enough, and there are no "
            "questions in one. Ask with prompts of your own: `evaluate`."
        )
        return {}
    slow = manifest.candidates is None or manifest.candidates.get("subset", True)
    count = COUNT if slow else count_for(len(languages))
    options = Options(tuple(corpus), languages, prompts=kind, count=count, dtype=dtype)
    return evaluate(
        subject, [GENERATE], options, keep=keeper(subject, None, card=card, told=listener.told), listener=listener
    )


def count_for(languages: int) -> int:
    """Return how many prompts in each of so many languages give ANSWERS."""
    return -(-ANSWERS // max(1, languages))


def prompts_for(corpus: Sequence[str], known: Sequence[str], language: str) -> tuple[str, tuple[str, ...]]:
    """Choose the kind of prompts, and the languages among the `known` ones, without `language`, that there are some in."""
    others = [code for code in known if code != language]
    found = {} if embedded.NAME in corpus else from_corpus(Options(tuple(corpus), count=COUNT), others)
    if found:
        return CORPUS, tuple(found)
    shipped = questions()
    return QUESTIONS, tuple(code for code in others if code in shipped)
