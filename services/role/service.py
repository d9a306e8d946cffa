"""A role service: its engine, the life of its calls, its metrics and the two routes that both roles have."""

import signal
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import anyio
import structlog
from fastapi import APIRouter, FastAPI
from starlette.responses import JSONResponse

from services.call_context import CallContext
from services.contracts.calls import UsageEvent
from services.contracts.messages import Message
from services.contracts.model import ModelCard
from services.contracts.sampling import Sampling
from services.contracts.usage import Allowance, Usage
from services.engines.protocol import Engine, GenerationStream, Prompt
from services.errors import CounterpointError, EngineDied, EngineFailed, NotReady
from services.http.app import create_app
from services.http.health import Check
from services.http.streaming import Emit
from services.observability.metrics import RoleMetrics
from services.role.allowance import completion_cap
from services.role.in_flight import CallsInFlight
from services.role.neutralise import neutralise
from services.settings import RoleSettings

WATCH_SECONDS = 1.0
"""Time between checks of the engine, which do not depend on requests to `/readyz`."""

log = structlog.get_logger("role")

OpenEngine = Callable[[], Awaitable[Engine]]


class Reply(Protocol):
    """A role's part in a call: turning the deltas of a generation into events."""

    async def follow(self, stream: GenerationStream) -> None:
        """Read the stream to its end."""
        ...

    async def finish(self, *, cancelled: bool) -> None:
        """Emit the last events; `cancelled` if the call was aborted or its deadline has passed."""
        ...

    async def recover(self) -> bool:
        """Emit what is complete after the engine has failed; return whether that answers the call."""
        ...


class RoleService:
    """An engine and the calls it works on. The engine is loaded while `running` is open."""

    def __init__(self, settings: RoleSettings, open_engine: OpenEngine, metrics: RoleMetrics) -> None:
        self.settings = settings
        self.calls = CallsInFlight(settings.slots + settings.max_queue)
        self.metrics = metrics
        self.metrics.in_flight.set_function(lambda: len(self.calls))
        self.metrics.most_in_flight.set(self.calls.limit)
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
        """End the process when its engine has died, so that its supervisor starts both again."""
        while True:
            await anyio.sleep(WATCH_SECONDS)
            try:
                await engine.check()
            except EngineDied as error:
                log.critical("engine_died", engine=engine.name, model=engine.model, detail=error.detail)
                signal.raise_signal(signal.SIGTERM)
                return
            except CounterpointError:
                continue  # /readyz reports it; it may pass

    async def check(self) -> None:
        """Return when the engine works; raise its error otherwise."""
        await self.engine.check()

    def card(self) -> ModelCard:
        """Return the service's model card."""
        raise NotImplementedError

    def safe(self, text: str) -> str:
        """Return text that others wrote, without the model's control tokens."""
        return neutralise(text, self.engine.special_tokens)

    def safe_messages(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        """Return messages without the model's control tokens."""
        return tuple(message.model_copy(update={"content": self.safe(message.content)}) for message in messages)

    def capped(self, sampling: Sampling, allowance: Allowance, prompt: Prompt, n: int = 1) -> Sampling:
        """Return the sampling of `n` completions inside their allowance. Raises `BudgetTooSmall`."""
        tokens = self.engine.count(prompt)
        cap = completion_cap(allowance, prompt_tokens=tokens, n=n, max_tokens=sampling.max_tokens)
        return sampling.model_copy(update={"max_tokens": cap})

    async def run_call(
        self,
        verb: str,
        call: CallContext,
        generation: AbstractAsyncContextManager[GenerationStream],
        reply: Reply,
        emit: Emit,
    ) -> None:
        """Run a call from its admission to its usage event and its metrics, however it ends.

        Raises `Overloaded` or `InvalidRequest` if it is not admitted, and `EngineFailed` if the reply does not recover.
        """
        stream: GenerationStream | None = None
        outcome = "cancelled"

        def usage() -> Usage:
            return stream.usage if stream else Usage()

        try:
            with self.calls.admit(call) as scope:
                async with generation as stream:
                    await reply.follow(stream)
            outcome = "cancelled" if scope.cancelled_caught else "ok"
            await reply.finish(cancelled=scope.cancelled_caught)
            await emit(UsageEvent(**usage().model_dump()))
        except EngineFailed:
            outcome = "failed"
            recovered = await reply.recover()
            if recovered or usage().total_tokens:
                await emit(UsageEvent(**usage().model_dump()))
            if not recovered:
                raise
        except CounterpointError:
            outcome = "refused"
            raise
        finally:
            self.metrics.record(verb, outcome, usage())


def create_role_app(service: RoleService, title: str, routers: list[APIRouter]) -> FastAPI:
    """Create the application of a role service around its own routes."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        async with service.running():
            yield

    return create_app(
        title=title,
        settings=service.settings,
        lifespan=lifespan,
        routers=[*routers, _router(service)],
        checks={"engine": Check(service.check)},
        service_metrics=service.metrics,
    )


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
