"""A stand-in for a model whose activations are looked up, texts for it, and statistics of them by hand."""

import itertools
from typing import Any

import numpy as np
import torch

from monoglot.editor.models.identity import ModelInfo
from monoglot.editor.statistics.inputs import Inputs, Sample
from monoglot.editor.statistics.recorder import collect
from monoglot.editor.statistics.sample import take_sample
from monoglot.editor.statistics.statistics import Statistics
from monoglot.editor.text.tokens import Packed

LAYERS, WIDTH, HIDDEN, VOCABULARY, BOS = 3, 5, 4, 50, 0
INFO = ModelInfo("tables", None, "llama", LAYERS, WIDTH, "f" * 64)


class Tables(torch.nn.Module):
    """A "model" whose activations are looked up: layer i reads reads[i][token] and puts out tables[i][token]. It
    can be told to fail."""

    def __init__(self, seed: int = 0, denominator: int = 2**10, flat: bool = False) -> None:
        super().__init__()
        whole = np.random.default_rng(seed).integers(-900, 900, (LAYERS, VOCABULARY, WIDTH))
        whole[:, ::7] = 0  # exactly 0 is not active
        self.tables = torch.nn.Parameter(torch.from_numpy(whole) / denominator)
        read = np.random.default_rng(seed + 1).integers(-900, 900, (LAYERS, VOCABULARY, HIDDEN))
        self.reads = torch.nn.Parameter(torch.from_numpy(read) / denominator)
        self.readers = torch.nn.ModuleList(torch.nn.Identity() for _ in range(LAYERS))
        self.acts = torch.nn.ModuleList(torch.nn.Identity() for _ in range(LAYERS))
        self.flat = flat
        self.most = 10**9  # positions that fit into memory
        self.batches: list[tuple[int, ...]] = []

    def get_decoder(self) -> "Tables":
        return self

    def forward(self, input_ids: torch.Tensor, use_cache: bool) -> None:
        assert not use_cache
        for table, act, read, reader in zip(self.tables, self.acts, self.reads, self.readers, strict=True):
            reader(read[input_ids].flatten(0, 1) if self.flat else read[input_ids])
            found = table[input_ids]
            act(found.flatten(0, 1) if self.flat else found)
            if input_ids.numel() > self.most:  # in the middle of a pass
                raise torch.cuda.OutOfMemoryError("too much")
        self.batches.append(tuple(input_ids.shape))


def packed(language: str, tokens: int, context: int = 8, skip: int = 1, seed: int = 0) -> Packed:
    ids = np.random.default_rng([seed, *language.encode()]).integers(1, VOCABULARY, tokens)
    head = np.full(skip, BOS, np.int64)
    step = context - skip
    contexts = tuple(np.concatenate([head, ids[at : at + step]]) for at in range(0, tokens, step))
    return Packed(language, contexts, skip, tokens, f"{language}-{tokens}-{context}-{skip}-{seed}")


TEXTS = {language: packed(language, tokens) for language, tokens in (("fr", 100), ("zh", 61), ("en", 5))}


def plain(model: Tables, texts: dict[str, Packed]) -> Statistics:
    """Token by token, in Python. The tables hold multiples of 1/1024, so every order of adding gives the same."""
    tables = model.tables.tolist()
    active = {name: np.zeros((LAYERS, WIDTH), np.int64) for name in texts}
    total = {name: np.zeros((LAYERS, WIDTH)) for name in texts}
    for name, text in texts.items():
        for context in text.contexts:
            for token in context[text.skip :].tolist():
                for layer, neuron in itertools.product(range(LAYERS), range(WIDTH)):
                    value = tables[layer][token][neuron]
                    active[name][layer, neuron] += value > 0
                    total[name][layer, neuron] += value
    tokens = {name: sum(len(c) - t.skip for c in t.contexts) for name, t in texts.items()}
    return Statistics(INFO, tokens, active, total, {name: (text.sha256,) for name, text in texts.items()})


HELD_OUT = {language: packed(language, tokens, seed=9) for language, tokens in (("fr", 30), ("zh", 3))}


class Letters:
    """A tokenizer whose token i is a letter below 40, a digit from there on."""

    def decode(self, ids: list[int]) -> str:
        return "".join("a" if token < 40 else "7" for token in ids)


def sample(model: Tables, texts: dict[str, Packed] = HELD_OUT) -> Sample:
    return take_sample(model, list(model.readers), texts, Letters())


def same_inputs(one: Inputs | None, two: Inputs | None) -> bool:
    if one is None or two is None:
        return one is two
    return (one.tokens, one.contexts, one.sample.kinds, one.sample.parts) == (
        two.tokens, two.contexts, two.sample.kinds, two.sample.parts
    ) and all(
        np.array(list(first)).tobytes() == np.array(list(second)).tobytes()
        for first, second in (
            (one.second_moment, two.second_moment), (one.first_moment, two.first_moment),
            (one.first_token_total, two.first_token_total), (one.sample.x, two.sample.x),
            (one.sample.tokens, two.sample.tokens), (one.sample.positions, two.sample.positions),
        )
    )  # fmt: skip


def same(one: Statistics, two: Statistics) -> bool:
    """To the bit, in the same order."""
    return (one.model, list(one.tokens.items()), one.texts, one.settings) == (
        two.model, list(two.tokens.items()), two.texts, two.settings,
    ) and all(
        first[name].dtype == second[name].dtype and first[name].tobytes() == second[name].tobytes()
        for first, second in (
            (one.active_count, two.active_count), (one.total, two.total), (one.histogram or {}, two.histogram or {})
        )
        for name in {**first, **second}
    ) and same_inputs(one.inputs, two.inputs)  # fmt: skip


def run(
    model: Tables | None = None,
    texts: dict[str, Packed] = TEXTS,
    *,
    calibrate: bool = False,
    held_out: dict[str, Packed] = HELD_OUT,
    **options: Any,
) -> Statistics:
    model = model or Tables()
    if calibrate:
        options |= {"readers": list(model.readers), "sample": sample(model, held_out)}
        model.batches.clear()
    return collect(model, list(model.acts), INFO, texts, **options)
