"""The client between services, against real servers: events, typed errors, retries, disconnects, call headers."""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any

import anyio
import httpx
import pytest
from fastapi import Depends, FastAPI
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from services.call_context import CallContext, call_context
from services.contracts.base import Reply
from services.contracts.errors import Limit
from services.errors import (
    BudgetTooSmall,
    CounterpointError,
    EngineFailed,
    InternalError,
    InvalidRequest,
    NotReady,
    Overloaded,
)
from services.http import error_responses
from services.http.client import TRIES, client_for, fetch, stream_events
from services.http.sse import PING, ServerSentEvent, encode
from services.http.streaming import Emit, EventStreamResponse
from services.testing import serve, wait_until

pytestmark = pytest.mark.anyio

NOWHERE = "http://127.0.0.1:9"
"""The URL of a port without a listener."""


class Body(Reply):
    """The body of a request."""

    text: str = "a \u2603"


class Result(Reply):
    """An event."""

    type: str = "result"
    text: str = ""


@dataclass
class Service:
    """A service with a configurable response that counts its requests."""

    refusals: list[CounterpointError] = field(default_factory=list[CounterpointError])
    chunks: list[bytes] = field(default_factory=list[bytes])
    breaking: bool = False
    answer: Response | None = None
    forever: bool = False
    requests: int = 0
    running: int = 0
    remaining: float | None = None
    headers: dict[str, str] = field(default_factory=dict[str, str])

    def app(self) -> FastAPI:
        """Create the application."""
        app = FastAPI()
        error_responses.install(app)

        @app.post("/call")
        async def call(request: Request, context: Annotated[CallContext, Depends(call_context)]) -> Response:
            self.requests += 1
            self.headers = {**request.headers, "body": (await request.body()).decode()}
            if self.refusals:
                raise self.refusals.pop(0)
            if self.answer:
                return self.answer
            if self.forever:
                return EventStreamResponse(self._forever)
            self.remaining = context.remaining()
            return StreamingResponse(self._chunks(), media_type="text/event-stream")

        @app.get("/thing")
        async def thing() -> Response:
            self.requests += 1
            if self.refusals:
                raise self.refusals.pop(0)
            return self.answer or Response('{"well": true}', media_type="application/json")

        return app

    async def _chunks(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            yield chunk
        if self.breaking:
            raise RuntimeError("the service dies")

    async def _forever(self, emit: Emit) -> None:
        self.running += 1
        try:
            await emit(Result())
            await anyio.sleep_forever()
        finally:
            self.running -= 1


@asynccontextmanager
async def client_of(service: Service) -> AsyncGenerator[httpx.AsyncClient]:
    """Run the service and yield a client of it."""
    async with serve(service.app()) as url:
        client = client_for(url)
        try:
            yield client
        finally:
            await client.aclose()


async def events_of(
    client: httpx.AsyncClient, headers: dict[str, str] | None = None, received: list[ServerSentEvent] | None = None
) -> list[ServerSentEvent]:
    """Return the events of one call. Append them to `received` as they arrive."""
    received = [] if received is None else received
    async with stream_events(client, "/call", Body(), headers or {}) as events:
        async for event in events:
            received.append(event)
    return received


async def test_events_are_decoded_across_chunks():
    """Events are decoded across chunks and comments. The request has a JSON body and the matching headers."""
    whole = encode("one", "a \u2603\nb", event_id="1") + PING + encode("two", "{}", event_id="2")
    service = Service(chunks=[whole[place : place + 3] for place in range(0, len(whole), 3)])
    async with client_of(service) as client:
        events = await events_of(client)
    assert [(event.event, event.data, event.id) for event in events] == [("one", "a \u2603\nb", "1"), ("two", "{}", "2")]
    assert json.loads(service.headers["body"]) == {"text": "a \u2603"}
    assert (service.headers["content-type"], service.headers["accept"]) == ("application/json", "text/event-stream")


async def test_the_call_context_is_sent_as_headers():
    """The ids of request, session and call, the trace and the remaining time are sent as headers."""
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    service = Service()
    async with client_of(service) as client:
        call = CallContext("req_1", "solve_1", "call_1", trace, anyio.current_time() + 5)
        await events_of(client, call.headers())
    sent = {name: service.headers.get(name) for name in ("x-request-id", "x-session-id", "x-call-id", "traceparent")}
    assert sent == {"x-request-id": "req_1", "x-session-id": "solve_1", "x-call-id": "call_1", "traceparent": trace}
    assert 3_000 < int(service.headers["x-deadline-ms"]) <= 5_000


REFUSALS: list[tuple[CounterpointError, type[CounterpointError]]] = [
    (InvalidRequest("no such field"), InvalidRequest),
    (BudgetTooSmall("too small", limit=Limit(name="max_tokens", value=1, needed=7)), BudgetTooSmall),
    (EngineFailed("it broke"), EngineFailed),
    (InternalError("a defect"), InternalError),
    (Overloaded("come back later", retry_after=5), Overloaded),
]


@pytest.mark.parametrize(("refusal", "kind"), REFUSALS, ids=lambda value: getattr(value, "code", ""))
async def test_an_error_response_raises_the_same_error_without_a_retry(
    refusal: CounterpointError, kind: type[CounterpointError]
):
    """An error response raises the same error, without a retry if it is permanent or its `Retry-After` is too long."""
    service = Service(refusals=[refusal])
    async with client_of(service) as client:
        with pytest.raises(kind) as raised:
            await events_of(client)
    error = raised.value
    assert type(error) is kind
    assert (error.detail, error.limit, error.needed, error.retry_after) == (
        refusal.detail,
        refusal.limit,
        refusal.needed,
        refusal.retry_after,
    )
    assert service.requests == 1


@pytest.mark.parametrize("busy", [Overloaded("full", retry_after=0.01), Overloaded("full"), NotReady("loading")], ids=str)
async def test_a_busy_service_is_retried(busy: CounterpointError):
    """`Overloaded` and `NotReady` are retried until a try succeeds."""
    service = Service(refusals=[busy] * (TRIES - 1), chunks=[encode("one", "")])
    async with client_of(service) as client:
        assert [event.event for event in await events_of(client)] == ["one"]
    assert service.requests == TRIES


async def test_retries_end_after_the_last_try():
    """After `TRIES` attempts the last error of the service is raised."""
    service = Service(refusals=[Overloaded(f"full {number}", retry_after=0.01) for number in range(9)])
    async with client_of(service) as client:
        with pytest.raises(Overloaded, match=f"full {TRIES - 1}"):
            await events_of(client)
    assert service.requests == TRIES


async def test_an_unreachable_service_is_not_ready():
    """A service that cannot be reached raises `NotReady`, both on a stream and on a short request."""
    client = client_for(NOWHERE)
    try:
        with pytest.raises(NotReady, match="cannot be reached"):
            await events_of(client)
        with pytest.raises(NotReady, match="cannot be reached"):
            await fetch(client, "GET", "/thing")
    finally:
        await client.aclose()


async def test_a_broken_stream_yields_its_events_and_then_raises():
    """A broken stream yields its complete events and then raises `EngineFailed`."""
    service = Service(chunks=[encode("one", "1"), b"event: two\ndata: 2"], breaking=True)
    received: list[ServerSentEvent] = []
    async with client_of(service) as client:
        with pytest.raises(EngineFailed):
            await events_of(client, received=received)
    assert [event.event for event in received] == ["one"]


async def test_an_error_event_raises_the_same_error():
    """The problem object of an `error` event raises the same error. One that cannot be parsed raises `EngineFailed`."""
    problem = Overloaded("full", retry_after=2).problem().model_dump_json()
    for data, kind in ((problem, Overloaded), ("{}", EngineFailed), ("<html>", EngineFailed)):
        async with client_of(Service(chunks=[encode("error", data), encode("late", "")])) as client:
            with pytest.raises(kind):
                await events_of(client)


FOREIGN_ERRORS: list[tuple[Response, type[CounterpointError]]] = [
    (Response("<html>Bad gateway</html>", status_code=502), EngineFailed),
    (Response('{"error": "unauthorized"}', status_code=401, media_type="application/json"), EngineFailed),
    (Response("", status_code=500), EngineFailed),
    (Response(b"\xff\xfe", status_code=404), EngineFailed),
]


@pytest.mark.parametrize(("answer", "kind"), FOREIGN_ERRORS, ids=["502", "401", "500", "404"])
async def test_an_error_without_problem_details_is_engine_failed(answer: Response, kind: type[CounterpointError]):
    """An error response without problem details, such as a proxy's page, raises `EngineFailed` with the status."""
    async with client_of(Service(answer=answer)) as client:
        for request in (lambda: events_of(client), lambda: fetch(client, "GET", "/thing")):
            with pytest.raises(kind, match=str(answer.status_code)):
                await request()


async def test_an_unknown_error_code_is_an_internal_error():
    """A problem object with an unknown code, as from a newer service, raises `InternalError` with its detail."""
    problem = {**InternalError("news").problem().body(), "code": "from_the_future", "status": 418, "more": [1]}
    answer = Response(json.dumps(problem), status_code=418, media_type=error_responses.MEDIA_TYPE)
    async with client_of(Service(answer=answer)) as client:
        with pytest.raises(InternalError, match="news"):
            await events_of(client)


async def test_leaving_a_stream_stops_the_service():
    """Leaving the block and cancellation both stop the work of the service."""
    service = Service(forever=True)
    async with client_of(service) as client:
        async with stream_events(client, "/call", Body(), {}) as events:
            assert (await anext(events)).event == "result"
            assert service.running == 1
        await wait_until(lambda: service.running == 0)
        with anyio.CancelScope() as scope:
            async with stream_events(client, "/call", Body(), {}) as events:
                async for _ in events:
                    scope.cancel()
        assert scope.cancelled_caught
        await wait_until(lambda: service.running == 0)
    assert service.requests == 2


async def test_a_short_request_returns_its_json():
    """A short request returns the JSON. It raises the service's error, or `EngineFailed` if the body is not JSON."""
    service = Service()
    async with client_of(service) as client:
        well: Any = await fetch(client, "GET", "/thing")
        assert well == {"well": True}
        service.refusals = [Overloaded("full", retry_after=0.01)]
        with pytest.raises(Overloaded):
            await fetch(client, "GET", "/thing")
        service.answer = Response("<html>", media_type="text/html")
        with pytest.raises(EngineFailed, match="JSON"):
            await fetch(client, "GET", "/thing")
    assert service.requests == 3
