"""Calls of a role service that break while they are read."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import anyio
import pytest
from fastapi import FastAPI
from starlette.responses import Response, StreamingResponse

from orchestrator.clients import HTTPActor
from orchestrator.metrics import CallMeter, OrchestratorMetrics
from orchestrator.ports import CallFailed
from services.call_context import CallContext
from services.contracts.calls import DraftRequest
from services.http.client import client_for
from services.http.sse import encode
from services.testing import serve

pytestmark = pytest.mark.anyio


class BrokenMeter(CallMeter):
    """A meter that fails."""

    @contextmanager
    def open(self) -> Generator[None]:
        """Fail when the stream has been read."""
        yield
        raise RuntimeError("a defect")


class BrokenMetrics(OrchestratorMetrics):
    """Metrics whose meters fail."""

    def meter(self, role: Any, verb: str, solve: str) -> CallMeter:  # noqa: ARG002 - the signature it overrides
        """Return the meter of a call."""
        return BrokenMeter(self, role, verb, None)


async def draft(events: bytes, metrics: OrchestratorMetrics) -> list[Any]:
    """Return the events of a draft by an actor that answers with these bytes, and the error that ended it, if any."""
    received: list[Any] = []
    app = FastAPI()

    @app.post("/v1/draft")
    async def _() -> Response:
        return StreamingResponse(iter([events]), media_type="text/event-stream")

    async with serve(app) as url, client_for(url) as client:
        stream = HTTPActor(client, metrics).draft(DraftRequest(problem="1 + 1?"), CallContext("request", "solve", "call"))
        with anyio.fail_after(5):
            try:
                async with stream as call:
                    async for event in call:
                        received.append(event)  # noqa: PERF401 - events that arrived before an error count
            except CallFailed as error:
                received.append(error)
    return received


async def test_a_defect_while_a_stream_is_read_ends_the_call():
    """The call fails at once, with an internal error; it does not wait for a stream that nothing reads any longer."""
    usage = encode("usage", '{"type": "usage", "prompt_tokens": 1, "completion_tokens": 1}')
    [error] = await draft(usage, BrokenMetrics())
    assert "unexpected error" in str(error)


async def test_an_event_of_a_newer_service_is_skipped():
    """Unknown events and fields are ignored; known events are received with or without a `type` in their data."""
    events = (
        encode("mood", '{"type": "mood", "value": 7}')
        + encode("step", '{"sample": 0, "index": 1, "text": "one", "mood": 7}')
        + encode("usage", '{"type": "usage", "prompt_tokens": 1, "completion_tokens": 1}')
    )
    assert [event.text for event in await draft(events, OrchestratorMetrics())] == ["one"]


@pytest.mark.parametrize("data", ["", "[]", "7", "{", '{"sample": -1, "index": 1, "text": ""}', '{"sample": 1e400}'])
async def test_an_event_that_breaks_its_contract_fails_the_call(data: str):
    """Whatever the data is, the call fails with an error that names the role."""
    [error] = await draft(encode("step", data), OrchestratorMetrics())
    assert "the actor sent an event" in str(error)
