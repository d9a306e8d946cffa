"""The call context: its headers survive a hop, whatever a caller sends."""

import re

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from services.call_context import (
    CALL_ID,
    DEADLINE,
    MAX_DEADLINE_MS,
    REQUEST_ID,
    SESSION_ID,
    TRACE,
    CallContext,
    call_context,
    new_id,
    request_id_of,
)
from services.errors import InvalidRequest

pytestmark = pytest.mark.anyio

ids = st.from_regex(r"[A-Za-z0-9_.:-]{1,128}", fullmatch=True)
traces = st.none() | st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", fullmatch=True)
header_texts = st.text(st.characters(min_codepoint=1, max_codepoint=255, exclude_characters="\r\n"), max_size=200)


def request_with(headers: dict[str, str], request_id: str | None = None) -> Request:
    """A request with these headers; its id is the one that the chassis gave it."""
    pairs = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    scope = {"type": "http", "headers": pairs}
    return Request(scope if request_id is None else {**scope, "request_id": request_id})


@given(ids, ids, ids, traces)
async def test_an_identity_survives_a_hop(request_id: str, session: str, call: str, trace: str | None):
    """The next service reads the context that one service sends."""
    sent = CallContext(request_id, session, call, trace)
    read = await call_context(request_with(sent.headers(), request_id_of(sent.headers()[REQUEST_ID])))
    assert read == sent


@given(st.floats(0, MAX_DEADLINE_MS / 1000), st.integers(1, 5))
async def test_a_deadline_only_shrinks(seconds: float, hops: int):
    """Whole milliseconds, rounded down, over any number of hops; never less than one, so that it stays a deadline."""
    context = CallContext("r", "s", "c", None, anyio.current_time() + seconds)
    sent = [int(context.headers()[DEADLINE])]
    assert sent[0] <= max(1, seconds * 1000)
    for _ in range(hops):
        context = await call_context(request_with({DEADLINE: str(sent[-1])}))
        sent.append(int(context.headers()[DEADLINE]))
    assert sent == sorted(sent, reverse=True)
    assert sent[-1] >= 1


async def test_a_deadline_that_has_passed_leaves_nothing():
    """Never a negative time, and still a header: what is late stays late on the next hop."""
    context = CallContext("r", "s", "c", None, anyio.current_time() - 10)
    assert context.remaining() == 0
    assert context.headers()[DEADLINE] == "1"


@given(header_texts, header_texts, header_texts)
async def test_whatever_headers_hold_the_identity_is_well_formed(session: str, call: str, trace: str):
    """Malformed values are replaced or dropped; only valid ones reach the next service."""
    read = await call_context(request_with({SESSION_ID: session, CALL_ID: call, TRACE: trace}, "req_1"))
    for value in (read.session_id, read.call_id):
        assert re.fullmatch(r"[A-Za-z0-9_.:-]{1,128}", value)
    assert read.traceparent is None or read.traceparent == trace
    assert DEADLINE not in read.headers()


@given(header_texts)
async def test_a_deadline_is_read_or_refused(text: str):
    """Whole milliseconds in their range and nothing else."""
    right = bool(re.fullmatch(r"[0-9]{1,8}", text)) and 0 < int(text) <= MAX_DEADLINE_MS
    if right:
        left = (await call_context(request_with({DEADLINE: text}))).remaining()
        assert left is not None
        assert left <= int(text) / 1000
    else:
        with pytest.raises(InvalidRequest) as refused:
            await call_context(request_with({DEADLINE: text}))
        assert refused.value.errors[0].loc == ("header", DEADLINE)


@given(st.integers(1, MAX_DEADLINE_MS))
async def test_every_deadline_in_range_is_read(milliseconds: int):
    """From one millisecond to a day."""
    now = anyio.current_time()
    read = await call_context(request_with({DEADLINE: str(milliseconds)}))
    assert read.deadline is not None
    assert 0 <= read.deadline - now - milliseconds / 1000 < 1


def test_ids_do_not_repeat():
    """A thousand are a thousand, each fit to travel."""
    made = {new_id("solve") for _ in range(1_000)}
    assert len(made) == 1_000
    assert all(request_id_of(name) == name for name in made)
    assert request_id_of(None) != request_id_of(None)
