"""The modules that an adapter adds to, by the names that PEFT and servers know them by, and its config.

A name is that of transformers for a module with the weight of one matrix. In a mixture two things are different there:

- transformers 5 has all experts of a layer in one module, with two tensors that hold their matrices side by side. Adapters
  still name the matrices one by one, as servers and transformers 4 do, and PEFT stacks them when it loads them. For that
  a layer has to be complete: all its experts, each with all its projections, zeros where nothing is edited. The config
  names the tensors that they are stacked to (`target_parameters`), with twice the rank for that of gate and up together,
  since PEFT names them by itself in some families only. The experts' own names are for transformers 4.
- PEFT takes a module called `up_proj` for an expert's wherever it is. So the modules beside the experts (shared experts,
  dense layers) are named as the parameters that their weights are; the matrices have the same names as ever.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import RecipeError
from ..models.families import text_config
from ..models.feed_forward import Located
from ..models.identity import Base
from ..models.target import Target
from .carriers import Carried
from .layout import constants_of
from .low_rank import LowRank, edits_of, low_rank
from .tensor_edits import LayerTensors, TensorEdit
from .vectors import of_vector

INSIDE = "model.language_model."  # where transformers has the text tower of a wrapper
TRUNKS = {"h.": "transformer.", "blocks.": "transformer.", "decoder.": "model.", "layers.": "model."}
STACKED_INTO, STACKED_OUT = "gate_up_proj", "down_proj"  # the tensors of all experts of a layer in transformers 5


@dataclass(frozen=True)
class Module:
    """A weight that the adapter adds to: the tensor of the base, its edits, and the name of the module that holds it.

    One without edits is there because its layer has to be complete: what it adds is zeros. `stack` names the module that
    transformers 5 has an expert in, "" for what has a module of its own. `parameter` names the weight of what lies beside
    experts, "" for all else.
    """

    name: str
    tensor: str
    edits: tuple[TensorEdit, ...]
    layer: LayerTensors
    shape: tuple[int, int]
    dtype: str
    transposed: bool
    stack: str = ""
    parameter: str = ""

    @property
    def outputs(self) -> int:
        return self.shape[1 if self.transposed else 0]

    @property
    def inputs(self) -> int:
        return self.shape[0 if self.transposed else 1]

    def low_rank(self) -> LowRank:
        return low_rank(self.edits, self.layer, self.tensor, self.shape, transposed=self.transposed)


def modules_of(target: Target, what: Carried) -> tuple[Module, ...]:
    """Return the modules that edits change, by name, and the others of the experts that lie beside them.

    Raises RecipeError for an edit of a bias.
    """
    tensors = {tensor.name: (shard, tensor) for shard, tensor in target.checkpoint.tensors()}
    found: list[dict[str, tuple[TensorEdit, ...]]] = []
    constants = constants_of(target, what)
    for number, (layer, constant) in enumerate(zip(what.plan.layers, constants, strict=True)):
        named = LayerTensors(target.feed_forward, number, tensors)
        edits = edits_of(layer, named, constant) if len(layer.neurons) else {}
        for vector in what.vectors:
            if vector.block == number:
                for name, edit in of_vector(vector, named, constant).items():
                    edits[name] = (*edits.get(name, ()), edit)
        found.append(edits)
    located = target.feed_forward.located
    complete = {one.block.layer for one, edits in zip(located, found, strict=True) if one.block.expert and edits}
    modules = []
    for number, (one, edits) in enumerate(zip(located, found, strict=True)):
        named = LayerTensors(target.feed_forward, number, tensors)
        stack = ""
        if one.block.expert and one.block.layer in complete:
            projections = (target.feed_forward.name(name, number) for name in one.network.projections)
            edits = {name: edits.get(name, ()) for name in projections}
            stack = _stack(target, one)
        for name, own in edits.items():
            tensor = tensors[name][1]
            if len(tensor.shape) != 2:
                raise RecipeError(f"an adapter can't change {name}, which is a bias. Bake a checkpoint.")
            shape = (tensor.shape[0], tensor.shape[1])
            module = module_name(name.removesuffix(".weight"), target)
            parameter = _parameter(target, one, module) if target.feed_forward.mixture and not stack else ""
            transposed = one.network.conv1d
            modules.append(Module(module, name, own, named, shape, tensor.dtype, transposed, stack, parameter))
    return tuple(sorted(modules, key=lambda module: module.name))


def check_experts(target: Target, located: Located) -> None:
    """Raise RecipeError for an expert whose matrices no adapter can name."""
    network, name = located.network, target.source.name
    if network.stacked or not network.up:
        why = (
            f"{target.feed_forward.model_type} files hold all experts of a layer in one tensor, and adapters name matrices "
            "one by one"
            if network.stacked
            else f"the experts of {target.feed_forward.model_type} have no gate, and PEFT stacks only those that have one"
        )
        raise RecipeError(
            f"{name} is a mixture of experts, and neurons to edit lie in experts ({located.block.name} among them): {why}. "
            "Bake a checkpoint."
        )


def _parameter(target: Target, located: Located, module: str) -> str:
    """Name the weight of a module as transformers does, which calls some shared experts otherwise than their files."""
    for projection in located.network.projections:
        if module.endswith(f".{projection}"):
            return f"{module.removesuffix(projection)}{located.network.module(projection)}.weight"
    return f"{module}.weight"


def _stack(target: Target, located: Located) -> str:
    """Name the module that transformers 5 has an expert in."""
    layer = target.feed_forward.family.layer.format(located.block.layer)
    return module_name(f"{target.feed_forward.prefix}{layer}.{located.network.activation}", target)


def module_name(name: str, target: Target) -> str:
    """Return how transformers calls a module of a file: the text tower of a wrapper has a place of its own there.

    A file may also be of the trunk alone, without the name that it has in the whole model.
    """
    config, prefix = target.checkpoint.config, target.feed_forward.prefix
    inner = name.removeprefix(prefix)
    if text_config(config) is not config:
        return f"{INSIDE}{inner}"
    if prefix.startswith("backbone."):
        return f"model.{inner}"
    if prefix in ("", "decoder."):
        first = f"{prefix}{inner}"
        return next((before + first for start, before in TRUNKS.items() if first.startswith(start)), first)
    return name


def config(base: Base, rank: int, modules: Sequence[Module]) -> bytes:
    """Return the text of adapter_config.json."""
    data: dict[str, object] = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base.model,
        "revision": base.revision,
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": any(module.transposed for module in modules),
        "target_modules": [module.name for module in modules if not module.parameter],
        "modules_to_save": None,
        "init_lora_weights": True,
        "inference_mode": True,
        "use_dora": False,
        "use_rslora": False,
    }
    stacks = dict.fromkeys(module.stack for module in modules if module.stack)
    parameters = [f"{stack}.{name}" for stack in stacks for name in (STACKED_INTO, STACKED_OUT)]
    parameters += [module.parameter for module in modules if module.parameter]
    if parameters:
        data["target_parameters"] = parameters
    if stacks:  # gate and up lie in one tensor, each with a rank of its own
        data["rank_pattern"] = data["alpha_pattern"] = {rf".*\.{STACKED_INTO}": 2 * rank}
    return (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode()
