"""What an actor and a critic have in common: an engine, the calls it works on, a card, metrics and two routes."""

import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import anyio
import structlog
from fastapi import APIRouter, FastAPI
from starlette.responses import JSONResponse

from services.app import create_app
from services.call_context import CallContext
from services.calls import Calls
from services.contracts.model import ModelCard
from services.engines.protocol import Caller, Engine
from services.errors import CounterpointError, EngineDied, NotReady
from services.health import Check
from services.metrics import RoleMetrics
from services.neutralise import neutralise
from services.settings import RoleSettings

WATCH_SECONDS = 1.0
"""How often the engine is looked at when nobody asks for `/readyz`."""

log = structlog.get_logger("role")

OpenEngine = Callable[[], Awaitable[Engine]]


class RoleService:
    """An engine and the calls it works on. The engine is there while `running` is open."""

    def __init__(self, settings: RoleSettings, open_engine: OpenEngine, metrics: RoleMetrics) -> None:
        self.settings = settings
        self.calls = Calls(settings.slots + settings.max_queue)
        self.metrics = metrics
        self.metrics.in_flight.set_function(lambda: len(self.calls))
        self.metrics.most_in_flight.set(self.calls.most)
        self._open_engine = open_engine
        self.metrics.generating.set_function(lambda: self._engine.in_flight if self._engine else 0)
        self._engine: Engine | None = None

    @property
    def engine(self) -> Engine:
        """The engine. Raises `NotReady` before it is loaded."""
        if self._engine is None:
            raise NotReady("the engine is not loaded", retry_after=1)
        return self._engine

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Load the engine, and free it at the end."""
        engine = self._engine = await self._open_engine()
        if engine.metrics:
            self.metrics.registry.register(engine.metrics)
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._watch, engine)
                yield
                group.cancel_scope.cancel()
        finally:
            self._engine = None
            await engine.close()

    async def _watch(self, engine: Engine) -> None:
        """End the process when its engine has died: whoever supervises it starts both again."""
        while True:
            await anyio.sleep(WATCH_SECONDS)
            try:
                await engine.check()
            except EngineDied as error:
                log.critical("engine_died", engine=engine.name, model=engine.model, detail=error.detail)
                signal.raise_signal(signal.SIGTERM)
                return
            except CounterpointError:
                continue  # /readyz tells of it; it may pass

    async def check(self) -> None:
        """Whether the engine works."""
        await self.engine.check()

    def card(self) -> ModelCard:
        """What the service says about itself."""
        raise NotImplementedError

    def safe(self, text: str) -> str:
        """Text that somebody else wrote, without the model's control tokens."""
        return neutralise(text, self.engine.special_tokens)


def caller_of(call: CallContext) -> Caller:
    """What an engine is told of a call."""
    return Caller(call.session_id, call.priority, call.tenant)


def create_role_app(service: RoleService, title: str, routers: list[APIRouter]) -> FastAPI:
    """The application of a role service around its own routes."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        async with service.running():
            yield

    return create_app(
        title=title,
        settings=service.settings,
        lifespan=lifespan,
        routers=[*routers, _router(service)],
        checks=checks(service),
        service_metrics=service.metrics,
    )


def checks(service: RoleService) -> Mapping[str, Check]:
    """What a role service needs: its engine."""
    return {"engine": Check(service.check)}


def _router(service: RoleService) -> APIRouter:
    routes = APIRouter(prefix="/v1", tags=["model"])

    @routes.get("/model")
    async def model() -> ModelCard:
        """The model, its engine, and what they can do."""
        return service.card()

    @routes.delete("/calls/{call_id}", status_code=202)
    async def cancel(call_id: str) -> JSONResponse:
        """Abort a running call; its own stream ends with what it has and the exact usage."""
        return JSONResponse({"cancelled": service.calls.cancel(call_id)}, status_code=202)

    return routes
