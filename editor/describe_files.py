"""What a file holds that one command hands to another: neurons, statistics, a calibration, a vocabulary, a recipe."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from .edits import calibration as calibration_file
from .edits import recipe as recipe_file
from .edits import silence as silence_file
from .files.checkpoint import read_shard
from .neurons import neurons as neurons_file
from .statistics import statistics as statistics_file
from .statistics import vocabulary as vocabulary_file


def of_neurons(path: Path) -> dict[str, Any]:
    """`neurons` counts each language's, `alone` those that are of no other. Raises NeuronsError."""
    found = neurons_file.load(path)
    owners = Counter(pair for language in found.languages for pair in found.pairs(language))
    return {
        "kind": "neurons",
        "model": found.model.to_data() if found.model else None,
        "method": found.method,
        "layers": found.model.layers if found.model and found.model.blocks else found.layers,
        "languages": {
            language: {
                "neurons": found.count(language),
                "alone": sum(owners[pair] == 1 for pair in found.pairs(language)),
                "by_layer": found.per_layer(language),
            }
            for language in found.languages
        },
        "neurons": len(owners),
        "values": sorted(found.values),
        "spare": sum(len(layer) for layer in found.spare),
    }


def of_statistics(path: Path) -> dict[str, Any]:
    """`per_text` counts the texts that means were kept of. Raises StatisticsError."""
    found = statistics_file.load(path)
    shapes = {tensor.name: tensor.shape for tensor in read_shard(path).tensors}
    inputs = found.inputs
    return {
        "kind": "statistics",
        "model": found.model.to_data(),
        "languages": {
            language: {"tokens": found.tokens[language], "texts": len(found.texts[language])}
            for language in found.languages
        },
        "histograms": found.histogram is not None,
        "per_text": {language: shapes[f"{language}.per_text"][0] for language in found.languages}
        if found.per_text is not None
        else None,
        "inputs": {"tokens": inputs.tokens, "sample": len(inputs.sample.tokens), "hidden": inputs.hidden}
        if inputs
        else None,
        "settings": found.settings,
        "bytes": path.stat().st_size,
    }


def of_vocabulary(path: Path) -> dict[str, Any]:
    """Return `used` counts the tokens that any text uses, `by_script` those that have the shares of their script.

    Raises StatisticsError.
    """
    found = vocabulary_file.load(path)
    return {
        "kind": "vocabulary",
        "model": vars(found.model),
        "rows": found.rows,
        "hidden": len(next(iter(found.centres.values()))),
        "languages": {k: {"tokens": found.tokens(k), "different": len(found.ids[k])} for k in found.languages},
        "used": len(np.unique(np.concatenate(list(found.ids.values())))),
        "by_script": len(found.unused),
        "scripts": list(found.scripts),
    }


def of_silence(path: Path) -> dict[str, Any]:
    """Describe a silence: its tokens by script, what stays, and how far down they are. Raises StatisticsError."""
    found = silence_file.load(path)
    return {
        "kind": "silence",
        "model": found.model.to_data(),
        "rows": found.rows,
        "scripts": {
            script: {
                "tokens": len(found.ids[script]), "whole": own.whole, "mixed": own.mixed, "pieces": own.pieces,
                "staying": [vars(one) for one in own.staying],
            }
            for script, own in found.tokens.items()
        },
        "spared": found.spared,
        "languages": list(found.languages),
        "floor": found.floor and vars(found.floor),
    }  # fmt: skip


def of_calibration(path: Path) -> dict[str, Any]:
    """Describe a calibration. Raises StatisticsError."""
    found = calibration_file.load(path)
    errors = [error.after for error in found.errors]
    worst = int(np.argmax(errors)) if errors else None
    return {
        "kind": "calibration",
        "fingerprint": found.fingerprint,
        "layers": len(errors),
        "hidden": int(found.directions.shape[1]),
        "dtype": found.dtype,
        "languages": list(found.languages),
        "tokens": found.tokens,
        "unseen": found.unseen,
        "errors": errors,
        "worst_layer": worst,
    }


def of_recipe(path: Path) -> dict[str, Any]:
    """`neurons_there` says whether its neurons file is. Raises RecipeError."""
    found = recipe_file.load(path)
    data = recipe_file.as_data(found)
    return {
        "kind": "recipe",
        "neurons": None,
        "vocabulary": None,
        "silence": None,
        **data,
        "neurons_there": (path.parent / found.neurons).is_file(),
    }
