"""Responses that own the work that produces them.

The work runs in a task group inside the response, so when the client disconnects it is cancelled with everything below it.
The framework by itself cancels neither the generator behind a stream nor a plain handler.
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
"""Idle time after which a comment line is sent, so that proxies keep the connection open."""

BUFFER_EVENTS = 64
"""Events buffered for a slow client before the producer has to wait."""

Emit = Callable[[BaseModel], Awaitable[None]]
Produce = Callable[[Emit], Awaitable[None]]
Work = Callable[[], Awaitable[BaseModel]]


@dataclass(frozen=True, slots=True)
class Wire:
    """The format of a stream: `encode` for items and later errors, `refuse` for an error before the first item, `end`."""

    encode: Callable[[BaseModel | CounterpointError], bytes]
    refuse: Callable[[CounterpointError], Response]
    end: bytes = b""


class _OwningResponse(Response):
    """Base of responses that run their work while they watch for the client's disconnect, which cancels it."""

    def __init__(self) -> None:
        super().__init__()
        self.headers["cache-control"] = "no-store"
        self.headers["x-accel-buffering"] = "no"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond, unless the client disconnects first."""
        async with anyio.create_task_group() as group:

            async def watch() -> None:
                while (await receive())["type"] != "http.disconnect":
                    pass
                group.cancel_scope.cancel()

            group.start_soon(watch)
            await self.answer(group, scope, receive, send)
            group.cancel_scope.cancel()

    async def answer(self, group: TaskGroup, scope: Scope, receive: Receive, send: Send) -> None:
        """Do the work, in this task or in `group`, and send its result."""
        raise NotImplementedError


class OwnedJSONResponse(_OwningResponse):
    """The JSON of the model that `work` returns; `work` is cancelled when the client disconnects."""

    def __init__(self, work: Work, refuse: Callable[[CounterpointError], Response] = problem_response) -> None:
        super().__init__()
        self.work = work
        self.refuse = refuse

    async def answer(self, group: TaskGroup, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the model as JSON, or the error that `work` raised."""
        del group
        try:
            model = await self.work()
        except Exception as error:  # noqa: BLE001 - the boundary where every error becomes a response
            await self.refuse(as_error(error))(scope, receive, send)
            return
        body = Response(model.model_dump_json(), media_type="application/json", headers={"cache-control": "no-store"})
        await body(scope, receive, send)


class EventStreamResponse(_OwningResponse):
    """The models that `produce` emits, as server-sent events named by their `type`, with their `seq`, if any, as id.

    An error before the first event is a plain HTTP error; later it is an `error` event with problem details. `at_once`
    responds before the first event, for streams whose first event may take long.
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
        """Send the events as the producer emits them."""
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
            except Exception as error:  # noqa: BLE001 - the boundary where every error becomes a response
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
    name = "error" if isinstance(item, ProblemDetails) else str(getattr(item, "type"))  # noqa: B009 - not every model has one
    seq: int | None = getattr(item, "seq", None)
    return sse.encode_model(name, item, event_id=None if seq is None else str(seq))


EVENTS = Wire(_encode, problem_response)
"""Events named and numbered by their models, errors as problem details."""
