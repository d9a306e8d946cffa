"""Calls of OpenAI-compatible servers: to which replica, and what its answers mean."""

import json
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import aclosing, contextmanager

import httpx

from services import sse
from services.call_context import SESSION_ID
from services.engines.openai_wire import Fields
from services.engines.protocol import Caller
from services.engines.replicas import Replica, Replicas, Use
from services.errors import CounterpointError, EngineFailed, InvalidRequest, NotReady, Overloaded

BUSY = (429, 503)
RETRY_SECONDS = 1.0
"""When to come back to a busy server that does not say when."""
LOOK_SECONDS = 1.5
_SHOWN = 300


class Servers:
    """Replicas under their wire: a call that fails before its first chunk goes to the next one."""

    def __init__(self, replicas: Replicas) -> None:
        self.replicas = replicas

    async def stream(self, path: str, body: Fields, caller: Caller) -> AsyncGenerator[Fields]:
        """Chunks of the first replica that gives one.

        Raises `Overloaded` when all that work are busy, `EngineFailed`, `InvalidRequest`.
        """
        refusals: list[CounterpointError] = []
        for replica in self.replicas.order(caller.session):
            begun = False
            try:
                async with aclosing(self._chunks(replica, path, body, caller)) as chunks:
                    async for chunk in chunks:
                        begun = True
                        yield chunk
            except (EngineFailed, Overloaded) as error:
                if begun:
                    raise
                refusals.append(error)
            else:
                return
        raise _worst(refusals)

    async def ask(self, path: str, body: Fields, caller: Caller) -> Fields:
        """The answer to a request without a stream. Raises the same."""
        refusals: list[CounterpointError] = []
        for replica in self.replicas.order(caller.session):
            try:
                return await self.ask_one(replica, path, body, caller)
            except (EngineFailed, Overloaded) as error:
                refusals.append(error)
        raise _worst(refusals)

    async def ask_one(self, replica: Replica, path: str, body: Fields, caller: Caller) -> Fields:
        """The same of one replica."""
        with self._judged(replica):
            response = await replica.client.post(path, json=body, headers=_headers(caller))
            await _refuse(response)
            return _object(response.text)

    async def look(self, replica: Replica) -> Fields:
        """The models that a replica lists, which closes its breaker. Raises `NotReady`, or what it answered."""
        try:
            response = await replica.client.get("/v1/models", timeout=LOOK_SECONDS)
        except httpx.TransportError as error:
            replica.breaker.fail(refused=True)
            raise NotReady(f"{replica.name} cannot be reached", retry_after=RETRY_SECONDS) from error
        await _refuse(response)
        replica.breaker.succeed()
        return _object(response.text)

    async def _chunks(self, replica: Replica, path: str, body: Fields, caller: Caller) -> AsyncGenerator[Fields]:
        with self._judged(replica):
            async with replica.client.stream("POST", path, json=body, headers=_headers(caller)) as response:
                await _refuse(response)
                async with aclosing(sse.decode(response.aiter_raw())) as events:
                    async for event in events:
                        if event.data == "[DONE]":
                            return
                        yield _object(event.data)

    @contextmanager
    def _judged(self, replica: Replica) -> Generator[Use]:
        """Count a call of a replica, and tell its breaker how it ended."""
        with self.replicas.using(replica) as use:
            try:
                yield use
            except httpx.TransportError as error:
                use.failed(refused=isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)))
                raise EngineFailed(f"{replica.name} cannot be reached, or broke the connection") from error
            except EngineFailed:
                use.failed()
                raise
            except Overloaded:
                use.outcome = "busy"
                raise
            except InvalidRequest:
                use.outcome = "ok"
                raise
            else:
                use.outcome = "ok"


def _headers(caller: Caller) -> dict[str, str]:
    return {SESSION_ID: caller.session} if caller.session else {}


def _worst(refusals: Sequence[CounterpointError]) -> CounterpointError:
    """What a caller is told when no replica answered: come back later if one is only busy, else the last failure."""
    busy = [error for error in refusals if isinstance(error, Overloaded)]
    if busy:
        return min(busy, key=lambda error: error.retry_after or RETRY_SECONDS)
    return refusals[-1] if refusals else EngineFailed("every server of the model is left alone after its failures")


async def _refuse(response: httpx.Response) -> None:
    """Raise what an answer that is an error means."""
    if response.is_success:
        return
    text = (await response.aread()).decode("utf-8", "replace")[:_SHOWN]
    if response.status_code in BUSY:
        told = response.headers.get("retry-after", "")
        wait = float(told) if told.replace(".", "", 1).isdecimal() else RETRY_SECONDS
        raise Overloaded(f"{response.request.url.host} is busy", retry_after=wait)
    if response.is_client_error:
        raise InvalidRequest(f"{response.request.url.host} refused: {text}")
    raise EngineFailed(f"the server answered {response.status_code}: {text}")


def _object(text: str) -> Fields:
    """The JSON object of an answer or a chunk. Raises `EngineFailed` for what is none, and for an error that came late."""
    try:
        found: Fields = json.loads(text)
    except ValueError as error:
        raise EngineFailed("the server did not answer with JSON") from error
    if found.get("error"):
        raise EngineFailed(f"the server failed in the middle: {str(found['error'])[:_SHOWN]}")
    return found
