"""The commands. Exit codes: 0 success, 1 failure, 2 wrong usage or settings, 3 service unreachable."""

import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, TypeVar

import anyio
import httpx
import typer
from fastapi import FastAPI
from pydantic import ValidationError

import actor_service.routes
import critic_service.routes
import orchestrator.app
from counterpoint import batch, connection, doctor, evaluate, jobs, options, supervisor
from counterpoint.shared_engine import SharedEngine
from counterpoint.up import SCRIPTED, environment, serve, serve_and_solve
from orchestrator.access import Tenant, digest, generate_key
from orchestrator.settings import OrchestratorSettings
from services.http.app import VERSION
from services.http.server import run as run_server
from services.observability import tracing
from services.observability.logging import configure
from services.settings import ActorSettings, CriticSettings, ServiceSettings, SettingsError

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)

SettingsT = TypeVar("SettingsT", bound=ServiceSettings)

HostOption = Annotated[str | None, typer.Option(help="Address to listen on.")]
PortOption = Annotated[int | None, typer.Option(help="Port to listen on.")]
OrchestratorPortOption = Annotated[int, typer.Option(help="Port of the orchestrator.")]


def _version(requested: bool) -> None:  # noqa: FBT001 - typer's callback
    if requested:
        typer.echo(VERSION)
        raise typer.Exit


VersionOption = Annotated[
    bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
]


@app.callback()
def main(version: VersionOption = False) -> None:  # noqa: FBT002
    """Test-time supervision as a service: an actor writes, a critic judges, an orchestrator spends the budget."""


@app.command()
def actor(host: HostOption = None, port: PortOption = None) -> None:
    """Run the actor service."""
    _serve(ActorSettings, actor_service.routes.create, host, port)


@app.command()
def critic(host: HostOption = None, port: PortOption = None) -> None:
    """Run the critic service."""
    _serve(CriticSettings, critic_service.routes.create, host, port)


@app.command("orchestrator")
def orchestrate(host: HostOption = None, port: PortOption = None) -> None:
    """Run the orchestrator."""
    _serve(OrchestratorSettings, orchestrator.app.create, host, port)


@app.command()
@options.stop_on(SettingsError)
def worker(host: HostOption = None, port: PortOption = None) -> None:
    """Run jobs from Redis, alongside any number of other workers; with --port, also serve metrics and health checks."""
    settings = _load(OrchestratorSettings, host, port)
    configure(settings.log_level, settings.log_format)
    tracing.configure(settings.traces, "worker")
    anyio.run(partial(_work, settings, exposed=port is not None), backend_options={"use_uvloop": True})


async def _work(settings: OrchestratorSettings, *, exposed: bool) -> None:
    """Run jobs until SIGTERM or Ctrl-C; unfinished ones are handed over to other workers."""
    async with anyio.create_task_group() as group:
        group.start_soon(partial(orchestrator.app.work, settings, exposed=exposed))
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for _ in signals:
                break
        group.cancel_scope.cancel()


@app.command()
@options.stop_on(SettingsError)
def up(  # noqa: PLR0913, PLR0917 - the options of a command
    host: Annotated[str, typer.Option(help="Address that the orchestrator listens on.")] = "127.0.0.1",
    port: OrchestratorPortOption = 8080,
    models: options.ModelsOption = "pocket",
    assign: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting for all services; repeatable.")
    ] = None,
    shared_engine: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Serve this model to both roles from one vLLM server.")
    ] = None,
    actor_lora: Annotated[Path | None, typer.Option(help="LoRA adapter of the actor on the shared engine.")] = None,
    critic_lora: Annotated[Path | None, typer.Option(help="LoRA adapter of the critic on the shared engine.")] = None,
    engine_arg: Annotated[
        list[str] | None, typer.Option(metavar="ARG", help="An argument for the vLLM server; repeatable.")
    ] = None,
    vllm_python: Annotated[
        str, typer.Option(help="Python interpreter of an environment with vLLM.", show_default="the running one")
    ] = sys.executable,
) -> None:
    """Run all three services on this machine."""
    engine = None
    if shared_engine is not None:
        engine = SharedEngine(shared_engine, actor_lora, critic_lora, engine_arg or [], vllm_python)
    variables = environment(SCRIPTED if engine else models, assign or [], only=engine is not None)
    raise typer.Exit(anyio.run(partial(serve, host, port, variables, shared_engine=engine)))


@app.command()
def solve(  # noqa: PLR0913, PLR0917 - the options of a command
    problem: Annotated[str | None, typer.Argument(help="The problem to solve; - reads it from standard input.")] = None,
    url: options.UrlOption = None,
    strategy: options.StrategyOption = "refine",
    max_tokens: options.MaxTokensOption = None,
    seed: options.SeedOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print only the response, as JSON.")] = False,  # noqa: FBT002
    file: Annotated[Path | None, typer.Option("--file", "-f", help="JSONL file of problems to solve.")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="JSONL file for the responses; problems that it already answers are skipped."),
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Number of problems of a file to solve at once.")] = 4,
) -> None:
    """Solve a problem and print every step as it happens, or solve a file of problems."""
    if (problem is None) == (file is None):
        options.stop("give either a problem or a file of problems with --file")
    if (file is None) != (out is None):
        options.stop("--file and --out require each other")
    request = options.solve_request("problem" if problem is None else problem, strategy, max_tokens, seed)
    configure("error", "console")  # keeps standard output to the events, or to JSON
    if file is None or out is None:
        raise typer.Exit(anyio.run(partial(connection.solve, options.address(url), request, as_json=as_json)))
    operation = partial(batch.run, problems=batch.load(file), request=request, out=out, concurrency=concurrency)
    raise typer.Exit(anyio.run(connection.connect, options.address(url), operation))


app.add_typer(jobs.app, name="jobs")
app.command("replay")(jobs.replay)


@app.command()
@options.stop_on(SettingsError)
def run(
    problem: options.ProblemArgument,
    port: OrchestratorPortOption = 8080,
    models: options.ModelsOption = "pocket",
    once: Annotated[bool, typer.Option(help="Stop after the problem is solved.")] = False,  # noqa: FBT002
) -> None:
    """Run all three services, solve a first problem, and keep serving."""
    request = options.solve_request(problem, temperature=0.0)
    variables = environment(models, []) | supervisor.QUIET
    configure("error", "console")
    raise typer.Exit(anyio.run(partial(serve_and_solve, port, variables, request, once=once)))


@app.command("doctor")
def examine(
    url: Annotated[str | None, typer.Option(help="Address of an orchestrator to check as well.")] = None,
) -> None:
    """Check the configuration, and with --url the running services."""
    results = doctor.examine(options.address(url) if url else None)
    for result in results:
        typer.echo(f"ok   {result.subject}" if result.advice is None else f"FAIL {result.subject}: {result.advice}")
    raise typer.Exit(int(any(result.advice for result in results)))


app.add_typer(evaluate.app, name="eval")


@app.command()
def key(tenant: Annotated[str, typer.Argument(help="Name of the tenant: letters, digits, _ . -")]) -> None:
    """Generate an API key for a tenant and print it; its entry for the keys file goes to standard error."""
    generated = generate_key()
    try:
        entry = Tenant(tenant=tenant, sha256=digest(generated))
    except ValidationError as error:
        options.stop(f"tenant: {error.errors()[0]['msg']}")
    typer.echo(generated)
    typer.echo(f'\n[[keys]]\ntenant = "{entry.tenant}"\nsha256 = "{entry.sha256}"', err=True)


@app.command()
def health(url: Annotated[str, typer.Argument(help="URL to request.")]) -> None:
    """Request URL and exit with code 0 if the response is a success, else with 1."""
    try:
        response = httpx.get(options.address(url), timeout=5, trust_env=False)
    except httpx.TransportError as error:
        options.stop(f"{url}: {error}", 1)
    raise typer.Exit(0 if response.is_success else 1)


def _load(kind: type[SettingsT], host: str | None, port: int | None) -> SettingsT:
    supervisor.die_with_parent()
    return kind.load(host=host, port=port)


@options.stop_on(SettingsError)
def _serve(kind: type[SettingsT], create: Callable[[SettingsT], FastAPI], host: str | None, port: int | None) -> None:
    settings = _load(kind, host, port)
    run_server(create(settings), settings)
