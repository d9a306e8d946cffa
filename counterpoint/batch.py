"""`counterpoint solve -f problems.jsonl -o out.jsonl`: a file of problems, with a progress bar; a repeated run resumes."""

import json
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from pydantic import BaseModel, ValidationError
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from orchestrator.request import SolveRequest
from services.errors import CounterpointError, NotReady
from services.http.client import stream_events
from services.jsonl import ResumableRow, resume


class BadFile(ValueError):
    """A file of problems that has an invalid line; the message says which and why."""


class BatchProblem(BaseModel, frozen=True, extra="allow"):
    """A line of the file of problems. Further fields are copied to the output, unless it has one of the same name."""

    problem: str
    id: str | int | None = None


class BatchRow(ResumableRow, frozen=True, extra="allow"):
    """A line of the output: the fields of the problem, with `answer` and `response`, or with `error`."""

    @property
    def done(self) -> bool:
        """True if there is a response; a problem that failed is solved again."""
        return "response" in self.model_fields_set


def load(path: Path) -> list[BatchProblem]:
    """Read a JSONL file of problems; the `id` defaults to the line's number. Raises `BadFile`, `OSError`."""
    problems: list[BatchProblem] = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            problem = BatchProblem.model_validate_json(line)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            raise BadFile(f"{path}, line {number}: {field or 'not JSON'}: {first['msg']}") from error
        problems.append(problem if problem.id is not None else problem.model_copy(update={"id": number}))
    counts = Counter(problem.id for problem in problems)
    duplicates = [str(name) for name, count in counts.items() if count > 1]
    if duplicates:
        raise BadFile(f"{path}: used by more than one line: id {', '.join(duplicates[:3])}")
    return problems


async def run(
    client: httpx.AsyncClient, problems: list[BatchProblem], request: SolveRequest, out: Path, concurrency: int
) -> int:
    """Solve the problems that have no response in `out`, appending a line each.

    Returns the exit code: 1 if any failed, else 0. Raises `NotReady` if the service cannot be reached.
    """
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns) as progress:
        bar = progress.add_task(out.name)

        def show(made: int, total: int) -> None:
            progress.update(bar, completed=made, total=total)

        try:
            rows = await resume(out, BatchRow, problems, partial(_solve, client, request), show, concurrency)
        except ExceptionGroup as group:
            raise group.exceptions[0] from group
    return int(not all(row.done for row in rows))


async def _solve(client: httpx.AsyncClient, request: SolveRequest, problem: BatchProblem) -> BatchRow:
    body = request.model_copy(update={"problem": problem.problem, "stream": True})
    fields = problem.model_dump(exclude={"error", "response"})
    last: dict[str, Any] = {}
    try:
        async with stream_events(client, "/solve", body, {}) as events:
            async for event in events:
                last = json.loads(event.data)
    except CounterpointError as error:
        if isinstance(error.__cause__, httpx.TransportError) and isinstance(error, NotReady):
            raise
        return BatchRow.model_validate({**fields, "error": error.problem().model_dump(exclude_none=True)})
    result = {name: value for name, value in last.items() if name not in {"solve_id", "seq", "spent", "type"}}
    outcome = {"error": result} if last["type"] == "solve.failed" else {"answer": result["answer"], "response": result}
    return BatchRow.model_validate({**fields, **outcome})
