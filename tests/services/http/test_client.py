"""The client between services against real servers: events, typed errors, repeats, hang-ups, and what travels along."""

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
"""A port that nothing listens on."""


class Body(Reply):
    """The body of a request."""

    text: str = "a \u2603"


class Result(Reply):
    """An event."""

    type: str = "result"
    text: str = ""


@dataclass
class Service:
    """A service with a configurable response, which counts its requests."""

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
        """Its routes."""
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
    """A client of a running service."""
    async with serve(service.app()) as url:
        client = client_for(url)
        try:
            yield client
        finally:
            await client.aclose()


async def events_of(
    client: httpx.AsyncClient, headers: dict[str, str] | None = None, seen: list[ServerSentEvent] | None = None
) -> list[ServerSentEvent]:
    """Return the events of one call, which are also appended to `seen` as they arrive."""
    received = [] if seen is None else seen
    async with stream_events(client, "/call", Body(), headers or {}) as events:
        async for event in events:
            received.append(event)
    return received


async def test_events_arrive_however_they_are_cut():
    """Names, numbers and data, across chunks, between comments; a body and what it is are sent."""
    whole = encode("one", "a \u2603\nb", event_id="1") + PING + encode("two", "{}", event_id="2")
    service = Service(chunks=[whole[place : place + 3] for place in range(0, len(whole), 3)])
    async with client_of(service) as client:
        events = await events_of(client)
    assert [(event.event, event.data, event.id) for event in events] == [("one", "a \u2603\nb", "1"), ("two", "{}", "2")]
    assert json.loads(service.headers["body"]) == {"text": "a \u2603"}
    assert (service.headers["content-type"], service.headers["accept"]) == ("application/json", "text/event-stream")


async def test_who_asks_travels_and_so_does_the_time_left():
    """Request, session, call, trace and deadline are headers of the next hop."""
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
async def test_a_refusal_is_the_error_that_was_raised_and_is_not_repeated(
    refusal: CounterpointError, kind: type[CounterpointError]
):
    """With its detail, its limit and what is needed; a wait that is too long is the caller's to decide."""
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
async def test_a_service_that_is_busy_for_a_moment_is_called_again(busy: CounterpointError):
    """One more try is enough where the service has room by then."""
    service = Service(refusals=[busy] * (TRIES - 1), chunks=[encode("one", "")])
    async with client_of(service) as client:
        assert [event.event for event in await events_of(client)] == ["one"]
    assert service.requests == TRIES


async def test_a_service_that_stays_busy_is_given_up():
    """After so many tries its own words are the error."""
    service = Service(refusals=[Overloaded(f"full {number}", retry_after=0.01) for number in range(9)])
    async with client_of(service) as client:
        with pytest.raises(Overloaded, match=f"full {TRIES - 1}"):
            await events_of(client)
    assert service.requests == TRIES


async def test_nobody_there_is_not_ready():
    """Nothing could be sent, on a stream as on a short request."""
    client = client_for(NOWHERE)
    try:
        with pytest.raises(NotReady, match="cannot be reached"):
            await events_of(client)
        with pytest.raises(NotReady, match="cannot be reached"):
            await fetch(client, "GET", "/thing")
    finally:
        await client.aclose()


async def test_a_stream_that_breaks_keeps_what_came_and_then_raises():
    """The events before the break are whole; the break is the engine's failure."""
    service = Service(chunks=[encode("one", "1"), b"event: two\ndata: 2"], breaking=True)
    seen: list[ServerSentEvent] = []
    async with client_of(service) as client:
        with pytest.raises(EngineFailed):
            await events_of(client, seen=seen)
    assert [event.event for event in seen] == ["one"]


async def test_an_error_in_a_stream_is_the_error_that_was_raised():
    """Its problem object is read as a refusal is; one that cannot be read is still an error."""
    problem = Overloaded("full", retry_after=2).problem().model_dump_json()
    for data, kind in ((problem, Overloaded), ("{}", EngineFailed), ("<html>", EngineFailed)):
        async with client_of(Service(chunks=[encode("error", data), encode("late", "")])) as client:
            with pytest.raises(kind):
                await events_of(client)


STRANGE: list[tuple[Response, type[CounterpointError]]] = [
    (Response("<html>Bad gateway</html>", status_code=502), EngineFailed),
    (Response('{"error": "unauthorized"}', status_code=401, media_type="application/json"), EngineFailed),
    (Response("", status_code=500), EngineFailed),
    (Response(b"\xff\xfe", status_code=404), EngineFailed),
]


@pytest.mark.parametrize(("answer", "kind"), STRANGE, ids=["502", "401", "500", "404"])
async def test_an_error_of_somebody_else_is_the_engines_failure(answer: Response, kind: type[CounterpointError]):
    """The page of a proxy has no problem details; the error names its status."""
    async with client_of(Service(answer=answer)) as client:
        for asking in (lambda: events_of(client), lambda: fetch(client, "GET", "/thing")):
            with pytest.raises(kind, match=str(answer.status_code)):
                await asking()


async def test_an_unknown_code_of_a_newer_service_is_an_error_all_the_same():
    """The problem object is ours, its code is not."""
    problem = {**InternalError("news").problem().body(), "code": "from_the_future", "status": 418, "more": [1]}
    answer = Response(json.dumps(problem), status_code=418, media_type=error_responses.MEDIA_TYPE)
    async with client_of(Service(answer=answer)) as client:
        with pytest.raises(InternalError, match="news"):
            await events_of(client)


async def test_leaving_a_stream_is_noticed_by_the_service():
    """The work behind it stops, both at the end of its block and on cancellation."""
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


async def test_a_short_request_gives_its_json():
    """And the error that the service answered with, and an error where there is no JSON."""
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
