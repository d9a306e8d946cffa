"""A role service whose engine is a benchmark's own."""

from collections.abc import Awaitable, Callable

from fastapi import FastAPI

import actor_service.routes
import critic_service.routes
from actor_service.service import ActorService
from critic_service.service import CriticService
from services.engines.protocol import Engine
from services.role import create_role_app
from services.settings import ActorSettings, CriticSettings, RoleSettings


def role_app(settings: ActorSettings | CriticSettings, load: Callable[[RoleSettings], Awaitable[Engine]]) -> FastAPI:
    """Return the application of the role with these settings; `load` loads its engine."""
    if isinstance(settings, ActorSettings):
        actor = ActorService(settings, lambda: load(settings))
        return create_role_app(actor, "actor", [actor_service.routes.router(actor)])
    critic = CriticService(settings, lambda: load(settings), b"benchmark")
    return create_role_app(critic, "critic", [critic_service.routes.router(critic)])
