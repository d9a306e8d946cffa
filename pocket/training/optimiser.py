"""The optimiser: Muon for the matrices, Adam for the rest.

Muon (Jordan et al., 2024) orthogonalises the momentum of a matrix by Newton-Schulz iterations. Its update is scaled to the
size of Adam's (Liu et al., arXiv 2502.16982).
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from pocket.training.model import Model

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
_MOMENTUM = 0.95
_DECAY = 0.05
_ADAM_LIKE = 0.2


def orthogonal(matrices: Tensor) -> Tensor:
    """Approximate the nearest orthogonal matrices; (count, rows, columns) in bfloat16."""
    x = matrices.bfloat16()
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = _COEFFICIENTS
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


class Optimiser:
    """The optimiser of all parameters of a model. `rate` is the learning rate of Muon; Adam's is half of it."""

    def __init__(self, model: Model) -> None:
        matrices = [p for layer in model.layers for p in (layer.qkv, layer.out, layer.up, layer.down)]
        known = {id(p) for p in matrices}
        self._groups = list(_by_shape(matrices).values())
        self._momenta = [torch.cat([torch.zeros_like(_wide(p)) for p in group]) for group in self._groups]
        self._adam = torch.optim.AdamW(
            [p for p in model.parameters() if id(p) not in known], betas=(0.9, 0.98), weight_decay=0.0, foreach=True
        )
        self._model = model

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Apply the gradients and reset them."""
        for group, momentum in zip(self._groups, self._momenta, strict=True):
            gradient = torch.cat([_wide(p.grad) for p in group])
            momentum.mul_(_MOMENTUM).add_(gradient)
            update = orthogonal(gradient.add_(momentum, alpha=_MOMENTUM)).float()
            scale = rate * _ADAM_LIKE * max(update.shape[1:]) ** 0.5
            parts = update.split([len(p) for p in group])
            for p, part in zip(group, parts, strict=True):
                p.mul_(1 - rate * _DECAY).add_(part if p.shape == part.shape else part.mT, alpha=-scale)
        for options in self._adam.param_groups:
            options["lr"] = rate / 2
        self._adam.step()
        self._model.zero_grad(set_to_none=True)


def _wide(matrices: Tensor) -> Tensor:
    """Transpose matrices with more rows than columns."""
    return matrices if matrices.shape[1] <= matrices.shape[2] else matrices.mT


def _by_shape(parameters: Iterable[Tensor]) -> dict[tuple[int, ...], list[Tensor]]:
    groups: dict[tuple[int, ...], list[Tensor]] = {}
    for p in parameters:
        groups.setdefault(tuple(_wide(p).shape[1:]), []).append(p)
    return groups
