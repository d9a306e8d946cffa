"""Supervision of the services as child processes: one that exits is restarted, and none outlives its parent."""

import contextlib
import ctypes
import os
import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass

import anyio
import anyio.abc
import httpx

from services.http.client import client_for

RESTART_SECONDS = 0.5
"""Pause before the first restart of a service; it doubles with each, up to `LONGEST_RESTART_SECONDS`."""
LONGEST_RESTART_SECONDS = 10.0
STOP_SECONDS = 8.0
POLL_SECONDS = 0.1
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """A service to run as a process: its name, its address, and its additional environment variables."""

    name: str
    host: str
    port: int
    environment: Mapping[str, str]
    module: str = "counterpoint"
    """Module that `python -m` runs, with the name and the address as arguments."""
    command: tuple[str, ...] = ()
    """Complete command line to run instead, if not empty."""

    @property
    def url(self) -> str:
        """The URL that it listens on."""
        return f"http://{self.host}:{self.port}"


def free_port(after: int | None = None) -> int:
    """Return an unused loopback port above `after` and below the range of ports for outgoing connections.

    Raises `OSError` if there is none.
    """
    first = 20_000 + 13 * os.getpid() % 10_000 if after is None else after + 1
    for port in range(first, 32_000):
        with socket.socket() as probe:
            in_use = probe.connect_ex(("127.0.0.1", port)) == 0
        if not in_use and can_listen("127.0.0.1", port):
            return port
    raise OSError("no free port")


def can_listen(host: str, port: int) -> bool:
    """Return whether a service could listen on `host` and `port`."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


async def keep_running(spec: ProcessSpec) -> None:
    """Run a service until cancelled; whenever it exits, report that and restart it."""
    pause = RESTART_SECONDS
    while True:
        started = anyio.current_time()
        code = await _run(spec)
        _report(f"{spec.name} exited with code {code}; restarting it")
        if anyio.current_time() - started > LONGEST_RESTART_SECONDS:
            pause = RESTART_SECONDS
        await anyio.sleep(pause)
        pause = min(2 * pause, LONGEST_RESTART_SECONDS)


async def _run(spec: ProcessSpec) -> int:
    process = await _start(spec)
    try:
        return await process.wait()
    finally:
        await _stop(process)


async def _start(spec: ProcessSpec) -> anyio.abc.Process:
    """Start a process. The scope is shielded, since a start cancelled halfway would leave the process behind."""
    default = [sys.executable, "-m", spec.module, spec.name, "--host", spec.host, "--port", str(spec.port)]
    with anyio.CancelScope(shield=True):
        return await anyio.open_process(
            list(spec.command) or default,
            stdin=None,
            stdout=sys.stderr,
            stderr=sys.stderr,
            env={**os.environ, **spec.environment, "COUNTERPOINT_PARENT": str(os.getpid())},
            start_new_session=True,
        )
    raise AssertionError("a shielded scope was cancelled")


async def _stop(process: anyio.abc.Process) -> None:
    with anyio.CancelScope(shield=True):
        if process.returncode is None:
            process.terminate()
            with anyio.move_on_after(STOP_SECONDS):
                await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its remaining children, such as an engine's process


async def wait_ready(url: str) -> None:
    """Wait until every readiness check of the orchestrator at `url` is `ok`."""
    client = client_for(url)
    try:
        while not await _ready(client):  # noqa: ASYNC110 - another process cannot set an event
            await anyio.sleep(POLL_SECONDS)
    finally:
        await client.aclose()


async def _ready(client: httpx.AsyncClient) -> bool:
    try:
        response = await client.get("/readyz", timeout=3)
    except httpx.TransportError:
        return False
    return response.is_success and all(state == "ok" for state in response.json()["checks"].values())


def die_with_parent() -> None:
    """On Linux, have the kernel kill this process when its parent exits, even if the parent was killed."""
    parent = os.environ.get("COUNTERPOINT_PARENT")
    if parent and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != int(parent):
            sys.exit(1)


def _report(line: str) -> None:
    sys.stderr.write(f"counterpoint: {line}\n")
    sys.stderr.flush()
