"""Serving an application: uvicorn, one worker, keep-alive longer than the clients' so that the two do not race."""

import gc
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager

import anyio
import uvicorn
from fastapi import FastAPI

from services.observability import tracing
from services.observability.logging import configure
from services.settings import ServiceSettings

KEEP_ALIVE_SECONDS = 75
"""Clients close idle connections after 30 s, before the server does."""


def config(app: FastAPI, host: str, port: int, shutdown_seconds: int) -> uvicorn.Config:
    """Return the configuration of a server."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        access_log=False,
        log_level="warning",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=shutdown_seconds,
        server_header=False,
        proxy_headers=False,
        ws="none",
        lifespan="on",
    )


def run(app: FastAPI, settings: ServiceSettings) -> None:
    """Serve until SIGTERM or Ctrl-C, then give requests `shutdown_seconds` to end. Raises `SettingsError`."""
    configure(settings.log_level, settings.log_format)
    tracing.configure(settings.traces, settings.table)
    gc.freeze()  # imported objects stay alive; garbage collections need not visit them
    uvicorn.Server(config(app, settings.host, settings.port, settings.shutdown_seconds)).run()


class _EmbeddedServer(uvicorn.Server):
    """A server in a process that has other work, and handles its signals itself."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave the signal handlers as they are."""
        yield


@asynccontextmanager
async def serving(app: FastAPI, host: str, port: int, shutdown_seconds: int) -> AsyncGenerator[uvicorn.Server]:
    """Serve in a task of this event loop while the context lasts; the server shuts down gracefully, even when cancelled."""
    server = _EmbeddedServer(config(app, host, port, shutdown_seconds))

    async def serve() -> None:
        with anyio.CancelScope(shield=True):
            await server.serve()

    async with anyio.create_task_group() as group:
        group.start_soon(serve)
        try:
            yield server
        finally:
            server.should_exit = True


async def beside(app: FastAPI, settings: ServiceSettings) -> None:
    """Serve until cancelled, in a process that has other work."""
    async with serving(app, settings.host, settings.port, settings.shutdown_seconds):
        await anyio.sleep_forever()
