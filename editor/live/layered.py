"""A model that runs layer by layer: all texts go through one layer before the next layer is read.

To run layer i on a batch, the trunk itself is called, in which every other layer is a stub: those before i cost nothing, the
last of them gives what it gave when it ran, layer i runs, and what follows is not reached. So whatever a family's trunk hands
to its layers (masks, angles of positions, inputs of each layer's own) is what the trunk makes of the tokens, and whatever it
does between two layers is done; nothing here knows a family. What a layer leaves in a store that the trunk passes along for
later layers to read (keys and values that several layers share) is carried with the hidden states.
"""

from collections import OrderedDict
from collections.abc import Iterator, MutableMapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ModelError
from ..files.checkpoint import read_config
from ..models.families import Family, family_of
from ..models.hf import silent
from .modules import layer_modules
from .skeleton import Skeleton

if TYPE_CHECKING:
    import torch

Shared = dict[tuple[str, str], tuple["torch.Tensor", ...]]  # (argument of a layer, key in it) -> tensors


@dataclass
class State:
    """What a batch carries from one layer to the next.

    `parts` are what the layer returned, in its order, and None where that is no tensor; `single` that it returned the one
    tensor, not a tuple. `shared` is what layers left for later ones.
    """

    parts: tuple["torch.Tensor | None", ...]
    single: bool = True
    shared: Shared = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors())

    def tensors(self) -> "list[torch.Tensor]":
        """Return all of its tensors, in order."""
        return [part for part in self.parts if part is not None] + [one for own in self.shared.values() for one in own]

    def on(self, device: "torch.device") -> "State":
        """Return it on another device."""
        parts = tuple(None if part is None else part.to(device) for part in self.parts)
        shared = {key: tuple(one.to(device) for one in own) for key, own in self.shared.items()}
        return State(parts, self.single, shared)

    @property
    def output(self) -> Any:
        """What the layer returned."""
        return self.parts[0] if self.single else self.parts


class _Reached(BaseException):
    """The layer at work has run: the rest of the trunk is not needed."""


class Layered:
    """Runs a skeleton's layers one after another; `layers` are its modules, whose weights are there only in their turn."""

    def __init__(self, skeleton: Skeleton, family: Family) -> None:
        self.skeleton = skeleton
        self.layers: Sequence[Any] = layer_modules(skeleton.model, family)
        self._forward = [layer.forward for layer in self.layers]
        self._at = 0
        self._before: State | None = None
        self._after: State | None = None
        self._shared: Shared = {}

    def number_of(self) -> dict[Any, int]:
        """Return the layer in which each module lies."""
        return {module: number for number, layer in enumerate(self.layers) for module in layer.modules()}

    @property
    def sizes(self) -> list[int]:
        """Bytes of each layer's weights."""
        return [self.skeleton.size(layer) for layer in self.layers]

    @contextmanager
    def running(self, *, tables: bool = False) -> Iterator[None]:
        """Read what the trunk has beside its layers, and put stubs in the layers' places while the block runs.

        With `tables`, embedding tables are read whole.
        """
        with silent():
            self.skeleton.load_around(list(self.layers), tables=tables)
            own = [layer.__dict__.get("forward") for layer in self.layers]
            for number, layer in enumerate(self.layers):
                layer.forward = partial(self._call, number)
            try:
                yield
            finally:
                for layer, forward in zip(self.layers, own, strict=True):
                    if forward is None:
                        del layer.forward
                    else:
                        layer.forward = forward

    def each(self, begin: int = 0, *, ahead: bool = True) -> Iterator[int]:
        """Yield the numbers of the layers from `begin` on, each with its weights read; `ahead` reads the next meanwhile."""
        with ThreadPoolExecutor(1) as pool:
            coming: Future[None] | None = None
            for number in range(begin, len(self.layers)):
                if coming is None:
                    self.skeleton.load(self.layers[number])
                else:
                    coming.result()
                if ahead and number + 1 < len(self.layers):
                    coming = pool.submit(self.skeleton.load, self.layers[number + 1])
                try:
                    yield number
                finally:
                    self.skeleton.unload(self.layers[number])

    def run(self, ids: "torch.Tensor", number: int, before: State | None) -> State:
        """Run layer `number` on tokens (batch, length), given what the layer before made of them.

        Hooks on the layer and on what lies in it see what they would see in the whole model; those on other layers don't run.
        """
        self._at, self._before, self._after = number, before, None
        with self._alone(number), suppress(_Reached):
            self.skeleton.trunk(input_ids=ids.to(self.skeleton.device), use_cache=False)
        if self._after is None:
            raise ModelError(
                f"the trunk of {type(self.skeleton.model).__name__} did not come to its layer {number}, so the model can't "
                "run layer by layer. Leave `stream` out."
            )
        return self._after

    def finish(self, ids: "torch.Tensor", before: State) -> "torch.Tensor":
        """Return what the trunk makes of the last layer's output: what the head is given, (batch, length, d)."""
        self._at, self._before = len(self.layers), before
        with self._alone(None):
            found: torch.Tensor = self.skeleton.trunk(input_ids=ids.to(self.skeleton.device), use_cache=False)[0]
        return found

    @contextmanager
    def _alone(self, number: int | None) -> Iterator[None]:
        """Take away the hooks of all layers but one, and take what that one returns after its own hooks."""
        put_aside = []
        for other, layer in enumerate(self.layers):
            if other != number:
                put_aside.append((layer, layer._forward_hooks, layer._forward_pre_hooks))
                layer._forward_hooks, layer._forward_pre_hooks = OrderedDict(), OrderedDict()
        handle = self.layers[number].register_forward_hook(self._take) if number is not None else None
        try:
            yield
        finally:
            if handle is not None:
                handle.remove()
            for layer, hooks, before in put_aside:
                layer._forward_hooks, layer._forward_pre_hooks = hooks, before

    def _call(self, number: int, *inputs: Any, **named: Any) -> Any:
        """Stand in for a layer's forward."""
        if number == self._at:
            return self._run(number, inputs, named)
        given = self._before
        if given is None:
            raise ValueError("a layer after the first is given what the one before made")
        if number == self._at - 1:
            return given.output
        hidden = inputs[0] if inputs else named["hidden_states"]
        return hidden if given.single else (hidden, *given.parts[1:])

    def _run(self, number: int, inputs: Any, named: Any) -> Any:
        """Run the layer at work, and see what it leaves in the stores that it was given."""
        given = self._before.shared if self._before else {}
        stores = {
            str(name): value
            for name, value in (*enumerate(inputs), *named.items())
            if isinstance(value, MutableMapping)
        }
        for (name, key), own in given.items():
            if name in stores:
                stores[name][key] = own
        before = {(name, key): value for name, store in stores.items() for key, value in store.items()}
        output = self._forward[number](*inputs, **named)
        self._shared = dict(given)
        for name, store in stores.items():
            for key, value in store.items():
                if before.get((name, key)) is not value:
                    self._shared[name, key] = _tensors(value, key, number)
        return output

    def _take(self, layer: Any, inputs: Any, output: Any) -> None:
        parts = output if isinstance(output, tuple) else (output,)
        self._after = State(tuple(map(_tensor, parts)), not isinstance(output, tuple), self._shared)
        raise _Reached


def _tensor(part: Any) -> "torch.Tensor | None":
    import torch

    return part.detach() if isinstance(part, torch.Tensor) else None


def _tensors(value: Any, key: Any, number: int) -> "tuple[torch.Tensor, ...]":
    import torch

    if isinstance(key, str) and isinstance(value, tuple) and all(isinstance(one, torch.Tensor) for one in value):
        return value
    raise ModelError(
        f"layer {number} leaves something for later layers that can't be carried from one to the next ({key!r}), so the "
        "model can't run layer by layer. Leave `stream` out."
    )


def open_layered(folder: Path, *, device: str = "auto", dtype: str = "auto") -> Layered:
    """Open the model of a folder to run layer by layer. Raises what `load_model` raises."""
    family = family_of(read_config(folder, quantised=True))
    return Layered(Skeleton(folder, device=device, dtype=dtype), family)
