"""The call context: parsing of its headers, and how they change from hop to hop."""

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
    """Return a request with these headers and the id that the application assigned to it."""
    pairs = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    scope = {"type": "http", "headers": pairs}
    return Request(scope if request_id is None else {**scope, "request_id": request_id})


@given(ids, ids, ids, traces)
async def test_the_context_survives_a_hop(request_id: str, session: str, call: str, trace: str | None):
    """The context parsed from the headers equals the one that was sent."""
    sent = CallContext(request_id, session, call, trace)
    read = await call_context(request_with(sent.headers(), request_id_of(sent.headers()[REQUEST_ID])))
    assert read == sent


@given(st.floats(0, MAX_DEADLINE_MS / 1000), st.integers(1, 5))
async def test_a_deadline_never_grows(seconds: float, hops: int):
    """The deadline is rounded down to whole milliseconds at every hop, but never below one."""
    context = CallContext("r", "s", "c", None, anyio.current_time() + seconds)
    sent = [int(context.headers()[DEADLINE])]
    assert sent[0] <= max(1, seconds * 1000)
    for _ in range(hops):
        context = await call_context(request_with({DEADLINE: str(sent[-1])}))
        sent.append(int(context.headers()[DEADLINE]))
    assert sent == sorted(sent, reverse=True)
    assert sent[-1] >= 1


async def test_an_expired_deadline_has_no_time_left():
    """An expired deadline has no time left and is sent as one millisecond, so that it expires on the next hop too."""
    context = CallContext("r", "s", "c", None, anyio.current_time() - 10)
    assert context.remaining() == 0
    assert context.headers()[DEADLINE] == "1"


@given(header_texts, header_texts, header_texts)
async def test_ids_from_any_headers_are_well_formed(session: str, call: str, trace: str):
    """Malformed ids are replaced and malformed traces dropped."""
    read = await call_context(request_with({SESSION_ID: session, CALL_ID: call, TRACE: trace}, "req_1"))
    for value in (read.session_id, read.call_id):
        assert re.fullmatch(r"[A-Za-z0-9_.:-]{1,128}", value)
    assert read.traceparent is None or read.traceparent == trace
    assert DEADLINE not in read.headers()


@given(header_texts)
async def test_an_invalid_deadline_is_refused(text: str):
    """Only whole milliseconds in range are accepted. Any other text is refused."""
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
async def test_every_deadline_in_range_is_accepted(milliseconds: int):
    """Every whole number of milliseconds from one to a day is accepted."""
    now = anyio.current_time()
    read = await call_context(request_with({DEADLINE: str(milliseconds)}))
    assert read.deadline is not None
    assert 0 <= read.deadline - now - milliseconds / 1000 < 1


def test_new_ids_are_distinct():
    """A thousand new ids are distinct and well-formed."""
    made = {new_id("solve") for _ in range(1_000)}
    assert len(made) == 1_000
    assert all(request_id_of(name) == name for name in made)
    assert request_id_of(None) != request_id_of(None)
