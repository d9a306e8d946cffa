"""`counterpoint eval`: measurements with a progress bar; starts the services itself unless their URLs are given."""

import importlib
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import anyio
import httpx
import typer
from rich.console import Console

from counterpoint.options import stop_on
from counterpoint.render import progress_bars
from counterpoint.stack import RunningStack, connect_stack, run_stack
from counterpoint.up import environment
from evaluation import critics, plans, pocket_report, problem_sets, report, thresholds
from evaluation.runs import BadRun, OnProgress, run
from services.jsonl import CONCURRENCY
from services.settings import SettingsError

_stop_on_error = stop_on(problem_sets.BadProblemSet, plans.BadPlan, BadRun, SettingsError, httpx.TransportError)

app = typer.Typer(no_args_is_help=True, help="Measure accuracy against the tokens spent, through the services.")

Urls = tuple[str, str, str]
UrlsOption = Annotated[
    Urls | None, typer.Option("--urls", help="URLs of orchestrator, actor and critic, if they are already running.")
]
OutOption = Annotated[Path, typer.Option(help="Folder for the results; a repeated run resumes from it.")]
ModelsOption = Annotated[str, typer.Option(help="Models to start without --urls: pocket, smollm2 or a GGUF file.")]
ProblemsOption = Annotated[
    str, typer.Option("--problems", help="pocket[:SPLIT], gsm8k, math, gym:NAME (reasoning-gym), or a JSONL file.")
]
CountOption = Annotated[int, typer.Option(min=1, help="Number of problems.")]
SeedOption = Annotated[int, typer.Option(help="Random seed of the problems and the samples.")]
TemperatureOption = Annotated[float, typer.Option(min=0, max=2, help="Sampling temperature of the actor.")]

Measurement = Callable[[RunningStack, OnProgress], Awaitable[list[str]]]
"""A function that measures running services and returns lines to print."""


@app.command("run")
@_stop_on_error
def measure_run(  # noqa: PLR0913, PLR0917 - options of a command
    strategies: Annotated[
        list[str], typer.Option("--strategy", help="Strategy: a name, or JSON as in POST /solve; repeatable.")
    ],
    budgets: Annotated[
        list[str] | None,
        typer.Option("--budget", help="Tokens per solve, or a multiple of the problem's greedy draft, like 6x; repeatable."),
    ] = None,
    problems: ProblemsOption = "pocket",
    count: CountOption = 200,
    temperature: TemperatureOption = 0.8,
    max_tokens: Annotated[int, typer.Option(min=1, help="Maximum length of a solution, in tokens.")] = 1024,
    seed: SeedOption = 1,
    concurrency: Annotated[int, typer.Option(min=1, max=1024, help="Number of solves to run at once.")] = CONCURRENCY,
    out: OutOption = Path("runs/latest"),
    models: ModelsOption = "pocket",
    urls: UrlsOption = None,
) -> None:
    """Run every strategy under every budget on a problem set; write the rows, print a table and draw figures."""
    items = problem_sets.load(problems, count, seed)
    unlimited = [plans.plan(strategy, temperature, max_tokens) for strategy in strategies]
    multiples = any(plans.is_multiple(budget) for budget in budgets or ())

    async def measurement(services: RunningStack, on_progress: OnProgress) -> list[str]:
        run_plans = partial(
            run, services.orchestrator, items=items, out=out, seed=seed, on_progress=on_progress, concurrency=concurrency
        )
        greedy = (await run_plans([plans.GREEDY]))[plans.GREEDY.name] if multiples else []
        await run_plans(plans.limited(unlimited, budgets or [], greedy))
        return _report(out)

    _measure(measurement, urls, models)


@app.command("report")
@_stop_on_error
def measure_report(folder: Annotated[Path, typer.Argument(help="Folder of an earlier run.")]) -> None:
    """Print the table of an earlier run, and draw its figures."""
    typer.echo("\n".join(_report(folder)))


@app.command("critic")
@_stop_on_error
def measure_critic(  # noqa: PLR0913, PLR0917 - options of a command
    problems: ProblemsOption = "pocket",
    count: CountOption = 200,
    rounds: Annotated[int, typer.Option(min=1, max=critics.MAX_ROUNDS, help="Number of refinements of a draft.")] = 2,
    temperature: TemperatureOption = 0.8,
    seed: SeedOption = 1,
    out: OutOption = Path("runs/critic"),
    models: ModelsOption = "pocket",
    urls: UrlsOption = None,
) -> None:
    """Measure a critic: how often its verdicts are right, and how many answers its critiques mend and break."""
    items = problem_sets.load(problems, count, seed)

    def measurement(services: RunningStack, on_progress: OnProgress) -> Awaitable[list[str]]:
        return critics.measure(services.roles, items, rounds, seed, temperature, out, on_progress)

    _measure(measurement, urls, models)


@app.command("pocket")
@_stop_on_error
def measure_pocket(
    count: Annotated[int, typer.Option(min=1, help="Number of test problems.")] = 1000,
    seed: SeedOption = 1,
    out: OutOption = Path("runs/pocket"),
    urls: UrlsOption = None,
) -> None:
    """Measure the pocket pair and print its table, with every claim made about it."""

    def measurement(services: RunningStack, on_progress: OnProgress) -> Awaitable[list[str]]:
        return pocket_report.measure(services.orchestrator, services.roles, count, seed, out, on_progress)

    _measure(measurement, urls, "pocket")


@app.command("fit-auto")
@_stop_on_error
def measure_auto(
    count: Annotated[int, typer.Option(min=10, help="Number of development problems.")] = 300,
    seed: SeedOption = 1,
    out: OutOption = Path("runs/auto"),
) -> None:
    """Fit the thresholds of the strategy `auto` on the development split of the pocket domain, and save them."""

    async def measurement(services: RunningStack, on_progress: OnProgress) -> list[str]:
        points = await thresholds.fit(services.orchestrator, count, seed, out, on_progress)
        best = thresholds.best(points, count)
        thresholds.save(best, count, seed)
        return [f"{'*' if point is best else ' '} {point}" for point in points]

    _measure(measurement, None, "pocket")


def _measure(measurement: Measurement, urls: Urls | None, models: str) -> None:
    """Run a measurement on the services, and print its lines."""

    async def measure() -> None:
        async with connect_stack(*urls) if urls else run_stack(environment(models, [])) as services:
            with progress_bars(Console(stderr=True)) as on_progress:
                lines = await measurement(services, on_progress)
        typer.echo("\n".join(lines))

    anyio.run(measure)


def _report(folder: Path) -> list[str]:
    """Return the table, and the paths of the figures if they can be drawn."""
    text = report.report(folder)
    try:
        figures = importlib.import_module("evaluation.figures")
    except ImportError:
        return [text, "", f"No figures: {problem_sets.MISSING_EXTRA}"]
    return [text, "", *(f"figure: {path}" for path in figures.draw(folder))]
