"""What is asked of `export`, opened and checked before anything slow starts."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .edits.adapter import check_adaptable
from .edits.bake import check_place
from .edits.carrier_choice import choose
from .edits.recipe import Recipe
from .edits.request import ADAPTER, AUTO, Request
from .edits.vectors import in_layers
from .errors import CorpusError, NeuronsError, OutputError
from .export_reuse import chosen_before, known_strength
from .measures.search import check_search
from .models.source import resolve
from .models.target import Target, open_target
from .neurons.origin import open_origin
from .runtimes.capabilities import settled
from .text.corpus import Text, open_corpus


@dataclass(frozen=True)
class Opened:
    """What is asked of `export`, opened and checked.

    Neurons are found in `origin`, which is `target` itself, or what that was quantised from.
    `asked` is the request as it was made, `request` with what an earlier search chose; `known` says that the recipe is the
    one to bake, `carrier` where constants go that the recipe has, or that a search tries.
    """

    target: Target
    origin: Target
    texts: Mapping[str, Text]
    asked: Request
    request: Request
    recipe: Recipe
    known: bool
    carrier: str | None

    @property
    def calibrated(self) -> bool:
        """Whether a calibrated direction carries the constants."""
        return self.carrier == "calibrated"

    @property
    def searches(self) -> bool:
        """Whether a search says how it is done."""
        return self.asked.searches_off or self.asked.searches_on


def ask(
    model: str,
    corpus: Sequence[str],
    request: Request,
    output: Path,
    *,
    languages: Sequence[str] = (),
    base_id: str | None = None,
    neurons_of: str | None = None,
    work: Path | None = None,
    chosen: bool = False,
) -> Opened:
    """Open the model and the text, and see that what is requested can be done. Raises MonoglotError.

    `chosen` says that a rate or a quantile was given, so that none is searched for.
    """
    unproved = output.with_name(f"{output.name}.unproved")
    target = open_target(resolve(model, base_id))
    origin = open_origin(neurons_of, target) if neurons_of else target
    texts = open_corpus(corpus, languages)
    if chosen:
        request = replace(request, choose=False)
    asked = request = settled(request.without_shorthand().searching(), target)
    if request.strength == AUTO:
        _ = request.searched  # raises for several languages
    strength, layers, known = known_strength(output, request)
    if not known:
        strength, layers, known = known_strength(unproved, request)
    if request.searches_off or request.searches_on:  # what an earlier search chose, until this one has chosen
        depth = target.feed_forward.layers
        before = chosen_before(output, request, depth) or chosen_before(unproved, request, depth)
        request, known = before or request, before is not None
        strength = None if request.strength is None else float(request.strength)
    recipe = request.recipe(target, list(texts), strength, layers, list(texts))
    if request.form == ADAPTER:
        check_adaptable(target, recipe)
        recipe = replace(recipe, compat_config=False)
    carrier = choose(recipe.carrier, target) if needs_carrier(recipe) or asked.searches_on else None
    recipe = replace(recipe, carrier=carrier if needs_carrier(recipe) and carrier else AUTO)
    named = dict.fromkeys([edit.language for edit in recipe.edits] + [str(edit.to) for edit in recipe.redirects])
    if absent := [language for language in named if language not in texts]:
        raise NeuronsError(f"there is no text in {', '.join(absent)}; the corpus has {', '.join(texts)}.")
    for each in (target, origin):
        check_place(each.source.folder, output)
    if len(texts) < 2 and (recipe.edits or recipe.experts):
        raise CorpusError(
            "a language is told from others: give text in two languages or more, best all that are to be kept."
        )
    for each in (target, origin):
        _check_work(work or default_work(output), output, unproved, each)
    if request.strength == AUTO or asked.searches_on:
        check_search(asked)
    return Opened(target, origin, texts, asked, request, recipe, known, carrier)


def needs_carrier(recipe: Recipe) -> bool:
    """Whether it needs a carrier."""
    return any(edit.constant for edit in recipe.edits) or bool(in_layers(recipe))


def _check_work(work: Path, output: Path, unproved: Path, target: Target) -> None:
    """Raise OutputError for a folder of intermediate files that is another one."""
    real, *others = (Path(os.path.realpath(path)) for path in (work, output, unproved))
    if any(real == other or other in real.parents for other in others):
        raise OutputError(f"{work}, where statistics are kept, is the checkpoint's own folder. Choose another `work`.")
    base = Path(os.path.realpath(target.source.folder))
    if real == base or base in real.parents:
        raise OutputError(f"{work}, where statistics are kept, lies in the model's own folder. Choose another `work`.")
    if os.path.lexists(work) and not work.is_dir():
        raise OutputError(f"{work}, where statistics are kept, is not a folder. Choose another `work`.")


def check_no_folder(path: Path) -> None:
    if path.is_dir():
        raise OutputError(f"{path} is a folder, and statistics are kept there. Choose another `work`.")


def default_work(output: Path) -> Path:
    """Name the folder of the intermediate files."""
    return output.with_name(f"{output.name}.work")
