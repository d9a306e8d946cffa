"""Responses that own their work: hang-ups, errors, silence and slow readers, over real connections."""

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
    """The behaviour of a test's route, and its outcome."""

    events: int = 1
    failing: Exception | None = None
    forever: bool = False
    filler: str = ""
    emitted: int = 0
    running: int = 0
    ended: list[str] = field(default_factory=list[str])

    async def produce(self, emit: Emit) -> None:
        """Emit, then fail, go on forever, or end."""
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
        """The same, for one object."""

        async def nobody(_: object) -> None:
            return

        await self.produce(nobody)
        return Tick()


@asynccontextmanager
async def serving(work: Work) -> AsyncGenerator[httpx.AsyncClient]:
    """A service whose `/stream` and `/plain` do the work."""
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
async def test_a_hang_up_cancels_the_work(path: str):
    """Work is cancelled as soon as its client is gone, streamed or not."""
    work = Work(forever=True)
    async with serving(work) as client, anyio.create_task_group() as group:

        async def ask() -> None:
            async with client.stream("GET", path) as response:
                await response.aread()

        group.start_soon(ask)
        await wait_until(lambda: work.running == 1)
        group.cancel_scope.cancel()
    await wait_until(lambda: work.ended == ["cancelled"])
    assert work.running == 0


async def test_a_stream_ends_with_its_work():
    """Events carry their number as id, their type as name."""
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
async def test_an_error_before_the_first_event_is_a_plain_answer(path: str):
    """With its status, its headers and its problem object."""
    async with serving(Work(events=0, failing=Overloaded("full", retry_after=3))) as client:
        response = await client.get(path)
    assert response.status_code == 503
    assert response.headers["retry-after"] == "3"
    assert response.json()["code"] == "overloaded"


@pytest.mark.parametrize("failing", [Overloaded("full"), ZeroDivisionError("a secret")], ids=["typed", "defect"])
async def test_an_error_after_the_first_event_is_the_last_event(failing: Exception):
    """The stream ends with it; the message of a defect is not shown."""
    async with serving(Work(events=1, failing=failing)) as client:
        response = await client.get("/stream")
    assert response.status_code == 200
    *_, last = response.text.strip().split("\n\n")
    assert last.startswith("event: error\n")
    assert "a secret" not in response.text
    assert ('"code":"overloaded"' in last) is isinstance(failing, Overloaded)


async def test_silence_is_filled_with_comments():
    """So that proxies keep the connection."""
    async with serving(Work(forever=True)) as client, client.stream("GET", "/stream") as response:
        seen = b""
        async for chunk in response.aiter_raw():
            seen += chunk
            if seen.count(PING) >= 2:
                break
    assert seen.startswith(b"id: 1\nevent: tick\n")


async def test_a_slow_reader_holds_the_producer_back():
    """A client that does not read stops the work after a bounded number of events, and loses none when it reads on."""
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


async def test_work_that_says_nothing_is_a_defect():
    """A stream needs one event at least; without it there is nothing to begin an answer with."""
    async with serving(Work(events=0)) as client:
        response = await client.get("/stream")
    assert (response.status_code, response.json()["code"]) == (500, "internal_error")


async def test_the_last_events_of_work_that_fails_are_not_lost():
    """Whatever was emitted before the error arrives before it, in order."""
    async with serving(Work(events=200, failing=Overloaded("full"))) as client:
        response = await client.get("/stream")
    names = [line for line in response.text.splitlines() if line.startswith(("id: ", "event: error"))]
    assert names == [*(f"id: {number}" for number in range(1, 201)), "event: error"]


async def test_a_hang_up_while_the_buffer_is_full_cancels_the_work():
    """A client that never reads and then leaves does not hold the producer for ever."""
    work = Work(events=3_000, filler="x" * 10_000)
    async with serving(work) as client:
        port = client.base_url.port
        assert port
        async with await anyio.connect_tcp(client.base_url.host, port) as stream:
            await stream.send(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
            await wait_until(lambda: work.emitted > BUFFER_EVENTS)
        await wait_until(lambda: work.ended == ["cancelled"])
    assert work.emitted < work.events
