"""The functions of `import monoglot`.

Each takes simple values (a name, a folder, lists of strings, options) and returns what it made.

A model is a Hub id (`org/name`, `org/name@revision`), a folder, or `embedded`. A corpus is folders, `LANG=FILE` and names of
Hub datasets. `progress` is called with what is being done, how much of it is done, and how much there is in all; `told` with
lines that a person should read. What is wrong is raised as a MonoglotError.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from .cards.maker import CARD
from .editor import export as row
from .editor.describe import describe
from .editor.edits import recipe as recipe_file
from .editor.edits.bake import Baked
from .editor.edits.fit import open_calibration
from .editor.edits.manifest import read
from .editor.edits.manifest_base import open_source
from .editor.edits.recipe import Recipe
from .editor.edits.request import CHECKPOINT, Request, with_vector
from .editor.edits.silencing import silence_for
from .editor.errors import RecipeError
from .editor.export import Exported
from .editor.gguf import convert as gguf
from .editor.gguf.convert import Converted
from .editor.hub import push as hub
from .editor.hub.publish import Published
from .editor.measures.findings import held
from .editor.measures.interview import check_judge
from .editor.measures.keep import keeper
from .editor.measures.measure import evaluate as measure
from .editor.measures.options import GENERATE, OF_NEURONS, Options
from .editor.measures.search import bake_recipe, bake_requested
from .editor.measures.subject import open_subject
from .editor.models.source import resolve
from .editor.models.target import open_target
from .editor.neurons import find as methods
from .editor.neurons import neurons as neurons_file
from .editor.neurons.neurons import QUANTILE, RATE, SEED, THRESHOLD, Neurons
from .editor.progress import Listener, Progress, stages, unheard
from .editor.proof import difference
from .editor.proof import rebuild as again
from .editor.proof.difference import Difference
from .editor.proof.prove import Proof, prove, texts_for
from .editor.proof.rebuild import Rebuilt
from .editor.proof.settings import CONTEXT, TOKENS
from .editor.runtimes import process
from .editor.statistics import statistics as statistics_file
from .editor.statistics import vocabulary as vocabulary_file
from .editor.statistics.detect import detect as detect_texts
from .editor.statistics.detection import Detection
from .editor.statistics.statistics import Statistics
from .editor.text import prompts as prompts_file
from .editor.text.corpus import open_corpus

if TYPE_CHECKING:
    from typing_extensions import Unpack

Place = str | PathLike[str]
Words = str | Sequence[str]  # one, or several
Told = Callable[[str], None]


class EditOptions(TypedDict, total=False):
    """What is to be done to which language: the fields of `Request`.

    `scale` has factors by language, `redirect` the language that each goes to, and `quieten` nats by script.
    """

    deactivate: Words
    activate: Words
    hold: Words
    scale: Mapping[str, float]
    redirect: Mapping[str, str]
    op: str
    value: str
    strength: float | str
    layers: str | tuple[int, int]
    slots: str
    target_accuracy: float
    prompts: Place
    shared: str
    carrier: str
    for_runtimes: Words
    tolerance: float
    above_tolerance: str
    untie: bool
    point: str | int
    points: tuple[int, ...]
    compat_config: bool
    choose: bool
    target_damage: float
    budget: float
    spare: float
    experts: Words
    silence: Words
    quieten: Mapping[str, float]
    except_chars: str
    lose: Words
    form: str
    max_rank: int | None


class MeasureOptions(TypedDict, total=False):
    """How to measure: the fields of `measures.options.Options` but `dtype`, which `evaluate` takes by itself."""

    corpus: Words
    languages: Words
    text_tokens: int
    context: int
    shared: str
    aligned: Place
    prompts: Place
    answer_in: str
    chat: bool
    system: str
    lid: Place
    count: int
    tokens: int
    samples: int
    answers: int
    same_language: bool
    engine: str
    base_engine: str
    served: str
    base_served: str
    engine_key_env: str
    engine_dtype: str
    tensor_parallel_size: int
    python: str
    base_here: bool
    temperature: float
    seed: int
    judge: str
    judge_model: str
    judge_key_env: str
    judge_dry_run: bool


def detect(
    model: Place,
    corpus: Words,
    *,
    languages: Words = (),
    tokens: int = Detection.tokens,
    context: int = Detection.context,
    minimum: int = Detection.minimum,
    batch_size: int = Detection.batch_size,
    device: str = Detection.device,
    dtype: str = Detection.dtype,
    quantiles: bool = False,
    per_text: bool = False,
    calibrate: bool = False,
    output: Place | None = None,
    progress: Progress | None = None,
) -> Statistics:
    """Record how a model's neurons respond to text in each language, and save it to `output`."""
    target = open_target(resolve(str(model)))
    statistics = detect_texts(
        target, open_corpus(_words(corpus), _words(languages)), tokens=tokens, context=context, minimum=minimum,
        batch_size=batch_size, device=device, dtype=dtype, quantiles=quantiles, per_text=per_text, calibrate=calibrate,
        progress=progress,
    )  # fmt: skip
    if output is not None:
        statistics_file.save(statistics, Path(output))
    return statistics


def find(
    statistics: Statistics | Place,
    method: str = "lape",
    *,
    rate: float = RATE,
    quantile: float = QUANTILE,
    threshold: float = THRESHOLD,
    seed: int = SEED,
    like: Neurons | Place | None = None,
    output: Place | None = None,
) -> Neurons:
    """Find the neurons of each language in statistics or their file, and save them to `output`."""
    known = statistics if isinstance(statistics, Statistics) else statistics_file.load(Path(statistics))
    neurons = methods.find(
        known, method, rate=rate, quantile=quantile, threshold=threshold, seed=seed,
        like=None if like is None else _neurons(like),
    )  # fmt: skip
    if output is not None:
        neurons_file.save(neurons, Path(output))
    return neurons


def bake(
    model: Place,
    neurons: Neurons | Place | None,
    output: Place,
    *,
    recipe: Recipe | Place | None = None,
    calibration: Place | None = None,
    vocabulary: Place | None = None,
    vector: Place | None = None,
    corpus: Words = (),
    silence_file: Place | None = None,
    base_id: str | None = None,
    force: bool = False,
    device: str = Detection.device,
    dtype: str = Detection.dtype,
    progress: Progress | None = None,
    told: Told = unheard,
    **edits: "Unpack[EditOptions]",
) -> Baked:
    """Write a model with the edited neurons to the folder `output`, by a recipe or by what `edits` ask for.

    Where tokens alone are redirected, `neurons` is None. `vocabulary` is a file that `monoglot tokens` wrote,
    `vector` a control vector in a file, which goes by the name in `activate`.
    Where a script is silenced, `corpus` is text in every language that is to be read, or `silence_file` the
    `silence.monoglot` of another checkpoint of the model. With `form` "adapter" a
    PEFT LoRA of the same edits is written, of `max_rank` at most.
    """
    form, max_rank = edits.get("form", CHECKPOINT), edits.get("max_rank")
    if recipe is not None and (said := [name for name in edits if name not in ("form", "max_rank")]):
        raise RecipeError(f"a recipe says everything, `{said[0]}` too. Leave one of them out.")
    target, listener = open_target(resolve(str(model), base_id)), _listener(progress, told)
    found = neurons_file.NONE if neurons is None else _neurons(neurons)
    fitted = open_calibration(Path(calibration), target) if calibration is not None else None
    counted = vocabulary_file.load(Path(vocabulary)) if vocabulary is not None else None
    made = recipe if isinstance(recipe, Recipe) else recipe_file.load(Path(recipe)) if recipe is not None else None
    request = _request(edits)
    silence = silence_for(
        target, made or request, _words(corpus), Path(silence_file) if silence_file is not None else None,
        lose=request.lose, form=form, output=Path(output), force=force, device=device, dtype=dtype, listener=listener,
    )  # fmt: skip
    if made is not None:
        return bake_recipe(
            target, found, made, Path(output), calibration=fitted, vocabulary=counted, silence=silence, force=force,
            card=CARD, listener=listener, form=form, max_rank=max_rank,
        )  # fmt: skip
    request = _request(edits)
    if vector is not None:
        request, counted = with_vector(request, Path(vector), target, counted)
    return bake_requested(
        target, found, request, Path(output), calibration=fitted, vocabulary=counted, silence=silence, force=force,
        device=device, dtype=dtype, card=CARD, listener=listener,
    )  # fmt: skip


def export(
    model: Place,
    *,
    corpus: Words,
    output: Place,
    languages: Words = (),
    rate: float | None = None,
    quantile: float | None = None,
    tokens: int = Detection.tokens,
    context: int = Detection.context,
    minimum: int = Detection.minimum,
    batch_size: int = Detection.batch_size,
    device: str = Detection.device,
    dtype: str = Detection.dtype,
    verify_tokens: int = TOKENS,
    fast: bool = False,
    base_id: str | None = None,
    work: Place | None = None,
    force: bool = False,
    progress: Progress | None = None,
    told: Told = unheard,
    **edits: "Unpack[EditOptions]",
) -> Exported:
    """Find, edit, prove and describe in one go: the checkpoint is in the folder `output`."""
    return row.export(
        str(model), _words(corpus), _request(edits), Path(output), languages=_words(languages), rate=rate,
        quantile=quantile, detection=Detection(tokens, context, minimum, batch_size, device, dtype),
        verify_tokens=verify_tokens, fast=fast, base_id=base_id, work=None if work is None else Path(work), force=force,
        card=CARD, listener=_listener(progress, told),
    )  # fmt: skip


def verify(
    folder: Place,
    *,
    base: Place | None = None,
    neurons: Place | None = None,
    corpus: Words = (),
    languages: Words = (),
    tokens: int = TOKENS,
    context: int = CONTEXT,
    device: str = Detection.device,
    dtype: str = Detection.dtype,
    fast: bool = False,
    progress: Progress | None = None,
    told: Told = unheard,
) -> Proof:
    """Prove that a checkpoint is its base with the recipe's edits and nothing else; `fast` compares bytes alone."""
    place = Path(folder)
    target = open_target(open_source(read(place).base, None if base is None else str(base), beside=place))
    path = None if neurons is None else Path(neurons)
    texts = texts_for(place, path, _words(corpus), _words(languages), told)
    return prove(
        place, target, None if fast else texts, neurons_path=path, tokens=tokens, context=context, device=device,
        dtype=dtype, card=CARD, listener=_listener(progress, told),
    )  # fmt: skip


def evaluate(
    model: Place,
    neurons: Place | None = None,
    *,
    measures: Words = (),
    base: Place | None = None,
    output: Place | None = None,
    device: str = Detection.device,
    dtype: str = Detection.dtype,
    progress: Progress | None = None,
    told: Told = unheard,
    **options: "Unpack[MeasureOptions]",
) -> dict[str, Any]:
    """Measure what neurons do in a model, or what a checkpoint does beside its base; by default all that can be measured.

    What is found of a checkpoint is kept in its manifest and on its card, of a model in the folder `output`.
    """
    asked = replace(_options(options), dtype=dtype)
    check_judge(asked)
    subject = open_subject(
        str(model), None if neurons is None else Path(neurons), base=None if base is None else str(base), device=device,
        dtype=dtype,
    )  # fmt: skip
    every = (*OF_NEURONS, *([GENERATE] if subject.folder is not None else []))
    place = Path(output) if output is not None and subject.folder is None and not asked.judge_dry_run else None
    with held(place) if place else nullcontext():
        return measure(
            subject,
            _words(measures) or every,
            asked,
            keep=None if asked.judge_dry_run else keeper(subject, place, card=CARD, told=told),
            listener=_listener(progress, told),
        )


def push(
    folder: Place,
    repo: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    tag: str | None = None,
    message: str | None = None,
    unverified: bool = False,
    progress: Progress | None = None,
    told: Told = unheard,
) -> Published:
    """Put a checkpoint on the Hub as `repo`, without asking. A repository that is made for it is private by default."""
    from .cards.metadata.metadata import card_problems
    from .cards.words.wording import commit_message

    return hub.push(
        Path(folder), repo, (lambda record: message) if message else commit_message, private=private, revision=revision,
        create_pr=create_pr, tag=tag, unverified=unverified, card_problems=card_problems,
        listener=_listener(progress, told),
    )  # fmt: skip


def rebuild(
    checkpoint: Place,
    output: Place,
    *,
    base: Place | None = None,
    calibration: Place | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Rebuilt:
    """Make a checkpoint again from its base and what it says of itself, and hold each file against its manifest."""
    return again.rebuild_named(
        str(checkpoint), Path(output), base=None if base is None else str(base),
        calibration_path=None if calibration is None else Path(calibration), force=force, card=CARD,
        listener=_listener(progress, unheard),
    )  # fmt: skip


def diff(a: Place, b: Place, *, progress: Progress | None = None) -> Difference:
    """Say what distinguishes two checkpoints, as files."""
    report = (lambda done, whole: progress("diff", done, whole)) if progress else None
    return difference.difference(resolve(str(a)), resolve(str(b)), report)


def inspect(what: Place, *, hashes: bool = False) -> dict[str, Any]:
    """Say what something is: a model, a checkpoint, a GGUF file, or another file of monoglot's."""
    return describe(str(what), hashes=hashes)


def convert(
    folder: Place,
    output: Place,
    *,
    quantize: str | None = None,
    python: Place | None = None,
    quantizer: str | None = None,
    prompts: Place | None = None,
    force: bool = False,
    timeout: float = process.TIMEOUT,
    progress: Progress | None = None,
) -> Converted:
    """Write a checkpoint as a GGUF file, by llama.cpp's own converter in the environment of the interpreter `python`."""
    asked = prompts_file.embedded_prompts() if prompts is None else prompts_file.load(Path(prompts))
    return gguf.convert(
        Path(folder), Path(output), quantise=quantize.lower() if quantize else None, quantizer=quantizer, prompts=asked,
        python=process.python_for("llama.cpp", process.interpreters(() if python is None else (str(python),))),
        force=force, timeout=timeout, stage=stages(progress),
    )  # fmt: skip


def _words(words: Words) -> list[str]:
    return [words] if isinstance(words, str) else [str(word) for word in words]


def _neurons(neurons: Neurons | Place) -> Neurons:
    return neurons if isinstance(neurons, Neurons) else neurons_file.load(Path(neurons))


def _listener(progress: Progress | None, told: Told) -> Listener:
    return Listener(stages(progress), told)


def _options(options: MeasureOptions) -> Options:
    settings: dict[str, Any] = dict(options)
    for name in ("corpus", "languages"):
        settings[name] = tuple(_words(settings.get(name, ())))
    if "aligned" in settings:
        settings["aligned"] = Path(settings["aligned"])
    if "prompts" in settings:
        settings["prompts"] = str(settings["prompts"])
    if "lid" in settings:
        settings["lid"] = Path(settings["lid"])
    return Options(**settings)


def _request(edits: EditOptions) -> Request:
    settings: dict[str, Any] = dict(edits)
    for name in ("deactivate", "activate", "hold", "for_runtimes", "experts", "silence", "lose"):
        settings[name] = tuple(_words(settings.get(name, ())))
    for name in ("scale", "redirect", "quieten"):
        settings[name] = tuple(settings.get(name, {}).items())
    if "prompts" in settings:
        settings["prompts"] = Path(settings["prompts"])
    return Request(**settings, choose=True)
