"""Helpers of tests and benchmarks: a real server on a free port, a stream read to its end, waiting for a condition."""

import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
from fastapi import FastAPI

from services.http import sse
from services.http.server import serving

POLL_SECONDS = 0.002


@asynccontextmanager
async def serve(app: FastAPI, port: int = 0) -> AsyncGenerator[str]:
    """Run uvicorn in this event loop, on a free loopback port unless one is given, and yield its URL."""
    async with serving(app, "127.0.0.1", port, 1) as server:
        await wait_until(lambda: server.started, seconds=30)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"


NamedEvents = list[tuple[str, dict[str, Any]]]
"""The events of a stream: names and data."""


async def post_events(
    client: httpx.AsyncClient, path: str, body: object, headers: Mapping[str, str] | None = None
) -> NamedEvents:
    """POST `body` and return all events of the response; an error before the first one is `("refused", problem)`."""
    async with client.stream("POST", path, json=body, headers=headers) as response:
        if response.is_error:
            return [("refused", json.loads(await response.aread()))]
        return [(event.event, json.loads(event.data)) async for event in sse.decode(response.aiter_raw())]


async def wait_until(condition: Callable[[], bool], *, seconds: float = 30.0) -> float:
    """Wait until `condition` holds and return the seconds that took. Raises `TimeoutError` after `seconds`."""
    started = anyio.current_time()
    with anyio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - the condition may depend on another process
            await anyio.sleep(POLL_SECONDS)
    return anyio.current_time() - started
