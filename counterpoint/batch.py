"""`counterpoint solve -f problems.jsonl -o out.jsonl`: a file of problems, with a progress bar; a repeated run resumes."""

import json
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from pydantic import BaseModel
from rich.console import Console

from counterpoint.options import stop_on
from counterpoint.render import progress_bars
from evaluation.problem_sets import BadProblemSet, read_lines
from orchestrator.request import SolveRequest
from services.errors import CounterpointError, NotReady
from services.http.client import stream_events
from services.jsonl import ResumableRow, resume


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


@stop_on(BadProblemSet, OSError)
def load(path: Path) -> list[BatchProblem]:
    """Read a JSONL file of problems; the `id` defaults to the line's number. Stop the command if the file is invalid."""
    lines = read_lines(path, BatchProblem)
    problems = [line if line.id is not None else line.model_copy(update={"id": number}) for number, line in lines]
    counts = Counter(problem.id for problem in problems)
    duplicates = [str(name) for name, count in counts.items() if count > 1]
    if duplicates:
        raise BadProblemSet(f"{path}: more than one line has the id {', '.join(duplicates[:3])}")
    return problems


async def run(
    client: httpx.AsyncClient, problems: list[BatchProblem], request: SolveRequest, out: Path, concurrency: int
) -> int:
    """Solve the problems that have no response in `out`, appending a line each.

    Returns the exit code: 1 if any failed, else 0. Raises `NotReady` if the service cannot be reached.
    """
    with progress_bars(Console()) as on_progress:
        solve = partial(_solve, client, request)
        try:
            rows = await resume(out, BatchRow, problems, solve, partial(on_progress, out.name), concurrency)
        except ExceptionGroup as group:
            raise group.exceptions[0] from group.exceptions[0].__cause__
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
