"""The orchestrator's composition root."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial

import anyio
from docket import Docket
from fastapi import FastAPI

from orchestrator.access.gate import Gate
from orchestrator.access.keys import Keys
from orchestrator.access.limits import Limits
from orchestrator.answers import Answers
from orchestrator.clients import HTTPActor, HTTPCritic
from orchestrator.jobs.depth import depth
from orchestrator.jobs.routes import router as jobs_router
from orchestrator.jobs.store import JobStore
from orchestrator.jobs.worker import TASK, Workshop
from orchestrator.metrics import OrchestratorMetrics
from orchestrator.openai.routes import router as openai_router
from orchestrator.openai.wire import refuse
from orchestrator.page.routes import router as page_router
from orchestrator.routes import router
from orchestrator.runner import Runner
from orchestrator.settings import OrchestratorSettings
from services.app import create_app
from services.call_context import new_id
from services.client import client_for
from services.health import Check
from services.redis import Store
from services.server import beside
from services.settings import SettingsError


def create(settings: OrchestratorSettings) -> FastAPI:
    """The orchestrator's application."""
    metrics = OrchestratorMetrics()
    clients = client_for(settings.actor_url), client_for(settings.critic_url)
    actor, critic = HTTPActor(clients[0], metrics), HTTPCritic(clients[1], metrics)
    answers, store = Answers(), Store(settings.redis_url)
    docket = docket_of(settings)
    limits = limits_of(settings, docket)
    runner = Runner(settings, actor, critic, answers, metrics, limits)
    workshop = workshop_of(settings, runner, docket)
    forms = {"/v1/": refuse}
    metrics.most_in_flight.set(settings.max_in_flight)

    async def count_jobs() -> None:
        metrics.jobs_are(*await depth(docket))

    metrics.gather = count_jobs

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        async with AsyncExitStack() as opened:
            for client in clients:
                opened.push_async_callback(client.aclose)
            await opened.enter_async_context(answers.running())
            await opened.enter_async_context(store.running())
            await opened.enter_async_context(docket)
            if settings.redis_url is None:
                await opened.enter_async_context(workshop.open(docket))
            yield

    return create_app(
        title="Counterpoint",
        settings=settings,
        lifespan=lifespan,
        routers=[router(runner), openai_router(runner), jobs_router(runner, workshop.store, docket), page_router()],
        checks={
            "actor": Check(actor.check),
            "critic": Check(critic.check, required=False),
            "redis": Check(store.check, required=False),
        },
        service_metrics=metrics,
        forms=forms,
        guards=[partial(Gate, limits=limits, forms=forms)],
    )


async def work(settings: OrchestratorSettings, *, exposed: bool = False) -> None:
    """Run jobs out of Redis until cancelled; `exposed`: with its metrics and health on `settings.port`.

    Raises `SettingsError` where no Redis is configured.
    """
    if settings.redis_url is None:
        raise SettingsError("a worker needs COUNTERPOINT_REDIS_URL: without Redis the orchestrator runs its own jobs")
    metrics = OrchestratorMetrics()
    answers = Answers()
    async with client_for(settings.actor_url) as acting, client_for(settings.critic_url) as judging:
        docket = docket_of(settings)
        actor, critic = HTTPActor(acting, metrics), HTTPCritic(judging, metrics)
        runner = Runner(settings, actor, critic, answers, metrics, limits_of(settings, docket))
        workshop = workshop_of(settings, runner, docket)
        async with answers.running(), docket, workshop.open(docket), anyio.create_task_group() as group:
            if exposed:
                group.start_soon(beside, _looked_at(settings, metrics), settings)
            await anyio.sleep_forever()


def _looked_at(settings: OrchestratorSettings, metrics: OrchestratorMetrics) -> FastAPI:
    """What a worker serves: how it is, and what it measures."""
    store = Store(settings.redis_url)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        async with store.running():
            yield

    return create_app(
        title="Counterpoint worker",
        settings=settings,
        lifespan=lifespan,
        routers=[],
        checks={"redis": Check(store.check)},
        service_metrics=metrics,
    )


def docket_of(settings: OrchestratorSettings) -> Docket:
    """Where jobs are queued and limits are counted: in Redis, or in this process's own memory."""
    url = settings.redis_url or f"memory://{new_id('jobs')}"
    return Docket("counterpoint", url, execution_ttl=timedelta(0))  # what became of a job is the store's to know


def limits_of(settings: OrchestratorSettings, docket: Docket) -> Limits:
    """Who may ask for what. Raises `SettingsError`."""
    return Limits(None if settings.keys_file is None else Keys.load(settings.keys_file), docket)


def workshop_of(settings: OrchestratorSettings, runner: Runner, docket: Docket) -> Workshop:
    """Who runs the jobs of a docket."""
    ttl, lease = settings.job_ttl_seconds, settings.job_lease_seconds
    workshop = Workshop(runner, JobStore(docket, ttl, lease, durable=settings.redis_url is not None))
    docket.register(workshop.run_job, names=[TASK])
    return workshop
