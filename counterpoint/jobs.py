"""`counterpoint jobs` and `counterpoint replay`: jobs from a terminal."""

import json
from functools import partial
from typing import Annotated

import anyio
import httpx
import typer
from rich.console import Console

from counterpoint import dialogue
from counterpoint.asking import UrlOption, address, request_of
from services.client import fetch, stream_events
from services.telemetry import configure

app = typer.Typer(no_args_is_help=True, help="Jobs: solves that outlive the terminal that asked for them.")

JobArgument = Annotated[str, typer.Argument(help="The job's id.")]


@app.command()
def submit(
    problem: Annotated[str, typer.Argument(help="The problem; - reads it from standard input.")],
    url: UrlOption = None,
    strategy: Annotated[str, typer.Option(help="A name, or an object as in POST /solve.")] = "refine",
    max_tokens: int | None = None,
    seed: int | None = None,
    key: Annotated[str | None, typer.Option(help="Idempotency key: the same key and problem is the same job.")] = None,
) -> None:
    """Submit a problem and print the job's id."""
    request = request_of(problem, strategy, max_tokens, seed)

    async def work(client: httpx.AsyncClient) -> int:
        headers = {} if key is None else {"Idempotency-Key": key}
        found = await fetch(client, "POST", "/jobs", headers, request)
        typer.echo(found["id"])
        if not found["durable"]:
            Console(stderr=True).print("not durable: this service keeps its jobs in memory, without Redis", style="yellow")
        return 0

    _reach(url, work)


@app.command()
def show(job: JobArgument, url: UrlOption = None) -> None:
    """Print where a job stands, with its result or its error, as JSON."""
    _reach(url, partial(_print, method="GET", path=f"/jobs/{job}"))


@app.command("follow")
def follow(job: JobArgument, url: UrlOption = None) -> None:
    """Print a job's dialogue, from its beginning, as it goes on."""
    replay(job, url)


@app.command()
def cancel(job: JobArgument, url: UrlOption = None) -> None:
    """Cancel a job, down to the engines."""
    _reach(url, partial(_print, method="DELETE", path=f"/jobs/{job}"))


@app.command()
def answer_now(job: JobArgument, url: UrlOption = None) -> None:
    """End a job with the best candidate so far."""
    _reach(url, partial(_print, method="POST", path=f"/jobs/{job}/answer-now"))


def replay(
    job: JobArgument,
    url: UrlOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the events as JSON lines.")] = False,  # noqa: FBT002
) -> None:
    """Print a job's dialogue from its log of events."""
    path = f"/jobs/{job}/events"
    configure("error", "console")
    if not as_json:
        raise typer.Exit(anyio.run(partial(dialogue.follow, address(url), path, None, as_json=False)))

    async def work(client: httpx.AsyncClient) -> int:
        async with stream_events(client, path, None, {}) as events:
            async for event in events:
                typer.echo(event.data)
        return 0

    _reach(url, work)


async def _print(client: httpx.AsyncClient, *, method: str, path: str) -> int:
    typer.echo(json.dumps(await fetch(client, method, path), indent=1))
    return 0


def _reach(url: str | None, work: dialogue.Work) -> None:
    configure("error", "console")
    raise typer.Exit(anyio.run(dialogue.reach, address(url), work))
