"""Fits the thresholds of `auto` on the development split, through the running services.

A grid of `accept_at` and `agree_at`: of those whose accuracy is within one standard error of the best, the one that takes
the fewest tokens (the one-standard-error rule, Breiman et al. 1984). The test split is never touched.
"""

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

import httpx

from evaluation import items
from evaluation.runs import Plan, Progress, Row, run

ACCEPT_AT = (0.5, 0.7, 0.9, 0.97)
AGREE_AT = (0.6, 0.8, 0.9)
FILE = Path(__file__).parents[1] / "orchestrator/strategies/auto.json"
ROOMY = {"max_tokens": 1_000_000, "max_calls": 1_000, "max_seconds": 3_600}


@dataclass(frozen=True, slots=True)
class Tried:
    """Thresholds, their share of right answers, and mean tokens a problem."""

    accept_at: float
    agree_at: float
    accuracy: float
    tokens: float


async def fit(client: httpx.AsyncClient, count: int, seed: int, out: Path, progress: Progress) -> list[Tried]:
    """Try the grid on `count` development problems."""
    chosen = items.pocket("dev", count, seed)
    grid = list(itertools.product(ACCEPT_AT, AGREE_AT))
    plans = [
        Plan(
            f"auto-{accept}-{agree}",
            {"name": "auto", "accept_at": accept, "agree_at": agree},
            {"temperature": 0.8, "max_tokens": 256},
            ROOMY,
        )
        for accept, agree in grid
    ]
    rows = await run(client, plans, chosen, out, seed, progress)
    return [tried(accept, agree, rows[plan.name]) for (accept, agree), plan in zip(grid, plans, strict=True)]


def tried(accept_at: float, agree_at: float, rows: Sequence[Row]) -> Tried:
    """What a run of a pair of thresholds gave."""
    count = len(rows)
    return Tried(accept_at, agree_at, sum(row["right"] for row in rows) / count, sum(row["tokens"] for row in rows) / count)


def best(found: Sequence[Tried], count: int) -> Tried:
    """The cheapest within one standard error of the most accurate; ties to the lower thresholds."""
    top = max(entry.accuracy for entry in found)
    close = top - sqrt(top * (1 - top) / count)
    return min((entry for entry in found if entry.accuracy >= close), key=lambda entry: entry.tokens)


def save(chosen: Tried, count: int, seed: int, path: Path = FILE) -> None:
    """Write the strategy's defaults."""
    reached = f"{chosen.accuracy:.3f} right, {chosen.tokens:.0f} tokens"
    on = f"{count} problems of the pocket development split, seed {seed}: {reached}"
    fields = {"accept_at": chosen.accept_at, "agree_at": chosen.agree_at, "fitted_on": on}
    path.write_text(f"{json.dumps(fields, indent=2)}\n", "utf-8")
