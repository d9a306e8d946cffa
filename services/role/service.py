"""A role service: its engine, the life cycle of its calls, its metrics and the two routes that both roles have."""

import signal
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

import anyio
import structlog
from fastapi import APIRouter, FastAPI
from starlette.responses import JSONResponse

from services.call_context import CallContext
from services.contracts.calls import UsageEvent
from services.contracts.errors import Limit
from services.contracts.messages import Message
from services.contracts.model import ModelCard
from services.contracts.sampling import Sampling
from services.contracts.solve import Role
from services.contracts.usage import Allowance, Usage
from services.engines.protocol import Engine, GenerationStream, Prompt
from services.errors import BudgetTooSmall, CounterpointError, EngineDied, EngineFailed, NotReady
from services.http.app import create_app
from services.http.health import Check
from services.http.streaming import Emit
from services.observability.metrics import RoleMetrics
from services.role.in_flight import CallsInFlight
from services.role.neutralise import neutralise
from services.settings import RoleSettings

WATCH_SECONDS = 1.0
"""Interval of the engine's checks, which are independent of requests to `/readyz`."""

log = structlog.get_logger("role")

OpenEngine = Callable[[], Awaitable[Engine]]


class CallHandler(Protocol):
    """A role's part in a call: turning the deltas of a generation into events."""

    async def follow(self, stream: GenerationStream) -> None:
        """Read the stream to its end."""
        ...

    async def finish(self, *, cancelled: bool) -> None:
        """Emit the last events; `cancelled` if the call was aborted or its deadline has passed."""
        ...

    async def recover(self) -> bool:
        """Emit the complete results after the engine has failed; return whether they are enough to answer the call."""
        ...


class RoleService:
    """An engine and the calls in flight. The engine is loaded while `running` is open."""

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
        """Load the engine while the context lasts."""
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
        """Stop the process if its engine has died, so that its supervisor restarts both."""
        while True:
            await anyio.sleep(WATCH_SECONDS)
            try:
                await engine.check()
            except EngineDied as error:
                log.critical("engine_died", engine=engine.name, model=engine.model, detail=error.detail)
                signal.raise_signal(signal.SIGTERM)
                return
            except CounterpointError:
                continue  # it may be temporary, and /readyz reports it

    def card(self) -> ModelCard:
        """Return the service's model card."""
        raise NotImplementedError

    def _card(self, role: Role, dialect: str, **fields: Any) -> ModelCard:  # noqa: ANN401 - checked by the model
        """Return a model card of the engine and the dialect, with a role's own fields."""
        engine = self.engine
        return ModelCard(
            role=role,
            model=engine.model,
            engine=engine.name,
            dialect=dialect,
            context_length=engine.context_length,
            parameters=engine.parameters,
            capabilities=engine.capabilities,
            counts=engine.capabilities.counts,
            **fields,
        )

    def safe(self, text: str) -> str:
        """Return a text from a request with the model's control tokens neutralised."""
        return neutralise(text, self.engine.special_tokens)

    def safe_messages(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        """Return messages with the model's control tokens neutralised."""
        return tuple(message.model_copy(update={"content": self.safe(message.content)}) for message in messages)

    def capped(self, sampling: Sampling, allowance: Allowance, prompt: Prompt, n: int = 1) -> Sampling:
        """Cap `max_tokens` so that `n` completions stay within their allowance. Raises `BudgetTooSmall` if none fits."""
        prompt_tokens = self.engine.count(prompt)
        caps = [sampling.max_tokens]
        for name, reserved in (("max_tokens", prompt_tokens), ("max_completion_tokens", 0)):
            limit: int | None = getattr(allowance, name)
            if limit is None:
                continue
            if reserved + n > limit:
                raise BudgetTooSmall(
                    f"the call needs {reserved + n} tokens and its allowance is {limit}",
                    limit=Limit(name=name, value=limit, needed=reserved + n),
                )
            caps.append((limit - reserved) // n)
        return sampling.model_copy(update={"max_tokens": min(caps)})

    async def run_call(
        self,
        verb: str,
        call: CallContext,
        generation: AbstractAsyncContextManager[GenerationStream],
        handler: CallHandler,
        emit: Emit,
    ) -> None:
        """Run a call from its admission to its usage event and its metrics, however it ends.

        Raises `Overloaded` or `InvalidRequest` if it is not admitted, and `EngineFailed` if the handler cannot recover.
        """
        stream: GenerationStream | None = None
        outcome = "cancelled"

        def usage() -> Usage:
            return stream.usage if stream else Usage()

        try:
            with self.calls.admit(call) as scope:
                async with generation as stream:
                    await handler.follow(stream)
            outcome = "cancelled" if scope.cancelled_caught else "ok"
            await handler.finish(cancelled=scope.cancelled_caught)
            await emit(UsageEvent(**usage().model_dump()))
        except EngineFailed:
            outcome = "failed"
            recovered = await handler.recover()
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

    model_routes = APIRouter(prefix="/v1", tags=["model"])

    @model_routes.get("/model")
    async def model() -> ModelCard:
        """Return the model, its engine, and the features of both."""
        return service.card()

    @model_routes.delete("/calls/{call_id}", status_code=202)
    async def cancel(call_id: str) -> JSONResponse:
        """Abort a running call; its stream ends with its output so far and the exact usage."""
        return JSONResponse({"cancelled": service.calls.cancel(call_id)}, status_code=202)

    return create_app(
        title=title,
        settings=service.settings,
        lifespan=lifespan,
        routers=[*routers, model_routes],
        checks={"engine": Check(lambda: service.engine.check())},  # noqa: PLW0108 - the engine is loaded later
        service_metrics=service.metrics,
    )
