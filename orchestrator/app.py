"""The orchestrator's composition root."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI

from orchestrator.answers import Answers
from orchestrator.clients import HTTPActor, HTTPCritic
from orchestrator.metrics import OrchestratorMetrics
from orchestrator.openai.routes import router as openai_router
from orchestrator.openai.wire import refuse
from orchestrator.routes import router
from orchestrator.runner import Runner
from orchestrator.settings import OrchestratorSettings
from services.app import create_app
from services.client import client_for
from services.health import Check
from services.redis import Store


def create(settings: OrchestratorSettings) -> FastAPI:
    """The orchestrator's application."""
    metrics = OrchestratorMetrics()
    clients = client_for(settings.actor_url), client_for(settings.critic_url)
    actor, critic = HTTPActor(clients[0], metrics), HTTPCritic(clients[1], metrics)
    answers, store = Answers(), Store(settings.redis_url)
    runner = Runner(settings, actor, critic, answers, metrics)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        async with answers.running(), store.running():
            try:
                yield
            finally:
                await _close(*clients)

    return create_app(
        title="Counterpoint",
        settings=settings,
        lifespan=lifespan,
        routers=[router(runner), openai_router(runner)],
        checks={
            "actor": Check(actor.check),
            "critic": Check(critic.check, required=False),
            "redis": Check(store.check, required=False),
        },
        service_metrics=metrics,
        forms={"/v1/": refuse},
    )


async def _close(*clients: httpx.AsyncClient) -> None:
    for client in clients:
        await client.aclose()
