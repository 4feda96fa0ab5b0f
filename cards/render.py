"""The README.md of a checkpoint, from its manifest and the base's card.

Everything on it comes from the manifest, so it says nothing that was not recorded; a name that the template uses and
nobody defines is an error. No local path, user or token is ever put on it.
"""

import math
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from . import languages

TAGS = ["monoglot", "lape"]
PROMPTS = {
    "en": "The best way to learn is", "zh": "学习最好的方法是", "fr": "La meilleure façon d'apprendre est",
    "es": "La mejor manera de aprender es", "vi": "Cách học tốt nhất là", "id": "Cara terbaik untuk belajar adalah",
    "ja": "学ぶための最良の方法は",
}  # fmt: skip


def render(manifest: dict[str, Any], base_folder: Path, recipe: str, method: dict[str, Any]) -> str:
    """The whole text of README.md. `recipe` is that of recipe.yaml, `method` what neurons.json says of itself."""
    from importlib.resources import files

    from jinja2 import Environment, StrictUndefined

    # no autoescape, as it makes Markdown; `_cell` takes care of what a model wrote
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)  # noqa: S701
    template = environment.from_string(files(__package__).joinpath("card.md").read_text(encoding="utf-8"))
    data, body = read_base_card(base_folder)
    text = template.render(**context(manifest, recipe, method), base_card=body.strip())
    return f"---\n{front_matter(manifest, data, method)}\n---\n{text.rstrip()}\n"


def read_base_card(folder: Path) -> tuple[dict[str, Any], str]:
    """Metadata and text of the base's card; empty when there is none, metadata empty when it is malformed."""
    path = folder / "README.md"
    if not path.is_file():
        return {}, ""
    import yaml
    from huggingface_hub import ModelCard

    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        card = ModelCard(text, ignore_metadata_errors=True)
    except (yaml.YAMLError, ValueError, TypeError):
        return {}, text
    return card.data.to_dict(), card.text


def front_matter(manifest: dict[str, Any], base: dict[str, Any], method: dict[str, Any]) -> str:
    """The metadata that the Hub reads. Licence and pipeline tag are the base's."""
    from huggingface_hub import ModelCardData

    off = {edit["language"] for edit in manifest["recipe"]["edits"] if edit["op"] == "deactivate"}
    spoken = base.get("language") or sorted(method.get("tokens", {}))
    spoken = [spoken] if isinstance(spoken, str) else [str(code) for code in spoken]
    left = activated(manifest) or [code for code in spoken if code not in off]
    kept = {key: base[key] for key in ("license", "license_name", "license_link") if base.get(key)}
    data = ModelCardData(
        base_model=manifest["base"]["model"] if manifest["base"]["hub"] else None,
        base_model_relation="finetune" if manifest["base"]["hub"] else None,
        language=left or None,
        library_name="transformers",
        pipeline_tag=base.get("pipeline_tag", "text-generation"),
        tags=TAGS + [tag for tag in base.get("tags") or [] if tag not in TAGS],
        **kept,
    )
    return str(data.to_yaml(line_break="\n")).strip()


def context(manifest: dict[str, Any], recipe: str, method: dict[str, Any]) -> dict[str, Any]:
    """Everything the template names, apart from the base's card."""
    edits = manifest["recipe"]["edits"]
    off = [edit["language"] for edit in edits if edit["op"] == "deactivate"]
    active = activated(manifest)
    base = manifest["base"]["model"]
    others = [code for code in PROMPTS if code not in (active or off)]
    certificate = manifest["certificate"]
    total = manifest["base"]["layers"] * manifest["base"]["width"]
    return {
        "title": _title(base.rsplit("/", 1)[-1], edits, active, off),
        "summary": _summary(base, edits, active),
        "form": _form(manifest),
        "weights_note": f"{manifest['neurons_edited']:,} of {total:,} feed-forward neurons were edited in the weights; every "
        "other byte of them is the base's.",
        "runtimes": RUNTIMES[(manifest["carrier"] or {}).get("name", "none")],
        "prompt": PROMPTS[others[0]] if others else "…",
        "edits": [
            {
                "language": edit["language"],
                "operation": operation(edit),
                "edited": manifest["edited"][edit["language"]],
                "kept": manifest["kept"][edit["language"]],
            }
            for edit in edits
        ],
        "off": bool(off),
        "weak": [code for code, kept in manifest["kept"].items() if kept > manifest["edited"][code]],
        "activated": languages.listed(active) if active else "",
        "carrier": _carrier(manifest),
        "calibration": _calibration(manifest),
        "strength": _strength(manifest),
        "answers": _answers(manifest),
        "samples": _samples(manifest),
        "layers": manifest["base"]["layers"],
        "width": manifest["base"]["width"],
        "method": _method(method),
        "recipe": recipe,
        "certificate": certificate,
        "bytes_verdict": _bytes_verdict(certificate),
        "logits_verdict": _logits_verdict(certificate),
        "distance": _distance(certificate),
        "effect": _effect(certificate),
        "version": manifest["monoglot"],
    }


def activated(manifest: dict[str, Any]) -> list[str]:
    """The languages that the model is to answer in: those with a constant of their own, not held at another's, and the one
    that a strength was searched for."""
    searched = (manifest.get("strength") or {}).get("language")
    return [
        edit["language"]
        for edit in manifest["recipe"]["edits"]
        if edit["language"] == searched or (edit["op"] in ("pin", "add", "shift") and "@" not in edit.get("value", ""))
    ]


def operation(edit: dict[str, Any]) -> str:
    """An edit in words, as tables show it."""
    op, strength = edit["op"], edit.get("strength")
    value, _, held = str(edit.get("value")).partition("@")
    amount = f"the {value}" if strength in (1, None) else f"{strength:g} × the {value}"
    text = f" on {languages.listed([held])} text" if held else ""
    words = {
        "deactivate": "deactivated",
        "scale": f"scaled × {strength or 0:g}",
        "pin": f"held at {amount}{text}" if held else f"pinned at {amount}",
        "add": f"{amount}{text} added",
        "shift": f"input shifted by {amount}{text}",
    }
    where = f" in layers {edit['layers'][0]} to {edit['layers'][1]}" if edit.get("layers") else ""
    return words[op] + where


def _title(short: str, edits: list[dict[str, Any]], active: list[str], off: list[str]) -> str:
    if active:
        return f"{short} in {languages.listed(active)}"
    if off:
        return f"{short} without {languages.listed(off)}"
    how = "scaled" if all(edit["op"] == "scale" for edit in edits) else "edited"
    return f"{short}, {languages.listed([edit['language'] for edit in edits])} {how}"


def _summary(base: str, edits: list[dict[str, Any]], active: list[str]) -> str:
    groups: dict[str, list[str]] = {}
    for edit in edits:
        verb = {"add": "have", "shift": "have their"}.get(edit["op"], "are")
        groups.setdefault(f"{verb} {operation(edit)}", []).append(edit["language"])
    parts = [f"its neurons for {languages.listed(codes)} {words}" for words, codes in groups.items()]
    if active:
        return f"This is {base}, made to answer in {languages.listed(active)}: {'; '.join(parts)}."
    return f"This is {base}; {'; '.join(parts)}."


def _form(manifest: dict[str, Any]) -> str:
    """What kind of checkpoint it is."""
    name = (manifest["carrier"] or {}).get("name")
    if name == "flag":
        return (
            "with the base's architecture and tokenizer, and biases in its feed-forward layers that a key of its config "
            "asks for"
        )
    if name == "llama":
        return (
            "with the base's tokenizer, and its weights under the names of a Llama, which computes the same and can have "
            "biases"
        )
    return "with the base's architecture, tensor names, shapes and tokenizer"


RUNTIMES = {
    "none": "Any runtime that loads the base loads it in the same way.",
    "native": "Any runtime that loads the base loads it in the same way.",
    "calibrated": "Any runtime that loads the base loads it in the same way.",
    "flag": "Use a runtime that honours these biases: some drop them in silence (mistral.rs on safetensors, SGLang), and "
    "then run the base without the constants.",
    "llama": "Use a runtime that honours a Llama's biases: some drop them in silence (mistral.rs on safetensors, SGLang), "
    "and then run the base without the constants.",
}


def _carrier(manifest: dict[str, Any]) -> str:
    """Where the constants live, and what storing them cost."""
    carrier = manifest["carrier"]
    if not carrier:
        return ""
    where = {
        "native": "They are biases that the base's feed-forward layers have anyway: exact.",
        "flag": "They are biases that a config key turns on; all that it turns on are there, zeros included: exact.",
        "llama": "They are biases of the Llama that the model was rewritten as: exact.",
        "calibrated": "The model has no biases. In each layer a direction w of the feed-forward input with w·x ≈ 1 on real "
        "text stands in for the constant 1: approximate, with the error below.",
    }[carrier["name"]]
    cast = ", ".join(f"{_small(error)} in {what}" for what, error in manifest["rounding"].items() if error)
    left = carrier["layers_left_out"]
    omitted = (
        f" The constants of layer{'s' * (len(left) > 1)} {', '.join(map(str, left))} were left out: the error there is "
        "too large."
        if left
        else ""
    )
    cost = f"cost a relative {cast}" if cast else "cost nothing"
    spare = carrier.get("spare_neurons")
    room = f" {spare:,} neurons that are hardly ever active gave up their places to what is added." if spare else ""
    return f"{where} Rounding to the checkpoint's dtype {cost}.{omitted}{room}"


def _calibration(manifest: dict[str, Any]) -> list[dict[str, str]]:
    rows = (manifest["carrier"] or {}).get("calibration") or []
    return [
        {
            "layer": str(number),
            "s": f"{row['mean']:.3f} ± {row['deviation']:.3f}",
            "first": "–" if row["first_token"] is None else f"{row['first_token']:.2f}",
            "worst": f"{row['worst_kind']}, {row['worst']:.2f}",
            "error": f"{row['after']:.1%}",
        }
        for number, row in enumerate(rows)
    ]


def _method(method: dict[str, Any]) -> str:
    if method.get("name") != "lape":
        return f"the imported mask {method['file']}" if method.get("file") else str(method.get("name", "hand"))
    tokens = method.get("tokens", {})
    amounts = ", ".join(f"{code} {count:,}" for code, count in tokens.items())
    return f"LAPE (rate {method['rate']:g}, quantile {method['quantile']:g}; tokens: {amounts})"


def _bytes_verdict(certificate: dict[str, Any] | None) -> str:
    if not certificate:
        return ""
    found = certificate["bytes"]
    if not found["passed"]:
        return f"**The bytes are not what the recipe says**: {found['problems'][0]}"
    return (
        f"Compared with the base byte for byte: {found['changed_columns']:,} rows and columns in "
        f"{found['edited_tensors']} tensors changed, exactly the recipe's; the other {found['identical_tensors']} tensors "
        "are identical."
    )


def _logits_verdict(certificate: dict[str, Any] | None) -> str:
    if not certificate or "logits" not in certificate:
        return ""
    logits = certificate["logits"]
    if not logits["passed"]:
        return f"**The checkpoint does not behave like the hooked base**: {logits['problems'][0]}"
    rows = logits["by_language"].values()
    stand_in = ", with the same stand-in for the constant," if "approximation" in certificate else ""
    how = (
        f"Compared with the base under forward hooks that do the same at run time{stand_in} on "
        f"{sum(row['positions'] for row in rows):,} positions in {len(rows)} languages: "
    )
    if max(row["max_logit"] for row in rows) == 0:
        return f"{how}every logit is the same, to the bit."
    return how + _difference(rows)


def _difference(rows: Collection[dict[str, Any]]) -> str:
    return (
        f"the largest difference of a logit is {_small(max(row['max_logit'] for row in rows))} (logits reach "
        f"{max(row['largest_logit'] for row in rows):.0f}), mean KL at most {_small(max(row['kl'] for row in rows))} nats, "
        f"the same top token in at least {min(row['same_top'] for row in rows):.2%}."
    )


def _distance(certificate: dict[str, Any] | None) -> str:
    """How far a calibrated checkpoint is from the exact constants."""
    if not certificate or "approximation" not in certificate:
        return ""
    found = certificate["approximation"]
    off = found["activation"]
    return (
        "Against the base with the *exact* constants, which the stand-in approximates: "
        f"{_difference(found['by_language'].values())} The activations themselves are off by {off['all']:.1%} in the root "
        f"mean square (worst layer {off['worst_layer']:.1%}), on the first token of a text by up to {off['first_token']:.0%}."
    )


def _strength(manifest: dict[str, Any]) -> list[dict[str, str]]:
    """The curve of a strength that was searched for."""
    found = manifest.get("strength")
    if not found:
        return []
    rows = [("0 (the base)", found["base"])]
    rows += [(f"{point['strength']:g}, by hooks", point) for point in found["points"]]
    rows += [(f"{point['strength']:g}, **this checkpoint**", point) for point in found["checkpoint"][-1:]]
    return [
        {
            "strength": name,
            "accuracy": f"{point['accuracy']:.0%}",
            "whole": f"{point['whole']:.0%}",
            "perplexity": _or_dash(point["perplexity"], perplexity_figure),
            "repetition": _or_dash(point["repetition"], "{:.0%}".format),
            "kl": _or_dash(point["kl"], "{:.2f}".format),
        }
        for name, point in rows
    ]


def _answers(manifest: dict[str, Any]) -> list[dict[str, str]]:
    """What `evaluate --generate` found, by the prompts' language."""
    found = (manifest.get("evaluation") or {}).get("activated")
    if not found:
        return []
    rows = []
    for code, row in found["by_language"].items():
        base, this, random = (row[name] for name in ("base", "this model", "random neurons"))
        rows.append(
            {
                "language": code,
                "prompts": str(found["prompts"][code]),
                "base": f"{base['accuracy']:.0%}",
                "this": f"{this['accuracy']:.0%}",
                "whole": f"{this['whole']:.0%}",
                "random": f"{random['accuracy']:.0%}",
                "perplexity": _or_dash(this["perplexity"], perplexity_figure),
                "real": _or_dash(row["real text"]["perplexity"], perplexity_figure),
                "repetition": _or_dash(this["repetition"], "{:.0%}".format),
            }
        )
    return rows


def _samples(manifest: dict[str, Any]) -> list[tuple[str, str]]:
    """Three real answers, the first to a prompt in each of the first three languages: chosen by rule."""
    found = (manifest.get("evaluation") or {}).get("activated")
    if found:
        first = {sample["language"]: (sample["prompt"], sample["this model"]) for sample in reversed(found["samples"])}
        pairs = [first[code] for code in found["by_language"] if code in first]
    else:
        pairs = [(one["prompt"], one["answer"]) for one in (manifest.get("strength") or {}).get("samples", [])]
    return [(_cell(prompt), _cell(answer)) for prompt, answer in pairs[:3]]


def _cell(text: str) -> str:
    """A text as a table's cell can hold it: on one line, and nothing in it is Markdown, HTML or a picture."""
    return re.sub(r"([\\`*_\[\]<>|~&$])", r"\\\1", " ".join(text.split()))


def _small(value: float) -> str:
    return f"{value:.2g}" if value >= 0.001 else f"{value:.1e}"


def _or_dash(value: float | None, form: Callable[[float], str]) -> str:
    return "–" if value is None else form(value)


def _effect(certificate: dict[str, Any] | None) -> list[dict[str, str]]:
    if not certificate or "effect" not in certificate:
        return []
    loss = certificate["effect"]["log_loss"]
    rows = []
    for code, tokens in certificate["effect"]["tokens"].items():
        base, this, random = (loss[name][code] for name in ("base", "this model", "random neurons"))
        rows.append(
            {
                "language": code,
                "tokens": f"{tokens:,}",
                "base": perplexity(base),
                "this": perplexity(this),
                "random": perplexity(random),
                "change": change(this - base),
                "random_change": change(random - base),
            }
        )
    return rows


def change(nats: float) -> str:
    """A change of log-loss, signed; what rounds to nothing has no sign."""
    text = f"{nats:+.2f}"
    return "0.00" if text in ("+0.00", "-0.00") else text


def perplexity(log_loss: float) -> str:
    return perplexity_figure(math.exp(min(log_loss, 50)))


def perplexity_figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
