"""The paper's experiments on a model, from text to findings: neurons by every method, switched off language by language."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..edits.evaluation import Evaluation
from ..errors import CorpusError, OutputError
from ..models.source import resolve
from ..models.target import model_info, open_target
from ..neurons import neurons as neurons_file
from ..neurons.neurons import QUANTILE, RATE, Neurons
from ..progress import NOBODY, Listener
from ..statistics.detection import Detection
from ..statistics.reuse import detect_or_reuse
from ..statistics.statistics import Statistics
from ..text.corpus import open_corpus
from ..text.prompts import hashes
from ..text.tokens import Packed
from . import findings, measure, similarity
from .compare_methods import SHARED, comparison, find_all
from .findings import Findings
from .interview import choose_prompts
from .matrix import perplexity_matrices
from .options import Options
from .subject import Subject

STATISTICS = "stats.safetensors"
MEASURED = ("lape", "lave", "ap")  # methods whose neurons are switched off; LAP takes another number of them


def experiments(
    model: str,
    corpus: Sequence[str],
    output: Path,
    *,
    languages: Sequence[str] = (),
    rate: float = RATE,
    quantile: float = QUANTILE,
    detection: Detection | None = None,
    options: Options | None = None,
    listener: Listener = NOBODY,
) -> dict[str, Any]:
    """Measure all that the paper measures, and keep it in the folder `output`; the answer is by measure.

    What is finished is kept: run again with the same settings, it goes on where it stopped. `options` say how to measure;
    corpus, languages and context are set here. Raises OutputError when the folder has findings with other settings.
    """
    detection = replace(detection or Detection(), per_text=True)
    target = open_target(resolve(model))
    texts = open_corpus(corpus, languages)
    options = replace(
        options or Options(), corpus=tuple(corpus), languages=tuple(texts), context=detection.context
    )  # fmt: skip
    findings.check_place(output)
    check_same(output, {"rate": rate, "quantile": quantile, "context": detection.context}, list(texts))
    # what would be wrong with what is read in an hour is said now
    held_out = measure.read_held_out(target, texts, options)
    prompts, aligned = choose_prompts(options, (), ()), measure.aligned_texts((), options)
    similarity.check(aligned)
    read = {
        "held_out": {language: one.sha256 for language, one in held_out.items()},
        "prompts": hashes(prompts),
        "aligned": hashes(aligned),
    }
    with findings.held(output):
        statistics, _ = detect_or_reuse(target, texts, output / STATISTICS, detection, listener=listener)
        sets = find_all(statistics, rate=rate, quantile=quantile)
        subject = Subject(target, sets["lape"], None, None, detection.device, detection.dtype)
        settings = {**_settings(statistics, options, rate, quantile), "read": read}
        kept = _kept(output, subject, settings, listener)
        steps: dict[str, Callable[[], Any]] = {
            "profile": lambda: measure.profile(subject, options, listener),
            "overlap": lambda: measure.overlap(subject, options, listener),
            "methods": lambda: methods(subject, statistics, sets, held_out, rate, quantile, listener),
            "perplexity": lambda: kept.evaluation.measures["methods"]["methods"]["lape"]["perplexity"],
            "similarity": lambda: measure.similarity(subject, options, listener),
            "deactivate_each": lambda: measure.deactivate_each(subject, options, listener),
        }
        for number, (name, step) in enumerate(steps.items(), start=1):
            if name in kept.evaluation.measures:
                listener.told(f"{name}: there already")
                continue
            listener.told(f"{name} ({number} of {len(steps)})")
            kept = replace(kept, evaluation=kept.evaluation.adding({name: step()}))
            findings.write(output, kept, subject.neurons)
        neurons_file.save(subject.neurons, output / findings.NEURONS)
    return kept.evaluation.to_data()


def _settings(statistics: Statistics, options: Options, rate: float, quantile: float) -> dict[str, Any]:
    """Give how findings are made, and of which statistics: what is kept is of the same, or is made anew."""
    settings: dict[str, Any] = findings.plain(
        {"text_tokens": options.text_tokens, "context": options.context, "prompts": options.prompts,
         "count": options.count, "corpus": statistics.texts, "aligned": str(options.aligned) if options.aligned else None,
         "rate": rate, "quantile": quantile, "statistics": statistics.settings, "versions": statistics.versions}
    )  # fmt: skip
    return settings


def _kept(output: Path, subject: Subject, settings: Mapping[str, Any], listener: Listener) -> Findings:
    """Give what a folder has of these settings; of others nothing, which a person is told."""
    kept = findings.of_folder(output, model_info(subject.target), subject.neurons)
    before = kept.settings or {}
    if before == settings:
        return kept
    if kept.evaluation.measures:
        other = [name for name, value in settings.items() if name != "read" and before.get(name) != value]
        texts = before.get("read", {})
        other += [f"text ({name})" for name, own in settings["read"].items() if texts.get(name) != own]
        listener.told(f"What {output} has was measured with other {', '.join(other)}. It is measured anew.")
    return replace(kept, evaluation=Evaluation({}), settings=dict(settings))


def check_same(output: Path, settings: dict[str, Any], languages: list[str]) -> None:
    """Check a folder before anything in it is replaced.

    Raises OutputError when it has findings with other settings, which decide which neurons they are of, and CorpusError when
    there are no two languages to compare.
    """
    if len(languages) < 2:
        raise CorpusError(
            f"a language's neurons are found against others, and there is text in {languages[0]} only. Add text."
        )
    if not (output / findings.FILE).is_file():
        return
    before = findings.read(output).settings or {}
    for name, value in settings.items():
        if before.get(name, value) != value:
            raise OutputError(
                f"{output} has findings with `{name}` {before[name]:g}. Use that again, or another folder."
            )
    if sorted(before.get("corpus", languages)) != sorted(languages):
        raise OutputError(
            f"{output} has findings of {', '.join(before['corpus'])}. Name these languages, or another folder."
        )


def methods(
    subject: Subject,
    statistics: Statistics,
    sets: Mapping[str, Neurons],
    packed: Mapping[str, Packed],
    rate: float,
    quantile: float,
    listener: Listener = NOBODY,
) -> dict[str, Any]:
    """Compare the detection methods, with the perplexity matrices of those that take the same number of neurons."""
    some = {name: sets[name] for name in MEASURED if any(map(sets[name].count, sets[name].languages))}
    with listener.stage("perplexity", "contexts") as update:
        matrices = perplexity_matrices(
            subject.model, subject.target.feed_forward, some, packed, shared=SHARED, progress=update
        )
    return comparison(statistics.model, sets, rate=rate, quantile=quantile, matrices=matrices)
