"""A service that responds with broken HTTP raises a typed error, whatever it sends."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import httpx
import pytest
from anyio.abc import SocketAttribute, SocketStream

from services.contracts.base import Reply
from services.errors import EngineFailed
from services.http.client import client_for, fetch, stream_events

pytestmark = pytest.mark.anyio

BROKEN = {
    "chunk size": b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nhello\r\n",
    "status line": b"HTTP/1.1 abc OK\r\n\r\n",
    "another protocol": b"hello world\r\n\r\n",
    "long header": b"HTTP/1.1 200 OK\r\nx: " + b"a" * 100_000 + b"\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 7\r\n\r\nhello",
    "header name": b"HTTP/1.1 200 OK\r\n\x00: y\r\ncontent-length: 5\r\n\r\nhello",
    "redirect": b"HTTP/1.1 302 Found\r\nlocation: http://[::bad\r\ncontent-length: 0\r\n\r\n",
    "compressed error": b"HTTP/1.1 500 No\r\ncontent-encoding: gzip\r\ncontent-length: 5\r\n\r\nhello",
    "cut": b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 500\r\n\r\nhello",
}


@asynccontextmanager
async def client_of(answer: bytes) -> AsyncGenerator[httpx.AsyncClient]:
    """Run a server that sends `answer` on every connection; yield a client of it."""

    async def handle(stream: SocketStream) -> None:
        async with stream:
            await stream.receive()
            await stream.send(answer)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
    port = listener.extra(SocketAttribute.local_port)  # noqa: S610 - not Django's
    client = client_for(f"http://127.0.0.1:{port}")
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, handle)
        try:
            yield client
        finally:
            await client.aclose()
            group.cancel_scope.cancel()


async def read(client: httpx.AsyncClient) -> None:
    """Read a stream to its end."""
    with anyio.fail_after(5):
        async with stream_events(client, "/call", Reply(), {}) as events:
            async for _ in events:
                pass


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN)
async def test_broken_http_on_a_stream_is_engine_failed(answer: bytes):
    """Broken HTTP raises `EngineFailed` with the service's address, never an exception of the transport library."""
    async with client_of(answer) as client:
        with pytest.raises(EngineFailed, match=r"127\.0\.0\.1"):
            await read(client)


@pytest.mark.parametrize("name", ["chunk size", "status line", "another protocol", "long header", "two lengths"])
async def test_broken_http_on_a_short_request_is_engine_failed(name: str):
    """The error is `EngineFailed` and not `NotReady`, since the service can be reached."""
    async with client_of(BROKEN[name]) as client:
        with pytest.raises(EngineFailed, match=r"127\.0\.0\.1"), anyio.fail_after(5):
            await fetch(client, "GET", "/v1/model")
