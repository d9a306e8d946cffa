"""What tests and benchmarks share: a real server on a free port, and waiting for a condition instead of sleeping."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import anyio
import uvicorn
from fastapi import FastAPI

from services.server import config

POLL_SECONDS = 0.002


@asynccontextmanager
async def serve(app: FastAPI) -> AsyncGenerator[str]:
    """A real uvicorn in this event loop, on a free loopback port; yields its base URL and stops it at the end."""
    server = uvicorn.Server(config(app, "127.0.0.1", 0, 1))
    server.capture_signals = _leave_signals  # pyright: ignore[reportAttributeAccessIssue] - the test runner's are its own
    async with anyio.create_task_group() as group:
        group.start_soon(server.serve)
        await wait_until(lambda: server.started, seconds=30)
        port = server.servers[0].sockets[0].getsockname()[1]
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True


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
