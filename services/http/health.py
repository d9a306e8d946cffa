"""`/healthz`: the process responds. `/readyz`: its dependencies work too."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import anyio
import structlog
from fastapi import APIRouter
from starlette.responses import JSONResponse

from services.contracts.base import Reply

CHECK_SECONDS = 2.0
"""Time limit of a check; one that takes longer has failed."""

State = Literal["ok", "degraded", "down"]


class Readiness(Reply):
    """`GET /readyz`: whether the service can do its work, and the state of each dependency."""

    ready: bool
    checks: dict[str, State]


log = structlog.get_logger("health")


@dataclass(frozen=True, slots=True)
class Check:
    """The check of a dependency. `run` returns if the dependency works, and raises otherwise.

    Only a `required` dependency that is down makes the service unready; any other is `degraded`.
    """

    run: Callable[[], Awaitable[None]]
    required: bool = True


def router(checks: Mapping[str, Check]) -> APIRouter:
    """Return the two routes."""
    routes = APIRouter(tags=["health"])
    last_errors: dict[str, str] = {}

    @routes.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Respond, which shows that the process does."""
        return {"status": "ok"}

    @routes.get("/readyz", response_model=Readiness, responses={503: {"model": Readiness, "description": "not ready"}})
    async def readyz() -> JSONResponse:
        """Return whether the service can do its work, and the state of each dependency."""
        states: dict[str, State] = {}
        async with anyio.create_task_group() as group:
            for name, check in checks.items():
                group.start_soon(_run, name, check, states, last_errors)
        ready = all(states[name] == "ok" for name, check in checks.items() if check.required)
        body = Readiness(ready=ready, checks={name: states[name] for name in checks})
        return JSONResponse(body.model_dump(), status_code=200 if ready else 503, headers={"cache-control": "no-store"})

    return routes


async def _run(name: str, check: Check, states: dict[str, State], last_errors: dict[str, str]) -> None:
    """Run a check and record the state of its dependency. Log an error unless it is the same as the last time."""
    try:
        with anyio.fail_after(CHECK_SECONDS):
            await check.run()
    except Exception as error:  # noqa: BLE001 - a dependency is down whatever its check raises
        message = str(error) or type(error).__name__
        if last_errors.get(name) != message:
            last_errors[name] = message
            log.warning("check_failed", check=name, error=message)
        states[name] = "down" if check.required else "degraded"
    else:
        last_errors.pop(name, None)
        states[name] = "ok"
