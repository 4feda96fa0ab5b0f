"""What names a model: the base of a recipe, and the model that statistics or neurons were made of.

A neuron is one of a *block*, a feed-forward network. Most models have one block a layer, all of one width. Others have
layers without a block, of another width, or with many: a mixture of experts has a block for each expert.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from ..errors import MalformedError
from ..files import schema
from ..files.schema import Name

MOST_BLOCKS = 2**17  # that a file may claim
NAME = re.compile(r"(?P<layer>0|[1-9][0-9]{0,4})(\.(?P<part>[a-z]+|(?P<first>[0-9]{1,5})(-(?P<last>[0-9]{1,5}))?))?")


@dataclass(frozen=True)
class Base:
    """The model a recipe is for. `fingerprint` None fits any."""

    model: Name
    revision: Name | None = None
    fingerprint: Name | None = None


@dataclass(frozen=True)
class Block:
    """One feed-forward network: the layer it is in, how many neurons it has, and which of the layer's networks it is.

    `part` is "" for the only one, "shared" for one beside the experts, or the number of an expert.
    """

    layer: int
    width: int
    part: str = ""

    @property
    def name(self) -> str:
        """For example "3", "3.shared" or "3.17"."""
        return f"{self.layer}.{self.part}" if self.part else str(self.layer)

    @property
    def expert(self) -> bool:
        """Whether only the tokens that a router sends there go through it."""
        return self.part.isdecimal()


def blocks_of(layers: int, width: int, blocks: Sequence[Block] = ()) -> tuple[Block, ...]:
    """Return the blocks themselves, or one in each layer where none are given."""
    return tuple(blocks) or tuple(Block(layer, width) for layer in range(layers))


@dataclass(frozen=True)
class ModelInfo:
    """Which model statistics or neurons are of: its name, revision, family and shape, and its `fingerprint`.

    `blocks` is empty where every layer has one, `width` neurons wide; otherwise `width` is the widest.
    """

    name: str
    revision: str | None
    model_type: str
    layers: int
    width: int
    fingerprint: str
    blocks: tuple[Block, ...] = ()

    @property
    def networks(self) -> tuple[Block, ...]:
        """Its blocks, in order."""
        return blocks_of(self.layers, self.width, self.blocks)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an array with a number for each neuron: (layers, width), or (neurons,) where blocks are not alike."""
        return (sum(block.width for block in self.blocks),) if self.blocks else (self.layers, self.width)

    @property
    def neurons(self) -> int:
        return sum(block.width for block in self.blocks) if self.blocks else self.layers * self.width

    @property
    def mixture(self) -> bool:
        """Whether some of its blocks are experts."""
        return any(block.expert for block in self.blocks)

    @property
    def in_words(self) -> str:
        """For example "18 layers × 2,048", or "48 layers, 6,144 networks up to 768 wide"."""
        return shape_in_words(self.layers, self.width, len(self.blocks))

    def split(self, array: Any) -> list[Any]:
        """Return views of such an array, one a block; further axes may follow."""
        return split(array, [block.width for block in self.blocks])

    def to_data(self) -> dict[str, Any]:
        """As it stands in a file: runs of experts of one width are written as one."""
        data = {key: value for key, value in vars(self).items() if key != "blocks"}
        return data | ({"blocks": [list(run) for run in _runs(self.blocks)]} if self.blocks else {})

    @classmethod
    def of_data(cls, data: Any, place: str = "model") -> "ModelInfo":
        """Read what a file holds. Raises MalformedError; `place` is what it is called in the message."""
        found = dict(schema.mapping(data, place))
        runs = schema.listed(found.pop("blocks", []), f"{place}.blocks")
        model = schema.read(cls, found, place)
        if not runs:
            return model
        try:
            blocks = _blocks(runs)
        except (TypeError, ValueError) as error:
            raise MalformedError(f"{place}.blocks cannot be read: {error}") from None
        if max(block.width for block in blocks) != model.width or blocks[-1].layer >= model.layers:
            raise MalformedError(f"{place}.blocks do not fit its layers and width")
        return replace(model, blocks=blocks)


def shape_in_words(layers: int, width: int, networks: int = 0) -> str:
    """Word the shape of a model's feed-forward networks; `networks` counts them where there is not one a layer."""
    return (
        f"{layers} layers, {networks:,} networks up to {width:,} wide" if networks else f"{layers} layers × {width:,}"
    )


def split(array: Any, widths: Sequence[int]) -> list[Any]:
    """Return views of an array along its first axis: its rows where no widths are given."""
    if not widths:
        return list(array)
    views, at = [], 0
    for width in widths:
        views.append(array[at : at + width])
        at += width
    return views


def _runs(blocks: Iterable[Block]) -> Iterator[tuple[str, int]]:
    def run(numbered: tuple[int, Block]) -> tuple[Any, ...]:
        number, block = numbered
        return (block.layer, block.width, int(block.part) - number if block.expert else block.part)

    for _, group in groupby(enumerate(blocks), key=run):
        first, *_, last = [block for _, block in group] * 2
        yield (first.name if first == last else f"{first.name}-{last.part}"), first.width


def _blocks(data: Sequence[Any]) -> tuple[Block, ...]:
    blocks: list[Block] = []
    for name, width in data:
        match = NAME.fullmatch(name)
        if match is None or type(width) is not int or width < 1:
            raise ValueError(f"{name!r} of width {width!r} is no block")
        layer, part = int(match["layer"]), match["part"] or ""
        if match["first"] is None:
            blocks.append(Block(layer, width, part))
        else:
            first, last = int(match["first"]), int(match["last"] or match["first"])
            if len(blocks) + last - first >= MOST_BLOCKS:
                raise ValueError("it has more blocks than any model")
            blocks += [Block(layer, width, str(expert)) for expert in range(first, last + 1)]
    if not blocks or len({block.name for block in blocks}) != len(blocks):
        raise ValueError("its blocks are none, or one stands there twice")
    if [block.layer for block in blocks] != sorted(block.layer for block in blocks):
        raise ValueError("its blocks are not in the order of their layers")
    return tuple(blocks)
