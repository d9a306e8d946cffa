"""`/healthz`: the process answers. `/readyz`: what it needs answers too."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import anyio
import structlog
from fastapi import APIRouter
from starlette.responses import JSONResponse

from services.contracts.base import Reply

CHECK_SECONDS = 2.0
"""A check that takes longer has failed."""

State = Literal["ok", "degraded", "down"]


class Readiness(Reply):
    """`GET /readyz`: whether the service can do its work, and the state of what it needs."""

    ready: bool
    checks: dict[str, State]


log = structlog.get_logger("health")


@dataclass(frozen=True, slots=True)
class Check:
    """Something a service needs. `run` returns when it works and raises when it does not.

    Only a `required` one makes the service unready; another one's failure is `degraded`.
    """

    run: Callable[[], Awaitable[None]]
    required: bool = True


def router(checks: Mapping[str, Check]) -> APIRouter:
    """The two routes."""
    routes = APIRouter(tags=["health"])
    told: dict[str, str] = {}

    @routes.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Whether the process answers."""
        return {"status": "ok"}

    @routes.get("/readyz", response_model=Readiness, responses={503: {"model": Readiness, "description": "not ready"}})
    async def readyz() -> JSONResponse:
        """Whether the service can do its work, and the state of what it needs."""
        states: dict[str, State] = {}
        async with anyio.create_task_group() as group:
            for name, check in checks.items():
                group.start_soon(_run, name, check, states, told)
        ready = all(states[name] == "ok" for name, check in checks.items() if check.required)
        body = Readiness(ready=ready, checks={name: states[name] for name in checks})
        return JSONResponse(body.model_dump(), status_code=200 if ready else 503, headers={"cache-control": "no-store"})

    return routes


async def _run(name: str, check: Check, states: dict[str, State], told: dict[str, str]) -> None:
    """Run a check; what it fails with is logged when it changes, however often it is asked."""
    try:
        with anyio.fail_after(CHECK_SECONDS):
            await check.run()
    except Exception as error:  # noqa: BLE001 - whatever a check raises, the thing it checks is not there
        why = str(error) or type(error).__name__
        if told.get(name) != why:
            told[name] = why
            log.warning("check_failed", check=name, error=why)
        states[name] = "down" if check.required else "degraded"
    else:
        told.pop(name, None)
        states[name] = "ok"
