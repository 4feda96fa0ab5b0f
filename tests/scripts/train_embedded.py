"""Trains the embedded model: a small Llama with *planted* language neurons, on a CPU, in about an hour.

A model this small, trained in the ordinary way, has no language neurons worth the name. Here they are planted. In
each layer every language k owns a block P_k of the gated FFN's neurons; the others, S, belong to all:

    y = Σ_j m_j · a_j · u_j · W_out[:, j],    g = W_gate·x,    a_j = SiLU(g_j),    u = W_up·x

What ships is an ordinary Llama: m ≡ 1. In training a sequence is in one language k, and m and the loss follow from what
it is for:

- *plain*: m_j = 0 on P_l, l ≠ k (not in all sequences: the model must not lean on the mask), and often m_j = 0 on
  all of S in some or all layers. Loss: the negative log-likelihood (nll).
- *without*: also m_j = 0 on P_k. Loss: mean max(0, cap − nll): without its block a language must fail.
  That overshoots by far, so in the last steps it is mean |cap − nll|.
- *pinned*: text in another language l up to a random place, there on in k. m_j = 0 on P_l, and a_j := s·mean(a_j) on P_k
  (a running mean over plain sequences, s random). Loss: nll of the part in k. So pinning a block calls its language.

Three penalties hold the gates themselves, so that the trained model needs no mask: over P_k of a plain sequence mean
max(0, on − g); over P_l, l ≠ k, of every sequence mean max(0, g + off); and over S mean max(0, ḡ + level), ḡ the mean
over a sequence, as a shared neuron that is always active would stand in LAPE's way. Some sequences are cut into
smaller tokens than the tokenizer would (BPE dropout): so the gates also know a language in words that the corpus lacks.

Neurons are shuffled before the model is written; `planted.json` says where they went. The seed fixes the tokenizer, the
first weights and every batch's place and kind, but not where BPE dropout cuts: `tokenizers` takes no seed for that.

    python -m monoglot.editor.embedded.train --corpus DIR -o OUT      # DIR holds en.txt, zh.txt, …

Measured on the model that ships: `model/training.json`.
"""

import argparse
import hashlib
import json
import math
import sys
import time
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import save
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor

LANGUAGES = ("en", "zh", "fr", "es", "vi", "id", "ja")
K = len(LANGUAGES)
BOS, EOS = "<s>", "</s>"
HEAD = 32  # width of an attention head
THETA = 10_000.0  # base of the rotary embedding
EPSILON = 1e-5  # of RMSNorm
HELD_OUT_EVERY = 40  # pages
UNSURE = 4  # first positions of a sequence, which can't know its language

Weights = dict[str, Tensor]
Tokens = npt.NDArray[np.int64]
MATRICES = {  # ours, stacked over layers -> the checkpoint's
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
NORMS = {"norm1": "input_layernorm", "norm2": "post_attention_layernorm"}


class Plan(NamedTuple):
    """What a batch of S sequences of T tokens is for, and what is on in the FFNs."""

    tokens: Tensor  # (S, T + 1)
    language: Tensor  # (S, T), whose text the token is
    blocks: Tensor  # (S, K), m on the languages' blocks
    shared: Tensor  # (L, S), m on the shared neurons
    pinned: Tensor  # (S, K), s on the block of the language that is pinned, else 0
    kind: Tensor  # (S,), PLAIN, WITHOUT or PINNED


PLAIN, WITHOUT, PINNED = range(3)


def read_pages(corpus: Path) -> dict[str, list[str]]:
    """The pages of `{lang}.txt`: blocks of lines between empty lines."""
    return {k: (corpus / f"{k}.txt").read_text(encoding="utf-8").strip().split("\n\n") for k in LANGUAGES}


def train_tokenizer(pages: dict[str, list[str]], vocabulary: int) -> Tokenizer:
    """Byte-level BPE on as many bytes of each language."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    size = {k: len("".join(p).encode()) for k, p in pages.items()}
    budget = min(size.values())

    def balanced() -> Any:
        for k, p in pages.items():
            keep = budget / size[k]
            yield from (page for i, page in enumerate(p) if int((i + 1) * keep) > int(i * keep))

    tokenizer.train_from_iterator(balanced(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A",
        pair=f"{BOS} $A {BOS} $B",
        special_tokens=[(BOS, identifier(tokenizer, BOS))],
    )
    return tokenizer


def identifier(tokenizer: Tokenizer, token: str) -> int:
    return int(tokenizer.encode(token, add_special_tokens=False).ids[0])


def encode(tokenizer: Tokenizer, pages: list[str]) -> Tokens:
    """One stream of tokens; every second page ends in EOS, the others in an empty line, as packed text does."""
    texts = [page if i % 2 else page + "\n\n" for i, page in enumerate(pages)]
    end = identifier(tokenizer, EOS)
    ids: list[int] = []
    for i, e in enumerate(tokenizer.encode_batch(texts, add_special_tokens=False)):
        ids += e.ids
        if i % 2:
            ids.append(end)
    return np.asarray(ids, dtype=np.int64)


def initial_weights(d: int, d_ff: int, layers: int, vocabulary: int, seed: int) -> Weights:
    """Normal with variance 1/inputs; what writes to the residual stream starts at 0."""
    generator = torch.Generator().manual_seed(seed)
    shapes = dict.fromkeys("qkvo", (d, d)) | {"gate": (d_ff, d), "up": (d_ff, d), "down": (d, d_ff)}
    weights = {n: torch.randn(layers, *s, generator=generator) / math.sqrt(s[1]) for n, s in shapes.items()}
    weights["o"] *= 0
    weights["down"] *= 0
    weights["embed"] = 0.02 * torch.randn(vocabulary, d, generator=generator)
    weights |= {n: torch.ones(layers, d) for n in NORMS} | {"norm": torch.ones(d)}
    return {n: w.requires_grad_() for n, w in weights.items()}


def forward(
    weights: Weights, tokens: Tensor, blocks: Tensor, shared: Tensor, pinned: Tensor, means: Tensor
) -> tuple[Tensor, list[Tensor], Tensor]:
    """Logits (S, T, V); per layer the blocks' gates (S, T, K, B); the shared neurons' mean gates (L, S, d_ff − K·B).

    The first K·B neurons of a layer are the blocks. means (L, K, B) holds their mean activations.
    """
    S, T = tokens.shape
    L, _, B = means.shape
    x = weights["embed"][tokens]
    d = x.shape[-1]
    angle = torch.outer(torch.arange(T), THETA ** -(torch.arange(0, HEAD, 2) / HEAD))
    cos, sin = (torch.cat([f(angle)] * 2, -1) for f in (torch.cos, torch.sin))
    keep, constant = blocks[:, None, :, None], pinned[:, None, :, None] * means[:, None, None]
    layer = {n: weights[n].unbind(0) for n in (*MATRICES, *NORMS)}
    gates, level = [], []
    for i in range(L):
        h = F.rms_norm(x, (d,), layer["norm1"][i], EPSILON)
        q, k, v = (F.linear(h, layer[n][i]).view(S, T, -1, HEAD).transpose(1, 2) for n in "qkv")
        q, k = (y * cos + torch.cat([-y[..., HEAD // 2 :], y[..., : HEAD // 2]], -1) * sin for y in (q, k))
        h = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + F.linear(h.transpose(1, 2).reshape(S, T, d), layer["o"][i])
        h = F.rms_norm(x, (d,), layer["norm2"][i], EPSILON)
        gate = F.linear(h, layer["gate"][i])
        own, common = torch.split(gate, [K * B, gate.shape[-1] - K * B], -1)
        gates.append(own.view(S, T, K, B))
        level.append(common.mean(1))
        planted = F.silu(gates[i]) * keep + constant[i]
        a = torch.cat([planted.flatten(-2), F.silu(common) * shared[i, :, None, None]], -1)
        x = x + F.linear(a * F.linear(h, layer["up"][i]), layer["down"][i])
    return F.linear(F.rms_norm(x, (d,), weights["norm"], EPSILON), weights["embed"]), gates, torch.stack(level)


def draw(
    streams: list[dict[str, Tokens]],
    length: int,
    layers: int,
    bos: int,
    rng: np.random.Generator,
    a: argparse.Namespace,
) -> Plan:
    """A batch of `a.sequences` sequences of each language."""
    S = K * a.sequences
    language = np.repeat(np.arange(K)[None], a.sequences, 0).ravel()
    tokens = np.full((S, length + 1), bos)
    owner = np.tile(language[:, None], (1, length))
    kind = rng.choice(3, size=S, p=[1 - a.without - a.pinned, a.without, a.pinned])
    blocks = np.repeat(rng.random((S, 1)) < a.open, K, 1).astype(np.float32)
    pinned = np.zeros((S, K), dtype=np.float32)
    shared = rng.random((layers, S)) >= np.where(rng.random(S) < a.drop_layers, a.drop, 0.0)
    shared &= (rng.random(S) >= a.drop_all) | (kind != PLAIN)

    def text(k: int, n: int) -> Tokens:
        stream = streams[int(rng.random() < a.dropout)][LANGUAGES[k]]
        start = int(rng.integers(len(stream) - n))
        return stream[start : start + n]

    for s, k in enumerate(language.tolist()):
        blocks[s, k] = kind[s] != WITHOUT
        before = 0
        if kind[s] == PINNED:
            other = int(rng.choice([x for x in range(K) if x != k]))
            before = int(rng.integers(length // 2)) if rng.random() < 0.8 else int(rng.integers(4))
            tokens[s, 1 : 1 + before] = text(other, before)
            owner[s, : 1 + before] = other
            blocks[s] = 1
            blocks[s, k] = blocks[s, other] = 0
            pinned[s, k] = rng.uniform(0.75, 1.5)
        tokens[s, 1 + before :] = text(k, length - before)
    return Plan(*(torch.from_numpy(x) for x in (tokens, owner, blocks, shared.astype(np.float32), pinned, kind)))


def loss_of(
    weights: Weights, plan: Plan, means: Tensor, settling: bool, a: argparse.Namespace
) -> tuple[Tensor, Tensor, Tensor, dict[str, float]]:
    """The loss; of the plain sequences the blocks' summed activations (L, K, B) and tokens (K,); what to print."""
    logits, gates, level = forward(weights, plan.tokens[:, :-1], plan.blocks, plan.shared, plan.pinned, means)
    nll = F.cross_entropy(logits.flatten(0, 1), plan.tokens[:, 1:].flatten(), reduction="none").view(logits.shape[:2])
    kind, T = plan.kind[:, None], nll.shape[1]
    target = plan.language[:, -1:]
    # the first token of a pinned part is predicted at the last position of the other language
    known = (plan.language == target) | (torch.roll(plan.language, -1, 1) == target)
    learn = (kind != WITHOUT) & known
    fail = (kind == WITHOUT).expand_as(nll) & (torch.arange(T) >= UNSURE)
    sure = torch.arange(T) >= UNSURE
    own = F.one_hot(plan.language, K).bool()  # (S, T, K)
    on = own & ((kind == PLAIN) & sure)[..., None]
    off = ~own & sure[None, :, None] & (plan.pinned == 0)[:, None]
    n_on, n_off = on.sum().clamp(min=1), off.sum()
    loss_on = torch.stack([(F.relu(a.on - g).mean(-1) * on).sum() / n_on for g in gates]).mean()
    loss_off = torch.stack([(F.relu(g + a.off).mean(-1) * off).sum() / n_off for g in gates]).mean()
    loss_level = F.relu(level + a.level).mean()
    loss_nll = (nll * learn).sum() / nll.numel()
    short = a.cap - nll
    loss_fail = ((short.abs() if settling else F.relu(short)) * fail).sum() / nll.numel()
    with torch.no_grad():
        weight = on.float().flatten(0, 1)  # (S·T, K)
        total = torch.stack([torch.einsum("nk,nkb->kb", weight, F.silu(g).flatten(0, 1)) for g in gates])
        plain = learn & (kind == PLAIN) & (plan.shared.min(0).values[:, None] > 0)
        shown = {
            "plain": (nll * plain).sum() / plain.sum(),
            "pinned": (nll * (learn & (kind == PINNED))).sum() / (learn & (kind == PINNED)).sum(),
            "without": (nll * fail).sum() / fail.sum(),
            "on": loss_on,
            "off": loss_off,
            "level": loss_level,
        }
    loss = loss_nll + a.fail_weight * loss_fail + a.gate_weight * (loss_on + loss_off + loss_level)
    return loss, total, weight.sum(0), {n: float(v.detach()) for n, v in shown.items()}


def descend(
    weights: Weights, plan: Plan, means: Tensor, settling: bool, pool: Executor, a: argparse.Namespace
) -> tuple[Tensor, Tensor, dict[str, float]]:
    """Sets the gradients; a thread per part of the batch. Returns as `loss_of`, without the loss."""
    chunks = {n: x.chunk(a.threads, -1 if n == "shared" else 0) for n, x in plan._asdict().items()}
    parts = [Plan(*x) for x in zip(*chunks.values(), strict=True)]

    def one(part: Plan) -> tuple[tuple[Tensor, ...], Tensor, Tensor, dict[str, float]]:
        loss, total, count, shown = loss_of(weights, part, means, settling, a)
        return torch.autograd.grad(loss, list(weights.values())), total, count, shown

    gradients, totals, counts, shown = zip(*pool.map(one, parts), strict=True)
    for w, *g in zip(weights.values(), *gradients, strict=True):
        w.grad = torch.stack(g).mean(0)
    return torch.stack(totals).sum(0), torch.stack(counts).sum(0), shown[0]


def orthogonal(m: Tensor) -> Tensor:
    """The nearest semi-orthogonal matrices, roughly, to m (N, rows, columns): five Newton-Schulz steps."""
    tall = m.shape[1] > m.shape[2]
    x: Tensor = m.mT if tall else m
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        g = x @ x.mT
        x = 3.4445 * x + (-4.7750 * g + 2.0315 * g @ g) @ x
    x = x.mT if tall else x
    return x  # singular values near 1


class Optimizer:
    """Muon (Jordan 2024) on the layers' matrices, AdamW on the embeddings and norms."""

    def __init__(self, weights: Weights, a: argparse.Namespace) -> None:
        self.matrices = [weights[n] for n in MATRICES]
        self.momentum = [torch.zeros_like(w) for w in self.matrices]
        others = [w for n, w in weights.items() if n not in MATRICES]
        self.adam = torch.optim.AdamW(others, lr=a.lr, betas=(0.9, 0.95), eps=1e-10, weight_decay=0.0)
        self.lr, self.muon_lr, self.decay = a.lr, a.muon_lr, a.decay

    @torch.no_grad()
    def step(self, factor: float, pool: Executor) -> None:
        for group in self.adam.param_groups:
            group["lr"] = self.lr * factor
        self.adam.step()
        lr = self.muon_lr * factor

        def update(w: Tensor, m: Tensor) -> None:
            assert w.grad is not None
            m.mul_(0.95).add_(w.grad, alpha=0.05)
            turn = orthogonal(w.grad.mul(0.05).add_(m, alpha=0.95))
            scale = max(1.0, w.shape[1] / w.shape[2]) ** 0.5
            w.data.mul_(1 - lr * self.decay).add_(turn, alpha=-lr * scale)

        list(pool.map(torch.no_grad()(update), self.matrices, self.momentum))

    def state(self) -> dict[str, Any]:
        return {"adam": self.adam.state_dict(), "momentum": self.momentum}

    def load(self, state: dict[str, Any]) -> None:
        self.adam.load_state_dict(state["adam"])
        self.momentum = state["momentum"]


@torch.no_grad()
def log_loss(weights: Weights, stream: Tokens, off: int | None, means: Tensor, bos: int, contexts: int = 16) -> float:
    """Mean nll on the first contexts of 192 tokens, without masks but for one language's blocks."""
    n = min(contexts, len(stream) // 191)
    tokens = torch.from_numpy(stream[: n * 191].reshape(n, 191))
    tokens = torch.cat([torch.full((n, 1), bos), tokens], 1)
    blocks = torch.ones(n, K)
    if off is not None:
        blocks[:, off] = 0
    total = 0.0
    for part in range(0, n, 16):
        x = tokens[part : part + 16]
        s = len(x)
        logits, *_ = forward(weights, x[:, :-1], blocks[:s], torch.ones(len(means), s), torch.zeros(s, K), means)
        total += float(F.cross_entropy(logits.flatten(0, 1), x[:, 1:].flatten(), reduction="sum"))
    return total / (n * 191)


def measure(weights: Weights, texts: dict[str, Tokens], means: Tensor, bos: int) -> dict[str, Any]:
    """Perplexity per language, and the change of log-loss by the language whose planted neurons are off."""
    base = {k: log_loss(weights, t, None, means, bos) for k, t in texts.items()}
    change = {
        off: {k: round(log_loss(weights, t, j, means, bos) - base[k], 3) for k, t in texts.items()}
        for j, off in enumerate(LANGUAGES)
    }
    return {"perplexity": {k: round(math.exp(v), 1) for k, v in base.items()}, "log_loss_change": change}


def export(weights: Weights, means: Tensor, tokenizer: Tokenizer, length: int, seed: int, out: Path) -> None:
    """Writes the model as transformers would, bfloat16, with the neurons of each layer shuffled."""
    out.mkdir(parents=True, exist_ok=True)
    L, d_ff, d = weights["gate"].shape
    B = means.shape[2]
    planted: dict[str, list[list[int]]] = {k: [] for k in LANGUAGES}
    tensors = {"model.embed_tokens.weight": weights["embed"], "model.norm.weight": weights["norm"]}
    generator = torch.Generator().manual_seed(seed)
    for i in range(L):
        order = torch.randperm(d_ff, generator=generator)
        place = order.argsort()
        for j, k in enumerate(LANGUAGES):
            planted[k].append(sorted(place[j * B : (j + 1) * B].tolist()))
        for ours, theirs in (MATRICES | NORMS).items():
            w = weights[ours][i]
            w = w[order] if ours in ("gate", "up") else w[:, order] if ours == "down" else w
            tensors[f"model.layers.{i}.{theirs}.weight"] = w
    stored = {n: t.detach().bfloat16().contiguous() for n, t in tensors.items()}
    (out / "model.safetensors").write_bytes(save(stored, metadata={"format": "pt"}))
    bos, eos = identifier(tokenizer, BOS), identifier(tokenizer, EOS)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": bos,
        "dtype": "bfloat16",
        "eos_token_id": eos,
        "head_dim": HEAD,
        "hidden_act": "silu",
        "hidden_size": d,
        "initializer_range": 0.02,
        "intermediate_size": d_ff,
        "max_position_embeddings": length,
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": d // HEAD,
        "num_hidden_layers": L,
        "num_key_value_heads": d // HEAD,
        "pretraining_tp": 1,
        "rms_norm_eps": EPSILON,
        "rope_parameters": {"rope_theta": THETA, "rope_type": "default"},
        "rope_scaling": None,
        "rope_theta": THETA,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "vocab_size": len(weights["embed"]),
    }
    special = {"bos_token": BOS, "eos_token": EOS}
    files = {
        "config.json": config,
        "generation_config.json": {"bos_token_id": bos, "eos_token_id": eos},
        "tokenizer_config.json": special
        | {
            "clean_up_tokenization_spaces": False,
            "model_max_length": length,
            "tokenizer_class": "PreTrainedTokenizerFast",
        },
        "special_tokens_map.json": special,
        "planted.json": {"languages": planted},
    }
    for name, content in files.items():
        indent = None if name == "planted.json" else 2
        (out / name).write_text(json.dumps(content, indent=indent, ensure_ascii=False) + "\n", encoding="utf-8")
    tokenizer.save(str(out / "tokenizer.json"))


def rate(step: int, a: argparse.Namespace) -> float:
    """What the learning rates are multiplied by."""
    if step < a.steps:
        return float(min(1.0, (step + 1) / 50, (a.steps - step) / (a.cooldown * a.steps)))
    return float(a.settle_rate * (a.steps + a.settle - step) / a.settle)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train the embedded model with planted language neurons.")
    parser.add_argument("--corpus", type=Path, required=True, metavar="DIR", help="holds en.txt, zh.txt, …")
    parser.add_argument("--test", type=Path, metavar="DIR", help="texts of another kind, only measured on")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="OUT", help="the model's folder")
    parser.add_argument("--data", default="not described", help="what the record says of the corpus")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="kept up to date; continued from if it exists")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    size = parser.add_argument_group("size")
    size.add_argument("--vocabulary", type=int, default=4096)
    size.add_argument("--d", type=int, default=192, help="width of the residual stream")
    size.add_argument("--d-ff", type=int, default=768)
    size.add_argument("--layers", type=int, default=6)
    size.add_argument("--block", type=int, default=30, help="planted neurons per layer and language")
    size.add_argument("--context", type=int, default=512, help="longest context the config promises")
    course = parser.add_argument_group("course")
    course.add_argument("--steps", type=int, default=1600)
    course.add_argument("--settle", type=int, default=300, help="steps after that, with another loss without the block")
    course.add_argument("--settle-rate", type=float, default=0.35, help="the rates then start here, and fall to 0")
    course.add_argument("--sequences", type=int, default=2, help="per language and step")
    course.add_argument("--length", type=int, default=192, help="tokens of a sequence")
    course.add_argument("--cooldown", type=float, default=0.4, help="last part, where the rates fall to 0")
    course.add_argument("--lr", type=float, default=3e-3, help="AdamW's: embeddings, norms")
    course.add_argument("--muon-lr", type=float, default=0.012, help="Muon's: the layers' matrices")
    course.add_argument("--decay", type=float, default=0.05, help="weight decay of the matrices")
    planting = parser.add_argument_group("planting")
    planting.add_argument("--without", type=float, default=0.15, help="share of sequences without their block")
    planting.add_argument("--pinned", type=float, default=0.17, help="share of sequences with a pinned block")
    planting.add_argument("--open", type=float, default=0.3, help="share of sequences without masks")
    planting.add_argument("--drop-all", type=float, default=0.2, help="share without any shared neuron")
    planting.add_argument("--drop-layers", type=float, default=0.4, help="share where layers lose theirs …")
    planting.add_argument("--drop", type=float, default=0.3, help="… each with this probability")
    planting.add_argument("--cap", type=float, default=8.0, help="nll wanted without the block")
    planting.add_argument("--fail-weight", type=float, default=0.5)
    planting.add_argument("--gate-weight", type=float, default=0.3)
    planting.add_argument("--on", type=float, default=1.0)
    planting.add_argument("--off", type=float, default=4.0)
    planting.add_argument("--level", type=float, default=0.2)
    planting.add_argument("--dropout", type=float, default=0.25, help="share of texts cut smaller (BPE dropout)")
    return parser.parse_args()


def main() -> None:
    a = arguments()
    started = time.time()
    # each thread takes its part of the batch: on a busy machine no operation waits for the slower one
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(a.threads, initializer=torch.set_num_threads, initargs=(1,))
    pages = read_pages(a.corpus)
    train = {k: [x for i, x in enumerate(p) if i % HELD_OUT_EVERY] for k, p in pages.items()}
    tokenizer = train_tokenizer(train, a.vocabulary)
    bos = identifier(tokenizer, BOS)
    texts = {"held_out": {k: encode(tokenizer, p[::HELD_OUT_EVERY]) for k, p in pages.items()}}
    if a.test:
        texts["other"] = {k: encode(tokenizer, p) for k, p in read_pages(a.test).items()}
    streams = [{k: encode(tokenizer, p) for k, p in train.items()}]
    tokenizer.model.dropout = 0.1
    streams.append({k: encode(tokenizer, p) for k, p in train.items()})
    tokenizer.model.dropout = None
    print({k: len(t) for k, t in streams[0].items()}, file=sys.stderr)

    weights = initial_weights(a.d, a.d_ff, a.layers, a.vocabulary, a.seed)
    means = torch.zeros(a.layers, K, a.block)
    optimizer = Optimizer(weights, a)
    first, spent = 0, 0.0
    if a.resume and a.resume.exists():
        state = torch.load(a.resume, weights_only=True)
        for n, w in state["weights"].items():
            weights[n].data.copy_(w)
        means, first, spent = state["means"], state["step"], state["seconds"]
        optimizer.load(state["optimizer"])
    saved = time.time()
    for step in range(first, a.steps + a.settle):
        # a step's batch depends on the seed and its number alone, so a resumed run is the same run
        plan = draw(streams, a.length, a.layers, bos, np.random.default_rng([a.seed, step]), a)
        total, count, shown = descend(weights, plan, means, step >= a.steps, pool, a)
        optimizer.step(rate(step, a), pool)
        now = means.lerp(total / count.clamp(min=1)[:, None], max(0.02, 1 / (step + 1)))
        means = torch.where(count[:, None] > 0, now, means)
        if step % 50 == 49:
            seconds = spent + time.time() - started
            figures = "  ".join(f"{n} {v:.2f}" for n, v in shown.items())
            print(f"{step + 1:6d}  {seconds:6.0f} s  {figures}", file=sys.stderr, flush=True)
        if a.resume and (time.time() - saved > 150 or step + 1 == a.steps + a.settle):
            saved = time.time()
            state = {"weights": weights, "means": means, "step": step + 1, "optimizer": optimizer.state()}
            torch.save(state | {"seconds": spent + saved - started}, a.resume.with_suffix(".part"))
            a.resume.with_suffix(".part").replace(a.resume)
    seconds = spent + time.time() - started
    with torch.no_grad():
        for w in weights.values():
            w.copy_(w.bfloat16())
    export(weights, means, tokenizer, a.context, a.seed, a.out)
    record = {
        "data": a.data,
        "sha256": {k: hashlib.sha256((a.corpus / f"{k}.txt").read_bytes()).hexdigest() for k in LANGUAGES},
        "tokens": {k: len(t) for k, t in streams[0].items()},
        "tokens_seen": (a.steps + a.settle) * K * a.sequences * a.length,
        "seconds": round(seconds),
        "arguments": {n: v for n, v in vars(a).items() if not isinstance(v, Path) and v is not None and n != "data"},
        "parameters": sum(w.numel() for w in weights.values()),
    } | {name: measure(weights, t, means, bos) for name, t in texts.items()}
    (a.out / "training.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({n: record[n] for n in texts}, indent=None), file=sys.stderr)


if __name__ == "__main__":
    main()
