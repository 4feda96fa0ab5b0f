"""A model without its weights, which are put in and taken out part by part.

transformers builds it with its parameters on the meta device, where they have a shape and no memory; buffers (tables of
rotary angles, scales of embeddings) are computed as always. The weights of one layer are then read from the checkpoint when
it is that layer's turn (see `places`). A large embedding table is not read whole for text to go through: the rows of a token
are read when it is first looked up.

Whether a parameter wants a gradient stays as transformers has it, though none is ever taken: torch chooses its kernel by it
(a product with a weight that wants one is folded into two dimensions), and float32 sums differ by the kernel.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ModelError
from .load import built, choose_device, choose_dtype, config_of, warn_of_dropped
from .modules import trunk
from .places import Places
from .stored import Stored, stored

if TYPE_CHECKING:
    import torch

LARGE_TABLE = 2**14  # rows of an embedding table from which on they are read one by one


class Skeleton:
    """`model` is a live transformers model in evaluation mode, at first without weights.

    Raises what `load_model` raises: tensors that are missing or of another shape are found here, and none is read.
    """

    def __init__(self, folder: Path, *, device: str = "auto", dtype: str = "auto") -> None:
        import torch

        self.device = torch.device(choose_device(device))
        self.floats = getattr(torch, choose_dtype(folder, device, dtype))
        with built(folder):
            config, builder, _ = config_of(folder)
            with _parameters_on_meta():
                self.model = builder.from_config(config, dtype=self.floats, trust_remote_code=False)
            self.model.eval()
            owners = {name: id(parameter) for name, parameter in self.model.named_parameters(remove_duplicate=False)}
            self._places = Places(self.model, self.floats, stored(folder))
            loaded = self._places.check()
        names = {module: name for name, module in self.model.named_modules()}
        self._names: dict[Any, str] = names
        self.trunk = trunk(self.model)
        self._embedding, self._head = self.model.get_input_embeddings(), self.model.get_output_embeddings()
        there = {owner for name, owner in owners.items() if name in loaded}
        needed = tuple(f"{names[module]}." for module in (self.trunk, self._head) if module is not None)
        missing = sorted(name for name, owner in owners.items() if owner not in there and name.startswith(needed))
        if missing:
            raise ModelError(f"{folder.name} lacks the weights of {missing[0]} ({len(missing)} missing in all).")
        warn_of_dropped(folder, self.model, self._places.unexpected)
        self._tied = self._head is not None and (
            owners[f"{names[self._head]}.weight"] == owners[f"{names[self._embedding]}.weight"]
        )
        self._looked_up: list[Rows] = []
        for module in self.model.modules():
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[name] = self._placed(buffer)

    def _placed(self, tensor: "torch.Tensor") -> "torch.Tensor":
        """Return a tensor where the model runs, in float32 where it runs in that: some are made in the config's dtype."""
        import torch

        wide = tensor.is_floating_point() and self.floats == torch.float32
        return tensor.to(self.device, torch.float32 if wide else None)

    def size(self, module: Any) -> int:
        """Return the bytes that a module's weights take."""
        return sum(parameter.numel() * parameter.element_size() for parameter in module.parameters())

    def load(self, module: Any) -> None:
        """Read the weights of a module of the model."""
        prefix = f"{self._names[module]}."
        self._places.load(lambda name: name.startswith(prefix), self.device)
        self._settle(module)

    def load_around(self, layers: "list[Any]", *, tables: bool = False) -> None:
        """Read what the trunk has beside its layers.

        Of a large embedding table nothing, until tokens are looked up, unless `tables` are to be whole.
        """
        inside = tuple(f"{self._names[layer]}." for layer in layers)
        prefix, found = f"{self._names[self.trunk]}.", {}
        around = {
            f"{name}.weight": module
            for module, name in self._names.items()
            if f"{name}.".startswith(prefix) and not f"{name}.".startswith(inside)
        }
        for name, module in around.items():
            large = not tables and self._is_table(module) and self.device.type == "cpu"
            source = self._places.plain(name) if large else None
            if source is not None:
                found[name] = module, source
        self._places.load(
            lambda name: name.startswith(prefix) and not name.startswith(inside) and name not in found, self.device
        )
        for module in around.values():
            self._settle(module, recurse=False)
        self._looked_up = [Rows(module, source, self.floats) for module, source in found.values()]

    def _is_table(self, module: Any) -> bool:
        """Whether a module is looked up by token: of the embedding's own kind, with as many rows, and large."""
        return type(module) is type(self._embedding) and len(module.weight) >= LARGE_TABLE

    def load_head(self) -> None:
        """Read the output layer, whole, with the embedding table where they share it."""
        if self._tied:
            self.load(self._embedding)
            for rows in self._looked_up:
                rows.whole(self._embedding)
            self._head.weight = self._embedding.weight
        names = (
            {f"{self._names[self._head]}.{name}" for name, _ in self._head.named_parameters()} if self._head else set()
        )
        if self._tied:
            names.discard(f"{self._names[self._head]}.weight")
        self._places.load(names.__contains__, self.device)
        if self._head is not None:
            self._settle(self._head)

    def unload_head(self) -> None:
        """Forget the output layer, unless it is the embedding table."""
        if self._head is not None and not self._tied:
            self.unload(self._head)

    def _settle(self, module: Any, *, recurse: bool = True) -> None:
        """Widen what transformers 4 leaves in another dtype: the numbers of Apertus's activation function."""
        import torch

        for part in module.modules() if recurse else [module]:
            for name, parameter in part._parameters.items():
                if parameter is not None and parameter.device.type != "meta":
                    part._parameters[name] = torch.nn.Parameter(self._placed(parameter.data), parameter.requires_grad)

    def unload(self, module: Any) -> None:
        """Forget a module's weights; its buffers stay."""
        import torch

        for part in module.modules():
            for name, parameter in part._parameters.items():
                if parameter is not None:
                    empty = torch.empty_like(parameter, device="meta")
                    part._parameters[name] = torch.nn.Parameter(empty, parameter.requires_grad)


class Rows:
    """An embedding table on a CPU whose rows are read when they are looked up.

    The table is there as a whole, but memory that nobody has written to takes none.
    """

    def __init__(self, module: Any, source: Stored, floats: "torch.dtype") -> None:
        import torch

        self.module, self.source = module, source
        self.there = np.zeros(source.shape[0], np.bool_)
        table = torch.empty(source.shape, dtype=floats)
        module.weight = torch.nn.Parameter(table)
        module.register_forward_pre_hook(self._read, with_kwargs=True)

    def _read(self, module: Any, inputs: Any, named: Any) -> None:
        import torch

        ids = np.unique((inputs[0] if inputs else named["input"]).cpu().numpy())
        wanted = ids[~self.there[ids]]
        if len(wanted):
            table = module.weight.data
            table[torch.from_numpy(wanted)] = self.source.rows(wanted).to(table.dtype)
            self.there[wanted] = True

    def whole(self, module: Any) -> None:
        """Take note that a module has all of its rows now."""
        if module is self.module:
            self.there[:] = True


@contextmanager
def _parameters_on_meta() -> Iterator[None]:
    """Move every parameter to the meta device as soon as a module has it."""
    import torch

    register: Callable[..., None] = torch.nn.Module.register_parameter

    def moved(module: Any, name: str, parameter: Any) -> None:
        register(module, name, parameter)
        if parameter is not None and parameter.device.type != "meta":
            own = module._parameters[name]
            empty = torch.nn.Parameter(torch.empty_like(own, device="meta"), requires_grad=own.requires_grad)
            module._parameters[name] = empty

    torch.nn.Module.register_parameter = moved  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        torch.nn.Module.register_parameter = register  # type: ignore[method-assign]
