"""What tests and benchmarks share: a real server on a free port, a stream read to its end, waiting for a condition."""

import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import uvicorn
from fastapi import FastAPI

from services.http import sse
from services.http.server import config

POLL_SECONDS = 0.002


@asynccontextmanager
async def serve(app: FastAPI, port: int = 0) -> AsyncGenerator[str]:
    """A real uvicorn in this event loop, on a free loopback port unless one is given; yields its URL."""
    server = uvicorn.Server(config(app, "127.0.0.1", port, 1))
    server.capture_signals = _leave_signals  # pyright: ignore[reportAttributeAccessIssue] - the test runner's are its own

    async def run() -> None:
        with anyio.CancelScope(shield=True):  # a test that fails ends it as one that passes does
            await server.serve()

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await wait_until(lambda: server.started, seconds=30)
        listening = server.servers[0].sockets[0].getsockname()[1]
        try:
            yield f"http://127.0.0.1:{listening}"
        finally:
            server.should_exit = True


NamedEvents = list[tuple[str, dict[str, Any]]]
"""A stream's events: names and data."""


async def post_events(
    client: httpx.AsyncClient, path: str, body: object, headers: Mapping[str, str] | None = None
) -> NamedEvents:
    """POST `body` and follow the answer's events to their end; an error before the first one is `("refused", problem)`."""
    async with client.stream("POST", path, json=body, headers=headers) as response:
        if response.is_error:
            return [("refused", json.loads(await response.aread()))]
        return [(event.event, json.loads(event.data)) async for event in sse.decode(response.aiter_raw())]


async def wait_until(condition: Callable[[], bool], *, seconds: float = 5.0) -> float:
    """Seconds until `condition` held. Raises `TimeoutError` when it does not in time."""
    started = anyio.current_time()
    with anyio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for may live in another process
            await anyio.sleep(POLL_SECONDS)
    return anyio.current_time() - started


class _leave_signals:  # noqa: N801 - stands in for a context manager function
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...
