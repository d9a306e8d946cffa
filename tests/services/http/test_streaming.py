"""Responses that own their work: disconnects, errors, pings and slow readers, over real connections."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import httpx
import pytest
from fastapi import FastAPI

from services.contracts.base import Reply
from services.errors import Overloaded
from services.http import error_responses
from services.http.sse import PING
from services.http.streaming import BUFFER_EVENTS, Emit, EventStreamResponse, OwnedJSONResponse
from services.testing import serve, wait_until

pytestmark = pytest.mark.anyio


class Tick(Reply):
    """An event."""

    type: str = "tick"
    seq: int = 1
    filler: str = ""


@dataclass
class Work:
    """The behaviour of the test routes, and its outcome."""

    events: int = 1
    failing: Exception | None = None
    forever: bool = False
    filler: str = ""
    emitted: int = 0
    running: int = 0
    ended: list[str] = field(default_factory=list[str])

    async def produce(self, emit: Emit) -> None:
        """Emit the events, then fail, run forever or end."""
        self.running += 1
        try:
            for number in range(1, self.events + 1):
                await emit(Tick(seq=number, filler=self.filler))
                self.emitted += 1
            if self.failing:
                raise self.failing
            if self.forever:
                await anyio.sleep_forever()
            self.ended.append("done")
        except anyio.get_cancelled_exc_class():
            self.ended.append("cancelled")
            raise
        finally:
            self.running -= 1

    async def make(self) -> Tick:
        """Run `produce` without a stream and return one object."""

        async def discard(_: object) -> None:
            return

        await self.produce(discard)
        return Tick()


@asynccontextmanager
async def serving(work: Work) -> AsyncGenerator[httpx.AsyncClient]:
    """Run a service whose routes `/stream` and `/plain` do the work; yield a client of it."""
    app = FastAPI()
    error_responses.install(app)

    @app.get("/stream")
    async def stream() -> EventStreamResponse:
        return EventStreamResponse(work.produce, ping_seconds=0.05)

    @app.get("/plain")
    async def plain() -> OwnedJSONResponse:
        return OwnedJSONResponse(work.make)

    async with serve(app) as url, httpx.AsyncClient(base_url=url, timeout=30) as client:
        yield client


@pytest.mark.parametrize("path", ["/stream", "/plain"])
async def test_a_disconnect_cancels_the_work(path: str):
    """The work is cancelled when its client disconnects, both for a stream and for a plain response."""
    work = Work(forever=True)
    async with serving(work) as client, anyio.create_task_group() as group:

        async def read() -> None:
            async with client.stream("GET", path) as response:
                await response.aread()

        group.start_soon(read)
        await wait_until(lambda: work.running == 1)
        group.cancel_scope.cancel()
    await wait_until(lambda: work.ended == ["cancelled"])
    assert work.running == 0


async def test_a_stream_ends_with_its_work():
    """A stream ends when its work ends. The id of an event is its `seq` and its name is its `type`."""
    work = Work(events=2)
    async with serving(work) as client:
        response = await client.get("/stream")
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-store"
    assert [line for line in response.text.splitlines() if line.startswith(("id", "event"))] == [
        "id: 1",
        "event: tick",
        "id: 2",
        "event: tick",
    ]
    assert work.ended == ["done"]


@pytest.mark.parametrize("path", ["/stream", "/plain"])
async def test_an_error_before_the_first_event_is_a_plain_response(path: str):
    """An error before the first event is a plain response with its status, headers and problem object."""
    async with serving(Work(events=0, failing=Overloaded("full", retry_after=3))) as client:
        response = await client.get(path)
    assert response.status_code == 503
    assert response.headers["retry-after"] == "3"
    assert response.json()["code"] == "overloaded"


@pytest.mark.parametrize("failing", [Overloaded("full"), ZeroDivisionError("a secret")], ids=["typed", "defect"])
async def test_an_error_after_the_first_event_is_the_last_event(failing: Exception):
    """A later error ends the stream as an `error` event. The message of an unexpected error is not disclosed."""
    async with serving(Work(events=1, failing=failing)) as client:
        response = await client.get("/stream")
    assert response.status_code == 200
    *_, last = response.text.strip().split("\n\n")
    assert last.startswith("event: error\n")
    assert "a secret" not in response.text
    assert ('"code":"overloaded"' in last) is isinstance(failing, Overloaded)


async def test_pings_are_sent_between_events():
    """Comments are sent while there are no events, so that proxies keep the connection open."""
    async with serving(Work(forever=True)) as client, client.stream("GET", "/stream") as response:
        received = b""
        async for chunk in response.aiter_raw():
            received += chunk
            if received.count(PING) >= 2:
                break
    assert received.startswith(b"id: 1\nevent: tick\n")


async def test_a_slow_reader_suspends_the_work():
    """A client that does not read suspends the work after a bounded number of events, and loses none of them."""
    work = Work(events=3_000, filler="x" * 10_000)
    async with serving(work) as client:
        host, port = client.base_url.host, client.base_url.port
        assert port
        async with await anyio.connect_tcp(host, port) as stream:
            await stream.send(b"GET /stream HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            await wait_until(lambda: work.emitted > BUFFER_EVENTS)
            with pytest.raises(TimeoutError):
                await wait_until(lambda: work.emitted == work.events, seconds=1)
            received = [chunk async for chunk in stream]
    assert b"".join(received).count(b"event: tick") == work.events


async def test_work_without_events_is_an_internal_error():
    """Work that ends without an event is an internal error, since a stream begins with its first event."""
    async with serving(Work(events=0)) as client:
        response = await client.get("/stream")
    assert (response.status_code, response.json()["code"]) == (500, "internal_error")


async def test_events_before_an_error_are_delivered():
    """All events emitted before an error are delivered before it, in order."""
    async with serving(Work(events=200, failing=Overloaded("full"))) as client:
        response = await client.get("/stream")
    names = [line for line in response.text.splitlines() if line.startswith(("id: ", "event: error"))]
    assert names == [*(f"id: {number}" for number in range(1, 201)), "event: error"]


async def test_a_disconnect_with_a_full_buffer_cancels_the_work():
    """The work is cancelled when a client disconnects without having read anything."""
    work = Work(events=3_000, filler="x" * 10_000)
    async with serving(work) as client:
        port = client.base_url.port
        assert port
        async with await anyio.connect_tcp(client.base_url.host, port) as stream:
            await stream.send(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
            await wait_until(lambda: work.emitted > BUFFER_EVENTS)
        await wait_until(lambda: work.ended == ["cancelled"])
    assert work.emitted < work.events
