"""One training stage: a model, a stream of examples, a number of tokens. It stops at a token count, never at a time.

Several processes may share a stage: each reads its own examples, and their gradients are averaged.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import torch
from torch import Tensor, distributed

from pocket.training.data import Batch, Segments, batches
from pocket.training.model import Layer, Model, Shape
from pocket.training.optimiser import Optimiser

_WARM = 100
_LOG_SECONDS, _CHECK_SECONDS = 30.0, 300.0
"""Warm-up steps; seconds between log lines and between checkpoints."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Length and learning rate of a stage.

    `tokens` is the total; a step has `batch` tokens per worker, accumulated in `parts`; the learning rate falls during the
    last share `decay`.
    """

    name: str
    tokens: int
    rate: float
    batch: int = 4096
    parts: int = 2
    decay: float = 0.3
    workers: int = 1


def save(model: Model, path: Path) -> None:
    """Write a checkpoint."""
    partial = path.with_suffix(".partial")
    torch.save({"shape": asdict(model.shape), "state": model.state_dict()}, partial)
    partial.rename(path)


def load(path: Path, length: int = 1024) -> Model:
    """Read a checkpoint."""
    checkpoint = torch.load(path, weights_only=True)
    model = Model(Shape(**checkpoint["shape"]), length)
    model.load_state_dict(checkpoint["state"])
    return model


def train(
    model: Model,
    stage: Stage,
    examples: Iterator[Segments],
    directory: Path,
    check: Callable[[Model], dict[str, float]],
    worker: int = 0,
) -> None:
    """Train the model in place; worker 0 writes `<name>.pt` and `<name>.jsonl` into `directory`."""
    optimiser, log = Optimiser(model), directory / f"{stage.name}.jsonl"
    run = torch.compile(Layer.forward, dynamic=True)
    stream = batches(examples, stage.batch // stage.parts, Random(f"{stage.name}/{worker}"))
    if stage.workers > 1:
        meeting = f"file://{(directory / f'{stage.name}.meeting').resolve()}"
        distributed.init_process_group("gloo", init_method=meeting, rank=worker, world_size=stage.workers)
    tokens, step, losses, started = 0, 0, [], time.monotonic()
    logged = checked = started
    while tokens < stage.tokens:
        chosen = [next(stream) for _ in range(stage.parts)]
        losses.append(_descend(model, chosen, run))
        if stage.workers > 1:
            _share(model, stage.workers)
        tokens += stage.workers * stage.batch
        optimiser.step(stage.rate * _slope(tokens / stage.tokens, stage.decay) * min(1.0, (step + 1) / _WARM))
        step += 1
        now = time.monotonic()
        if worker == 0 and now - logged > _LOG_SECONDS:
            _log(log, tokens=tokens, step=step, seconds=now - started, loss=sum(losses) / len(losses))
            losses, logged = [], now
        if worker == 0 and now - checked > _CHECK_SECONDS:
            save(model, directory / f"{stage.name}.pt")
            _log(log, tokens=tokens, **check(model))
            checked = time.monotonic()
    if worker == 0:
        save(model, directory / f"{stage.name}.pt")
        _log(log, tokens=tokens, seconds=time.monotonic() - started, **check(model))


def _descend(model: Model, chosen: Sequence[Batch], run: Callable[..., Tensor]) -> float:
    """Accumulate the gradients of batches and return their mean loss."""
    total, weight = 0.0, float(sum(weights[:, 1:].sum() for _, weights in chosen))
    for ids, weights in chosen:
        with torch.autocast("cpu", torch.bfloat16):
            loss = model.loss(ids, weights, run) / weight
        loss.backward()
        total += float(loss.detach())
    return total


def _share(model: Model, workers: int) -> None:
    """Average the gradients of all workers."""
    gradients = [p.grad for p in model.parameters()]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    for gradient, part in zip(gradients, flat.div_(workers).split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def _slope(done: float, decay: float) -> float:
    return min(1.0, max(0.02, (1 - done) / max(decay, 1e-9)))


def _log(path: Path, **figures: float) -> None:
    line = json.dumps({name: round(value, 4) for name, value in figures.items()})
    with path.open("a") as file:
        file.write(f"{line}\n")
    print(path.stem, line, flush=True)
