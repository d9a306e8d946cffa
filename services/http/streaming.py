"""Responses that own the work they answer with.

The work runs in a task group inside the response, so a client that hangs up cancels it and everything below it. Frameworks
cancel neither the generator behind a stream nor a plain handler; both kinds of response here do.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import anyio
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from pydantic import BaseModel
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from services.contracts.errors import ProblemDetails
from services.errors import CounterpointError
from services.http import sse
from services.http.error_responses import as_error, problem_response

PING_SECONDS = 10.0
"""A comment line this often when nothing happens, so that proxies keep the connection."""

BUFFER_EVENTS = 64
"""Events that may wait for a slow reader before the producer does."""

Emit = Callable[[BaseModel], Awaitable[None]]
Produce = Callable[[Emit], Awaitable[None]]
Work = Callable[[], Awaitable[BaseModel]]


@dataclass(frozen=True, slots=True)
class Wire:
    """How items and errors are written: an item as bytes, an error before the first of them as a response, and the end."""

    encode: Callable[[BaseModel | CounterpointError], bytes]
    refuse: Callable[[CounterpointError], Response]
    end: bytes = b""


def _refuse(error: CounterpointError) -> Response:
    return problem_response(error.problem())


class _Hangup(Response):
    """Runs work beside a watch for the client's disconnect, and cancels one when the other ends."""

    def __init__(self) -> None:
        super().__init__()
        self.headers["cache-control"] = "no-store"
        self.headers["x-accel-buffering"] = "no"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, unless the client leaves first."""
        async with anyio.create_task_group() as group:

            async def watch() -> None:
                while (await receive())["type"] != "http.disconnect":
                    pass
                group.cancel_scope.cancel()

            group.start_soon(watch)
            await self.answer(group, scope, receive, send)
            group.cancel_scope.cancel()

    async def answer(self, group: TaskGroup, scope: Scope, receive: Receive, send: Send) -> None:
        """Do the work, in this task or in `group`, and send what comes of it."""
        raise NotImplementedError


class OwnedJSONResponse(_Hangup):
    """A model that takes a while: `work` is cancelled when the client hangs up."""

    def __init__(self, work: Work, refuse: Callable[[CounterpointError], Response] = _refuse) -> None:
        super().__init__()
        self.work = work
        self.refuse = refuse

    async def answer(self, group: TaskGroup, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the model as JSON, or the problem that its making met."""
        del group
        try:
            model = await self.work()
        except Exception as error:  # noqa: BLE001 - the boundary where every error becomes a problem
            await self.refuse(as_error(error))(scope, receive, send)
            return
        body = Response(model.model_dump_json(), media_type="application/json", headers={"cache-control": "no-store"})
        await body(scope, receive, send)


class EventStreamResponse(_Hangup):
    """Server-sent events that `produce` emits; the event's name is its model's `type`, its id the model's `seq`, if any.

    An error before the first event is a plain HTTP error; after it, an `error` event with the problem object. `at_once`
    answers before the first event, for events that may be long in coming.
    """

    def __init__(
        self, produce: Produce, *, ping_seconds: float = PING_SECONDS, wire: Wire | None = None, at_once: bool = False
    ) -> None:
        super().__init__()
        self.produce = produce
        self.wire = wire or EVENTS
        self.ping_seconds = ping_seconds
        self.at_once = at_once
        self.headers["content-type"] = sse.MEDIA_TYPE
        del self.headers["content-length"]

    async def answer(self, group: TaskGroup, scope: Scope, receive: Receive, send: Send) -> None:
        """Drain what the producer emits."""
        writer, reader = anyio.create_memory_object_stream[BaseModel | CounterpointError](BUFFER_EVENTS)
        group.start_soon(self._produce, writer)
        async with reader:
            first = None if self.at_once else await reader.receive()
            if isinstance(first, CounterpointError):
                await self.wire.refuse(first)(scope, receive, send)
                return
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await self._send(send, sse.PING if first is None else self.wire.encode(first))
            await self._drain(reader, send)
            await send({"type": "http.response.body", "body": self.wire.end, "more_body": False})

    async def _produce(self, writer: MemoryObjectSendStream[BaseModel | CounterpointError]) -> None:
        async with writer:
            try:
                await self.produce(writer.send)
            except Exception as error:  # noqa: BLE001 - the boundary where every error becomes a problem
                with suppress(anyio.BrokenResourceError):
                    await writer.send(as_error(error))

    async def _drain(self, reader: MemoryObjectReceiveStream[BaseModel | CounterpointError], send: Send) -> None:
        while True:
            chunk = sse.PING
            with anyio.move_on_after(self.ping_seconds):
                try:
                    chunk = self.wire.encode(await reader.receive())
                except anyio.EndOfStream:
                    return
            while reader.statistics().current_buffer_used:
                chunk += self.wire.encode(reader.receive_nowait())
            await self._send(send, chunk)

    @staticmethod
    async def _send(send: Send, chunk: bytes) -> None:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})


def _encode(item: BaseModel | CounterpointError) -> bytes:
    if isinstance(item, CounterpointError):
        return sse.encode_model("error", item.problem())
    name = "error" if isinstance(item, ProblemDetails) else str(getattr(item, "type"))  # noqa: B009 - only some models have it
    seq: int | None = getattr(item, "seq", None)
    return sse.encode_model(name, item, event_id=None if seq is None else str(seq))


EVENTS = Wire(_encode, _refuse)
"""Events by the names and numbers of their models, errors as problem objects."""
