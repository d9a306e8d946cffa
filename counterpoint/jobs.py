"""`counterpoint jobs` and `counterpoint replay`: jobs from a terminal."""

import json
from functools import partial
from typing import Annotated

import anyio
import httpx
import typer
from rich.console import Console

from counterpoint import options
from counterpoint.connection import Operation, connect, follow
from services.http.client import fetch, stream_events
from services.observability.logging import configure

app = typer.Typer(no_args_is_help=True, help="Submit and manage jobs: solves that outlive the connection that started them.")

JobArgument = Annotated[str, typer.Argument(help="The job's id.")]
KeyOption = Annotated[
    str | None, typer.Option("--key", help="Idempotency key: submitting the same request again returns the same job.")
]


@app.command()
def submit(
    problem: options.ProblemArgument,
    url: options.UrlOption = None,
    strategy: options.StrategyOption = "refine",
    max_tokens: options.MaxTokensOption = None,
    seed: options.SeedOption = None,
    key: KeyOption = None,
) -> None:
    """Submit a problem as a job and print the job's id."""
    request = options.solve_request(problem, strategy, max_tokens, seed)

    async def operation(client: httpx.AsyncClient) -> int:
        headers = {} if key is None else {"Idempotency-Key": key}
        job = await fetch(client, "POST", "/jobs", headers, request)
        typer.echo(job["id"])
        if not job["durable"]:
            Console(stderr=True).print("not durable: without Redis, this service keeps jobs in memory", style="yellow")
        return 0

    _run(url, operation)


@app.command()
def show(job: JobArgument, url: options.UrlOption = None) -> None:
    """Print a job's status, and its result or error, as JSON."""
    _run(url, partial(_print, method="GET", path=f"/jobs/{job}"))


@app.command("follow")
def follow_job(job: JobArgument, url: options.UrlOption = None) -> None:
    """Print a job's events from the first one on, until it ends."""
    replay(job, url)


@app.command()
def cancel(job: JobArgument, url: options.UrlOption = None) -> None:
    """Cancel a job, including its calls in flight."""
    _run(url, partial(_print, method="DELETE", path=f"/jobs/{job}"))


@app.command()
def answer_now(job: JobArgument, url: options.UrlOption = None) -> None:
    """End a job early with its best candidate so far."""
    _run(url, partial(_print, method="POST", path=f"/jobs/{job}/answer-now"))


def replay(
    job: JobArgument,
    url: options.UrlOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the events as JSON lines.")] = False,  # noqa: FBT002
) -> None:
    """Print the recorded events of a job."""
    path = f"/jobs/{job}/events"
    configure("error", "console")
    if not as_json:
        raise typer.Exit(anyio.run(partial(follow, options.address(url), path, None, as_json=False)))

    async def operation(client: httpx.AsyncClient) -> int:
        async with stream_events(client, path, None, {}) as events:
            async for event in events:
                typer.echo(event.data)
        return 0

    _run(url, operation)


async def _print(client: httpx.AsyncClient, *, method: str, path: str) -> int:
    typer.echo(json.dumps(await fetch(client, method, path), indent=1))
    return 0


def _run(url: str | None, operation: Operation) -> None:
    configure("error", "console")
    raise typer.Exit(anyio.run(connect, options.address(url), operation))
