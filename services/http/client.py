"""The HTTP client between services: httpx's API on aiohttp's transport, with event streams that the caller may leave early.

A service that cannot be reached is `NotReady`: it received nothing. A response that breaks off, or that isn't HTTP, is
`EngineFailed`. Requests are retried only before the first byte of a response, here and nowhere else.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import anyio
import httpx
import stamina
from httpx_aiohttp import AiohttpTransport
from pydantic import BaseModel, ValidationError

from services.contracts.errors import ProblemDetails
from services.errors import CounterpointError, EngineFailed, NotReady, Overloaded
from services.http import sse
from services.http.error_responses import error_of
from services.http.sse import ServerSentEvent

CONNECT_SECONDS = 2.0
KEEP_ALIVE_SECONDS = 30
"""Idle connections are closed well before the server would close them (75 s), so that the two do not race."""
CONNECTIONS = 2048
TRIES = 3
"""Attempts to connect or to be admitted before a call fails."""
FIRST_WAIT_SECONDS = 0.02
MAX_WAIT_SECONDS = 0.5

_NOT_HTTP = (aiohttp.ClientError, httpx.DecodingError)
"""Errors of a response that isn't HTTP; httpx-aiohttp passes aiohttp's own errors through."""


def client_for(base_url: str) -> httpx.AsyncClient:
    """Return a client for one service; close it with `aclose`."""

    def session() -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(limit=CONNECTIONS, keepalive_timeout=KEEP_ALIVE_SECONDS)
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())

    timeout = httpx.Timeout(None, connect=CONNECT_SECONDS)
    return httpx.AsyncClient(base_url=base_url, transport=AiohttpTransport(client=session), timeout=timeout, trust_env=False)


async def fetch(
    client: httpx.AsyncClient,
    method: str,
    path: str,
    headers: Mapping[str, str] | None = None,
    body: BaseModel | None = None,
) -> Any:  # noqa: ANN401 - JSON
    """Send a short request and return its JSON. Raises the error of the response, `NotReady` or `EngineFailed`."""
    all_headers = {**({} if body is None else {"content-type": "application/json"}), **(headers or {})}
    content = None if body is None else body.model_dump_json()
    try:
        response = await client.request(method, path, headers=all_headers, content=content, timeout=CONNECT_SECONDS)
    except httpx.TransportError as error:
        raise NotReady(f"{client.base_url} cannot be reached", retry_after=1) from error
    except _NOT_HTTP as error:
        raise EngineFailed(f"{client.base_url} did not respond in HTTP") from error
    if response.is_error:
        raise _response_error(response)
    try:
        return response.json()
    except ValueError as error:
        raise EngineFailed(f"{client.base_url} did not respond with JSON") from error


@asynccontextmanager
async def stream_events(
    client: httpx.AsyncClient,
    path: str,
    body: BaseModel | None,
    headers: Mapping[str, str],
    on_retry: Callable[[], None] = lambda: None,
) -> AsyncGenerator[AsyncIterator[ServerSentEvent]]:
    """POST `body`, or GET if it is None, and yield the events of the response. Leaving early closes the connection.

    `on_retry` is called before each repetition of the request. Raises the error that the service responds with, `NotReady`
    if nothing could be sent, `EngineFailed` if the stream broke off.
    """
    response = await _open(client, path, body, headers, on_retry)
    try:
        yield _events(response)
    finally:
        await response.aclose()


async def _open(
    client: httpx.AsyncClient, path: str, body: BaseModel | None, headers: Mapping[str, str], on_retry: Callable[[], None]
) -> httpx.Response:
    content = None if body is None else body.model_dump_json().encode()
    all_headers = {"content-type": "application/json", "accept": sse.MEDIA_TYPE, **headers}
    request = client.build_request("GET" if body is None else "POST", path, content=content, headers=all_headers)
    try:
        return await _send(client, request)
    except CounterpointError as error:
        wait = _retry_wait(error)
        if wait is None:
            raise
    await anyio.sleep(wait)
    async for attempt in stamina.retry_context(
        on=_backoff, attempts=TRIES - 1, wait_initial=FIRST_WAIT_SECONDS, wait_max=MAX_WAIT_SECONDS, timeout=None
    ):
        with attempt:
            on_retry()
            return await _send(client, request)
    raise AssertionError("a retried call neither returned nor raised")


async def _send(client: httpx.AsyncClient, request: httpx.Request) -> httpx.Response:
    try:
        response = await client.send(request, stream=True)
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise NotReady(f"{client.base_url} cannot be reached", retry_after=1) from error
    except httpx.TransportError as error:
        raise EngineFailed(f"{client.base_url} broke the connection") from error
    except _NOT_HTTP as error:
        raise EngineFailed(f"{client.base_url} did not respond in HTTP") from error
    if response.is_error:
        await _read_error(response)
        raise _response_error(response)
    return response


async def _read_error(response: httpx.Response) -> None:
    try:
        await response.aread()
    except (httpx.TransportError, *_NOT_HTTP) as error:
        raise EngineFailed(f"{response.request.url.host} broke off its {response.status_code} response") from error
    finally:
        await response.aclose()


async def _events(response: httpx.Response) -> AsyncIterator[ServerSentEvent]:
    try:
        async for event in sse.decode(response.aiter_raw()):
            if event.event == "error":
                raise _parse_error(event.data, "the stream ended with an error that has no problem details")
            yield event
    except (httpx.TransportError, *_NOT_HTTP) as error:
        raise EngineFailed(f"{response.request.url.host} broke off the stream") from error


def _response_error(response: httpx.Response) -> CounterpointError:
    otherwise = f"{response.request.url.host} responded with {response.status_code} and no problem details"
    return _parse_error(response.content, otherwise)


def _parse_error(problem: str | bytes, otherwise: str) -> CounterpointError:
    """Return the error that problem details describe; for any other text `EngineFailed` with the detail `otherwise`."""
    try:
        return error_of(ProblemDetails.model_validate_json(problem))
    except ValidationError:
        return EngineFailed(otherwise)


def _backoff(error: Exception) -> bool | float:
    """Return whether to repeat a call, or after how many seconds where the service names them (stamina's `on`)."""
    wait = _retry_wait(error)
    return False if wait is None else (wait if isinstance(error, Overloaded) else True)


def _retry_wait(error: Exception) -> float | None:
    """Return the seconds to wait before a retry: the service's own `Retry-After` if it is short. None = do not retry."""
    if isinstance(error, Overloaded) and error.retry_after is not None:
        return error.retry_after if error.retry_after <= MAX_WAIT_SECONDS else None
    return FIRST_WAIT_SECONDS if isinstance(error, (NotReady, Overloaded)) else None
