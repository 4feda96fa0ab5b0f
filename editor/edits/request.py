"""The edits that a user asks for, before the model is known. A recipe is made from them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import RecipeError
from ..text.token_sets import known
from .recipe import (
    CONSTANT_OPS,
    EMBEDDING,
    EXPERT,
    ONE_TABLE_STRENGTH,
    REDIRECT,
    REDIRECT_STRENGTH,
    TOLERANCE,
    VECTOR,
    VECTOR_STRENGTH,
    Edit,
    Recipe,
    check,
)
from .script_edit import QUIETEN, SILENCE, ScriptEdit, check_scripts

if TYPE_CHECKING:
    from ..models.target import Target
    from ..statistics.vocabulary import Vocabulary

AUTO = "auto"
OTHERS = "others"  # all languages but the activated ones
TARGET_ACCURACY = 0.9
TARGET_DAMAGE = 1.5  # nats a token
SPARE = 0.1
BUDGET = 600.0  # seconds
CHECKPOINT, ADAPTER = FORMS = ("checkpoint", "adapter")  # what is written
VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # what its --max-lora-rank can be
HIGHEST_RANKS = {"vLLM": VLLM_RANKS[-1]}  # of adapters, where a server has one
RANK_LIMIT = max(HIGHEST_RANKS.values())


@dataclass(frozen=True)
class Request:
    """Edits as a person asks for them. The defaults are those of the command line too.

    `scale` has (language, factor) pairs, `redirect` (language, language it goes to) pairs. `strength`, `value`, `op` and
    `layers` are those of the activated languages; `strength` is that of the redirected ones where none is activated, and
    `op` redirect means that all other languages go to the activated one, and `op` vector that its vector is added at `point`:
    EMBEDDING, which None stands for, or the number of a layer; or, of a control vector that was made elsewhere, at `points`,
    the layers that it has vectors after (see `with_vector`). `strength` AUTO searches for the smallest that
    works, with `target_accuracy` and a file of `prompts`. `layers` are the
    first and the last one, "all", or AUTO: all but the last sixth, where constants make loops. `for_runtimes` are runtimes
    that are to show the edits, which decides on the carrier where that is AUTO, and on `untie`: whether a model that reads
    and writes with one table gets a second one where tokens are redirected. None is what was not said. `choose` leaves
    the rest to a search: languages are switched off by the mildest set of neurons with which they lose `target_damage` nats
    a token, and no other one more than `spare`; one language is activated by what gives enough whole answers, as many as
    `target_accuracy` says, and damages its own text least, among all that can be tried in `budget` seconds. `form` is what
    is written: a checkpoint, or an adapter for the base, of `max_rank` at most.

    `silence` are scripts that can't be written any more, `quieten` (script, nats) pairs, `except_chars` their characters that
    still can; `lose` are languages that need such a script and may lose it.
    """

    deactivate: tuple[str, ...] = ()
    activate: tuple[str, ...] = ()
    hold: tuple[str, ...] = ()
    scale: tuple[tuple[str, float], ...] = ()
    redirect: tuple[tuple[str, str], ...] = ()
    op: str = "add"
    value: str = "mean"
    strength: float | str | None = None
    layers: str | tuple[int, int] = AUTO
    slots: str = "spare"
    target_accuracy: float = TARGET_ACCURACY
    prompts: Path | None = None
    shared: str | None = None
    carrier: str = AUTO
    for_runtimes: tuple[str, ...] = ()
    tolerance: float = TOLERANCE
    above_tolerance: str = "refuse"
    compat_config: bool | None = None
    choose: bool = False
    target_damage: float = TARGET_DAMAGE
    spare: float = SPARE
    budget: float = BUDGET
    untie: bool | None = None
    point: str | int | None = None
    experts: tuple[str, ...] = ()  # to switch off: languages, or by number
    points: tuple[int, ...] = ()
    silence: tuple[str, ...] = ()
    quieten: tuple[tuple[str, float], ...] = ()
    except_chars: str = ""
    lose: tuple[str, ...] = ()
    form: str = CHECKPOINT
    max_rank: int | None = None

    @property
    def any(self) -> bool:
        """Whether it asks for an edit."""
        return bool(self.of_neurons or self.of_vocabulary or self.experts or self.of_scripts)

    @property
    def needs_neurons(self) -> bool:
        """Whether it speaks of neurons or experts that have to be known."""
        alone = self.of_vocabulary or self.experts or self.of_scripts
        return self.of_neurons or not alone or not all(map(EXPERT.fullmatch, self.experts))

    @property
    def spared(self) -> str:
        """The characters of silenced scripts that may still be written, each once."""
        return "".join(dict.fromkeys(self.except_chars))

    @property
    def of_scripts(self) -> bool:
        """Whether it asks that a script can't be written, or less often."""
        return bool(self.silence or self.quieten)

    @property
    def of_neurons(self) -> bool:
        """Whether it asks for an edit of neurons."""
        return bool(self.deactivate or self.hold or self.scale or (self.activate and self.op != VECTOR))

    @property
    def of_vocabulary(self) -> bool:
        """Whether it asks for an edit that needs a vocabulary."""
        return bool(self.redirect or (self.activate and self.op == VECTOR))

    @property
    def read_layers(self) -> set[int]:
        """The layers where a reader moves what is in one language to another."""
        inside = self.redirect and self.op != VECTOR and self.point not in (None, EMBEDDING)
        return {int(str(self.point))} if inside else set()

    @property
    def searches_off(self) -> bool:
        """Whether it leaves open how languages are switched off, and asks for nothing else."""
        others = self.activate or self.hold or self.scale or self.redirect or self.shared or self.experts
        return bool(self.choose and self.deactivate and not others)

    @property
    def searches_on(self) -> bool:
        """Whether it leaves open how one language is activated, and asks for nothing else."""
        others = self.deactivate or self.hold or self.scale or self.redirect or self.shared or self.experts
        any_way = self.form == CHECKPOINT  # an adapter can't take what moves tokens
        return bool(self.choose and len(self.activate) == 1 and self.strength is None and not others and any_way)

    def without_shorthand(self) -> "Request":
        """Give the request with `op` redirect as what it means: all other languages go to the activated ones."""
        if self.op != REDIRECT:
            return self
        pairs = tuple((OTHERS, language) for language in self.activate)
        return replace(self, activate=(), op=Request.op, redirect=(*self.redirect, *pairs))

    def searching(self) -> "Request":
        """Give the request with a strength: where none was said, AUTO for one activated language, and 1 for several."""
        if not self.activate or self.strength is not None or self.op == VECTOR or self.searches_on:
            return self
        return replace(self, strength=AUTO if len(self.activate) == 1 and not self.redirect else 1.0)

    @property
    def searched(self) -> str:
        """The language whose strength is to be searched for. Raises RecipeError when it is not one language."""
        if len(self.activate) != 1:
            raise RecipeError(
                "a strength can be searched for where one language is activated. Give `strength` a number."
            )
        return self.activate[0]

    def edits(
        self, languages: Sequence[str] = (), strength: float = 1.0, layers: tuple[int, int] | None = None
    ) -> tuple[Edit, ...]:
        """Make the edits; OTHERS are those of `languages` that are not activated.

        `strength` and `layers` are those of the activated ones. Raises RecipeError for `hold` without a language to hold
        at.
        """
        others = [language for language in languages if language not in self.activate]
        if self.hold and len(self.activate) != 1:
            raise RecipeError(
                "`hold` holds neurons at their values on text in the one language of `activate`. Name one."
            )
        edits = [Edit(language, "deactivate") for language in _named(self.deactivate, others)]
        edits += [Edit(language, "pin", 1.0, f"mean@{self.activate[0]}") for language in _named(self.hold, others)]
        value = self.value if self.op in CONSTANT_OPS else None
        if self.op == VECTOR:
            points = self.points or (EMBEDDING if self.point is None else self.point,)
            edits += [Edit(language, VECTOR, strength, point=point) for language in self.activate for point in points]
        else:
            edits += [Edit(language, self.op, strength, value, layers) for language in self.activate]
        edits += [Edit(language, "scale", factor) for language, factor in self.scale]
        return tuple(edits)

    def redirects(
        self, counted: Sequence[str] = (), strength: float | None = None, *, one_table: bool = False
    ) -> tuple[Edit, ...]:
        """Make the edits of tokens; OTHERS are those of the languages that were `counted` that nothing is redirected to."""
        point = None if self.point == EMBEDDING or self.op == VECTOR else self.point
        usual = ONE_TABLE_STRENGTH if one_table else REDIRECT_STRENGTH
        targets = [target for _, target in self.redirect]
        others = [language for language in counted if language not in targets]
        return tuple(
            Edit(language, REDIRECT, usual if strength is None else strength, to=target, point=point)
            for source, target in self.redirect
            for language in _named([source], others)
        )

    def scripts(self) -> tuple[ScriptEdit, ...]:
        """Make the edits of scripts. Raises RecipeError for what can't be."""
        made = [ScriptEdit(known(script), SILENCE) for script in self.silence]
        made += [ScriptEdit(known(script), QUIETEN, nats) for script, nats in self.quieten]
        check_scripts(made, self.spared)
        return tuple(made)

    def recipe(
        self,
        target: "Target",
        languages: Sequence[str],
        strength: float | None = None,
        layers: tuple[int, int] | None = None,
        counted: Sequence[str] = (),
    ) -> Recipe:
        """Make the recipe for a model.

        `languages` are those that neurons are known of, `counted` those of the vocabulary. `strength` is by default 1,
        where tokens alone are redirected that of `redirect`, `layers` the first of the `candidates`. Raises RecipeError.
        """
        from ..models.compat_config import old_keys
        from ..models.embedding import open_embedding

        of_tokens = bool(self.redirect) and (self.point in (None, EMBEDDING) or self.op == VECTOR)
        one_table = (of_tokens or self.of_scripts) and self.untie is False and open_embedding(target).tied
        compat = bool(old_keys(target.checkpoint.config)) and self.compat_config is not False
        where = layers or self.candidates(target)[0]
        of_neurons = self.edits(
            languages,
            (VECTOR_STRENGTH if self.op == VECTOR and not self.points else 1.0) if strength is None else strength,
            None if where == (0, target.feed_forward.layers - 1) else where,
        )
        made = Recipe(
            target.base,
            of_neurons + self.redirects(counted, None if self.activate else strength, one_table=one_table),
            self.shared or ("edit" if self.activate else "keep"),
            carrier=self.carrier,
            slots=self.slots,
            tolerance=self.tolerance,
            above_tolerance=self.above_tolerance,
            compat_config=compat,
            untie=not one_table,
            experts=self.experts,
            scripts=self.scripts(),
            except_chars=self.spared,
        )
        check(made)
        return made

    def candidates(self, target: "Target") -> list[tuple[int, int]]:
        """Give the layers in which a language may be activated, the first choice first. Raises RecipeError."""
        last = target.feed_forward.layers - 1
        if isinstance(self.layers, tuple):
            if self.layers[1] > last:
                raise RecipeError(f"`layers` goes up to {self.layers[1]}; the last one is {last}.")
            return [self.layers]
        trimmed = (0, max(0, last - -(-(last + 1) // 6)))
        return [(0, last)] if self.layers == "all" else [trimmed, (0, last)]


def _named(languages: Sequence[str], others: Sequence[str]) -> list[str]:
    return [one for language in languages for one in (others if language == OTHERS and others else [language])]


def with_vector(
    request: Request, path: Path, target: "Target", vocabulary: "Vocabulary | None" = None
) -> "tuple[Request, Vocabulary]":
    """Give a request that adds the control vector in a file, and a vocabulary that holds it.

    The vector goes by the name of the one language that is activated. Raises RecipeError where the request asks for
    something else, StatisticsError for a file that is no control vector of such a model.
    """
    from ..models.embedding import open_embedding
    from ..models.target import model_info
    from ..statistics import control_vector
    from ..statistics.vocabulary import none_counted

    if request.op != VECTOR or len(request.activate) != 1:
        raise RecipeError("a `vector` from a file is added by `op` vector, and goes by the one name in `activate`.")
    if request.point == EMBEDDING:
        raise RecipeError(
            "a `vector` from a file is added after layers, not at the embedding: its units are a layer's."
        )
    layer = None if request.point is None else int(request.point)
    found = control_vector.read(path, target.feed_forward.layers, layer)
    if len(length := {len(vector) for vector in found.values()} - {target.feed_forward.hidden}):
        raise RecipeError(
            f"the vectors in {path} have {length.pop()} numbers, and the residual stream of {target.source.name} has "
            f"{target.feed_forward.hidden}. They are of another model."
        )
    counts = vocabulary or none_counted(model_info(target), open_embedding(target).rows)
    known = {(request.activate[0], number): vector for number, vector in found.items()}
    return replace(request, points=tuple(found)), replace(counts, vectors={**counts.vectors, **known})
