"""Runs: every problem of a set under every plan, through `POST /solve`, one JSON line a solve.

A run that is started again goes on where it stopped: what stands in the file is not asked for again. A solve that failed is
a row too, with its problem object, counts as wrong, and is asked for again the next time.
"""

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import anyio
import httpx

from evaluation.items import Item
from orchestrator.answers.text import compare

CONCURRENCY = 4
"""Solves at a time; a laptop's two engines are busy with these."""

Row = dict[str, Any]
Progress = Callable[[str, int, int], None]
"""Told a plan's name, how many of its rows are there, and how many there will be."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked for each problem: the body of `POST /solve` but for the problem and the seed."""

    name: str
    strategy: dict[str, Any]
    sampling: dict[str, Any] = field(default_factory=dict[str, Any])
    budget: dict[str, Any] = field(default_factory=dict[str, Any])

    def body(self, item: Item, seed: int) -> dict[str, Any]:
        """The request; its seed depends on the run's seed and the problem, and not on the plan."""
        digest = blake2b(f"{seed} {item.id}".encode(), digest_size=3).digest()
        return {
            "problem": item.problem,
            "strategy": self.strategy,
            "sampling": {**self.sampling, "seed": int.from_bytes(digest)},
            "budget": self.budget,
            "trace": "full",
        }


def read(path: Path) -> list[Row]:
    """The rows of a file, without a line that was cut off by an interruption."""
    if not path.exists():
        return []
    rows: list[Row] = []
    for line in path.read_text("utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


async def run(
    client: httpx.AsyncClient, plans: Sequence[Plan], items: Sequence[Item], out: Path, seed: int, progress: Progress
) -> dict[str, list[Row]]:
    """Solve what is missing; the rows of every plan, in the order of the problems."""
    found: dict[str, list[Row]] = {}
    for plan in plans:

        async def solve(item: Item, plan: Plan = plan) -> Row:
            return await _solved(client, item, plan.body(item, seed))

        found[plan.name] = await rows_of(
            out / f"{plan.name}.jsonl", items, solve, lambda n, k, p=plan: progress(p.name, n, k)
        )
    return found


async def rows_of(
    path: Path, items: Sequence[Item], make: Callable[[Item], Awaitable[Row]], progress: Callable[[int, int], None]
) -> list[Row]:
    """A row for each item, out of the file or made and added to it."""
    rows = {row["id"]: row for row in read(path) if "failed" not in row}
    room = anyio.CapacityLimiter(CONCURRENCY)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:

        async def one(item: Item) -> None:
            async with room:
                row = {"id": item.id, "level": item.level, **await make(item)}
            rows[item.id] = row
            file.write(f"{json.dumps(row)}\n")
            file.flush()
            progress(len(rows), len(items))

        async with anyio.create_task_group() as group:
            for item in items:
                if item.id not in rows:
                    group.start_soon(one, item)
    return [rows[item.id] for item in items]


async def _solved(client: httpx.AsyncClient, item: Item, body: dict[str, Any]) -> Row:
    response = await client.post("/solve", json=body)
    if response.is_error:
        return {"right": False, "tokens": 0, "failed": response.json()}
    found = response.json()
    return {
        "right": right(found["answer"], item),
        "tokens": found["usage"]["total_tokens"],
        "completion_tokens": found["usage"]["completion_tokens"],
        "answer": found["answer"],
        "solution": found["solution"],
        "stop_reason": found["stop_reason"],
        "confidence": found["confidence"],
        "usage": found["usage"],
        "degraded": found["degraded"],
        "candidates": [
            {key: candidate[key] for key in ("id", "parent", "answer", "p_correct", "verdict", "first_error", "selected")}
            | {"right": right(candidate["answer"], item), "text": "\n".join(step["text"] for step in candidate["steps"])}
            for candidate in found["candidates"]
        ],
    }


def right(answer: str | None, item: Item) -> bool:
    """Whether an answer is the item's, by text and number."""
    return answer is not None and compare(answer, item.answer) == "same"
