"""What it costs to run a model, from the numbers of its weights and a measured second of this machine.

A token that is read costs two operations for each weight that it meets, and 4·L·d·context/2 for attention; a token that is
written costs a pass over all weights in memory, for all prompts of a batch at once. A model spends time on more than that
(OTHER_WORK), so these are estimates of minutes or hours, not of seconds.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..live.load import without_weights
from ..live.logits import LOGITS
from ..live.speed import Speed
from ..models.families import text_config
from ..models.feed_forward import EXPERT_PART
from ..models.routers import taken_by_a_token
from ..models.target import Target

READ = 2**28  # bytes that are read to see how fast that goes
READ_SECONDS = 0.5
BLOCK = 2**20
LIBRARIES = 700_000_000  # bytes of memory of Python, torch and transformers
STARTING = 3.0  # seconds for their import
OTHER_WORK = 1.5  # norms, softmax, hooks and copies, in parts of the products
SIZES = {"float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True)
class Costs:
    """Of one model: weights that a token meets in its layers, in the output table, and numbers in memory of all of it.

    `layers` and `hidden` are its shape, `vocabulary` the rows of the output table, `size` bytes of a number in memory,
    `speed` what the machine was measured to do, `reading` bytes of its files that are read in a second.
    """

    trunk: float
    head: float
    numbers: int
    layers: int
    hidden: int
    vocabulary: int
    size: int
    speed: Speed
    reading: float

    @property
    def memory(self) -> float:
        """Bytes of the weights in memory."""
        return float(self.numbers * self.size)

    def loading(self, stored: int, times: int = 1) -> float:
        """Seconds to load a model from `stored` bytes, some times."""
        return times * (stored / self.reading + self.memory / self.speed.weights) + STARTING

    def passes(self, tokens: int, context: int, *, logits: bool) -> float:
        """Seconds to read some tokens once."""
        operations = 2 * (self.trunk + (self.head if logits else 0)) + 2 * self.layers * self.hidden * context
        return OTHER_WORK * tokens * operations / self.speed.operations

    def answers(self, prompts: int, tokens: int, at_once: int) -> float:
        """Seconds to write answers of some tokens to some prompts, so many at once."""
        batches = -(-prompts // at_once)
        by_memory = batches * tokens * (self.trunk + self.head) * self.size / self.speed.weights
        by_operations = prompts * tokens * 2 * (self.trunk + self.head) / self.speed.operations
        return OTHER_WORK * (by_memory + by_operations)

    def logits(self, copies: int) -> float:
        """Bytes of some copies of the logits that are in memory at once."""
        return float(copies * 4 * max(LOGITS, self.vocabulary))


def costs_of(target: Target, dtype: str, speed: Speed) -> Costs:
    """Count the weights of a model, which is built without them. Raises ModelError."""
    model = without_weights(target.source.folder)
    embeddings, output = model.get_input_embeddings(), model.get_output_embeddings()
    tables = {id(module.weight) for module in (embeddings, output) if module is not None}
    share = _share_of_experts(target)
    trunk = 0.0
    for name, weight in model.named_parameters():
        if id(weight) not in tables and weight.ndim > 1:
            trunk += weight.numel() * (share if EXPERT_PART.search(name) else 1.0)
    vocabulary, hidden = embeddings.weight.shape
    numbers = sum(weight.numel() for weight in model.parameters())
    return Costs(
        trunk, float(vocabulary * hidden), numbers, target.feed_forward.layers, hidden, vocabulary, SIZES[dtype], speed,
        reading_speed([shard.path for shard in target.checkpoint.shards]),
    )  # fmt: skip


def _share_of_experts(target: Target) -> float:
    """Return the share of a layer's experts that a token goes through."""
    every = Counter(block.layer for block in target.feed_forward.networks if block.expert)
    taken = taken_by_a_token(text_config(target.checkpoint.config))
    return min(1.0, taken / max(every.values())) if every else 1.0


def reading_speed(paths: Iterable[Path]) -> float:
    """Read and hash some of a model's files, and return how many bytes that is in a second."""
    buffer, done, digest, begun = bytearray(BLOCK), 0, hashlib.sha256(), time.perf_counter()
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while done < READ and time.perf_counter() - begun < READ_SECONDS and (count := file.readinto(buffer)):
                digest.update(memoryview(buffer)[:count])
                done += count
    return max(1.0, done / max(time.perf_counter() - begun, 1e-6))
