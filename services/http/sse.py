"""Server-sent events, both directions (WHATWG HTML, section 9.2)."""

import re
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import from_json

EventT = TypeVar("EventT")

MEDIA_TYPE = "text/event-stream"
PING = b": ping\n\n"

_LINE_END = re.compile(rb"\r\n|\r|\n")


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """An event as received."""

    event: str
    data: str
    id: str | None = None


def encode(event: str, data: str, *, event_id: str | None = None) -> bytes:
    """Encode an event; every line of `data` becomes a `data:` line."""
    lines = [f"event: {event}"] if event_id is None else [f"id: {event_id}", f"event: {event}"]
    lines += [f"data: {line}" for line in data.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    return ("\n".join(lines) + "\n\n").encode()


def encode_model(event: str, model: BaseModel, *, event_id: str | None = None) -> bytes:
    """Encode a model as an event with its JSON."""
    return encode(event, model.model_dump_json(), event_id=event_id)


def parse(event: ServerSentEvent, union: TypeAdapter[EventT]) -> EventT | None:
    """Parse an event as the member of a union that its name selects; None for a name that is not in the union.

    Raises `ValueError` for data that is not a valid JSON object of that member.
    """
    try:
        return union.validate_python({**from_json(event.data), "type": event.event})
    except ValidationError as error:
        if error.errors(include_url=False)[0]["type"] == "union_tag_invalid":
            return None
        raise
    except TypeError as error:
        raise ValueError("the data of an event must be a JSON object") from error


async def decode(chunks: AsyncIterator[bytes]) -> AsyncGenerator[ServerSentEvent]:
    """Yield the events of a byte stream, wherever its chunks are cut. An incomplete event at the end is dropped."""
    lines, block = _Lines(), _Block()
    async for chunk in chunks:
        for line in lines.feed(chunk):
            event = block.feed(line)
            if event is not None:
                yield event


class _Lines:
    """Splits bytes into lines that end with LF, CR or CRLF. A CR ends its line at once; an LF right after it is skipped."""

    def __init__(self) -> None:
        self.rest = bytearray()
        self.after_cr = False
        self.first = True

    def feed(self, chunk: bytes) -> list[str]:
        """Return the lines that `chunk` completes."""
        if not chunk:
            return []
        if self.after_cr:
            chunk = chunk.removeprefix(b"\n")
        self.after_cr = chunk.endswith(b"\r")
        *whole, rest = _LINE_END.split(chunk)
        if not whole:
            self.rest += rest
            return []
        whole[0] = bytes(self.rest + whole[0])
        self.rest = bytearray(rest)
        return [self._text(line) for line in whole]

    def _text(self, line: bytes) -> str:
        text = line.decode("utf-8", errors="replace")
        if self.first:
            self.first = False
            return text.removeprefix("\ufeff")
        return text


class _Block:
    """The fields of the event being read."""

    def __init__(self) -> None:
        self.event = ""
        self.data: list[str] = []
        self.id: str | None = None

    def feed(self, line: str) -> ServerSentEvent | None:
        """Add a line; return the event if an empty line ends it."""
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self.data.append(value)
        elif name == "event":
            self.event = value
        elif name == "id" and "\x00" not in value:
            self.id = value
        return None

    def _dispatch(self) -> ServerSentEvent | None:
        event, data = self.event or "message", self.data
        self.event, self.data = "", []
        return ServerSentEvent(event, "\n".join(data), self.id) if data else None
