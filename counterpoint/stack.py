"""The three services as separate processes for the duration of a block, for benchmarks and evaluation."""

import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import httpx

from counterpoint.supervisor import ProcessSpec, free_port, keep_running, wait_ready
from services.http.client import client_for


@dataclass(frozen=True, slots=True)
class Stack:
    """Clients of the running services."""

    orchestrator: httpx.AsyncClient
    actor: httpx.AsyncClient
    critic: httpx.AsyncClient

    def resident_mib(self) -> float:
        """Return the resident memory of all three processes, in MiB."""
        pages = [int(Path(f"/proc/{pid}/statm").read_text("utf-8").split()[1]) for pid in _children()]
        return sum(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20


@asynccontextmanager
async def run_stack(
    settings: Mapping[str, str],
    overrides: Mapping[str, Mapping[str, str]] | None = None,
    start_seconds: float = 60,
    module: str = "counterpoint",
) -> AsyncGenerator[Stack]:
    """Run actor, critic and orchestrator with the environment variables `settings` until the block ends.

    `overrides` adds to the environment of single services, by name; `module` is the module that runs them. Raises
    `TimeoutError` if they are not ready within `start_seconds`.
    """
    ports: dict[str, int] = {}
    for name in ("actor", "critic", "orchestrator"):
        ports[name] = free_port(after=max(ports.values(), default=None))
    variables = {**settings, "COUNTERPOINT_LOG_LEVEL": "error"}
    for role in ("actor", "critic"):
        variables[f"COUNTERPOINT_{role.upper()}_URL"] = f"http://127.0.0.1:{ports[role]}"
        variables[f"COUNTERPOINT_{role.upper()}_LOG_LEVEL"] = "error"
    specs = [
        ProcessSpec(name, "127.0.0.1", port, {**variables, **(overrides or {}).get(name, {})}, module)
        for name, port in ports.items()
    ]
    clients = [client_for(spec.url) for spec in specs]
    async with anyio.create_task_group() as group:
        for spec in specs:
            group.start_soon(keep_running, spec)
        with anyio.fail_after(start_seconds):
            await wait_ready(specs[2].url)
        try:
            yield Stack(clients[2], clients[0], clients[1])
        finally:
            for client in clients:
                await client.aclose()
            group.cancel_scope.cancel()


def _children() -> list[int]:
    own = os.getpid()
    return [int(child) for child in Path(f"/proc/{own}/task/{own}/children").read_text("utf-8").split()]
