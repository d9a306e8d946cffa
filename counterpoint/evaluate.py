"""`counterpoint eval`: measures, with a progress bar; starts the services itself unless it is told where they are."""

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, TaskID

import evaluation.pocket
from counterpoint.stack import Stack, stack
from evaluation import thresholds
from evaluation.runs import Progress as Told
from evaluation.supervision import Services
from services.client import client_for

Urls = tuple[str, str, str]
"""Orchestrator, actor, critic."""


async def pocket(count: int, seed: int, out: Path, urls: Urls | None, variables: dict[str, str]) -> list[str]:
    """The pocket pair's table. Without `urls`, starts all three with `variables`."""
    async with _services(urls, variables) as running:
        roles = Services(running.actor, running.critic)
        with _progress() as told:
            return await evaluation.pocket.measure(running.orchestrator, roles, count, seed, out, told)
    raise AssertionError("the services swallowed an error")


async def fit_auto(count: int, seed: int, out: Path, urls: Urls | None, variables: dict[str, str]) -> list[str]:
    """Fit the thresholds of `auto` and write them beside the strategy; what was tried, a line each."""
    async with _services(urls, variables) as running:
        with _progress() as told:
            found = await thresholds.fit(running.orchestrator, count, seed, out, told)
        chosen = thresholds.best(found, count)
        thresholds.save(chosen, count, seed)
        return [f"{'*' if entry is chosen else ' '} {entry}" for entry in found]
    raise AssertionError("the services swallowed an error")


@contextmanager
def _progress() -> Generator[Told]:
    """A bar for each run that tells how far it is."""
    with Progress(console=Console(stderr=True)) as bar:
        tasks: dict[str, TaskID] = {}

        def told(name: str, done: int, total: int) -> None:
            task = tasks.get(name)
            if task is None:
                task = tasks[name] = bar.add_task(name, total=total)
            bar.update(task, completed=done)

        yield told


@asynccontextmanager
async def _services(urls: Urls | None, variables: dict[str, str]) -> AsyncGenerator[Stack]:
    if urls is None:
        async with stack(variables) as running:
            yield running
        return
    clients = [client_for(url) for url in urls]
    try:
        yield Stack(*clients)
    finally:
        for client in clients:
            await client.aclose()
