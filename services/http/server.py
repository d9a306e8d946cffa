"""Runs an application: uvicorn, one worker, keep-alive longer than the clients' so that neither races the other."""

import gc
from collections.abc import Generator
from contextlib import contextmanager

import anyio
import uvicorn
from fastapi import FastAPI

from services.observability import tracing
from services.observability.logging import configure
from services.settings import ServiceSettings

KEEP_ALIVE_SECONDS = 75
"""Clients let go of idle connections after 30 s, before the server does."""


def config(app: FastAPI, host: str, port: int, shutdown_seconds: int) -> uvicorn.Config:
    """The server's configuration."""
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
    """Serve until SIGTERM or Ctrl-C; what still runs after the grace is cancelled. Raises `SettingsError`."""
    configure(settings.log_level, settings.log_format)
    tracing.configure(settings.traces, settings.table)
    gc.freeze()  # what was imported stays; collections need not walk it
    uvicorn.Server(config(app, settings.host, settings.port, settings.shutdown_seconds)).run()


class _Beside(uvicorn.Server):
    """A server whose process has other things to do, and its own way to end."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Signals are somebody else's."""
        yield


async def beside(app: FastAPI, settings: ServiceSettings) -> None:
    """Serve until cancelled, in a process that does something else."""
    server = _Beside(config(app, settings.host, settings.port, settings.shutdown_seconds))

    async def serve() -> None:
        with anyio.CancelScope(shield=True):
            await server.serve()

    async with anyio.create_task_group() as group:
        group.start_soon(serve)
        try:
            await anyio.sleep_forever()
        finally:
            server.should_exit = True
