"""Batched sampling and teacher-forced scoring, in float32."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name everyone uses

from pocket import wording
from pocket.training.data import tokenizer
from pocket.training.model import Cache, Model

_ROWS = 96
_MAX_TOKENS = 160
"""Rows sampled together; largest number of tokens in a turn."""


@torch.no_grad()
def sample(model: Model, prompts: Sequence[str], temperature: float = 0.0, seed: int = 0) -> list[str]:
    """Return one continuation of each prompt, without the end token; empty if it does not end."""
    encoded = [e.ids for e in tokenizer().encode_batch_fast(list(prompts), add_special_tokens=False)]
    order = sorted(range(len(prompts)), key=lambda place: len(encoded[place]))
    generator = torch.Generator().manual_seed(seed)
    texts = [""] * len(prompts)
    for start in range(0, len(order), _ROWS):
        places = order[start : start + _ROWS]
        rows = _continued(model, [encoded[place] for place in places], temperature, generator)
        for place, row in zip(places, rows, strict=True):
            texts[place] = tokenizer().decode(row, skip_special_tokens=False)
    return texts


def _continued(
    model: Model, prompts: Sequence[list[int]], temperature: float, generator: torch.Generator
) -> list[list[int]]:
    end = tokenizer().token_to_id(wording.END)
    lengths = torch.tensor([len(ids) for ids in prompts])
    width = int(lengths.max())
    ids = torch.tensor([[*row, *[end] * (width - len(row))] for row in prompts])
    caches = [Cache(len(prompts), model.shape, width + _MAX_TOKENS) for _ in model.layers]
    hidden = _run(model, ids, torch.arange(width)[None, None], model.causal[:width, :width], caches)
    last = hidden[torch.arange(len(prompts)), lengths - 1]
    hidden_keys = torch.zeros(len(prompts), 1, 1, width + _MAX_TOKENS)
    hidden_keys[:, 0, 0, :width].masked_fill_(torch.arange(width)[None] >= lengths[:, None], -math.inf)
    tokens: list[Tensor] = []
    open_rows = torch.ones(len(prompts), dtype=torch.bool)
    for turn in range(_MAX_TOKENS):
        chosen = _choose(model.logits(last), temperature, generator)
        tokens.append(torch.where(open_rows, chosen, end))
        open_rows &= chosen != end
        if turn == _MAX_TOKENS - 1 or not open_rows.any():
            break
        places = (lengths + turn)[:, None, None]
        last = _run(model, tokens[-1][:, None], places, hidden_keys[..., : width + turn + 1], caches)[:, 0]
    rows = torch.stack(tokens, dim=1).tolist()
    return [[] if unfinished else row[: row.index(end)] for row, unfinished in zip(rows, open_rows.tolist(), strict=True)]


def _run(model: Model, ids: Tensor, places: Tensor, mask: Tensor, caches: Sequence[Cache]) -> Tensor:
    x = F.embedding(ids, model.embedding)
    cos, sin = model.cos[places], model.sin[places]
    for layer, cache in zip(model.layers, caches, strict=True):
        x = layer(x, cos, sin, mask, cache)
    return model.norm(x)


def _choose(logits: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    if temperature == 0:
        return logits.argmax(-1)
    return torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)[:, 0]


@torch.no_grad()
def likelihoods(model: Model, prompts: Sequence[str], turns: Sequence[str]) -> list[Tensor]:
    """Return the log-probability of each token of a turn after its prompt; float32."""
    encode = tokenizer().encode_batch_fast
    before = [e.ids for e in encode(list(prompts), add_special_tokens=False)]
    after = [e.ids for e in encode(list(turns), add_special_tokens=False)]
    order = sorted(range(len(before)), key=lambda place: len(before[place]) + len(after[place]))
    result: list[Tensor] = [torch.empty(0)] * len(before)
    for start in range(0, len(order), 32):
        places = order[start : start + 32]
        rows = [before[place] + after[place] for place in places]
        width = max(map(len, rows))
        ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])
        scores = model.logits(model(ids)).log_softmax(-1)[:, :-1].gather(2, ids[:, 1:, None])[..., 0]
        for place, row, score in zip(places, rows, scores, strict=True):
            result[place] = score[len(before[place]) - 1 : len(row) - 1].clone()
    return result
