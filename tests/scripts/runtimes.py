"""Checkpoints of every carrier in real runtimes, by the command a user types, held against what is known of them.

    PYTHONPATH=tests python -m scripts.runtimes --python PATH [--python NAME=PATH …]
        [--runtimes NAMES] [--models NAMES] [--write]

    embedded    the embedded model: a language off, in one file and in shards; a language on by each carrier
    native      tiny models of random weights, of families that have biases of their own: a language on by these
    families    tiny models of random weights, of newer families, hybrids and mixtures: half of the neurons of a language off
    smollm2, gemma3     SmolLM2 135M and Gemma 3 270M, from REAL_MODELS and REAL_CORPUS as tests/real.py has them

A row for each, carrier × runtime, each cell a verdict that was measured in this run; `--write` puts it into docs/runtimes.md.
Exits with 1 where a verdict is another than editor/runtimes/capabilities.py says, or, of a model that it does not speak of,
where one is neither "steered" nor "failed".
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from support import tiny

from scripts.real import models, published

PAGE = Path(__file__).parents[2] / "docs" / "runtimes.md"
BEGIN, END = "<!-- measured by `make runtimes` -->", "<!-- end of what was measured -->"
NEWER_BEGIN = "<!-- newer families, measured by tests/scripts/runtimes.py -->"
MONOGLOT = (sys.executable, "-m", "monoglot.cli")
ON = ("--activate", "fr", "--hold", "others", "--strength", "1")
NATIVE = {
    "gpt2": "GPT-2", "bloom": "BLOOM", "opt": "OPT", "phi": "Phi", "gpt_neox": "GPT-NeoX", "starcoder2": "StarCoder 2",
}  # fmt: skip
SIZES = {"n_inner": 256, "n_ctx": 256, "ffn_dim": 256, "word_embed_proj_dim": 64}  # as families call them
MAMBA = {"mamba_n_heads": 4, "mamba_d_head": 32, "mamba_d_state": 16}
LINEAR = {
    "linear_num_value_heads": 2, "linear_num_key_heads": 2, "linear_key_head_dim": 32, "linear_value_head_dim": 32,
}  # fmt: skip
LATENT = {"q_lora_rank": 32, "kv_lora_rank": 32, "qk_rope_head_dim": 16, "qk_nope_head_dim": 16, "v_head_dim": 32}
WIDTHS = {"head_dim": 32, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 64}  # that kernels can take
NEWER: dict[str, dict[str, Any]] = {
    "qwen3": {"head_dim": 32}, "olmo2": {}, "olmo3": {}, "ernie4_5": {"head_dim": 32}, "smollm3": {}, "exaone4": {},
    "cohere2": {"head_dim": 32}, "glm4": {"head_dim": 32}, "lfm2": {},
    "granitemoehybrid": {**MAMBA, "shared_intermediate_size": 256}, "falcon_h1": {**MAMBA, "mamba_d_ssm": 128},
    "gemma3n_text": {"vocab_size_per_layer_input": 4096, "altup_num_inputs": 4},
    "gemma4_text": {"vocab_size_per_layer_input": 4096, "global_head_dim": 32,
                    "layer_types": ["sliding_attention", "sliding_attention", "full_attention"]},
    "qwen3_5_text": LINEAR, "arcee": {}, "seed_oss": {"head_dim": 32}, "hunyuan_v1_dense": {}, "apertus": {},
    "qwen2_moe": {"mlp_only_layers": []}, "qwen3_moe": {}, "qwen3_next": LINEAR, "qwen3_5_moe_text": LINEAR, "mixtral": {},
    "olmoe": {},
    "phimoe": {}, "granitemoe": {}, "ernie4_5_moe": {}, "dots1": {}, "glm4_moe": {}, "minimax_m2": {"rotary_dim": 16},
    "lfm2_moe": {}, "gpt_oss": {}, "deepseek_v3": LATENT, "hunyuan_v1_moe": {},
    "bailing_hybrid": {"layer_types": ["linear_attention", "full_attention", "linear_attention"]}, "afmoe": {},
    "nemotron_h": {"ssm_state_size": 16, "mamba_num_heads": 4, "mamba_head_dim": 32, "hybrid_override_pattern": "MEM*ME"},
    "jamba": {"mamba_d_state": 16},
}  # fmt: skip
# What published configs say, and transformers does not save.
SAID: dict[str, dict[str, Any]] = {
    "cohere2": {"rotary_pct": 1.0},
    "lfm2": {"block_dim": 64, "conv_dim": 64, "conv_dim_out": 64},
    "minimax_m2": {"scoring_func": "sigmoid"},
    "phimoe": {"architectures": ["PhiMoEForCausalLM"], "original_max_position_embeddings": 512},
    "nemotron_h": {"num_hidden_layers": 6, "hybrid_override_pattern": "MEM*ME"},
}
# (model, carrier) -> the checkpoint, its base where the manifest doesn't lead to it
Checkpoints = dict[tuple[str, str], tuple[Path, Path | None]]
SHORT = ("transformers", "llama.cpp", "ctranslate2", "onnxruntime")


def monoglot(*arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*MONOGLOT, *map(str, arguments)], stdout=subprocess.PIPE, text=True)


def made(*arguments: object) -> None:
    if monoglot(*arguments).returncode:
        sys.exit(f"runtimes.py: monoglot {' '.join(map(str, arguments))} failed")


def embedded(folder: Path) -> Checkpoints:
    from monoglot.editor import embedded as own

    stats, neurons = folder / "stats.safetensors", folder / "neurons.json"
    made(
        "detect", "embedded", "--corpus", "embedded", "--tokens", 4096, "--context", 192, "--minimum", 1000, "--calibrate",
        "-o", stats,
    )  # fmt: skip
    made("find", stats, "--rate", 0.27, "-o", neurons)
    off = ("--deactivate", "zh")
    shards, biased = folder / "shards", folder / "biased"
    load_and_save(own.MODEL, shards, biased)
    made("bake", "embedded", neurons, *off, "-o", folder / "off")
    made("bake", shards, neurons, *off, "-o", folder / "off-sharded")
    made(
        "bake", "embedded", neurons, *ON, "--calibration", stats, "--carrier", "calibrated", "-o", folder / "calibrated"
    )
    made("bake", "embedded", neurons, *ON, "--carrier", "flag", "-o", folder / "flag")
    made("bake", biased, neurons, *ON, "--carrier", "native", "-o", folder / "native")
    return {
        ("embedded", "none"): (folder / "off", None),
        ("embedded, in shards", "none"): (folder / "off-sharded", shards),
        ("embedded", "calibrated"): (folder / "calibrated", None),
        ("embedded", "flag"): (folder / "flag", None),
        ("embedded, with biases of its own", "native"): (folder / "native", biased),
    }


def load_and_save(base: Path, shards: Path, biased: Path) -> None:
    """The embedded model in several files; and the same function with biases, all zero, that are its own."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    model.save_pretrained(shards, max_shard_size="2MB")
    config = AutoConfig.from_pretrained(base)
    config.mlp_bias = True
    other = AutoModelForCausalLM.from_config(config).to(torch.bfloat16)
    for parameter in other.parameters():
        torch.nn.init.zeros_(parameter)
    other.load_state_dict(model.state_dict(), strict=False)
    other.save_pretrained(biased)
    copy_tokenizer(base, shards)
    copy_tokenizer(base, biased)


def copy_tokenizer(base: Path, folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):  # as they are: older versions don't read newer ones'
        shutil.copy(base / name, folder / name)


def native(folder: Path) -> Checkpoints:
    """Of families whose layers have biases anyway."""
    from monoglot.editor import embedded as own

    found: Checkpoints = {}
    for name, title in NATIVE.items():
        base = tiny.save_model(
            folder / name, name, tokenizer=False, vocab_size=4096, hidden_size=64, intermediate_size=256,
            max_position_embeddings=256, **SIZES,
        )  # fmt: skip
        copy_tokenizer(own.MODEL, base)
        known = json.loads((base / "tokenizer_config.json").read_text())
        # CTranslate2 wants all three tokens of old families
        (base / "tokenizer_config.json").write_text(json.dumps({**known, "unk_token": known["eos_token"]}))
        stats, neurons, out = folder / f"{name}.safetensors", folder / f"{name}.json", folder / f"{name}-native"
        made("detect", base, "--corpus", "embedded", "--tokens", 1000, "--context", 128, "--minimum", 500, "-o", stats)
        made("find", stats, "--rate", 0.2, "-o", neurons)
        made("bake", base, neurons, *ON, "--carrier", "native", "-o", out)
        found[f"{title}, random", "native"] = out, base
    return found


def families(folder: Path) -> Checkpoints:
    """Of newer families: `deactivate`, which every carrier has in common, in layers and experts as they lie."""
    return {
        (f"`{name}`", "none"): off
        for name in os.environ.get("FAMILIES", ",".join(NEWER)).split(",")
        if (off := family(folder, name))
    }


def family(folder: Path, name: str) -> tuple[Path, Path] | None:
    """A family's tiny model with half of its neurons off, and its base; None, with a word, where it can't be made."""
    from monoglot.editor import embedded as own

    wide = {key: width for key, width in WIDTHS.items() if key in tiny.OWN.get(name, {})}
    config: dict[str, Any] = {
        "vocab_size": 4096, "hidden_size": 64, "intermediate_size": 256, "max_position_embeddings": 512, **wide,
        **NEWER[name],
    }  # fmt: skip
    stats, neurons, out = folder / f"{name}.safetensors", folder / f"{name}.json", folder / f"{name}-off"
    try:
        base = tiny.save_model(folder / name, name, tokenizer=False, **config)
        tiny.edit_config(base, **SAID.get(name, {}))
        copy_tokenizer(own.MODEL, base)
        made("detect", base, "--corpus", "embedded", "--tokens", 1000, "--context", 128, "--minimum", 500, "-o", stats)
        made("find", stats, "--rate", 0.2, "--joint", "-o", neurons)
        made("bake", base, neurons, "--deactivate", "fr", "--shared", "edit", "-o", out)
    except (Exception, SystemExit) as error:
        print(f"{name} could not be made: {error}", flush=True)
        return None
    return out, base


def real(folder: Path, name: str, title: str, carriers: tuple[str, ...]) -> Checkpoints:
    base = published(models([name]) / name, folder / name)
    corpus, stats, neurons = os.environ.get("REAL_CORPUS", ""), folder / f"{name}.safetensors", folder / f"{name}.json"
    made("detect", base, "--corpus", corpus, "--tokens", 4096, "--minimum", 1000, "--calibrate", "-o", stats)
    made("find", stats, "--rate", 0.02, "-o", neurons)
    made("bake", base, neurons, "--deactivate", "fr", "--shared", "edit", "-o", folder / f"{name}-off")
    found: Checkpoints = {(title, "none"): (folder / f"{name}-off", base)}
    for carrier in carriers:
        out = folder / f"{name}-{carrier}"
        made("bake", base, neurons, *ON, "--carrier", carrier, "--calibration", stats, "--tolerance", 1, "-o", out)
        found[title, carrier] = out, base
    return found


def smollm2(folder: Path) -> Checkpoints:
    return real(folder, "smollm2", "SmolLM2 135M", ("calibrated", "flag"))


def gemma3(folder: Path) -> Checkpoints:
    return real(folder, "gemma3", "Gemma 3 270M", ("calibrated",))


MODELS = {"embedded": embedded, "native": native, "families": families, "smollm2": smollm2, "gemma3": gemma3}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", action="append", default=[], metavar="PATH|NAME=PATH")
    parser.add_argument("--runtimes", default=",".join(SHORT))
    parser.add_argument("--models", default="embedded,native", help=f"of {', '.join(MODELS)}")
    parser.add_argument("--timeout", type=int, default=900, help="seconds that a runtime may take for a model")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    pythons = [word for python in given.python for word in ("--python", python)]
    names = given.runtimes.split(",")
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        for group in given.models.split(","):
            for (model, carrier), (out, base) in MODELS[group](Path(scratch)).items():
                named = ["--base", base] if base else []
                limit = ("--timeout", given.timeout)
                answer = monoglot("verify", out, "--runtime", given.runtimes, *pythons, *named, *limit, "--json")
                found: dict[str, Any] = json.loads(answer.stdout or "{}")
                if sorted(found) != sorted(names):
                    wrong.append(f"{model} by {carrier} was not run")
                    continue
                print(
                    f"{model} by {carrier}: " + ", ".join(f"{name} {said(found[name])}" for name in names), flush=True
                )
                for name in names:
                    if found[name].get("reason"):
                        base_too = {True: "it runs the base", False: "the base too", None: ""}[
                            found[name].get("base_alike")
                        ]
                        print(f"  {name}: {found[name]['reason']} {base_too}", flush=True)
                model_type = json.loads((out / "config.json").read_text())["model_type"]
                wrong += [
                    f"{model} by {carrier} in {name}: {found[name]['verdict']}, not {known}"
                    for name in names
                    if (known := unlike(name, carrier, model_type, found[name]["verdict"]))
                ]
                if given.write:
                    head = [f"{name} {found[name].get('version') or ''}".strip() for name in names]
                    cells = [said(found[name]) for name in names]
                    write(
                        line("family" if group == "families" else "model", "carrier", *head),
                        model,
                        carrier,
                        cells,
                        NEWER_BEGIN if group == "families" else BEGIN,
                    )
    for one in wrong:
        print(f"wrong: {one}")
    sys.exit(1 if wrong else 0)


def unlike(name: str, carrier: str, model_type: str, verdict: str) -> str | None:
    """The verdict that is known, where this is another."""
    from monoglot.editor.runtimes import capabilities

    # a Llama that has biases because of the key reads them as one that was given them
    carrier = "flag" if carrier == "native" and model_type == "llama" else carrier
    known = capabilities.seen(name, carrier, model_type)
    if known:
        return known if verdict != known else None
    return None if verdict in ("steered", "failed") else "steered"


def said(one: dict[str, Any]) -> str:
    largest = (one.get("to_steered") or {}).get("largest")
    bold = f"**{one['verdict']}**" if one["verdict"] != "steered" else "steered"
    return f"{bold}, {largest:.0e}" if largest is not None and one["verdict"] == "steered" else bold


def line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def write(head: str, model: str, carrier: str, cells: list[str], begin: str = BEGIN) -> None:
    """Put a row into the table of docs/runtimes.md, at once, so that an interrupted run has lost nothing; a table of other
    runtimes or versions begins anew."""
    before, rest = PAGE.read_text(encoding="utf-8").split(begin)
    table, _, after = rest.partition(END)
    own, row = line(model, carrier), line(model, carrier, *cells)
    rows = table.strip().splitlines()
    kept = rows[2:] if rows[:1] == [head] else []
    at = next((i for i, one in enumerate(kept) if one.startswith(own)), len(kept))
    kept[at : at + 1] = [row]
    made = "\n".join([head, "|---" * (2 + len(cells)) + "|", *kept])
    PAGE.write_text(f"{before}{begin}\n{made}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
