"""What an adapter adds to experts, in a live mixture of transformers 5, which has no module for one of them.

Shared experts have modules, which some families call otherwise than their files do.

The matrices of all experts of a layer are stacked in two tensors of one module, gate and up in the first. An adapter names
them one by one, as files do. What it adds is added to their part of the stack, once and for good. PEFT does the same, each
time that the module runs. Transformers 4 has a module for each matrix and needs nothing of this.
"""

import re
from collections.abc import Mapping
from typing import Any

from ..models.families import family_of
from ..models.networks import EXPERTS, Network


class Stacks:
    """The experts of a live model by the names that files have for them; `modules` are all its modules by their names."""

    def __init__(self, model: Any, modules: Mapping[str, Any]) -> None:
        self._modules = modules
        family = family_of(model.config.to_dict())
        self._renamed = [
            (
                re.compile(rf"(?P<place>(.*\.)?{family.layer_pattern})\.{re.escape(projection)}"),
                network.module(projection),
            )
            for network in family.networks
            for projection in network.projections
            if network.module(projection) != projection
        ]
        self._named: list[tuple[re.Pattern[str], Network, str]] = []
        for network in family.networks:
            if network.part == EXPERTS and network.up and not network.stacked:
                for projection in network.projections:
                    before, after = map(re.escape, projection.split("{}"))
                    name = rf"(?P<place>(.*\.)?{family.layer_pattern})\.{before}(?P<expert>[0-9]+){after}"
                    self._named.append((re.compile(name), network, projection))

    def renamed(self, path: str) -> Any:
        """Return the module that files call `path` and transformers otherwise; None where there is none."""
        for pattern, name in self._renamed:
            if match := pattern.fullmatch(path):
                return self._modules.get(f"{match['place']}.{name}")
        return None

    def part(self, path: str) -> Any:
        """Return the matrix called `path`, (outputs, inputs), as a view of the stack; None where there is no such stack."""
        for pattern, network, projection in self._named:
            if match := pattern.fullmatch(path):
                stack = self._modules.get(f"{match['place']}.{network.activation}")
                if hasattr(stack, "gate_up_proj"):
                    return _part(stack, network, projection, int(match["expert"]))
        return None


def _part(stack: Any, network: Network, projection: str, expert: int) -> Any:
    whole = (stack.down_proj if projection == network.out else stack.gate_up_proj).data[expert]
    whole = whole.T if stack.is_transposed else whole
    if projection == network.out:
        return whole
    up = projection == network.up
    if not stack.is_concatenated:
        return whole[1 if up else 0 :: 2]
    gate, second = whole.chunk(2)
    return second if up else gate
