"""`counterpoint eval`: measures, with a progress bar; starts the services itself unless it is told where they are."""

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

import evaluation.pocket
from counterpoint.options import stop
from counterpoint.stack import Stack, run_stack
from counterpoint.up import environment
from evaluation import critics, items, plans, report, thresholds
from evaluation.runs import CONCURRENCY, BadRun, Plan, Row, run
from evaluation.runs import Progress as Told
from evaluation.supervision import Services
from services.client import client_for
from services.settings import SettingsError

app = typer.Typer(no_args_is_help=True, help="Measure accuracy against compute, through the services.")

Urls = tuple[str, str, str]
Where = Annotated[Urls | None, typer.Option("--urls", help="Orchestrator, actor and critic, if they run already.")]
Out = Annotated[Path, typer.Option(help="Where rows are kept; a run that is started again goes on there.")]
Models = Annotated[str, typer.Option(help="What to start without --urls: pocket, smollm2 or a GGUF file.")]
ProblemSet = Annotated[
    str, typer.Option("--problems", help="pocket[:SPLIT], gsm8k, math, gym:NAME (reasoning-gym), or a JSONL file.")
]

Work = Callable[[Stack, Told], Awaitable[list[str]]]


@app.command("run")
def measure_run(  # noqa: PLR0913, PLR0917 - options of a command
    strategies: Annotated[list[str], typer.Option("--strategy", help="A name, or an object as in POST /solve; repeatable.")],
    budgets: Annotated[
        list[str] | None,
        typer.Option("--budget", help="Tokens a solve, or 6x: six greedy drafts of the problem; repeatable."),
    ] = None,
    problems: ProblemSet = "pocket",
    count: Annotated[int, typer.Option(min=1, help="Problems.")] = 200,
    temperature: Annotated[float, typer.Option(min=0, max=2)] = 0.8,
    max_tokens: Annotated[int, typer.Option(min=1, help="Of one solution.")] = 1024,
    seed: int = 1,
    concurrency: Annotated[int, typer.Option(min=1, max=1024, help="Solves at a time.")] = CONCURRENCY,
    out: Out = Path("runs/latest"),
    models: Models = "pocket",
    urls: Where = None,
) -> None:
    """Every strategy under every budget over a problem set: rows, a table, figures."""
    with _told_errors():
        chosen = items.load(problems, count, seed)
        asked = [plans.plan(strategy, temperature, max_tokens) for strategy in strategies]
        multiples = any(plans.multiple(budget) for budget in budgets or ())

    async def work(running: Stack, told: Told) -> list[str]:
        async def go(wanted: list[Plan]) -> dict[str, list[Row]]:
            return await run(running.orchestrator, wanted, chosen, out, seed, told, concurrency)

        greedy = (await go([plans.GREEDY]))[plans.GREEDY.name] if multiples else []
        await go(plans.limited(asked, budgets or [], greedy))
        return _reported(out)

    _measure(work, urls, models)


@app.command("report")
def measure_report(folder: Annotated[Path, typer.Argument(help="Of an earlier run.")]) -> None:
    """The table and the figures of the rows that a folder holds."""
    with _told_errors():
        typer.echo("\n".join(_reported(folder)))


@app.command("critic")
def measure_critic(  # noqa: PLR0913, PLR0917 - options of a command
    problems: ProblemSet = "pocket",
    count: Annotated[int, typer.Option(min=1, help="Problems.")] = 200,
    rounds: Annotated[int, typer.Option(min=1, max=critics.MAX_ROUNDS)] = 2,
    temperature: Annotated[float, typer.Option(min=0, max=2, help="Of the drafts.")] = 0.8,
    seed: int = 1,
    out: Out = Path("runs/critic"),
    models: Models = "pocket",
    urls: Where = None,
) -> None:
    """A critic in the loop: how true its verdicts are, and what refinements by it gain and break."""
    with _told_errors():
        chosen = items.load(problems, count, seed)

    async def work(running: Stack, told: Told) -> list[str]:
        roles = Services(running.actor, running.critic)
        return await critics.measure(roles, chosen, rounds, seed, temperature, out, told)

    _measure(work, urls, models)


@app.command("pocket")
def measure_pocket(
    count: Annotated[int, typer.Option(min=1, help="Test problems.")] = 1000,
    seed: int = 1,
    out: Out = Path("runs/pocket"),
    urls: Where = None,
) -> None:
    """The table of the pocket pair, with every claim that is made of it."""

    async def work(running: Stack, told: Told) -> list[str]:
        roles = Services(running.actor, running.critic)
        return await evaluation.pocket.measure(running.orchestrator, roles, count, seed, out, told)

    _measure(work, urls, "pocket")


@app.command("fit-auto")
def measure_auto(
    count: Annotated[int, typer.Option(min=10, help="Development problems.")] = 300,
    seed: int = 1,
    out: Out = Path("runs/auto"),
) -> None:
    """Fit the thresholds of the strategy `auto` on the development split of the pocket domain, and write them."""

    async def work(running: Stack, told: Told) -> list[str]:
        found = await thresholds.fit(running.orchestrator, count, seed, out, told)
        chosen = thresholds.best(found, count)
        thresholds.save(chosen, count, seed)
        return [f"{'*' if entry is chosen else ' '} {entry}" for entry in found]

    _measure(work, None, "pocket")


def _measure(work: Work, urls: Urls | None, models: str) -> None:
    async def measured() -> list[str]:
        async with _services(urls, models) as running:
            with _progress() as told:
                return await work(running, told)
        raise AssertionError("the services swallowed an error")

    with _told_errors():
        typer.echo("\n".join(anyio.run(measured)))


def _reported(folder: Path) -> list[str]:
    """The table, and the files of the figures where they can be drawn."""
    text = report.report(folder)
    try:
        figures = importlib.import_module("evaluation.figures")
    except ImportError:
        return [text, "", f"No figures: {items.EXTRA}"]
    return [text, "", *(f"figure: {path}" for path in figures.draw(folder))]


@contextmanager
def _told_errors() -> Generator[None]:
    try:
        yield
    except* (items.BadProblemSet, plans.BadPlan, BadRun, SettingsError) as group:
        stop(str(group.exceptions[0]))
    except* httpx.TransportError as group:
        stop(f"a service cannot be reached: {group.exceptions[0]}", 3)


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
async def _services(urls: Urls | None, models: str) -> AsyncGenerator[Stack]:
    if urls is None:
        async with run_stack(environment(models, [])) as running:
            yield running
        return
    clients = [client_for(url) for url in urls]
    try:
        yield Stack(*clients)
    finally:
        for client in clients:
            await client.aclose()
