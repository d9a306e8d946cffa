"""Runs the three services as processes of their own, restarts what dies, and leaves nothing behind."""

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

from services.client import client_for

RESTART_SECONDS = 0.5
"""First pause before a dead service is started again; it doubles up to `LONGEST_RESTART_SECONDS`."""
LONGEST_RESTART_SECONDS = 10.0
STOP_SECONDS = 8.0
POLL_SECONDS = 0.1
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """A service to run: its name, address, and what its environment adds."""

    name: str
    host: str
    port: int
    environment: Mapping[str, str]
    module: str = "counterpoint"
    """What `python -m` runs, with the name and the address as arguments."""
    command: tuple[str, ...] = ()
    """Something else to run, whole."""

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{self.host}:{self.port}"


def free_port(after: int | None = None) -> int:
    """A loopback port that nobody uses now, below the range that outgoing connections draw from, and above `after`."""
    first = 20_000 + 13 * os.getpid() % 10_000 if after is None else after + 1
    for port in range(first, 32_000):
        with socket.socket() as probe:
            answered = probe.connect_ex(("127.0.0.1", port)) == 0
        if not answered and can_listen("127.0.0.1", port):
            return port
    raise OSError("no free port")


def can_listen(host: str, port: int) -> bool:
    """Whether a service could listen there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


async def keep(plan: Plan) -> None:
    """Run a service until cancelled; start it again, and say so, whenever it dies."""
    pause = RESTART_SECONDS
    while True:
        started = anyio.current_time()
        code = await _run(plan)
        _say(f"{plan.name} ended with code {code}; starting it again")
        if anyio.current_time() - started > LONGEST_RESTART_SECONDS:
            pause = RESTART_SECONDS
        await anyio.sleep(pause)
        pause = min(2 * pause, LONGEST_RESTART_SECONDS)


async def _run(plan: Plan) -> int:
    process = await _start(plan)
    try:
        return await process.wait()
    finally:
        await _stop(process)


async def _start(plan: Plan) -> anyio.abc.Process:
    """Start a service; cancelled halfway, it would be left behind."""
    ours = [sys.executable, "-m", plan.module, plan.name, "--host", plan.host, "--port", str(plan.port)]
    command = list(plan.command) or ours
    with anyio.CancelScope(shield=True):
        return await anyio.open_process(
            command,
            stdin=None,
            stdout=sys.stderr,
            stderr=sys.stderr,
            env={**os.environ, **plan.environment, "COUNTERPOINT_PARENT": str(os.getpid())},
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
            os.killpg(process.pid, signal.SIGKILL)  # what it started and did not end, such as an engine's process


async def wait_ready(url: str) -> None:
    """Return once every check of the orchestrator is `ok`."""
    client = client_for(url)
    try:
        while not await _ready(client):  # noqa: ASYNC110 - it is another process
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
    """On Linux, ask to be terminated when `up` is gone, even if it was killed."""
    parent = os.environ.get("COUNTERPOINT_PARENT")
    if parent and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != int(parent):
            sys.exit(1)


def _say(line: str) -> None:
    sys.stderr.write(f"counterpoint: {line}\n")
    sys.stderr.flush()
