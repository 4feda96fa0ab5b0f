"""The README.md of a checkpoint, from its manifest and the base's card.

Everything on it comes from the manifest, so it says nothing that was not recorded; a name that the template uses and
nobody defines is an error. No local path, user or token is ever put on it.
"""

import math
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

    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)  # noqa: S701
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
    left = [code for code in spoken if code not in off]
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
    scaled = [edit["language"] for edit in edits if edit["op"] == "scale"]
    base = manifest["base"]["model"]
    short = base.rsplit("/", 1)[-1]
    others = [code for code in PROMPTS if code not in off]
    certificate = manifest["certificate"]
    return {
        "title": f"{short} without {languages.listed(off)}" if off else f"{short}, {languages.listed(scaled)} scaled",
        "summary": _summary(base, off, edits),
        "weights_note": f"{manifest['neurons_edited']:,} of {manifest['base']['layers'] * manifest['base']['width']:,} "
        "feed-forward neurons were edited in the weights; every other byte of them is the base's.",
        "prompt": PROMPTS[others[0]] if others else "…",
        "edits": [
            {
                "language": edit["language"],
                "operation": "deactivated" if edit["op"] == "deactivate" else f"scaled × {edit['strength']:g}",
                "edited": manifest["edited"][edit["language"]],
                "kept": manifest["kept"][edit["language"]],
            }
            for edit in edits
        ],
        "weak": [code for code, kept in manifest["kept"].items() if kept > manifest["edited"][code]],
        "layers": manifest["base"]["layers"],
        "width": manifest["base"]["width"],
        "method": _method(method),
        "recipe": recipe,
        "certificate": certificate,
        "bytes_verdict": _bytes_verdict(certificate),
        "logits_verdict": _logits_verdict(certificate),
        "effect": _effect(certificate),
        "version": manifest["monoglot"],
    }


def _summary(base: str, off: list[str], edits: list[dict[str, Any]]) -> str:
    parts = []
    if off:
        parts.append(f"with its neurons for {languages.listed(off)} switched off")
    for edit in edits:
        if edit["op"] == "scale":
            parts.append(f"with its neurons for {languages.name(edit['language'])} scaled by {edit['strength']:g}")
    return f"This is {base} {' and '.join(parts)}."


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
        f"Compared with the base byte for byte: {found['changed_columns']:,} columns in {found['edited_tensors']} tensors "
        f"changed, exactly the recipe's; the other {found['identical_tensors']} tensors are identical."
    )


def _logits_verdict(certificate: dict[str, Any] | None) -> str:
    if not certificate or "logits" not in certificate:
        return ""
    logits = certificate["logits"]
    if not logits["passed"]:
        return f"**The checkpoint does not behave like the hooked base**: {logits['problems'][0]}"
    rows = logits["by_language"].values()
    how = (
        "Compared with the base under forward hooks that do the same at run time, on "
        f"{sum(row['positions'] for row in rows):,} positions in {len(rows)} languages: "
    )
    largest = max(row["max_logit"] for row in rows)
    if largest == 0:
        return f"{how}every logit is the same, to the bit."
    return (
        f"{how}the largest difference of a logit is {largest:.1e} (logits reach "
        f"{max(row['largest_logit'] for row in rows):.0f}), mean KL at most {max(row['kl'] for row in rows):.1e} nats, "
        f"the same top token in at least {min(row['same_top'] for row in rows):.2%}."
    )


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
    value = math.exp(min(log_loss, 50))
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
