"""The model: a Llama decoder for short rows on a CPU.

Weights are float32; matrix products run in bfloat16 under `torch.autocast`. Projections of the same input share one
tensor, which `export` splits. The head size is 64, which vLLM and llama.cpp support; embeddings are tied.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name everyone uses

THETA = 10_000.0
EPSILON = 1e-5


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of a model; `feed` is the width of the feed-forward part."""

    vocabulary: int
    hidden: int
    layers: int
    feed: int
    head: int = 64

    @property
    def heads(self) -> int:
        """The number of attention heads, each with its own keys and values."""
        return self.hidden // self.head


def rope(length: int, head: int) -> tuple[Tensor, Tensor]:
    """Return cosines and sines, (length, head), in the order of Hugging Face (halves, not pairs)."""
    angles = torch.arange(length)[:, None] * THETA ** (-torch.arange(0, head, 2) / head)[None]
    angles = torch.cat((angles, angles), dim=1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate queries or keys (..., length, head) by their positions."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


class Norm(nn.Module):
    """Root-mean-square normalisation."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `x`; the result has the same shape, in float32."""
        x = x.float()
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPSILON) * self.weight


class Layer(nn.Module):
    """Attention and feed-forward with residual connections."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        d, f = shape.hidden, shape.feed
        self.shape = shape
        self.attention_norm, self.feed_norm = Norm(d), Norm(d)
        self.qkv = nn.Parameter(torch.randn(3, d, d) / math.sqrt(d))
        self.out = nn.Parameter(torch.zeros(1, d, d))
        self.up = nn.Parameter(torch.randn(2, f, d) / math.sqrt(d))
        self.down = nn.Parameter(torch.zeros(1, d, f))

    def attend(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor, cache: "Cache | None" = None) -> Tensor:
        """Apply attention to (batch, length, hidden)."""
        b, n, d = x.shape
        heads, head = self.shape.heads, self.shape.head
        q, k, v = F.linear(x, self.qkv.view(-1, d)).view(b, n, 3, heads, head).permute(2, 0, 3, 1, 4).unbind(0)
        q, k = rotate(q, cos, sin).to(v.dtype), rotate(k, cos, sin).to(v.dtype)
        if cache is not None:
            k, v = cache.extend(k, v)
        scores = torch.matmul(q, k.transpose(-1, -2)).float() / math.sqrt(head)
        weights = (scores + mask).softmax(-1)
        mixed = torch.matmul(weights.to(v.dtype), v).transpose(1, 2).reshape(b, n, d)
        return F.linear(mixed, self.out[0])

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor, cache: "Cache | None" = None) -> Tensor:
        """Apply the layer; the result has the shape of `x`, (batch, length, hidden)."""
        x = x + self.attend(self.attention_norm(x), cos, sin, mask, cache)
        gate, up = F.linear(self.feed_norm(x), self.up.view(-1, self.shape.hidden)).chunk(2, dim=-1)
        return x + F.linear(F.silu(gate) * up, self.down[0])


class Cache:
    """Keys and values of one layer, (batch, heads, length, head), filled up to `length`."""

    def __init__(self, rows: int, shape: Shape, capacity: int) -> None:
        self.keys = torch.zeros(rows, shape.heads, capacity, shape.head)
        self.values = torch.zeros_like(self.keys)
        self.length = 0

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Append to the cache and return all of it."""
        start, self.length = self.length, self.length + keys.shape[2]
        self.keys[:, :, start : self.length] = keys
        self.values[:, :, start : self.length] = values
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]


class Model(nn.Module):
    """A model from token ids (batch, length) to hidden states (batch, length, hidden) and `logits`."""

    def __init__(self, shape: Shape, length: int = 512) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Parameter(torch.randn(shape.vocabulary, shape.hidden) * 0.06)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = Norm(shape.hidden)
        cos, sin = rope(length, shape.head)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.register_buffer("causal", torch.full((length, length), -math.inf).triu(1), persistent=False)

    def forward(self, ids: Tensor, run: Callable[..., Tensor] = Layer.forward) -> Tensor:
        """Return the hidden states of `ids`, which may be right-padded; `run` may be a compiled `Layer.forward`."""
        n = ids.shape[1]
        x = F.embedding(ids, self.embedding)
        for layer in self.layers:
            x = run(layer, x, self.cos[:n], self.sin[:n], self.causal[:n, :n])
        return self.norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the logits over the vocabulary."""
        return F.linear(hidden, self.embedding)

    def loss(self, ids: Tensor, weights: Tensor, run: Callable[..., Tensor] = Layer.forward) -> Tensor:
        """Return the weighted sum of next-token cross-entropies over (batch, length), weighted by the predicted token."""
        logits = self.logits(self(ids[:, :-1], run))
        losses = F.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        return (losses * weights[:, 1:].flatten()).sum()
