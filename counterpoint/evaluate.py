"""`counterpoint eval`: measurements with a progress bar; starts the services itself unless their URLs are given."""

import importlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Annotated

import anyio
import httpx
import typer
from rich.console import Console
from rich.progress import Progress, TaskID

from counterpoint.options import stop
from counterpoint.stack import Stack, run_stack
from counterpoint.up import environment
from evaluation import critics, plans, pocket_report, problem_sets, report, thresholds
from evaluation.role_clients import RoleClients
from evaluation.rows import SolveRow
from evaluation.runs import BadRun, OnProgress, SolvePlan, run
from services.http.client import client_for
from services.jsonl import CONCURRENCY
from services.settings import SettingsError

app = typer.Typer(no_args_is_help=True, help="Measure accuracy against compute, through the services.")

Urls = tuple[str, str, str]
UrlsOption = Annotated[
    Urls | None, typer.Option("--urls", help="URLs of orchestrator, actor and critic, if they already run.")
]
OutOption = Annotated[Path, typer.Option(help="Folder of the rows; a run that is started again resumes from it.")]
ModelsOption = Annotated[str, typer.Option(help="Models to start without --urls: pocket, smollm2 or a GGUF file.")]
ProblemsOption = Annotated[
    str, typer.Option("--problems", help="pocket[:SPLIT], gsm8k, math, gym:NAME (reasoning-gym), or a JSONL file.")
]
CountOption = Annotated[int, typer.Option(min=1, help="Number of problems.")]

Measurement = Callable[[Stack, OnProgress], Awaitable[list[str]]]
"""A function that measures running services and returns lines to print."""


@app.command("run")
def measure_run(  # noqa: PLR0913, PLR0917 - options of a command
    strategies: Annotated[list[str], typer.Option("--strategy", help="Name, or JSON object as in POST /solve; repeatable.")],
    budgets: Annotated[
        list[str] | None,
        typer.Option("--budget", help="Tokens per solve, or a multiple of the problem's greedy draft, like 6x; repeatable."),
    ] = None,
    problems: ProblemsOption = "pocket",
    count: CountOption = 200,
    temperature: Annotated[float, typer.Option(min=0, max=2)] = 0.8,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest solution, in tokens.")] = 1024,
    seed: int = 1,
    concurrency: Annotated[int, typer.Option(min=1, max=1024, help="Solves at a time.")] = CONCURRENCY,
    out: OutOption = Path("runs/latest"),
    models: ModelsOption = "pocket",
    urls: UrlsOption = None,
) -> None:
    """Run every strategy under every budget over a problem set: rows, a table, figures."""
    with _reported_errors():
        items = problem_sets.load(problems, count, seed)
        unlimited = [plans.plan(strategy, temperature, max_tokens) for strategy in strategies]
        multiples = any(plans.is_multiple(budget) for budget in budgets or ())

    async def measurement(services: Stack, on_progress: OnProgress) -> list[str]:
        async def run_plans(batch: list[SolvePlan]) -> dict[str, list[SolveRow]]:
            return await run(services.orchestrator, batch, items, out, seed, on_progress, concurrency)

        greedy = (await run_plans([plans.GREEDY]))[plans.GREEDY.name] if multiples else []
        await run_plans(plans.limited(unlimited, budgets or [], greedy))
        return _report(out)

    _measure(measurement, urls, models)


@app.command("report")
def measure_report(folder: Annotated[Path, typer.Argument(help="Folder of an earlier run.")]) -> None:
    """Print the table of an earlier run, and draw its figures."""
    with _reported_errors():
        typer.echo("\n".join(_report(folder)))


@app.command("critic")
def measure_critic(  # noqa: PLR0913, PLR0917 - options of a command
    problems: ProblemsOption = "pocket",
    count: CountOption = 200,
    rounds: Annotated[int, typer.Option(min=1, max=critics.MAX_ROUNDS)] = 2,
    temperature: Annotated[float, typer.Option(min=0, max=2, help="Temperature of the drafts.")] = 0.8,
    seed: int = 1,
    out: OutOption = Path("runs/critic"),
    models: ModelsOption = "pocket",
    urls: UrlsOption = None,
) -> None:
    """Measure a critic in the loop: how true its verdicts are, and what refinements by it mend and break."""
    with _reported_errors():
        items = problem_sets.load(problems, count, seed)

    async def measurement(services: Stack, on_progress: OnProgress) -> list[str]:
        clients = RoleClients(services.actor, services.critic)
        return await critics.measure(clients, items, rounds, seed, temperature, out, on_progress)

    _measure(measurement, urls, models)


@app.command("pocket")
def measure_pocket(
    count: Annotated[int, typer.Option(min=1, help="Number of test problems.")] = 1000,
    seed: int = 1,
    out: OutOption = Path("runs/pocket"),
    urls: UrlsOption = None,
) -> None:
    """Measure the pocket pair: its table, with every claim that is made of it."""

    async def measurement(services: Stack, on_progress: OnProgress) -> list[str]:
        clients = RoleClients(services.actor, services.critic)
        return await pocket_report.measure(services.orchestrator, clients, count, seed, out, on_progress)

    _measure(measurement, urls, "pocket")


@app.command("fit-auto")
def measure_auto(
    count: Annotated[int, typer.Option(min=10, help="Number of development problems.")] = 300,
    seed: int = 1,
    out: OutOption = Path("runs/auto"),
) -> None:
    """Fit the thresholds of the strategy `auto` on the development split of the pocket domain, and save them."""

    async def measurement(services: Stack, on_progress: OnProgress) -> list[str]:
        points = await thresholds.fit(services.orchestrator, count, seed, out, on_progress)
        best = thresholds.best(points, count)
        thresholds.save(best, count, seed)
        return [f"{'*' if point is best else ' '} {point}" for point in points]

    _measure(measurement, None, "pocket")


def _measure(measurement: Measurement, urls: Urls | None, models: str) -> None:
    """Run a measurement on the services, and print its lines."""

    async def measure() -> list[str]:
        async with _running_services(urls, models) as services:
            with _progress_bars() as on_progress:
                return await measurement(services, on_progress)
        raise AssertionError("the services suppressed an error")

    with _reported_errors():
        typer.echo("\n".join(anyio.run(measure)))


def _report(folder: Path) -> list[str]:
    """Return the table, and the paths of the figures if they can be drawn."""
    text = report.report(folder)
    try:
        figures = importlib.import_module("evaluation.figures")
    except ImportError:
        return [text, "", f"No figures: {problem_sets.MISSING_EXTRA}"]
    return [text, "", *(f"figure: {path}" for path in figures.draw(folder))]


@contextmanager
def _reported_errors() -> Generator[None]:
    """Print an expected error in one line and exit."""
    try:
        yield
    except* (problem_sets.BadProblemSet, plans.BadPlan, BadRun, SettingsError) as group:
        stop(str(group.exceptions[0]))
    except* httpx.TransportError as group:
        stop(f"a service cannot be reached: {group.exceptions[0]}", 3)


@contextmanager
def _progress_bars() -> Generator[OnProgress]:
    """Show a progress bar for each file of rows."""
    with Progress(console=Console(stderr=True)) as progress:
        tasks: dict[str, TaskID] = {}

        def update(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(name, total=total)
            progress.update(tasks[name], completed=done, total=total)

        yield update


@asynccontextmanager
async def _running_services(urls: Urls | None, models: str) -> AsyncGenerator[Stack]:
    """Connect to the services at `urls`, or start them with `models`."""
    if urls is None:
        async with run_stack(environment(models, [])) as services:
            yield services
        return
    clients = [client_for(url) for url in urls]
    try:
        yield Stack(*clients)
    finally:
        for client in clients:
            await client.aclose()
