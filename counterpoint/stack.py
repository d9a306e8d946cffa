"""The three services as separate processes for the duration of a block, for benchmarks and evaluation."""

import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import anyio
import httpx

from counterpoint.supervisor import QUIET, keep_running, service_specs, wait_ready
from evaluation.role_clients import RoleClients
from services.http.client import client_for


@dataclass(frozen=True, slots=True)
class RunningStack:
    """Clients of the running services."""

    orchestrator: httpx.AsyncClient
    actor: httpx.AsyncClient
    critic: httpx.AsyncClient

    @property
    def roles(self) -> RoleClients:
        """The clients of actor and critic, with their calls."""
        return RoleClients(self.actor, self.critic)

    def resident_mib(self) -> float:
        """Return the resident memory of all three processes, in MiB."""
        own = os.getpid()
        children = Path(f"/proc/{own}/task/{own}/children").read_text("utf-8").split()
        pages = [int(Path(f"/proc/{pid}/statm").read_text("utf-8").split()[1]) for pid in children]
        return sum(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20


@asynccontextmanager
async def connect_stack(orchestrator: str, actor: str, critic: str) -> AsyncGenerator[RunningStack]:
    """Connect to running services at their URLs until the block ends."""
    async with client_for(orchestrator) as first, client_for(actor) as second, client_for(critic) as third:
        yield RunningStack(first, second, third)


@asynccontextmanager
async def run_stack(
    settings: Mapping[str, str],
    overrides: Mapping[str, Mapping[str, str]] | None = None,
    start_seconds: float = 60,
    module: str = "counterpoint",
) -> AsyncGenerator[RunningStack]:
    """Run actor, critic and orchestrator with the environment variables `settings` until the block ends.

    `overrides` adds to the environment of single services, by name; `module` is the module that runs them. Raises
    `TimeoutError` if they are not ready within `start_seconds`.
    """
    actor, critic, orchestrator = service_specs({**settings, **QUIET})
    async with anyio.create_task_group() as group:
        for spec in (actor, critic, orchestrator):
            environment = {**spec.environment, **(overrides or {}).get(spec.name, {})}
            group.start_soon(keep_running, replace(spec, environment=environment, module=module))
        with anyio.fail_after(start_seconds):
            await wait_ready(orchestrator.url)
        try:
            async with connect_stack(orchestrator.url, actor.url, critic.url) as running:
                yield running
        finally:
            group.cancel_scope.cancel()
