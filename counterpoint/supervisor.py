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
QUIET = {f"COUNTERPOINT_{prefix}LOG_LEVEL": "error" for prefix in ("", "ACTOR_", "CRITIC_")}
"""Variables with which the services log errors only."""


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


def service_specs(
    variables: Mapping[str, str], host: str = "127.0.0.1", port: int | None = None, after: int | None = None
) -> tuple[ProcessSpec, ProcessSpec, ProcessSpec]:
    """Return actor and critic, on free loopback ports above `after`, and an orchestrator that uses them.

    The orchestrator's `port` is free and above theirs if it is None.
    """
    actor = ProcessSpec("actor", "127.0.0.1", free_port(after), variables)
    critic = ProcessSpec("critic", "127.0.0.1", free_port(actor.port), variables)
    urls = {"COUNTERPOINT_ACTOR_URL": actor.url, "COUNTERPOINT_CRITIC_URL": critic.url}
    return actor, critic, ProcessSpec("orchestrator", host, port or free_port(critic.port), {**variables, **urls})


def free_port(after: int | None = None) -> int:
    """Return an unused loopback port above `after` and below the range of ports for outgoing connections.

    Raises `OSError` if there is none.
    """
    first = 20_000 + 13 * os.getpid() % 10_000 if after is None else after + 1
    for port in range(first, 32_000):
        with socket.socket() as probe:
            in_use = probe.connect_ex(("127.0.0.1", port)) == 0
        if not in_use and listen_error("127.0.0.1", port) is None:
            return port
    raise OSError("no free port")


def listen_error(host: str, port: int) -> str | None:
    """Return the reason why no service can listen on `host` and `port`, None if one can."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.strerror
    return None


async def keep_running(spec: ProcessSpec) -> None:
    """Run a service until cancelled; whenever it exits, report that and restart it."""
    pause = RESTART_SECONDS
    while True:
        started = anyio.current_time()
        code = await _run(spec)
        sys.stderr.write(f"counterpoint: {spec.name} exited with code {code}; restarting it\n")
        sys.stderr.flush()
        if anyio.current_time() - started > LONGEST_RESTART_SECONDS:
            pause = RESTART_SECONDS
        await anyio.sleep(pause)
        pause = min(2 * pause, LONGEST_RESTART_SECONDS)


async def _run(spec: ProcessSpec) -> int:
    """Run a process to its end. The start is shielded, since one cancelled halfway would leave the process behind."""
    default = [sys.executable, "-m", spec.module, spec.name, "--host", spec.host, "--port", str(spec.port)]
    environment = {**os.environ, **spec.environment, "COUNTERPOINT_PARENT": str(os.getpid())}
    command = list(spec.command) or default
    with anyio.CancelScope(shield=True) as start:
        process = await anyio.open_process(
            command, stdin=None, stdout=sys.stderr, stderr=sys.stderr, env=environment, start_new_session=True
        )
        try:
            start.shield = False
            return await process.wait()
        finally:
            await _stop(process)
    raise AssertionError("a scope that nothing cancels was cancelled")


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
    async with client_for(url) as client:
        while True:
            with contextlib.suppress(httpx.TransportError):
                response = await client.get("/readyz", timeout=3)
                if response.is_success and all(state == "ok" for state in response.json()["checks"].values()):
                    return
            await anyio.sleep(POLL_SECONDS)


def die_with_parent() -> None:
    """On Linux, have the kernel kill this process when its parent exits, even if the parent was killed."""
    parent = os.environ.get("COUNTERPOINT_PARENT")
    if parent and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != int(parent):
            sys.exit(1)
