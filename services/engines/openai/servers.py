"""Requests to OpenAI-compatible servers: the replica that gets one, and the errors that its answers stand for."""

import json
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import aclosing, contextmanager

import httpx

from services.call_context import SESSION_ID, CallContext
from services.engines.openai.replicas import Replica, ReplicaCall, Replicas
from services.engines.openai.wire import Fields
from services.errors import CounterpointError, EngineFailed, InvalidRequest, NotReady, Overloaded
from services.http import sse

BUSY = (429, 503)
RETRY_SECONDS = 1.0
"""When to come back to a busy server that does not say when."""
MODELS_SECONDS = 1.5
"""Time for a list of models, which also checks that a replica works."""
_MAX_QUOTED_CHARS = 300


class Servers:
    """Replicas behind one interface: a request that fails before its first chunk goes to the next one."""

    def __init__(self, replicas: Replicas) -> None:
        self.replicas = replicas

    async def stream(self, path: str, body: Fields, call: CallContext) -> AsyncGenerator[Fields]:
        """Yield the chunks of the first replica that sends one.

        Raises `Overloaded` when all working replicas are busy, `EngineFailed`, `InvalidRequest`.
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
        """Return the answer to a request without a stream, from the first replica that gives one. Raises the same."""
        refusals: list[CounterpointError] = []
        for replica in self.replicas.order(call.session_id):
            try:
                return await self.post_to(replica, path, body, call)
            except (EngineFailed, Overloaded) as error:
                refusals.append(error)
        raise _worst(refusals)

    async def post_to(self, replica: Replica, path: str, body: Fields, call: CallContext) -> Fields:
        """Return the answer of one replica. Raises the same."""
        with self._tracked(replica):
            response = await replica.client.post(path, json=body, headers=_headers(call))
            await _raise_for_status(response)
            return _object(response.text)

    async def models(self, replica: Replica) -> Fields:
        """Return a replica's list of models, and close its breaker. Raises `NotReady`, or the error it answers with."""
        try:
            response = await replica.client.get("/v1/models", timeout=MODELS_SECONDS)
        except httpx.TransportError as error:
            replica.breaker.fail(refused=True)
            raise NotReady(f"{replica.name} cannot be reached", retry_after=RETRY_SECONDS) from error
        await _raise_for_status(response)
        replica.breaker.succeed()
        return _object(response.text)

    async def _chunks(self, replica: Replica, path: str, body: Fields, call: CallContext) -> AsyncGenerator[Fields]:
        with self._tracked(replica):
            async with replica.client.stream("POST", path, json=body, headers=_headers(call)) as response:
                await _raise_for_status(response)
                async with aclosing(sse.decode(response.aiter_raw())) as events:
                    async for event in events:
                        if event.data == "[DONE]":
                            return
                        yield _object(event.data)

    @contextmanager
    def _tracked(self, replica: Replica) -> Generator[ReplicaCall]:
        """Count a request to a replica, and record how it ended in its breaker."""
        with self.replicas.using(replica) as tracked:
            try:
                yield tracked
            except httpx.TransportError as error:
                tracked.fail(refused=isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)))
                raise EngineFailed(f"{replica.name} cannot be reached, or broke the connection") from error
            except EngineFailed:
                tracked.fail()
                raise
            except Overloaded:
                tracked.outcome = "busy"
                raise
            except InvalidRequest:
                tracked.outcome = "ok"
                raise
            else:
                tracked.outcome = "ok"


def _headers(call: CallContext) -> dict[str, str]:
    return {SESSION_ID: call.session_id} if call.session_id else {}


def _worst(refusals: Sequence[CounterpointError]) -> CounterpointError:
    """Return the error for when no replica answered: `Overloaded` if one is only busy, else the last failure."""
    busy = [error for error in refusals if isinstance(error, Overloaded)]
    if busy:
        return min(busy, key=lambda error: error.retry_after or RETRY_SECONDS)
    return refusals[-1] if refusals else EngineFailed("all servers of the model have failed and get no calls for a while")


async def _raise_for_status(response: httpx.Response) -> None:
    """Raise the error that an answer stands for, if it is one."""
    if response.is_success:
        return
    text = (await response.aread()).decode("utf-8", "replace")[:_MAX_QUOTED_CHARS]
    if response.status_code in BUSY:
        after = response.headers.get("retry-after", "")
        wait = float(after) if after.replace(".", "", 1).isdecimal() else RETRY_SECONDS
        raise Overloaded(f"{response.request.url.host} is busy", retry_after=wait)
    if response.is_client_error:
        raise InvalidRequest(f"{response.request.url.host} refused: {text}")
    raise EngineFailed(f"the server answered {response.status_code}: {text}")


def _object(text: str) -> Fields:
    """Parse the JSON object of an answer or a chunk. Raises `EngineFailed` for other text, or an error amid a stream."""
    try:
        answer: Fields = json.loads(text)
    except ValueError as error:
        raise EngineFailed("the server did not answer with JSON") from error
    if answer.get("error"):
        raise EngineFailed(f"the server failed in the middle: {str(answer['error'])[:_MAX_QUOTED_CHARS]}")
    return answer
