"""What `export` would do, step by step."""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ..edits.request import AUTO, Request
from ..errors import StatisticsError
from ..export import STATISTICS
from ..export_request import Opened, default_work
from ..files.output import check_free
from ..live.generate import ROWS
from ..live.load import choose_device, choose_dtype
from ..live.logits import LOGITS
from ..live.speed import measure_speed
from ..measures import strength
from ..measures.again import count_for
from ..measures.off import KINDS, RATES, unseen
from ..measures.options import Options
from ..measures.search import TRIES, prompts_of
from ..measures.whole import check_whole
from ..models.target import Target
from ..proof.logits import read_held_out
from ..proof.settings import CONTEXT
from ..statistics.detect import fits, may_record_inputs, moments_size, prepare, prepare_held_out, prepare_rest
from ..statistics.detection import Detection
from ..statistics.language_sums import TokenCounts
from ..statistics.recorder import BATCH_TOKENS
from ..statistics.sample import taken_rows
from ..statistics.statistics import load
from ..text.tokens import Packed, fitting_context
from .costs import LIBRARIES, Costs, costs_of
from .of_bake import MEMORY, bake_seconds, size_of
from .steps import Forecast, Step, free_memory, with_free

NUMBERS = 16  # bytes of statistics of a neuron and language: a count and a sum
HISTOGRAM = 388
DOUBLE = 2  # of the time of a product in float32, one in float64
SAMPLED = 17  # of a token of the sample, beside what the layers read there: its id, position and kind
ASKED = 3  # variants that answer after a search: the base, the checkpoint, random edits
VERIFIED = 4  # variants that verify compares: the base, the checkpoint, random neurons, hooks


def forecast_export(
    asked: Opened,
    output: Path,
    detection: Detection,
    *,
    verify_tokens: int,
    fast: bool,
    work: Path | None = None,
    force: bool = False,
) -> Forecast:
    """Say what `export` would do for what is `asked`. Raises what it would raise for the text and the place."""
    target, request, recipe = asked.target, asked.request, asked.recipe
    check_free(output, force=force)
    if not asked.known:
        check_whole(target, asked.asked, detection)
    work = work or default_work(output)
    detection = replace(detection, calibrate=asked.calibrated, quantiles=request.value != "mean")
    device = choose_device(detection.device)
    dtype = choose_dtype(target.source.folder, detection.device, detection.dtype)
    feed_forward = target.feed_forward
    costs = costs_of(target, dtype, measure_speed(feed_forward.hidden, feed_forward.width, device=device, dtype=dtype))
    steps: list[Step] = []
    tokens: dict[str, int] = {}
    notes: list[str] = []
    disk = {output: size_of(target)}
    if recipe.of_neurons or asked.searches:
        begun = time.perf_counter()
        packed = prepare(
            asked.origin, asked.texts, tokens=detection.tokens, context=detection.context, minimum=detection.minimum
        )
        tokens = {language: one.tokens for language, one in packed.items()}
        if _kept(work / STATISTICS, asked, packed, detection, dtype):
            notes.append(f"The statistics in {work / STATISTICS} still fit, and are not recorded again.")
        else:
            held_out, counted = prepare_rest(asked.origin, asked.texts, packed, detection)
            preparing = time.perf_counter() - begun  # which `detect` does again
            disk[work] = _statistics_size(asked, packed, detection, held_out, counted)
            every = sum(one.tokens for one in (*packed.values(), *(held_out or {}).values()))
            step = _detect(costs, asked.origin, packed, every, detection, device.partition(":")[0], disk[work])
            steps.append(replace(step, seconds=step.seconds + preparing))
        if asked.asked.searches_off:
            steps.append(_search_off(costs, asked, detection))
        if asked.asked.searches_on:
            what = "ways to answer in the language are tried, no longer than the budget"
            steps.append(Step("search", what, asked.asked.budget, LIBRARIES + costs.memory))
        if request.strength == AUTO:
            steps.append(_search(costs, target, request))
    size = size_of(target)
    steps.append(Step("bake", f"{size / 1e6:,.0f} MB are written", bake_seconds(target, size), MEMORY))
    if fast:
        steps.append(Step("verify", "bytes alone", 2 * size / costs.reading, MEMORY))
    else:
        context = min(detection.context, CONTEXT)
        held_out = read_held_out(target, asked.texts, tokens=verify_tokens, context=context)
        steps.append(_verify(costs, target, held_out, context, calibrated=asked.calibrated))
        if asked.asked.searches_on:
            steps.append(_ask_again(costs, target, len(asked.texts) - 1))
    return Forecast(
        target.source.name, size_of(target, weights_only=True), tokens, tuple(steps), with_free(disk), device, dtype,
        free_memory(device), tuple(notes),
    )  # fmt: skip


def _kept(path: Path, asked: Opened, packed: Mapping[str, Packed], detection: Detection, dtype: str) -> bool:
    """Whether the statistics of an earlier run would be taken."""
    if not path.is_file():
        return False
    held_out = prepare_held_out(asked.origin, asked.texts, context=detection.context) if detection.calibrate else None
    try:
        before = load(path)
    except StatisticsError:
        return False
    return fits(before, asked.origin, packed, detection, dtype, held_out)


def _detect(
    costs: Costs, target: Target, packed: Mapping[str, Packed], every: int, detection: Detection, device: str, size: int
) -> Step:
    """Count a pass over `every` token, those of held-out text too, and statistics of so many bytes."""
    feed_forward = target.feed_forward
    seconds = costs.passes(every, fitting_context(target, detection.context), logits=False)
    batch = (detection.batch_size * detection.context) or BATCH_TOKENS.get(device, BATCH_TOKENS["cpu"])
    memory = costs.memory + 4 * batch * (4 * feed_forward.width + 8 * feed_forward.hidden)
    if may_record_inputs(target, detection):  # of what the networks read: the second moments
        seconds += DOUBLE * 2 * every * (moments_size(target) / 8) / costs.speed.operations
        memory += moments_size(target)  # those of a batch, beside all
    memory += size
    what = f"{sum(one.tokens for one in packed.values()):,} tokens in {len(packed)} languages are read"
    return Step("detect", what, costs.loading(size_of(target)) + seconds, LIBRARIES + memory)


def _search(costs: Costs, target: Target, request: Request) -> Step:
    """Count the most that a search may take: every strength of every range of layers, and every checkpoint."""
    prompts = sum(len(own) for language, own in prompts_of(request).items() if language != request.searched)
    points = (len(strength.STRENGTHS) + 1) * len(request.candidates(target)) + TRIES
    at_once = max(1, min(ROWS, LOGITS // costs.vocabulary))
    seconds = points * costs.answers(prompts, strength.TOKENS, at_once)
    size = size_of(target)
    seconds += costs.loading(size, 1 + TRIES) + TRIES * bake_seconds(target, size)
    what = f"{points} times {prompts} answers of {strength.TOKENS} tokens are written"
    return Step("search", what, seconds, LIBRARIES + 2 * costs.memory + costs.logits(2), most=True)


def _search_off(costs: Costs, asked: Opened, detection: Detection) -> Step:
    """Count the most that a search for the neurons to switch off may take: every set of them."""
    packed, _ = unseen(asked.target, asked.texts, detection.tokens)
    sets, every = len(KINDS) * len(RATES), sum(one.tokens for one in packed.values())
    seconds = costs.loading(size_of(asked.target))
    seconds += (sets + 1) * costs.passes(every, CONTEXT, logits=True)
    what = f"{sets} sets of neurons are tried on {every:,} tokens"
    return Step("off", what, seconds, LIBRARIES + costs.memory + costs.logits(1), most=True)


def _verify(costs: Costs, target: Target, held_out: Mapping[str, Packed], context: int, *, calibrated: bool) -> Step:
    every, variants = sum(one.tokens for one in held_out.values()), VERIFIED + calibrated
    seconds = variants * costs.passes(every, context, logits=True)
    seconds += costs.loading(size_of(target), 2) + 2 * size_of(target) / costs.reading
    what = f"{every:,} held-out tokens are read, in {variants} variants of two models"
    return Step("verify", what, seconds, LIBRARIES + 2 * costs.memory + costs.logits(variants))


def _ask_again(costs: Costs, target: Target, languages: int) -> Step:
    """Count what the proved checkpoint is asked at most after a search, in so many languages."""
    prompts = count_for(languages) * languages
    at_once = max(1, min(ROWS, LOGITS // costs.vocabulary))
    seconds = ASKED * costs.answers(prompts, Options.tokens, at_once) + costs.loading(size_of(target), 2)
    what = f"{prompts} answers of {Options.tokens} tokens are written, by {ASKED} variants of two models"
    return Step("generate", what, seconds, LIBRARIES + 2 * costs.memory + costs.logits(1), most=True)


def _statistics_size(
    asked: Opened,
    packed: Mapping[str, Packed],
    detection: Detection,
    held_out: Mapping[str, Packed] | None,
    counted: Mapping[str, TokenCounts] | None,
) -> int:
    """Return the bytes of a statistics file, but for its header."""
    feed_forward, languages = asked.origin.feed_forward, len(packed)
    size = feed_forward.neurons * languages * (NUMBERS + (HISTOGRAM if detection.quantiles else 0))
    layers, networks, row = feed_forward.layers, len(feed_forward.networks), 8 * feed_forward.hidden
    if counted:
        size += languages * ((layers + 1) * row + (0 if feed_forward.mixture else 8 * layers))
        size += sum(one.ids.nbytes + one.counts.nbytes for one in counted.values())
    if held_out:
        sampled = sum(len(one.rows) for one in taken_rows(held_out))
        size += moments_size(asked.origin) + (2 + (languages if counted else 0)) * networks * row
        size += sampled * (networks * row // 2 + SAMPLED)
    return size
