"""The commands. Exit codes: 0 well, 1 an error, 2 wrong usage or settings, 3 nothing listens."""

import signal
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, TypeVar

import anyio
import httpx
import typer
from fastapi import FastAPI
from pydantic import ValidationError

import actor_service.app
import critic_service.app
import orchestrator.app
from counterpoint import batch, dialogue, doctor, evaluate, jobs, supervisor
from counterpoint import up as stack
from counterpoint.asking import UrlOption, address, request_of
from counterpoint.ending import stop
from counterpoint.first import run as run_first
from counterpoint.shared import SharedEngine
from orchestrator.access import Tenant, digest, generate_key
from orchestrator.request import SolveRequest
from orchestrator.settings import OrchestratorSettings
from services import tracing
from services.app import VERSION
from services.contracts.solve import SolveSampling
from services.server import run
from services.settings import ActorSettings, CriticSettings, ServiceSettings, SettingsError
from services.telemetry import configure

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help="Test-time supervision.")

Host = Annotated[str | None, typer.Option(help="Address to listen on.")]
SettingsT = TypeVar("SettingsT", bound=ServiceSettings)

PortOption = Annotated[int | None, typer.Option(help="Port to listen on.")]


def _version(asked: bool) -> None:  # noqa: FBT001 - typer's callback
    if asked:
        typer.echo(VERSION)
        raise typer.Exit


@app.callback()
def main(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False) -> None:  # noqa: FBT002
    """Test-time supervision as a service: an actor writes, a critic judges, an orchestrator spends the budget."""


@app.command()
def actor(host: Host = None, port: PortOption = None) -> None:
    """Run the actor service."""
    settings = _load(ActorSettings, host, port)
    _serve(actor_service.app.create(settings), settings)


@app.command()
def critic(host: Host = None, port: PortOption = None) -> None:
    """Run the critic service."""
    settings = _load(CriticSettings, host, port)
    _serve(critic_service.app.create(settings), settings)


@app.command("orchestrator")
def orchestrate(host: Host = None, port: PortOption = None) -> None:
    """Run the orchestrator."""
    settings = _load(OrchestratorSettings, host, port)
    _serve(orchestrator.app.create(settings), settings)


@app.command()
def worker(host: Host = None, port: PortOption = None) -> None:
    """Run jobs out of Redis; as many workers as you like. With a port, serve /metrics, /healthz and /readyz on it."""
    settings = _load(OrchestratorSettings, host, port)
    configure(settings.log_level, settings.log_format)
    try:
        tracing.configure(settings.traces, "worker")
        anyio.run(partial(_work, settings, exposed=port is not None), backend_options={"use_uvloop": True})
    except SettingsError as error:
        stop(str(error))


async def _work(settings: OrchestratorSettings, *, exposed: bool) -> None:
    """Until SIGTERM or Ctrl-C; what is running then is another worker's."""
    async with anyio.create_task_group() as group:
        group.start_soon(partial(orchestrator.app.work, settings, exposed=exposed))
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for _ in signals:
                break
        group.cancel_scope.cancel()


@app.command()
def up(  # noqa: PLR0913, PLR0917 - the options of a command
    host: str = "127.0.0.1",
    port: int = 8080,
    models: Annotated[str, typer.Option(help="pocket, smollm2, scripted, or the path of a GGUF file.")] = "pocket",
    assign: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE for all services.")] = None,
    shared_engine: Annotated[str | None, typer.Option(help="A model for both roles, on one vLLM server.")] = None,
    actor_lora: Annotated[Path | None, typer.Option(help="The actor's LoRA adapter on it.")] = None,
    critic_lora: Annotated[Path | None, typer.Option(help="The critic's.")] = None,
    engine_arg: Annotated[list[str] | None, typer.Option(help="More arguments of that server.")] = None,
    vllm_python: Annotated[str, typer.Option(help="The interpreter that has vLLM.")] = sys.executable,
) -> None:
    """Run all three services on this machine."""
    shared = None
    if shared_engine is not None:
        shared = SharedEngine(shared_engine, actor_lora, critic_lora, engine_arg or [], vllm_python)
    try:
        variables = stack.environment(stack.SCRIPTED if shared else models, assign or [], only=shared is not None)
        code = anyio.run(partial(stack.up, host, port, variables, shared=shared))
    except SettingsError as error:
        stop(str(error))
    raise typer.Exit(code)


@app.command()
def solve(  # noqa: PLR0913, PLR0917 - the options of a command
    problem: Annotated[str | None, typer.Argument(help="The problem; - reads it from standard input.")] = None,
    url: UrlOption = None,
    strategy: Annotated[str, typer.Option(help="A name, or an object as in POST /solve.")] = "refine",
    max_tokens: int | None = None,
    seed: int | None = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the response as JSON.")] = False,  # noqa: FBT002
    file: Annotated[Path | None, typer.Option("--file", "-f", help="Solve every problem of a JSONL file.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Where its responses go; what is there is kept.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Solves at a time.")] = 4,
) -> None:
    """Solve a problem and print the dialogue live, or a file of problems."""
    if (problem is None) == (file is None):
        stop("give a problem, or a file of them with --file")
    if (file is None) != (out is None):
        stop("--file and --out go together")
    request = request_of("problem" if problem is None else problem, strategy, max_tokens, seed)
    configure("error", "console")  # what is printed is the dialogue, or JSON
    if file is None or out is None:
        raise typer.Exit(anyio.run(partial(dialogue.solve, address(url), request, as_json=as_json)))
    try:
        problems = batch.load(file)
    except (batch.BadFile, OSError) as error:
        stop(str(error))
    work = partial(batch.run, problems=problems, request=request, out=out, concurrency=concurrency)
    raise typer.Exit(anyio.run(dialogue.reach, address(url), work))


app.add_typer(jobs.app, name="jobs")
app.command("replay")(jobs.replay)


@app.command("run")
def first(
    problem: str,
    port: int = 8080,
    models: str = "pocket",
    once: Annotated[bool, typer.Option(help="Stop after the first problem.")] = False,  # noqa: FBT002
) -> None:
    """Start everything, solve a first problem live, and serve."""
    try:
        variables = stack.environment(models, ["LOG_LEVEL=error", "ACTOR_LOG_LEVEL=error", "CRITIC_LOG_LEVEL=error"])
    except SettingsError as error:
        stop(str(error))
    request = SolveRequest(problem=problem, sampling=SolveSampling(temperature=0.0))
    configure("error", "console")
    raise typer.Exit(anyio.run(partial(run_first, port, variables, request, once=once)))


@app.command("doctor")
def examine(url: str | None = None) -> None:
    """Check the configuration and, with --url, the services."""
    findings = doctor.examine(address(url) if url else None)
    for finding in findings:
        typer.echo(f"ok   {finding.what}" if finding.advice is None else f"FAIL {finding.what}: {finding.advice}")
    raise typer.Exit(int(any(finding.advice for finding in findings)))


app.add_typer(evaluate.app, name="eval")


@app.command()
def key(tenant: Annotated[str, typer.Argument(help="Whose key it is: letters, digits, _ . -")]) -> None:
    """Make a key for a tenant: the key, shown this once, and the entry that the keys' file wants of it."""
    made = generate_key()
    try:
        entry = Tenant(tenant=tenant, sha256=digest(made))
    except ValidationError as error:
        stop(f"tenant: {error.errors()[0]['msg']}")
    typer.echo(made)
    typer.echo(f'\n[[keys]]\ntenant = "{entry.tenant}"\nsha256 = "{entry.sha256}"', err=True)


@app.command()
def health(url: str) -> None:
    """Exit with 0 if and only if URL answers 200."""
    try:
        answer = httpx.get(address(url), timeout=5, trust_env=False)
    except httpx.TransportError as error:
        stop(f"{url}: {error}", 1)
    raise typer.Exit(0 if answer.is_success else 1)


def _load(kind: type[SettingsT], host: str | None, port: int | None) -> SettingsT:
    supervisor.die_with_parent()
    try:
        return kind.load(host=host, port=port)
    except SettingsError as error:
        stop(str(error))


def _serve(application: FastAPI, settings: ServiceSettings) -> None:
    try:
        run(application, settings)
    except SettingsError as error:
        stop(str(error))
