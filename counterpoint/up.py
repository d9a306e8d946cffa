"""`counterpoint up` and `counterpoint run`: actor, critic and orchestrator on this machine."""

import difflib
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import anyio

from counterpoint import connection
from counterpoint.shared_engine import SharedEngine
from counterpoint.supervisor import free_port, keep_running, listen_error, service_specs, wait_ready
from orchestrator.request import SolveRequest
from orchestrator.settings import OrchestratorSettings
from services.engines.models import PAIR, POCKET, SMOLLM2, ModelError, model_path
from services.settings import ActorSettings, CriticSettings, SettingsError

SCRIPTED = "scripted"
WORKER = (sys.executable, "-m", "counterpoint", "worker")


def environment(models: str, assignments: Sequence[str], *, only: bool = False) -> dict[str, str]:
    """Return the environment variables of every service; with `only`, those of `assignments` alone.

    Raises `SettingsError` for an unknown model or setting.
    """
    variables = {} if only else _models(models)
    known = known_variables()
    for assignment in assignments:
        key, sign, value = assignment.partition("=")
        name = key.upper() if key.upper().startswith("COUNTERPOINT_") else f"COUNTERPOINT_{key.upper()}"
        if not sign or name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise SettingsError(f"--set {assignment}: there is no setting {name}{hint}")
        variables[name] = value
    return variables


def known_variables() -> list[str]:
    """Return the name of every environment variable that a service reads."""
    classes = (OrchestratorSettings, ActorSettings, CriticSettings)
    return sorted({kind.variable(field) for kind in classes for field in kind.model_fields})


def _models(models: str) -> dict[str, str]:
    if models == SCRIPTED:
        return {"COUNTERPOINT_ACTOR_ENGINE": SCRIPTED, "COUNTERPOINT_CRITIC_ENGINE": SCRIPTED}
    actor, critic = PAIR if models == POCKET else (models, models)
    try:
        paths = model_path(actor), model_path(critic)
    except ModelError as error:
        choices = f"{POCKET}, {SMOLLM2}, {SCRIPTED} or the path of a GGUF file"
        raise SettingsError(f"--models {models}: give {choices} ({error})") from error
    if models != POCKET:
        actor, critic = map(str, paths)
    return {"COUNTERPOINT_ACTOR_MODEL": actor, "COUNTERPOINT_CRITIC_MODEL": critic}


async def serve(
    host: str,
    port: int,
    variables: dict[str, str],
    when_ready: Callable[[str], Awaitable[None]] | None = None,
    shared_engine: SharedEngine | None = None,
) -> int:
    """Run all services until SIGTERM or Ctrl-C and return the exit code.

    `when_ready` is called once, with the orchestrator's URL. Raises `SettingsError` for a LoRA adapter that does not exist.
    """
    if (reason := listen_error(host, port)) is not None:
        sys.stderr.write(f"counterpoint: cannot listen on {host}:{port}: {reason}\n")
        return 2
    engine = shared_engine.process(free_port()) if shared_engine else None
    if shared_engine and engine:
        variables = {**shared_engine.settings(engine.url), **variables}
    *roles, orchestrator = service_specs(variables, host, port, after=engine.port if engine else None)
    redis = variables.get(OrchestratorSettings.variable("redis_url")) or OrchestratorSettings.load().redis_url
    workers = [replace(orchestrator, name="worker", command=WORKER)] if redis else []
    async with anyio.create_task_group() as group:
        for spec in (*([engine] if engine else []), *roles, orchestrator, *workers):
            group.start_soon(keep_running, spec)
        group.start_soon(_announce, orchestrator.url, when_ready)
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for _ in signals:
                break
        group.cancel_scope.cancel()
    return 0


async def _announce(url: str, when_ready: Callable[[str], Awaitable[None]] | None) -> None:
    await wait_ready(url)
    sys.stdout.write(f"ready {url}\n")
    sys.stdout.flush()
    if when_ready is not None:
        await when_ready(url)


async def serve_and_solve(port: int, variables: dict[str, str], request: SolveRequest, *, once: bool) -> int:
    """Run all services on loopback, send `request` once they are ready, and stop then if `once`; return the exit code."""
    code = 0
    with anyio.CancelScope() as scope:

        async def solve(url: str) -> None:
            nonlocal code
            sys.stdout.write(f"\n{request.problem}\n\n")
            code = await connection.solve(url, request, as_json=False)
            if once:
                scope.cancel()
            else:
                sys.stdout.write(f"\nServing at {url} (API documentation: {url}/docs). Press Ctrl-C to stop.\n")
                sys.stdout.flush()

        code = await serve("127.0.0.1", port, variables, when_ready=solve) or code
    return code
