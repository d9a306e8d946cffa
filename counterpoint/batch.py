"""`counterpoint solve -f problems.jsonl -o out.jsonl`: many problems, with a progress bar; started again, it goes on."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import anyio
import httpx
from pydantic import BaseModel, ConfigDict, ValidationError
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from orchestrator.request import SolveRequest
from services.client import stream_events
from services.errors import CounterpointError, NotReady
from services.jsonl import appending, read


class BadFile(ValueError):
    """A line of the problems' file is none: which line, and why."""


class Item(BaseModel):
    """A line of the problems' file. Further fields are kept."""

    model_config = ConfigDict(extra="allow", frozen=True)

    problem: str
    id: str | int | None = None


def load(path: Path) -> list[Item]:
    """The problems of a JSONL file; where a line has no `id`, its number is its id. Raises `BadFile`, `OSError`."""
    items: list[Item] = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            item = Item.model_validate_json(line)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise BadFile(f"{path}, line {number}: {where or 'not JSON'}: {first['msg']}") from error
        items.append(item if item.id is not None else item.model_copy(update={"id": number}))
    counts = Counter(item.id for item in items)
    twice = [str(name) for name, count in counts.items() if count > 1]
    if twice:
        raise BadFile(f"{path}: used by more than one line: id {', '.join(twice[:3])}")
    return items


def solved(path: Path) -> set[str | int]:
    """The ids that the output holds a response for; those that failed are asked again."""
    return {row["id"] for row in read(path) if "response" in row}


async def run(client: httpx.AsyncClient, items: list[Item], request: SolveRequest, out: Path, concurrency: int) -> int:
    """Solve what is not yet in `out`, appending a line each; 1 if any failed. Raises `NotReady` where nothing listens."""
    done = solved(out)
    left = [item for item in items if item.id not in done]
    failed = 0
    limit = anyio.CapacityLimiter(concurrency)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns) as progress, appending(out) as file:
        bar = progress.add_task(out.name, total=len(items), completed=len(items) - len(left))

        async def one(item: Item) -> None:
            nonlocal failed
            async with limit:
                row = await _row(client, item, request)
            failed += "error" in row
            file.write(json.dumps(row) + "\n")
            file.flush()
            progress.advance(bar)

        async with anyio.create_task_group() as group:
            for item in left:
                group.start_soon(one, item)
    return int(failed > 0)


async def _row(client: httpx.AsyncClient, item: Item, request: SolveRequest) -> dict[str, Any]:
    body = request.model_copy(update={"problem": item.problem, "stream": True})
    last: dict[str, Any] = {}
    try:
        async with stream_events(client, "/solve", body, {}) as events:
            async for event in events:
                last = json.loads(event.data)
    except CounterpointError as error:
        if isinstance(error.__cause__, httpx.TransportError) and isinstance(error, NotReady):
            raise
        return {**item.model_dump(), "error": error.problem().model_dump(exclude_none=True)}
    told = {name: value for name, value in last.items() if name not in {"solve_id", "seq", "spent", "type"}}
    if last["type"] == "solve.failed":
        return {**item.model_dump(), "error": told}
    return {**item.model_dump(), "answer": told["answer"], "response": told}
