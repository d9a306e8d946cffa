"""Requests to OpenAI-compatible servers: failover between replicas, and errors from responses."""

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import httpx

from services.call_context import SESSION_ID, CallContext
from services.engines.openai.replicas import Replica, Replicas
from services.engines.openai.wire import Fields
from services.errors import CounterpointError, EngineFailed, InvalidRequest, NotReady, Overloaded
from services.http import sse

BUSY = (429, 503)
RETRY_SECONDS = 1.0
"""`Retry-After` of a busy server that sends none."""
MODELS_SECONDS = 1.5
"""Time limit of the list of models, which also checks that a replica works."""
_MAX_QUOTED_CHARS = 300


class Servers:
    """The replicas behind one interface: a request that fails before its first chunk is sent to the next replica."""

    def __init__(self, replicas: Replicas) -> None:
        self.replicas = replicas

    async def stream(self, path: str, body: Fields, call: CallContext) -> AsyncGenerator[Fields]:
        """Yield the chunks of the first replica that sends one.

        Raises `Overloaded` if a replica is busy and none responds, else `EngineFailed`, and `InvalidRequest`.
        """
        refusals: list[CounterpointError] = []
        for replica in self.replicas.order(call.session_id):
            begun = False
            try:
                async with aclosing(self._chunks(replica, path, body, call)) as chunks:
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

    async def post(self, path: str, body: Fields, call: CallContext) -> Fields:
        """Return the response of the first replica that sends one. Raises as `stream` does."""
        refusals: list[CounterpointError] = []
        for replica in self.replicas.order(call.session_id):
            try:
                return await self.post_to(replica, path, body, call)
            except (EngineFailed, Overloaded) as error:
                refusals.append(error)
        raise _worst(refusals)

    async def post_to(self, replica: Replica, path: str, body: Fields, call: CallContext) -> Fields:
        """Return the response of one replica. Raises as `stream` does."""
        with self.replicas.using(replica):
            response = await replica.client.post(path, json=body, headers=_headers(call))
            await _raise_for_status(response)
            return _object(response.text)

    async def models(self, replica: Replica) -> Fields:
        """Return a replica's list of models, and close its breaker. Raises `NotReady`, or the error of its response."""
        try:
            response = await replica.client.get("/v1/models", timeout=MODELS_SECONDS)
        except httpx.TransportError as error:
            replica.breaker.fail(refused=True)
            raise NotReady(f"{replica.name} cannot be reached", retry_after=RETRY_SECONDS) from error
        await _raise_for_status(response)
        replica.breaker.succeed()
        return _object(response.text)

    async def _chunks(self, replica: Replica, path: str, body: Fields, call: CallContext) -> AsyncGenerator[Fields]:
        with self.replicas.using(replica):
            async with replica.client.stream("POST", path, json=body, headers=_headers(call)) as response:
                await _raise_for_status(response)
                async with aclosing(sse.decode(response.aiter_raw())) as events:
                    async for event in events:
                        if event.data == "[DONE]":
                            return
                        yield _object(event.data)


def _headers(call: CallContext) -> dict[str, str]:
    return {SESSION_ID: call.session_id} if call.session_id else {}


def _worst(refusals: Sequence[CounterpointError]) -> CounterpointError:
    """Return the error to raise when no replica responded: `Overloaded` if one is only busy, else the last failure."""
    busy = [error for error in refusals if isinstance(error, Overloaded)]
    if busy:
        return min(busy, key=lambda error: error.retry_after or RETRY_SECONDS)
    return refusals[-1] if refusals else EngineFailed("all servers of the model have failed recently and get no calls now")


async def _raise_for_status(response: httpx.Response) -> None:
    """Raise the error that a response stands for, if it is one."""
    if response.is_success:
        return
    text = (await response.aread()).decode("utf-8", "replace")[:_MAX_QUOTED_CHARS]
    if response.status_code in BUSY:
        after = response.headers.get("retry-after", "")
        wait = float(after) if after.replace(".", "", 1).isdecimal() else RETRY_SECONDS
        raise Overloaded(f"{response.request.url.host} is busy", retry_after=wait)
    if response.is_client_error:
        raise InvalidRequest(f"{response.request.url.host} refused: {text}")
    raise EngineFailed(f"the server responded with {response.status_code}: {text}")


def _object(text: str) -> Fields:
    """Parse the JSON object of a response or a chunk. Raises `EngineFailed` for other text, and for an error in a stream."""
    try:
        fields: Fields = json.loads(text)
    except ValueError as error:
        raise EngineFailed("the server did not respond with JSON") from error
    if fields.get("error"):
        raise EngineFailed(f"the server failed during the response: {str(fields['error'])[:_MAX_QUOTED_CHARS]}")
    return fields
