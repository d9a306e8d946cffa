"""The HTTP client between services: httpx's API on aiohttp's transport, and event streams that can be hung up on.

A service that cannot be reached is `NotReady`: it received nothing. A response that breaks, or that isn't HTTP, is
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
"""Idle connections are let go before the server does it (75 s), so that the two do not race."""
CONNECTIONS = 2048
TRIES = 3
"""Attempts to connect or to be admitted, before a call has failed."""
FIRST_WAIT_SECONDS = 0.02
LONGEST_WAIT_SECONDS = 0.5

_NOT_HTTP = (aiohttp.ClientError, httpx.DecodingError)
"""Errors of a response that isn't HTTP; httpx-aiohttp passes aiohttp's own errors through."""


def client_for(base_url: str) -> httpx.AsyncClient:
    """A client for one service; close it with `aclose`."""

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
    """The JSON of a short request. Raises the error that the service answered with, or `NotReady`."""
    sent = {**({} if body is None else {"content-type": "application/json"}), **(headers or {})}
    content = None if body is None else body.model_dump_json()
    try:
        response = await client.request(method, path, headers=sent, content=content, timeout=CONNECT_SECONDS)
    except httpx.TransportError as error:
        raise NotReady(f"{client.base_url} cannot be reached", retry_after=1) from error
    except _NOT_HTTP as error:
        raise EngineFailed(f"{client.base_url} did not answer in HTTP") from error
    if response.is_error:
        raise _refusal(response)
    try:
        return response.json()
    except ValueError as error:
        raise EngineFailed(f"{client.base_url} did not answer with JSON") from error


def _unheard() -> None:
    return


@asynccontextmanager
async def stream_events(
    client: httpx.AsyncClient,
    path: str,
    body: BaseModel | None,
    headers: Mapping[str, str],
    again: Callable[[], None] = _unheard,
) -> AsyncGenerator[AsyncIterator[ServerSentEvent]]:
    """POST `body`, or GET, and yield the answer's events; leaving early closes the connection, which the server notices.

    `again` is told each time it is sent once more.

    Raises the error that the service answered with, `NotReady` where nothing could be sent, `EngineFailed` where the
    stream broke.
    """
    response = await _open(client, path, body, headers, again)
    try:
        yield _events(response)
    finally:
        await response.aclose()


async def _open(
    client: httpx.AsyncClient, path: str, body: BaseModel | None, headers: Mapping[str, str], again: Callable[[], None]
) -> httpx.Response:
    content = None if body is None else body.model_dump_json().encode()
    sent = {"content-type": "application/json", "accept": sse.MEDIA_TYPE, **headers}
    request = client.build_request("GET" if body is None else "POST", path, content=content, headers=sent)
    try:
        return await _send(client, request)
    except CounterpointError as error:
        wait = _wait_before_repeating(error)
        if wait is None:
            raise
    await anyio.sleep(wait)
    async for attempt in stamina.retry_context(
        on=_worth_repeating, attempts=TRIES - 1, wait_initial=FIRST_WAIT_SECONDS, wait_max=LONGEST_WAIT_SECONDS, timeout=None
    ):
        with attempt:
            again()
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
        raise EngineFailed(f"{client.base_url} did not answer in HTTP") from error
    if response.is_error:
        await _read_error(response)
        raise _refusal(response)
    return response


async def _read_error(response: httpx.Response) -> None:
    try:
        await response.aread()
    except (httpx.TransportError, *_NOT_HTTP) as error:
        raise EngineFailed(f"{response.request.url.host} broke its answer {response.status_code}") from error
    finally:
        await response.aclose()


async def _events(response: httpx.Response) -> AsyncIterator[ServerSentEvent]:
    try:
        async for event in sse.decode(response.aiter_raw()):
            if event.event == "error":
                raise _told(event)
            yield event
    except (httpx.TransportError, *_NOT_HTTP) as error:
        raise EngineFailed(f"{response.request.url.host} broke the stream") from error


def _told(event: ServerSentEvent) -> CounterpointError:
    try:
        return error_of(ProblemDetails.model_validate_json(event.data))
    except ValidationError:
        return EngineFailed("the stream ended with an error that is no problem object")


def _refusal(response: httpx.Response) -> CounterpointError:
    try:
        return error_of(ProblemDetails.model_validate_json(response.content))
    except ValidationError:
        return EngineFailed(f"{response.request.url.host} answered {response.status_code} without a problem object")


def _worth_repeating(error: Exception) -> bool | float:
    """Whether the same call may succeed if sent again, and after how long where that is known."""
    wait = _wait_before_repeating(error)
    return False if wait is None else (wait if isinstance(error, Overloaded) else True)


def _wait_before_repeating(error: Exception) -> float | None:
    """Seconds; the service's own `Retry-After`, if short. None where repeating is of no use."""
    if isinstance(error, Overloaded) and error.retry_after is not None:
        return error.retry_after if error.retry_after <= LONGEST_WAIT_SECONDS else None
    return FIRST_WAIT_SECONDS if isinstance(error, (NotReady, Overloaded)) else None
