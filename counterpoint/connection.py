"""Requests to a running service. Errors become a line on standard error and an exit code."""

from collections.abc import Awaitable, Callable

import httpx
from pydantic import BaseModel, ValidationError
from rich.console import Console

from counterpoint.render import plain, print_error, print_event
from orchestrator.request import SolveRequest
from services.contracts.events import SOLVE_EVENT, SOLVE_EVENT_TYPES, SolveFailed, SolveFinished
from services.errors import CounterpointError, EngineFailed, NotReady
from services.http.client import client_for, stream_events
from services.http.sse import ServerSentEvent

FAILED = 1
UNREACHABLE = 3

Operation = Callable[[httpx.AsyncClient], Awaitable[int]]
"""Uses a client and returns the exit code."""


async def solve(url: str, request: SolveRequest, *, as_json: bool) -> int:
    """Solve a problem at `url` and print its events, or with `as_json` only the response.

    Return the exit code: 0, 1 on an error, 3 if nothing listens at `url`.
    """
    return await follow(url, "/solve", request.model_copy(update={"stream": True}), as_json=as_json)


async def follow(url: str, path: str, body: BaseModel | None, *, as_json: bool) -> int:
    """POST `body` to `path`, or GET it if `body` is None, and print the events of the response like `solve`."""

    async def operation(client: httpx.AsyncClient) -> int:
        output, errors = Console(highlight=False, soft_wrap=True), Console(stderr=True, highlight=False)
        async with stream_events(client, path, body, {}) as events:
            async for event in events:
                if not _print(output, errors, event, as_json=as_json):
                    return FAILED
        return 0

    return await connect(url, operation)


def _print(output: Console, errors: Console, message: ServerSentEvent, *, as_json: bool) -> bool:
    """Print an event; return False if it ends the solve with an error. An event of an unknown type is skipped."""
    if message.event not in SOLVE_EVENT_TYPES:
        return True
    try:
        event = SOLVE_EVENT.validate_json(message.data)
    except ValidationError as error:
        raise EngineFailed(f"the service sent a malformed {message.event} event") from error
    if isinstance(event, SolveFailed):
        print_error(errors, event.code, event.detail)
        return False
    if not as_json:
        print_event(output, event)
    elif isinstance(event, SolveFinished):
        output.print_json(message.data)
    return True


async def connect(url: str, operation: Operation) -> int:
    """Run `operation` with a client of the service at `url`; print its error, if any. Return the exit code like `solve`."""
    errors = Console(stderr=True, highlight=False)
    async with client_for(url) as client:
        try:
            return await operation(client)
        except CounterpointError as error:
            if isinstance(error, NotReady) and isinstance(error.__cause__, httpx.TransportError):
                errors.print(f"nothing answers at {plain(url)}: start it with [bold]counterpoint up[/]")
                return UNREACHABLE
            print_error(errors, error.code, error.detail)
    return FAILED
