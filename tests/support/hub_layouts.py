"""How published checkpoints of mixtures lay out their tensors: a row a family, written down by hand.

transformers saves some families in other names or shapes than the files on the Hub have. Each row says, as literal names,
where an expert of a published file lies, and what makes such a file of the one that transformers saves. `{l}` is the layer,
`{e}` the expert. What else such files hold beside the decoder (heads that draft tokens, towers for images) is added.
"""

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file

from . import tiny

Tensors = dict[str, torch.Tensor]
Change = Callable[[Tensors], Tensors]


class Place(NamedTuple):
    """W_out of the networks of one kind in a file: its name, and the axis that neurons lie along.

    Of an expert in a stacked tensor, whose name has no `{e}`, the axis within the expert's part.
    """

    name: str
    axis: int = 1


class Layout(NamedTuple):
    """A row: what is built, where its networks lie on the Hub, and what makes the file so."""

    model_type: str  # of the whole model: a wrapper's, where files hold one
    experts: Place
    dense: Place | None = None
    shared: Place | None = None
    changes: tuple[Change, ...] = ()
    config: Mapping[str, Any] = MappingProxyType({})  # for building the model
    said: Mapping[str, Any] = MappingProxyType({})  # what config.json says more


def stacked(tensors: Tensors) -> Tensors:
    """Stack experts: `mlp.experts.gate_up_proj` (E, 2·width, d), gate half first, `mlp.experts.down_proj` (E, d, width)."""
    made = {name: tensor for name, tensor in tensors.items() if ".experts." not in name}
    for start in {name.partition(".experts.")[0] for name in tensors if ".experts." in name}:

        def parts(projection: str, start: str = start) -> list[torch.Tensor]:
            return [tensors[f"{start}.experts.{e}.{projection}.weight"] for e in range(tiny.EXPERTS)]

        pairs = zip(parts("gate_proj"), parts("up_proj"), strict=True)
        made[f"{start}.experts.gate_up_proj"] = torch.stack([torch.cat(pair) for pair in pairs])
        made[f"{start}.experts.down_proj"] = torch.stack(parts("down_proj"))
    return made


def transposed(tensors: Tensors) -> Tensors:
    """Store stacked experts as (in, out) in place of (out, in)."""
    return {name: tensor.mT.contiguous() if ".mlp.experts." in name else tensor for name, tensor in tensors.items()}


def behind_the_last(tensors: Tensors) -> Tensors:
    """A layer that drafts tokens, numbered as if it were a decoder layer (DeepSeek V3, GLM-4.5)."""
    start, last = next((name.partition("layers.")[0], 2) for name in tensors if "layers.2.mlp." in name)
    here, there = f"{start}layers.{last}.", f"{start}layers.{last + 1}."
    made = {name.replace(here, there): tensor.clone() for name, tensor in tensors.items() if name.startswith(here)}
    wide, square = (torch.ones(size, tiny.HIDDEN) for size in (tiny.VOCABULARY, tiny.HIDDEN))
    made |= {f"{there}{name}.weight": torch.ones(tiny.HIDDEN) for name in ("enorm", "hnorm", "shared_head.norm")}
    made |= {f"{there}embed_tokens.weight": wide, f"{there}shared_head.head.weight": wide.clone()}
    return tensors | made | {f"{there}eh_proj.weight": torch.cat([square, square], 1)}


def drafts(prefix: str) -> Change:
    """Such a layer under names of its own, laid out as the last decoder layer is: `mtp.layers.0.mlp.experts.…`."""

    def change(tensors: Tensors) -> Tensors:
        made = {
            prefix + name.partition("layers.2.")[2]: tensor.clone() for name, tensor in tensors.items()
            if "layers.2." in name and "vis" not in name
        }  # fmt: skip
        assert any("mlp.experts" in name for name in made)
        return tensors | made | {f"{prefix}fc.weight": torch.ones(tiny.HIDDEN, 2 * tiny.HIDDEN)}

    return change


MODEL, WRAPPED, OLD = "model.layers.{l}.", "model.language_model.layers.{l}.", "language_model.model.layers.{l}."
DOWN, EACH, STACK = "mlp.down_proj.weight", "mlp.experts.{e}.down_proj.weight", "mlp.experts.down_proj"
BLOCK = "block_sparse_moe.experts.{e}.w2.weight"
GRANITE, GRANITE_SHARED = "block_sparse_moe.output_linear.weight", "shared_mlp.output_linear.weight"
DRAFT = {"num_nextn_predict_layers": 1}


def of(model_type: str, experts: str, dense: str = "", shared: str = "", *changes: Change, start: str = MODEL,
       axis: int = 1, config: dict[str, Any] | None = None, said: dict[str, Any] | None = None) -> Layout:  # fmt: skip
    """A row, its places below the names of the layers."""
    places = [Place(start + each) if each else None for each in (dense, shared)]
    return Layout(model_type, Place(start + experts, axis), *places, changes, config or {}, said or {})


def dense_apart(tensors: Tensors) -> Tensors:
    """Kimi Linear's files call dense layers' networks mlp; transformers saves them under the name of the mixtures'."""
    return {re.sub(r"block_sparse_moe(?=\.(gate|up|down)_proj)", "mlp", name): one for name, one in tensors.items()}


LAYOUTS: dict[str, Layout] = {
    # one tensor an expert
    "qwen2_moe": of("qwen2_moe", EACH, DOWN, "mlp.shared_expert.down_proj.weight"),
    "qwen3_moe": of("qwen3_moe", EACH),
    "qwen3_next": of("qwen3_next", EACH, "", "mlp.shared_expert.down_proj.weight", drafts("mtp.layers.0.")),
    "olmoe": of("olmoe", EACH),
    "flex_olmo": of("flex_olmo", EACH),
    "mellum": of("mellum", EACH),
    "deepseek_v2": of("deepseek_v2", EACH, DOWN, "mlp.shared_experts.down_proj.weight"),
    "hunyuan_v1_moe": of("hunyuan_v1_moe", EACH, "", "mlp.shared_mlp.down_proj.weight"),
    "cohere2_moe": of("cohere2_moe", EACH),
    "solar_open": of("solar_open", EACH, "", "mlp.shared_experts.down_proj.weight"),
    "afmoe": of("afmoe", EACH, DOWN, "mlp.shared_experts.down_proj.weight"),
    "axk1": of("axk1", EACH, DOWN, "mlp.shared_experts.down_proj.weight"),
    "axk2": of("axk2", EACH, DOWN, "mlp.shared_experts.down_proj.weight"),
    "dots1": of("dots1", EACH, DOWN, "mlp.shared_experts.down_proj.weight"),
    "exaone_moe": of("exaone_moe", EACH, DOWN, "mlp.shared_experts.down_proj.weight", drafts("mtp.layers.0.")),
    "ernie4_5_moe": of("ernie4_5_moe", EACH, DOWN, "mlp.shared_experts.down_proj.weight", drafts("model.mtp_block.0.")),
    "flint": of("flint", EACH, DOWN, "mlp.shared_expert.down_proj.weight"),
    "laguna": of("laguna", EACH, DOWN, "mlp.shared_expert.down_proj.weight"),
    "dots3_note_text": of("dots3_note_text", EACH, DOWN, "mlp.shared_experts.down_proj.weight"),
    "kolibri1": of("kolibri1", EACH, "", "mlp.shared_experts.down_proj.weight"),
    "hy_v3": of("hy_v3", EACH, DOWN, "mlp.shared_mlp.down_proj.weight", behind_the_last, said=DRAFT),
    # … with a layer behind the last one
    **{
        name: of(name, EACH, DOWN, "mlp.shared_experts.down_proj.weight", behind_the_last, said=DRAFT)
        for name in ("deepseek_v3", "deepseek_v32", "glm4_moe", "glm4_moe_lite", "glm_moe_dsa", "bailing_hybrid")
    },
    # … below another name
    "mixtral": of("mixtral", BLOCK),
    "phimoe": of("phimoe", BLOCK),
    "minimax": of("minimax", BLOCK),
    "minimax_m2": of("minimax_m2", BLOCK),
    "kimi_linear": of("kimi_linear", BLOCK, DOWN, "block_sparse_moe.shared_experts.down_proj.weight", dense_apart),
    "lfm2_moe": of("lfm2_moe", "feed_forward.experts.{e}.w2.weight", "feed_forward.w2.weight"),
    "jamba": of("jamba", "feed_forward.experts.{e}.down_proj.weight", "feed_forward.down_proj.weight"),
    "nemotron_h": of("nemotron_h", "mixer.experts.{e}.down_proj.weight", "mixer.down_proj.weight",
                     "mixer.shared_experts.down_proj.weight", start="backbone.layers.{l}."),
    # … in a wrapper
    "glm4v_moe_text": of("glm4v_moe", EACH, DOWN, "mlp.shared_experts.down_proj.weight", start=WRAPPED),
    "kimi_k25": of("kimi_k25", EACH, DOWN, "mlp.shared_experts.down_proj.weight", start=OLD),
    # all in one tensor, (out, in)
    "qwen3_5_moe": of("qwen3_5_moe", STACK, "", "mlp.shared_expert.down_proj.weight", stacked, drafts("mtp.layers.0."),
                      start=WRAPPED),
    "mistral4": of("mistral4", STACK, DOWN, "mlp.shared_experts.down_proj.weight", start=OLD),
    "qwen3_5_moe_text": of("qwen3_5_moe_text", STACK, "", "mlp.shared_expert.down_proj.weight", stacked),
    "gemma4_text": of("gemma4", "experts.down_proj", DOWN, start=WRAPPED,
                      config={"text_config": {**tiny.WRAPPERS["gemma4"]["text_config"], **tiny.MIXED["gemma4_text"]}}),
    "granitemoe": of("granitemoe", GRANITE),
    "granitemoe_swa": of("granitemoe_swa", "block_sparse_moe.experts.down_proj"),
    "granitemoeshared": of("granitemoeshared", GRANITE, "", GRANITE_SHARED),
    "granitemoehybrid": of("granitemoehybrid", GRANITE, GRANITE_SHARED, config=tiny.MIXED["granitemoehybrid"]),
    # … (in, out)
    "qwen3_vl_moe_text": of("qwen3_vl_moe", STACK, "", "", transposed, start=WRAPPED, axis=0),
    "aria_text": of("aria", "mlp.experts.fc2.weight", "", "mlp.shared_experts.down_proj.weight", start=OLD, axis=0),
    # … gate and up by turns
    "gpt_oss": of("gpt_oss", STACK, axis=0),
}  # fmt: skip


def as_on_the_hub(saved: Path, layout: Layout, folder: Path) -> Path:
    """Copy a checkpoint, as transformers saved it, into the layout of the Hub's files, in two shards and an index."""
    shutil.copytree(saved, folder)
    tensors = load_file(saved / "model.safetensors")
    for change in layout.changes:
        tensors = change(tensors)
    (folder / "model.safetensors").unlink()
    names = sorted(tensors, key=lambda name: (hash_of(name), name))  # an expert's tensors are in both
    files = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    parts = {files[0]: names[::2], files[1]: names[1::2]}
    for file, own in parts.items():
        save_file({name: tensors[name].contiguous() for name in own}, folder / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, own in parts.items() for name in own}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    if layout.said:
        tiny.edit_config(folder, **layout.said)
    return folder


def hash_of(name: str) -> int:
    """A number of a name that is the same on every machine."""
    return sum(map(ord, name)) % 7
