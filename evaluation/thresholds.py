"""Fit of the thresholds of `auto` on the development split, through the running services.

Of a grid of `accept_at` and `agree_at`, the fit is the point with the fewest tokens whose accuracy is within one standard
error of the best (the one-standard-error rule, Breiman et al. 1984). The test split is never used.
"""

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

import httpx

from evaluation import problem_sets
from evaluation.plans import pocket_plan
from evaluation.rows import SolveRow
from evaluation.runs import OnProgress, run

ACCEPT_AT = (0.5, 0.7, 0.9, 0.97)
AGREE_AT = (0.6, 0.8, 0.9)
FILE = Path(__file__).parents[1] / "orchestrator/strategies/auto.json"


@dataclass(frozen=True, slots=True)
class GridPoint:
    """Thresholds with their share of right answers and mean tokens per problem."""

    accept_at: float
    agree_at: float
    accuracy: float
    tokens: float


async def fit(client: httpx.AsyncClient, count: int, seed: int, out: Path, on_progress: OnProgress) -> list[GridPoint]:
    """Measure every point of the grid on `count` development problems."""
    items = problem_sets.pocket("dev", count, seed)
    grid = list(itertools.product(ACCEPT_AT, AGREE_AT))
    plans = [pocket_plan(f"auto-{accept}-{agree}", 0.8, "auto", accept_at=accept, agree_at=agree) for accept, agree in grid]
    rows = await run(client, plans, items, out, seed, on_progress)
    return [grid_point(accept, agree, rows[plan.name]) for (accept, agree), plan in zip(grid, plans, strict=True)]


def grid_point(accept_at: float, agree_at: float, rows: Sequence[SolveRow]) -> GridPoint:
    """Summarise the rows of a pair of thresholds."""
    count = len(rows)
    return GridPoint(accept_at, agree_at, sum(row.right for row in rows) / count, sum(row.tokens for row in rows) / count)


def best(points: Sequence[GridPoint], count: int) -> GridPoint:
    """Return the cheapest point within one standard error of the most accurate; ties go to the lower thresholds."""
    top = max(point.accuracy for point in points)
    lowest = top - sqrt(top * (1 - top) / count)
    return min((point for point in points if point.accuracy >= lowest), key=lambda point: point.tokens)


def save(chosen: GridPoint, count: int, seed: int, path: Path = FILE) -> None:
    """Write the strategy's default thresholds, with what they were fitted on."""
    result = f"{chosen.accuracy:.3f} right, {chosen.tokens:.0f} tokens"
    fitted_on = f"{count} problems of the pocket development split, seed {seed}: {result}"
    fields = {"accept_at": chosen.accept_at, "agree_at": chosen.agree_at, "fitted_on": fitted_on}
    path.write_text(f"{json.dumps(fields, indent=2)}\n", "utf-8")
