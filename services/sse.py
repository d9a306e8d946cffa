"""Server-sent events, both directions (WHATWG HTML, section 9.2)."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from pydantic import BaseModel

MEDIA_TYPE = "text/event-stream"
PING = b": ping\n\n"


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One event as it was received."""

    event: str
    data: str
    id: str | None = None


def encode(event: str, data: str, *, event_id: str | None = None) -> bytes:
    """One event on the wire; every line of `data` becomes a `data:` line."""
    lines = [f"event: {event}"] if event_id is None else [f"id: {event_id}", f"event: {event}"]
    lines += [f"data: {line}" for line in data.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    return ("\n".join(lines) + "\n\n").encode()


def encode_model(event: str, model: BaseModel, *, event_id: str | None = None) -> bytes:
    """A model as one event; JSON never holds a raw line break."""
    prefix = "" if event_id is None else f"id: {event_id}\n"
    return f"{prefix}event: {event}\ndata: {model.model_dump_json()}\n\n".encode()


async def decode(chunks: AsyncIterator[bytes]) -> AsyncIterator[ServerSentEvent]:
    """The events in a byte stream, however it is cut. An event that the stream's end cut off is dropped."""
    block = _Block()
    async for line in _lines(chunks):
        event = block.feed(line)
        if event is not None:
            yield event


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[str]:
    rest = b""
    async for chunk in chunks:
        buffer = rest + chunk
        held = b"\r" if buffer.endswith(b"\r") else b""  # it may be the first half of CRLF
        buffer = buffer.removesuffix(held).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = buffer.split(b"\n")
        rest += held
        for line in lines:
            yield line.decode("utf-8", errors="replace")


class _Block:
    """The fields of the event that is being read."""

    def __init__(self) -> None:
        self.event = ""
        self.data: list[str] = []
        self.id: str | None = None

    def feed(self, line: str) -> ServerSentEvent | None:
        """Take a line; an empty one ends the event."""
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
