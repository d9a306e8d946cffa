"""`counterpoint solve`: follows a solve and prints the dialogue as it happens. Everything a model wrote is untrusted."""

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
from pydantic import BaseModel
from rich.console import Console
from rich.markup import escape

from orchestrator.request import SolveRequest
from services.client import client_for, stream_events
from services.errors import CounterpointError, NotReady

NOTHING_THERE = 3
FAILED = 1

Work = Callable[[httpx.AsyncClient], Awaitable[int]]

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_MARKS = {"correct": "[green]correct[/]", "incorrect": "[red]incorrect[/]", "unsure": "[yellow]unsure[/]"}


def plain(text: object) -> str:
    """Text without control characters, its markup escaped."""
    return escape(_CONTROL.sub("", str(text)))


async def solve(url: str, request: SolveRequest, *, as_json: bool) -> int:
    """Solve through the service at `url`; the exit code: 0, 1 on an error, 3 where nothing listens."""
    return await follow(url, "/solve", request.model_copy(update={"stream": True}), as_json=as_json)


async def follow(url: str, path: str, body: BaseModel | None, *, as_json: bool) -> int:
    """Print the events that `path` answers a POST of `body`, or a GET, with; the exit code as of `solve`."""

    async def work(client: httpx.AsyncClient) -> int:
        console, errors = Console(highlight=False, soft_wrap=True), Console(stderr=True, highlight=False)
        async with stream_events(client, path, body, {}) as events:
            async for event in events:
                data: dict[str, Any] = json.loads(event.data)
                if event.event == "solve.failed":
                    errors.print(f"[red]{plain(data['code'])}[/]: {plain(data['detail'])}")
                    return FAILED
                _show(console, event.event, data, as_json=as_json)
        return 0

    return await reach(url, work)


async def reach(url: str, work: Work) -> int:
    """Work with the service at `url`, and say what stands against it; the exit code as of `solve`."""
    errors, client = Console(stderr=True, highlight=False), client_for(url)
    try:
        return await work(client)
    except NotReady as error:
        if error.detail.startswith(str(client.base_url)):
            errors.print(f"nothing answers at {plain(url)}: start it with [bold]counterpoint up[/]")
            return NOTHING_THERE
        errors.print(f"[red]{error.code}[/]: {plain(error.detail)}")
    except CounterpointError as error:
        errors.print(f"[red]{error.code}[/]: {plain(error.detail)}")
    finally:
        await client.aclose()
    return FAILED


def _show(console: Console, name: str, data: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        if name == "solve.finished":
            console.print_json(json.dumps(data))
        return
    line = _line(name, data)
    if line:
        console.print(line)


def _line(name: str, data: dict[str, Any]) -> str | None:  # noqa: PLR0911 - a line for each kind of event
    if name == "candidate.started":
        of = f", refining {plain(data['parent'])}" if data["parent"] else ""
        return f"[bold]actor[/] writes {plain(data['candidate'])}{of}"
    if name == "step.written":
        return f"  {plain(data['index'])}. {plain(data['text'])}"
    if name == "step.judged":
        said = f": {plain(data['explanation'])}" if data["explanation"] else ""
        return f"[bold]critic[/] on step {plain(data['index'])}: {_MARKS.get(data['label'], 'not judged')}{said}"
    if name == "candidate.judged":
        sure = "" if data["p_correct"] is None else f", p(correct) = {data['p_correct']:.2f}"
        return f"[bold]critic[/] on {plain(data['candidate'])}: {_MARKS.get(data['verdict'], 'not judged')}{sure}"
    if name == "degraded":
        return f"[yellow]degraded[/] {plain(data['code'])}: {plain(data['detail'])}"
    if name == "solve.finished":
        usage = data["usage"]
        return (
            f"\n[bold]answer[/] {plain(data['answer'])}  ({plain(data['stop_reason'])}; {usage['total_tokens']} tokens: "
            f"actor {usage['actor']['prompt_tokens'] + usage['actor']['completion_tokens']}, "
            f"critic {usage['critic']['prompt_tokens'] + usage['critic']['completion_tokens']}; {usage['seconds']:.1f} s)"
        )
    return None
