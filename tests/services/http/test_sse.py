"""Server-sent events: encoded events are decoded across any chunks, and other streams as the standard specifies."""

from collections.abc import AsyncIterator, Sequence
from itertools import pairwise

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from services.http import sse
from services.http.sse import ServerSentEvent

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
NAMES = st.text("abcdefghijklmnopqrstuvwxyz._", min_size=1, max_size=12)
EVENTS = st.lists(st.tuples(NAMES, TEXTS, st.integers(0, 10**6)), max_size=6)


async def _chunks(stream: bytes, cuts: Sequence[int]) -> AsyncIterator[bytes]:
    for start, end in pairwise((0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream))):
        yield stream[start:end]


def read(stream: bytes, cuts: Sequence[int] = ()) -> list[ServerSentEvent]:
    """Decode a byte stream that arrives in chunks, split at `cuts`."""

    async def collect() -> list[ServerSentEvent]:
        return [event async for event in sse.decode(_chunks(stream, cuts))]

    return anyio.run(collect)


@given(EVENTS, st.lists(st.integers(0, 2000), max_size=30))
def test_round_trip(events: list[tuple[str, str, int]], cuts: list[int]) -> None:
    """Encoded events are decoded whole and in order, however the stream is split. Line breaks in data become LF."""
    stream = b"".join(sse.encode(name, data, event_id=str(number)) for name, data, number in events)
    expected = [
        ServerSentEvent(name, data.replace("\r\n", "\n").replace("\r", "\n"), str(number)) for name, data, number in events
    ]
    assert read(stream, cuts) == expected


@given(EVENTS, st.sampled_from([b"\r", b"\r\n"]), st.lists(st.integers(0, 2000), max_size=30))
def test_cr_and_crlf_end_lines(events: list[tuple[str, str, int]], end: bytes, cuts: list[int]) -> None:
    """CR and CRLF end lines like LF, even if the stream is split between the two. A final CR ends its line at once."""
    stream = b"".join(sse.encode(name, data) for name, data, _ in events)
    assert read(stream.replace(b"\n", end), cuts) == read(stream)


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b": a comment\n\ndata: x\n\n", [ServerSentEvent("message", "x")]),
        (b"data\n\n", [ServerSentEvent("message", "")]),
        (b"data:  two spaces\n\n", [ServerSentEvent("message", " two spaces")]),
        (b"data: a\ndata:b\nretry: 3\nunknown: y\n\n", [ServerSentEvent("message", "a\nb")]),
        (b"event: empty\n\ndata: x\n\n", [ServerSentEvent("message", "x")]),
        (b"id: 7\ndata: x\n\ndata: y\n\n", [ServerSentEvent("message", "x", "7"), ServerSentEvent("message", "y", "7")]),
        (b"\xef\xbb\xbfdata: x\n\n", [ServerSentEvent("message", "x")]),
        (b"data: x\n\ndata: cut off", [ServerSentEvent("message", "x")]),
        (b"data: x\n\ndata: cut off\n", [ServerSentEvent("message", "x")]),
        (b"data: x\r\n\ndata: y\r\r", [ServerSentEvent("message", "x"), ServerSentEvent("message", "y")]),
        (b"", []),
    ],
)
def test_decoding_follows_the_standard(stream: bytes, expected: list[ServerSentEvent]) -> None:
    """Comments, bare fields, repeated data, last ids, byte order marks and unfinished events follow the standard."""
    assert read(stream) == expected
    assert read(stream, range(len(stream))) == expected


def test_a_model_is_one_line() -> None:
    """A model's JSON is one data line, for clients that read line by line."""

    class Note(BaseModel):
        text: str

    stream = sse.encode_model("note", Note(text="a\nb\r\u2028c"), event_id="3")
    assert stream.count(b"\n") == 4
    [event] = read(stream)
    assert (event.event, event.id, Note.model_validate_json(event.data).text) == ("note", "3", "a\nb\r\u2028c")
