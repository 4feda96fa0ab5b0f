"""The files that commands hand to one another: neurons, statistics, a calibration, a vocabulary, a silence, a recipe."""

from itertools import pairwise
from typing import Any

from ..console import table
from .checkpoints import edit_of, script_of
from .lines import show_lines


def neurons(found: dict[str, Any]) -> None:
    method = found["method"]
    settings = [f"{key} {value:g}" for key, value in method.items() if isinstance(value, float)]
    show_lines(
        [
            ("neurons", f"of {len(found['languages'])} languages, {found['neurons']:,} in {found['layers']} layers"),
            ("model", _model(found["model"]) if found["model"] else "not said"),
            ("found by", ", ".join([str(method.get("name", "hand")), *settings])),
            ("values", ", ".join(found["values"]) or "none: they can be deactivated and scaled, not pinned"),
            ("spare", f"{found['spare']:,} neurons that are hardly ever active, whose places add may take"),
        ]
    )
    thirds = _thirds(found["layers"])
    table(
        "",
        ("language", "neurons", "of no other", *(f"layers {first}-{last - 1}" for first, last in thirds)),
        [
            (k, f"{one['neurons']:,}", f"{one['alone']:,}", *(f"{sum(one['by_layer'][a:b]):,}" for a, b in thirds))
            for k, one in found["languages"].items()
        ],
    )


def _thirds(layers: int) -> list[tuple[int, int]]:
    """Return the first, the middle and the last layers, as [first, end)."""
    ends = [layers * part // 3 for part in range(4)]
    return [(a, b) for a, b in pairwise(ends) if a < b]


def _model(about: dict[str, Any]) -> str:
    from ...editor.models.identity import ModelInfo

    revision = f" at {about['revision'][:12]}" if about["revision"] else ""
    return (
        f"{about['name']}{revision} ({about['model_type']}, {ModelInfo.of_data(about).in_words}, "
        f"{about['fingerprint'][:12]}…)"
    )


def statistics(found: dict[str, Any]) -> None:
    inputs, per_text = found["inputs"], found["per_text"]
    holds = {
        "histograms, for medians and percentiles": found["histograms"],
        f"means over {sum((per_text or {}).values()):,} texts, for average precision": bool(per_text),
        f"what the layers read, over {(inputs or {}).get('tokens', 0):,} tokens, for a calibration": bool(inputs),
    }
    settings = ", ".join(f"{key} {value}" for key, value in found["settings"].items())
    show_lines(
        [
            ("statistics", f"{len(found['languages'])} languages, {found['bytes'] / 1e6:,.1f} MB"),
            ("model", _model(found["model"])),
            ("holds", "; ".join(["active counts and sums", *(what for what, there in holds.items() if there)])),
            ("not", "; ".join(what.replace(" 0", "") for what, there in holds.items() if not there) or "–"),
            ("settings", settings or "none"),
        ]
    )
    table(
        "",
        ("language", "tokens", "texts read"),
        [(k, f"{one['tokens']:,}", one["texts"]) for k, one in found["languages"].items()],
    )


def calibration(found: dict[str, Any]) -> None:
    errors, worst = found["errors"], found["worst_layer"]
    show_lines(
        [
            ("calibration", f"of a model with fingerprint {found['fingerprint'][:12]}…"),
            ("directions", f"{found['layers']} layers × {found['hidden']:,}, for {found['dtype']} weights"),
            ("fitted to", f"{found['tokens']:,} tokens in {', '.join(found['languages'])}"),
            (
                "error",
                f"of the activation, on {found['unseen']:,} unseen tokens: {min(errors):.1%} in the best layer, "
                f"{errors[worst]:.1%} in the worst, {worst}"
                if errors
                else "no layers",
            ),
        ]
    )


def vocabulary(found: dict[str, Any]) -> None:
    model = found["model"]
    print_ = f" ({model['fingerprint'][:12]}…)"
    by_script = f"; {found['by_script']:,} more by their script ({', '.join(found['scripts'])})"
    show_lines(
        [
            ("vocabulary", f"of {model['name']}{print_}, {found['rows']:,} tokens of {found['hidden']:,} numbers"),
            ("used", f"{found['used']:,} by the texts" + (by_script if found["by_script"] else "")),
            ("", ""),
        ]
    )
    table(
        "",
        ("language", "tokens counted", "different ones"),
        [(k, f"{one['tokens']:,}", f"{one['different']:,}") for k, one in found["languages"].items()],
    )


def silence(found: dict[str, Any]) -> None:
    model, floor = found["model"], found["floor"]
    ways = {
        script: ", ".join(dict.fromkeys(one["piece"].upper() for one in own["staying"]))
        for script, own in found["scripts"].items()
    }
    show_lines(
        [
            ("silence", f"of {model['name']} ({model['fingerprint'][:12]}…), {found['rows']:,} tokens"),
            *((("may still be written", found["spared"]),) if found["spared"] else ()),
            ("languages", ", ".join(found["languages"]) or "none were looked at"),
            (
                "held down by",
                f"-{floor['strength']:g} × w·h; w·h is {floor['mean']:.2f} ± {floor['deviation']:.2f} on "
                f"{floor['unseen']:,} unseen positions, never below {floor['lowest']:.2f} (on {floor['lowest_kind']})"
                if floor
                else "the bias of the output layer",
            ),
            ("", ""),
        ]
    )
    table(
        "",
        ("script", "tokens", "whole", "mixed", "pieces", "beginnings that stay"),
        [
            (script, *(f"{own[key]:,}" for key in ("tokens", "whole", "mixed", "pieces")), ways[script])
            for script, own in found["scripts"].items()
        ],
    )


def recipe(found: dict[str, Any]) -> None:
    from ...cards.words import wording
    from ...editor.text import languages

    base = found["base"]
    print_ = f" with fingerprint {base['fingerprint'][:12]}…" if base["fingerprint"] else ", whatever its fingerprint"
    there = "" if found["neurons_there"] else ", which is not there"
    settings = {"carrier": found.get("carrier"), "slots": found.get("slots"), "tolerance": found.get("tolerance")}
    show_lines(
        [
            ("recipe", f"for {base['model']}{'@' + base['revision'][:12] if base['revision'] else ''}{print_}"),
            *((("neurons", f"{found['neurons']}{there}"),) if found["neurons"] else ()),
            *((("vocabulary", found["vocabulary"]),) if found["vocabulary"] else ()),
            *((("silence", found["silence"]),) if found["silence"] else ()),
            *(
                ("edits" if not at else "", f"{languages.name(edit['language'])}: {wording.operation(edit_of(edit))}")
                for at, edit in enumerate(found.get("edits", ()))
            ),
            *(
                ("scripts" if not at else "", f"{edit['script']}: {wording.script_operation(script_of(edit))}")
                for at, edit in enumerate(found.get("scripts", ()))
            ),
            *((("shared neurons", found["shared"]),) if found["neurons"] else ()),
            *((name, str(value)) for name, value in settings.items() if value is not None),
        ]
    )
