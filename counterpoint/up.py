"""`counterpoint up`: actor, critic and orchestrator on this machine."""

import difflib
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import anyio

from counterpoint.shared import SharedEngine
from counterpoint.supervisor import Plan, free_port, keep, wait_ready
from orchestrator.settings import OrchestratorSettings
from services.engines.models import PAIR, POCKET, SMOLLM2, ModelError, model_path
from services.settings import ActorSettings, CriticSettings, SettingsError

SCRIPTED = "scripted"
WORKER = (sys.executable, "-m", "counterpoint", "worker")


def environment(models: str, assignments: Sequence[str], *, only: bool = False) -> dict[str, str]:
    """Variables for every service; `only` the assignments. Raises `SettingsError` for an unknown model or key."""
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


def _redis(variables: dict[str, str]) -> str | None:
    """The Redis that jobs are kept in, by the settings that the services will see."""
    name = OrchestratorSettings.variable("redis_url")
    return variables.get(name) or OrchestratorSettings.load().redis_url


def known_variables() -> list[str]:
    """Every environment variable that a service reads."""
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


async def up(
    host: str,
    port: int,
    variables: dict[str, str],
    when_ready: Callable[[str], Awaitable[None]] | None = None,
    shared: SharedEngine | None = None,
) -> int:
    """Run until SIGTERM or Ctrl-C; `when_ready` is called once with the address. The exit code.

    Raises `SettingsError` for a shared engine's adapter that does not exist.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            sys.stderr.write(f"counterpoint: cannot listen on {host}:{port}: {error.strerror}\n")
            return 2
    first = free_port()
    engines = [shared.plan(first)] if shared else []
    if shared:
        variables = {**shared.settings(engines[0].url), **variables}
    actor = Plan("actor", "127.0.0.1", free_port(after=first) if engines else first, variables)
    critic = Plan("critic", "127.0.0.1", free_port(after=actor.port), variables)
    urls = {"COUNTERPOINT_ACTOR_URL": actor.url, "COUNTERPOINT_CRITIC_URL": critic.url}
    front = Plan("orchestrator", host, port, {**variables, **urls})
    workers = [replace(front, name="worker", command=WORKER)] if _redis(variables) else []
    async with anyio.create_task_group() as group:
        for plan in (*engines, actor, critic, front, *workers):
            group.start_soon(keep, plan)
        group.start_soon(_announce, front.url, when_ready)
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


def url_from_environment() -> str:
    """Where `solve` and `doctor` look when they are not told."""
    return os.environ.get("COUNTERPOINT_URL", "http://127.0.0.1:8080")
