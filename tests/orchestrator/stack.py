"""Three real servers in one event loop: the orchestrator over an actor and a critic on scripted engines."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

import orchestrator.app
from actor_service.routes import router as actor_router
from actor_service.service import ActorService
from critic_service.routes import router as critic_router
from critic_service.service import CriticService
from orchestrator.settings import OrchestratorSettings
from services.engines.scripted import ScriptedEngine, ScriptedOptions
from services.role import RoleService, create_role_app
from services.settings import ActorSettings, CriticSettings
from services.testing import serve

NOWHERE = "http://127.0.0.1:9"
"""An address on which nothing listens."""


@dataclass
class Stack:
    """The running services and their engines."""

    client: httpx.AsyncClient
    actor: ScriptedEngine
    critic: ScriptedEngine
    services: tuple[RoleService, RoleService]
    urls: tuple[str, str, str]
    """The addresses of the orchestrator, the actor and the critic."""

    async def solve(self, **body: Any) -> dict[str, Any]:
        """Solve and return the response, which must be a success."""
        response = await self.client.post("/solve", json={"problem": "Add 12 and 30 and 7.", **body})
        assert response.status_code == 200, response.text
        return response.json()

    @property
    def generations(self) -> int:
        """The number of calls that have reached an engine."""
        return self.actor.generations + self.critic.generations

    def engine_tokens(self) -> tuple[int, int]:
        """Return the tokens that each engine computed, by its own count."""
        return self.actor.totals.total_tokens, self.critic.totals.total_tokens


@asynccontextmanager
async def stack(
    actor: ScriptedOptions | None = None,
    critic: ScriptedOptions | None = None,
    *,
    without: str | None = None,
    **settings: Any,
) -> AsyncGenerator[Stack]:
    """Serve all three services; the role `without` cannot be reached from the orchestrator."""
    engines = ScriptedEngine(actor), ScriptedEngine(critic)

    async def open_actor() -> ScriptedEngine:
        return engines[0]

    async def open_critic() -> ScriptedEngine:
        return engines[1]

    acting = ActorService(ActorSettings.load(dialect="structured"), open_actor)
    judging = CriticService(CriticSettings.load(dialect="structured"), open_critic, b"a secret")
    async with (
        serve(create_role_app(acting, "actor", [actor_router(acting)])) as actor_url,
        serve(create_role_app(judging, "critic", [critic_router(judging)])) as critic_url,
        serve(
            orchestrator.app.create(
                OrchestratorSettings.load(
                    actor_url=NOWHERE if without == "actor" else actor_url,
                    critic_url=NOWHERE if without == "critic" else critic_url,
                    **settings,
                )
            )
        ) as url,
        httpx.AsyncClient(base_url=url, timeout=60) as client,
    ):
        yield Stack(client, engines[0], engines[1], (acting, judging), (url, actor_url, critic_url))
