"""A model on several devices: its layers on one after another, or each layer's neurons divided among processes.

`device_map` is accelerate's: "auto" fills the GPUs in turn, then the CPU. `tensor_parallel` is transformers' own plan, under
torchrun: every process has a part of each projection, and runs all of the text. A model whose activation function sees a part
of the neurons in each process is recorded in parts (see `statistics.recorder`).
"""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ModelError

if TYPE_CHECKING:
    import torch

DEVICE_MAPS = ("auto",)


@dataclass(frozen=True)
class Spread:
    """How a model lies on several devices; false where it does not."""

    device_map: str | None = None
    tensor_parallel: bool = False

    def __bool__(self) -> bool:
        return self.tensor_parallel or self.device_map is not None

    def check(self, workers: int) -> None:
        """Raise ModelError for what can't be, before anything is loaded."""
        if self.device_map is not None and self.device_map not in DEVICE_MAPS:
            raise ModelError(f"{self.device_map!r} is no map of devices. Set `device_map` to auto, or leave it out.")
        if self.device_map and self.tensor_parallel:
            raise ModelError("`device_map` and `tensor_parallel` are two ways to spread a model. Choose one.")
        if self and find_spec("accelerate") is None:
            raise ModelError("A model is spread by the package accelerate: pip install 'monoglot[devices]'")
        if self.tensor_parallel and workers < 2:
            raise ModelError(
                "`tensor_parallel` divides a model among processes, and there is one. Start several with torchrun, which "
                "runs `monoglot.cli` as a module."
            )


NOT_SPREAD = Spread()


def spread_model(
    builder: Any, folder: Path, dtype: "torch.dtype", spread: Spread, *, quantised: bool
) -> tuple[Any, Any]:
    """Load a model onto several devices; also what transformers says of missing and unexpected tensors. Raises ModelError."""
    if quantised:
        raise ModelError(
            f"{folder.name} is quantised, and its weights can't be spread over several devices. Let it run layer by layer "
            "instead: `stream` layers."
        )
    how: dict[str, Any] = {"device_map": spread.device_map}
    if spread.tensor_parallel:
        how = _divided()
    model, info = builder.from_pretrained(
        folder, dtype=dtype, trust_remote_code=False, output_loading_info=True, use_safetensors=True, **how
    )
    if spread.tensor_parallel and not model._tp_plan:  # transformers 4 would give every process the whole model
        raise ModelError(f"transformers has no plan to divide a {model.config.model_type} model among processes.")
    return model, info


def _divided() -> dict[str, Any]:
    """Return what transformers is told to divide a model among all processes."""
    import torch.distributed as dist

    try:
        from transformers.distributed import DistributedConfig
    except ImportError:  # transformers 4
        return {"tp_plan": "auto"}
    if "tp_size" not in getattr(DistributedConfig, "__dataclass_fields__", {}):
        return {"tp_plan": "auto"}
    return {"distributed_config": DistributedConfig(tp_size=dist.get_world_size())}


def inputs_device(model: Any) -> "torch.device":
    """Return where a model takes tokens: where the first of its weights is that is in memory."""
    import torch

    return next((one.device for one in model.parameters() if one.device.type != "meta"), torch.device("cpu"))


def sums_device(model: Any) -> "torch.device":
    """Return where sums over its activations are taken: where it is, or on the CPU where it is in several places."""
    import torch

    places = {str(place) for place in getattr(model, "hf_device_map", {}).values()}
    return torch.device("cpu") if len(places) > 1 else inputs_device(model)
