"""Made-up findings, as a manifest holds them: all that can be measured, of any number of languages and layers."""

import math
import random
from typing import Any

SEVEN = ("en", "zh", "fr", "es", "vi", "id", "ja")
KIN = {frozenset(("zh", "ja")): 0.15, frozenset(("fr", "es")): 0.17}
HOSTILE = (
    '<script>alert(1)</script> | <img src="http://x.example/a.png"> **b** [l](javascript:1) &amp; \x07 $x$\nsecond line'
)


def evaluation(languages: tuple[str, ...] = SEVEN, layers: int = 18, seed: int = 0) -> dict[str, Any]:
    draw = random.Random(seed)
    off = languages[1:] if len(languages) > 2 else languages  # a language without neurons of its own has no row
    change = {
        a: {b: round(draw.uniform(0.6, 1.6) if a == b else kin(a, b) + draw.gauss(0, 0.01), 4) for b in languages}
        for a in off
    }
    diagonal = sum(change[a][a] for a in off) / len(off)
    elsewhere = sum(change[a][b] for a in off for b in languages if a != b) / max(1, len(off) * (len(languages) - 1))
    profile = {
        code: [round(2 + draw.uniform(20, 40) * (2 * (at / max(1, layers - 1)) - 1) ** 6) for at in range(layers)]
        for code in languages
    }
    neurons = {code: sum(row) for code, row in profile.items()}
    shared = {a: {b: round(100 * kin(a, b)) + 2 for b in languages if b != a} for a in languages}
    jaccard = {
        a: {b: round(both / (neurons[a] + neurons[b] - both), 4) for b, both in row.items()}
        for a, row in shared.items()
    }
    arch = [math.sin(math.pi * at / layers) for at in range(layers + 1)]
    pairs = {
        f"{a}-{b}": [round(0.3 + draw.uniform(0.4, 0.55) * height, 4) for height in arch]
        for at, a in enumerate(languages)
        for b in languages[at + 1 :]
    }
    mean = [round(sum(column) / len(pairs), 4) for column in zip(*pairs.values(), strict=True)]
    asked = {
        "tokens": 24,
        "prompts": {code: 8 for code in languages if code != "fr"},
        "wanted": {code: ["fr"] for code in languages if code != "fr"},
        "by_language": {
            code: {
                "base": answers(0.02, quality=4.1), "this model": answers(0.93, quality=3.6),
                "random neurons": answers(0.04, quality=4.0),
                "real text": {"perplexity": 23.4, "repetition": 0.01, "broken": 0.0},
            }
            for code in languages
            if code != "fr"
        },
        "samples": [
            {"language": code, "prompt": f"Hello {code}", "base": HOSTILE, "this model": "Bonjour", "random neurons": ""}
            for code in languages
            if code != "fr"
        ][:3],
    }  # fmt: skip
    rows = {
        name: {
            code: answers(0.2 if name == code else draw.uniform(0.85, 1), latin=code not in ("zh", "ja"))
            for code in languages
        }
        for name in ("none", "random", *off)
    }  # fmt: skip
    return {
        "perplexity": {
            "shared": "edit", "tokens": dict.fromkeys(languages, 1022),
            "base": {code: round(draw.uniform(2.6, 3.9), 4) for code in languages}, "change": change,
            "random": {code: round(draw.gauss(0, 0.005), 4) for code in languages},
            "neurons": {code: neurons[code] for code in off},
            "dominance": {"share": 0.914, "diagonal": diagonal, "elsewhere": elsewhere, "random": 0.004},
        },
        "profile": {"width": 2048, "layers": profile},
        "overlap": {"neurons": neurons, "shared": shared, "jaccard": jaccard},
        "similarity": {
            "texts": 60, "pairs": pairs, "mean": mean, "unrelated": [round(0.2 + 0.2 * height, 4) for height in arch],
            "centred": [round(0.6 * height, 4) for height in arch], "centred_unrelated": [-0.017] * (layers + 1),
        },
        "activated": asked,
        "deactivate_each": {
            "tokens": 24, "prompts": dict.fromkeys(languages, 8), "rows": rows,
            "samples": [
                {"language": code, "prompt": "…", "none": "all is well", "random": "well", "off": HOSTILE} for code in off[:2]
            ],
        },
        "methods": {
            "rate": 0.01, "quantile": 0.95,
            "methods": {
                "lape": {"neurons": 368, "languages": neurons, "perplexity": {"dominance": {"share": 0.8, "diagonal": 1.0}}},
                "lap": {"neurons": 1368, "languages": neurons, "perplexity": None},
            },
            "overlap": {"lape": {"lap": {"pairs": 0.41, "neurons": None}}},
        },
    }  # fmt: skip


def kin(a: str, b: str) -> float:
    return KIN.get(frozenset((a, b)), 0.01)


def answers(accuracy: float, *, latin: bool = True, **more: Any) -> dict[str, Any]:
    return {
        "accuracy": accuracy, "whole": max(0.0, accuracy - 0.08), "perplexity": 41.2, "repetition": 0.08, "broken": 0.1,
        "lpr": accuracy, "wpr": None if latin else 0.9, "lcpr": accuracy, **more,
    }  # fmt: skip


def strength() -> dict[str, Any]:
    def point(at: float, accuracy: float, perplexity: float | None) -> dict[str, Any]:
        found = answers(accuracy) | {"perplexity": perplexity}
        return {"strength": at, **found, "kl": at / 2, "fallen_apart": False}

    tried = [(0.5, 0.3, 22.0), (1.0, 0.8, 33.0), (1.5, 0.95, 52.0)]
    return {
        "language": "fr", "target_accuracy": 0.9, "chosen": 1.5, "reached": True,
        "real": {"perplexity": 23.4, "repetition": 0.01, "broken": 0.0}, "base": point(0.0, 0.02, 18.2),
        "points": [point(*one) for one in tried], "checkpoint": [point(1.5, 0.93, 55.0)],
        "samples": [{"prompt": "The best way", "answer": "d'apprendre"}],
    }  # fmt: skip
