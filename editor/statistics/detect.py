"""From a model and a corpus to statistics: the first step of everything."""

from collections.abc import Mapping
from pathlib import Path

from ..errors import ModelError, StatisticsError
from ..live.load import choose_dtype, load_model
from ..live.modules import activation_modules, input_modules, layer_modules
from ..live.skeleton import Skeleton
from ..live.spread import NOT_SPREAD, Spread
from ..live.streaming import AUTO, Streaming
from ..models.hf import load_tokenizer
from ..models.target import Target, check_unchanged, model_info
from ..text.corpus import Text
from ..text.mislabelled import warn_of_mislabelled
from ..text.tokens import MINIMUM_TOKENS, Packed, fitting_context, read_texts, require
from ..version import versions
from .by_layer import collect_by_layer
from .detection import Detection
from .language_sums import TokenCounts, count_tokens
from .recorder import Progress, collect
from .residual_sums import outputs_by_layer
from .sample import HELD_OUT_TOKENS, require_held_out, take_sample
from .statistics import Statistics
from .sums import workers

COUNTED = 65_536  # tokens a language that are counted, more than a model need run over
MOST_MOMENTS = 2**31  # bytes of moments that are recorded unasked


def detect(
    target: Target,
    texts: Mapping[str, Text],
    *,
    tokens: int = Detection.tokens,
    context: int = Detection.context,
    minimum: int = Detection.minimum,
    batch_size: int = 0,
    device: str = "auto",
    dtype: str = "auto",
    quantiles: bool = False,
    per_text: bool = False,
    calibrate: bool = False,
    lean: bool = False,
    streaming: Streaming = AUTO,
    spread: Spread = NOT_SPREAD,
    reuse: Statistics | None = None,
    resume_file: Path | None = None,
    progress: Progress | None = None,
) -> Statistics:
    """Record statistics of `target` on at most `tokens` tokens a language.

    A model that does not fit in memory runs layer by layer (see `Streaming` and `by_layer`), with the same result; `spread`
    lays it over several devices.
    On request there are histograms (`quantiles`) and means over single texts (`per_text`). Unless it is `lean`, the same pass
    records what later steps need: counts of tokens and sums of the residual stream (see `language_sums`), and, where they are
    not too large, what a calibration is fitted to (see `inputs`); `calibrate` asks for that in any case. `reuse` is returned
    as it is when it was made of the same model, text and settings, and holds all that is asked for.

    Raises CorpusError when a language has fewer than `minimum` tokens, ModelError when the model can't be built,
    StatisticsError when it puts out NaN. Warns (MonoglotWarning) of text in another language than its label.
    """
    packed = prepare(target, texts, tokens=tokens, context=context, minimum=minimum)
    asked = Detection(tokens=tokens, context=context, calibrate=calibrate, lean=lean)
    held_out, counted = prepare_rest(target, texts, packed, asked)
    return record(
        target, packed, context=context, batch_size=batch_size, device=device, dtype=dtype, quantiles=quantiles,
        per_text=per_text, held_out=held_out, calibrate=calibrate, counted=counted, streaming=streaming, spread=spread,
        reuse=reuse, resume_file=resume_file, progress=progress,
    )  # fmt: skip


def prepare(
    target: Target, texts: Mapping[str, Text], *, tokens: int, context: int, minimum: int = MINIMUM_TOKENS
) -> dict[str, Packed]:
    """Do the first half of `detect`: everything that can be wrong with the text is said before the model is built."""
    tokenizer = load_tokenizer(target.source.folder)
    packed = read_texts(target, texts, tokens=tokens, context=context, tokenizer=tokenizer)
    warn_of_mislabelled(packed, texts, tokenizer)
    for one in packed.values():
        require(one, min(minimum, tokens))
    return packed


def prepare_held_out(target: Target, texts: Mapping[str, Text], *, context: int) -> dict[str, Packed]:
    """Read the held-out text of which `record` takes a sample. Raises CorpusError when a language has none."""
    packed = read_texts(target, texts, tokens=HELD_OUT_TOKENS, context=context, held_out=True)
    for one in packed.values():
        require_held_out(one)
    return packed


def prepare_rest(
    target: Target, texts: Mapping[str, Text], packed: Mapping[str, Packed], asked: Detection
) -> tuple[dict[str, Packed] | None, dict[str, TokenCounts] | None]:
    """Return the held-out text and the counts of tokens that `record` takes besides what `prepare` returned.

    Without being asked for, inputs are recorded where they can be and are not too large. Raises CorpusError where they are
    asked for and a language has no held-out text.
    """
    if asked.calibrate:
        held_out = prepare_held_out(target, texts, context=asked.context)
    elif not may_record_inputs(target, asked):
        held_out = None
    else:
        read = read_texts(target, texts, tokens=HELD_OUT_TOKENS, context=asked.context, held_out=True)
        held_out = read if all(one.tokens for one in read.values()) else None
    if asked.lean:
        return held_out, None
    more = packed if asked.tokens >= COUNTED else read_texts(target, texts, tokens=COUNTED, context=asked.context)
    return held_out, {name: count_tokens(one) for name, one in more.items()}


def may_record_inputs(target: Target, asked: Detection) -> bool:
    """Whether inputs are recorded, in a language that has held-out text."""
    unasked = not asked.lean and not target.feed_forward.mixture and moments_size(target) <= MOST_MOMENTS
    return asked.calibrate or unasked


def moments_size(target: Target) -> int:
    """How many bytes the second moments of what the feed-forward networks read take."""
    return 8 * len(target.feed_forward.networks) * target.feed_forward.hidden**2


def record(
    target: Target,
    packed: Mapping[str, Packed],
    *,
    context: int,
    batch_size: int = 0,
    device: str = "auto",
    dtype: str = "auto",
    quantiles: bool = False,
    per_text: bool = False,
    held_out: Mapping[str, Packed] | None = None,
    calibrate: bool = True,
    counted: Mapping[str, TokenCounts] | None = None,
    streaming: Streaming = AUTO,
    spread: Spread = NOT_SPREAD,
    reuse: Statistics | None = None,
    resume_file: Path | None = None,
    progress: Progress | None = None,
) -> Statistics:
    """Do the second half of `detect`: run the model over what `prepare` returned.

    With `held_out`, what `prepare_held_out` returned, the inputs of the feed-forward networks are recorded too; unless
    `calibrate` asks for them, statistics without them are reused as well. With `counted` (see `prepare_rest`) there are sums
    of the residual stream.
    """
    asked = Detection(context=context, device=device, quantiles=quantiles, per_text=per_text)
    dtype = choose_dtype(target.source.folder, device, dtype)
    if reuse and fits(reuse, target, packed, asked, dtype, held_out if calibrate else None):
        return reuse
    settings = _settings(target, context, dtype)
    if held_out and target.feed_forward.mixture:
        raise StatisticsError(
            f"{target.source.name} is a mixture of experts: no direction could stand in for the constant 1 in each of its "
            "experts, so there is nothing to calibrate. Leave `calibrate` out."
        )
    _check_spread(target, spread, streaming)
    folder, family = target.source.folder, target.feed_forward.family
    tokenizer = load_tokenizer(folder) if held_out else None
    if not spread and streaming.chosen(folder, device=device, dtype=dtype):
        found = collect_by_layer(
            Skeleton(folder, device=device, dtype=dtype),
            family,
            model_info(target),
            packed,
            batch_size=batch_size,
            settings=settings,
            quantiles=quantiles,
            per_text=per_text,
            held_out=held_out,
            tokenizer=tokenizer,
            counted=counted,
            scratch=_scratch(streaming.scratch, resume_file),
            memory=streaming.memory,
            progress=progress,
        )
    else:
        model = load_model(folder, device=device, dtype=dtype, spread=spread)
        readers = input_modules(model, family) if held_out else []
        found = collect(
            model,
            activation_modules(model, family),
            model_info(target),
            packed,
            batch_size=batch_size,
            settings=settings,
            quantiles=quantiles,
            per_text=per_text,
            readers=readers,
            sample=take_sample(model, readers, held_out, tokenizer, checked=False) if held_out else None,
            counted=counted,
            layers=layer_modules(model, family) if counted else (),
            outputs=outputs_by_layer(model, family, target.feed_forward.layers) if counted else None,
            divided=spread.tensor_parallel,
            resume_file=resume_file,
            progress=progress,
        )
    check_unchanged(target)
    return found


def _check_spread(target: Target, spread: Spread, streaming: Streaming) -> None:
    """Raise ModelError where a model can't be spread over several devices as it is asked for."""
    spread.check(workers()[1])
    if spread and streaming.stream == "layers":
        raise ModelError(
            "a model that runs layer by layer needs one device. Leave `device_map` and `tensor_parallel` out."
        )
    if spread.tensor_parallel and target.feed_forward.mixture:
        raise ModelError(
            f"{target.source.name} is a mixture of experts, whose experts can't be looked at one by one where each is "
            "divided among processes. Use `device_map` auto, or `stream` layers."
        )


def _settings(target: Target, context: int, dtype: str) -> dict[str, int | str]:
    return {"context": fitting_context(target, context), "dtype": dtype}


def fits(
    statistics: Statistics,
    target: Target,
    packed: Mapping[str, Packed],
    asked: Detection,
    dtype: str,
    held_out: Mapping[str, Packed] | None = None,
) -> bool:
    """Whether statistics were made of the same model, text and settings, `dtype` as it was chosen, and hold what is asked."""
    texts = {language: (one.sha256,) for language, one in packed.items()}
    made_of = (target.fingerprint, texts, _settings(target, asked.context, dtype), versions())
    known = (statistics.model.fingerprint, statistics.texts, statistics.settings, statistics.versions)
    return known == made_of and _holds(statistics, asked.quantiles, asked.per_text, held_out)


def _scratch(scratch: Path | None, resume_file: Path | None) -> Path | None:
    """Return the folder for hidden states: of a name of its own, in `scratch` or beside the file for progress."""
    if resume_file is None:
        return scratch / ".monoglot.layers" if scratch else None
    name = f"{resume_file.name.removesuffix('.progress')}.layers"
    return (scratch or resume_file.parent) / name


def _holds(statistics: Statistics, quantiles: bool, per_text: bool, held_out: Mapping[str, Packed] | None) -> bool:
    """Whether they have the histograms, per-text means and sample that are asked for; more does no harm."""
    if (quantiles and statistics.histogram is None) or (per_text and statistics.per_text is None):
        return False
    if not held_out:
        return True
    sampled = statistics.inputs.sample.parts if statistics.inputs else ()
    return {(part.language, part.sha256) for part in sampled} == {(k, one.sha256) for k, one in held_out.items()}
