"""The actor and the critic over HTTP."""

import math
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self

import anyio
import httpx
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from opentelemetry.trace import SpanKind
from pydantic import BaseModel, TypeAdapter, ValidationError

from orchestrator.metrics import CallMeter, OrchestratorMetrics
from orchestrator.ports import CallFailed, CritiqueStream, DraftStream
from services.call_context import CallContext
from services.contracts.calls import ACTOR_EVENT, CRITIC_EVENT, CritiqueRequest, DraftRequest, RefineRequest, UsageEvent
from services.contracts.model import ModelCard
from services.contracts.solve import Role
from services.contracts.usage import Usage
from services.errors import BudgetTooSmall, CounterpointError, EngineFailed, InvalidRequest, NotReady, Overloaded
from services.http import sse
from services.http.client import fetch, stream_events
from services.http.error_responses import as_error
from services.http.sse import ServerSentEvent
from services.observability import tracing

SETTLE_SECONDS = 0.3
"""Time in which a cancelled call may still report its usage."""
REPEAT_SECONDS = 0.01
"""Time after which a service that does not know a call yet is sent the cancellation again."""

_SPENT_NOTHING = (NotReady, Overloaded, BudgetTooSmall, InvalidRequest)


@dataclass(slots=True)
class HTTPCallStream:
    """One streamed call; see `ports.CallStream`.

    A task of its own reads the stream, so that cancelling the iteration leaves the stream intact: the call can then be
    cancelled in its service, and the stream read to its end for the exact usage.
    """

    _client: httpx.AsyncClient
    _role: Role
    _path: str
    _body: BaseModel
    _call: CallContext
    _meter: CallMeter
    _traced: tracing.Traced
    _group: TaskGroup = field(default_factory=anyio.create_task_group)
    _reading: anyio.CancelScope = field(default_factory=lambda: anyio.CancelScope(shield=True))
    _read_to_end: anyio.Event = field(default_factory=anyio.Event)
    _opened: bool = False
    _reported: Usage | None = None
    _error: CounterpointError | None = None
    _complete: bool = False
    _sent: bool = False
    spent_nothing: bool = True

    @property
    def usage(self) -> Usage | None:
        """The usage of the call, once its stream has ended."""
        return self._reported if self._complete else None

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._sent:
            if not self._read_to_end.is_set():
                await self._abort()
            self._reading.cancel()
            with anyio.CancelScope(shield=True):
                await self._read_to_end.wait()
        await self._group.__aexit__(None, None, None)
        outcome = "ok" if self._complete and error is None else ("failed" if isinstance(error, CallFailed) else "cancelled")
        self._meter.ended(outcome, self.usage)
        self._traced.set_usage(self.usage)
        if outcome != "ok":
            self._traced.fail(outcome)
        self._traced.end()

    async def __aiter__(self) -> AsyncIterator[Any]:
        send, receive = anyio.create_memory_object_stream[BaseModel](math.inf)
        self._sent, self.spent_nothing = True, False
        self._group.start_soon(self._follow, send)
        with receive:
            while (event := await _next(receive)) is not None:
                yield event
        if self._error is not None:
            raise CallFailed(self._role, self._error) from self._error

    async def _follow(self, send: MemoryObjectSendStream[BaseModel]) -> None:
        """Read the stream to its end, even if its events are no longer consumed."""
        try:
            with send, self._reading, self._meter.open():
                await self._open_and_read(send)
        except Exception as error:  # noqa: BLE001 - the boundary of the call, where every error becomes a typed one
            self._fail(as_error(error))
        finally:
            self._read_to_end.set()

    def _fail(self, error: CounterpointError) -> None:
        refused = isinstance(error, EngineFailed) and not self._opened
        self.spent_nothing = isinstance(error, _SPENT_NOTHING) or refused
        self._complete = self._complete or self._reported is not None
        self._error = error

    async def _open_and_read(self, send: MemoryObjectSendStream[BaseModel]) -> None:
        headers, sent_again = self._call.headers(), self._meter.sent_again
        async with stream_events(self._client, self._path, self._body, headers, sent_again) as events:
            self._opened = True
            async for event in events:
                parsed = self._parse(event)
                if parsed is not None:
                    with suppress(anyio.BrokenResourceError):
                        send.send_nowait(parsed)
            self._complete = self._reported is not None
        if not self._complete:
            raise EngineFailed(f"the {self._role} ended a call without its usage")

    def _parse(self, event: ServerSentEvent) -> BaseModel | None:
        """Parse an event; None for a usage, which is kept, and for an event of a newer service."""
        union: TypeAdapter[Any] = ACTOR_EVENT if self._role == "actor" else CRITIC_EVENT
        try:
            parsed = sse.parse(event, union)
        except ValueError as error:
            raise EngineFailed(f"the {self._role} sent an event that breaks its contract") from error
        if isinstance(parsed, UsageEvent):
            self._reported = parsed
            return None
        return parsed

    async def _abort(self) -> None:
        """Cancel the call in its service, which may not have started it yet, and wait a moment for the exact usage."""
        with anyio.move_on_after(SETTLE_SECONDS, shield=True):
            try:
                while not self._read_to_end.is_set():
                    if (await fetch(self._client, "DELETE", f"/v1/calls/{self._call.call_id}"))["cancelled"]:
                        break
                    await anyio.sleep(REPEAT_SECONDS)
                await self._read_to_end.wait()
            except NotReady:
                self.spent_nothing = not self._opened  # a service that cannot be reached has computed nothing
            except CounterpointError:
                return


async def _next(receive: MemoryObjectReceiveStream[BaseModel]) -> BaseModel | None:
    """Return the next event, without a turn of the event loop if it has arrived already; None at the end."""
    try:
        try:
            return receive.receive_nowait()
        except anyio.WouldBlock:
            return await receive.receive()
    except anyio.EndOfStream:
        return None


class _Client:
    """A role service: its address and its model card."""

    role: Role

    def __init__(self, client: httpx.AsyncClient, metrics: OrchestratorMetrics) -> None:
        self._client = client
        self._metrics = metrics
        self.card: ModelCard | None = None

    async def check(self) -> None:
        """Fetch the card. Raises `NotReady`, the error the service answered with, or `EngineFailed` for an invalid card."""
        try:
            self.card = ModelCard.model_validate(await fetch(self._client, "GET", "/v1/model"))
        except ValidationError as error:
            raise EngineFailed(f"the {self.role} did not answer with its card") from error

    def _call(self, verb: str, path: str, body: BaseModel, call: CallContext) -> HTTPCallStream:
        attributes = {
            tracing.OPERATION: "chat",
            tracing.MODEL: self.card.model if self.card else "unknown",
            tracing.ROLE: self.role,
            tracing.CALL_ID: call.call_id,
        }
        traced = tracing.begin(verb, call.traceparent, attributes, SpanKind.CLIENT)
        meter, call = self._metrics.meter(self.role, verb, call.session_id), replace(call, traceparent=traced.traceparent)
        return HTTPCallStream(self._client, self.role, path, body, call, meter, traced)


class HTTPActor(_Client):
    """The actor service."""

    role: Role = "actor"

    def draft(self, body: DraftRequest, call: CallContext) -> DraftStream:
        """Write solutions."""
        return self._call("draft", "/v1/draft", body, call)

    def refine(self, body: RefineRequest, call: CallContext) -> DraftStream:
        """Write new solutions given a critique."""
        return self._call("refine", "/v1/refine", body, call)


class HTTPCritic(_Client):
    """The critic service."""

    role: Role = "critic"

    def critique(self, body: CritiqueRequest, call: CallContext) -> CritiqueStream:
        """Judge a solution."""
        return self._call("critique", "/v1/critique", body, call)
