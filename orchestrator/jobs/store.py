"""Where jobs live: Redis, or this process's memory under the same commands."""

import os
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from hashlib import blake2b
from typing import Any, cast

import anyio
import stamina
from docket import Docket
from pydantic import TypeAdapter
from redis.exceptions import RedisError

from orchestrator.jobs import scripts
from orchestrator.jobs.job import LIVE, Fenced, Held, Job, Status, Taken, Wish
from orchestrator.journal import Record
from orchestrator.request import SolveRequest
from services.call_context import CallContext, new_id
from services.contracts.errors import Problem
from services.contracts.events import SolveEvent, SolveFailed, SolveFinished
from services.contracts.solve import SolveResult
from services.errors import IdempotencyConflict, NotFound, NotReady

FOLLOW_MS = 2_000
"""How long a follower waits for an event before it looks whether the job is still there."""
WORKER = f"{socket.gethostname()}:{os.getpid()}"
"""This process, as a job names it while it runs it."""
AGAIN_SECONDS = 1.0
PATIENCE_SECONDS = 30.0
"""How long a worker waits for a store that went away."""

_KINDS: dict[str, type[SolveEvent]] = {kind.model_fields["type"].default: kind for kind in SolveEvent.__subclasses__()}
_RESULT = TypeAdapter(SolveResult)


class JobStore:
    """Jobs, their events, wishes and journals, for `ttl` seconds after their end.

    A worker that gave no sign of life for `lease` seconds loses its job.
    """

    def __init__(self, docket: Docket, ttl: float, lease: float, *, durable: bool) -> None:
        self.docket = docket
        self.ttl = round(ttl)
        self.lease = lease
        self.durable = durable

    async def submit(self, request: SolveRequest, body: str, key: str | None, call: CallContext) -> Job:
        """Store a job, or find the one that was submitted under the same `key`. Raises `IdempotencyConflict`, `NotReady`."""
        tenant = call.tenant
        job = new_id("job")
        digest = blake2b(body.encode(), digest_size=16).hexdigest()
        async with self._client() as redis:
            if key is not None:
                name, mine = f"counterpoint:idempotency:{tenant}:{key}", f"{job} {digest}"
                if not await redis.set(name, mine, nx=True, ex=self.ttl):
                    job, _, asked = _text(await redis.get(name)).partition(" ")
                    if asked != digest:
                        raise IdempotencyConflict("this Idempotency-Key was used for another body")
                    if await redis.exists(_keys(job)[0]):
                        return await self.get(job)
            given = request.model_dump_json(), str(time.time()), tenant, call.traceparent or ""
            await redis.eval(scripts.CREATE, 1, _keys(job)[0], *given)
        return await self.get(job)

    async def get(self, job: str, tenant: str | None = None) -> Job:
        """A job; another tenant's is not there, if one is given. Raises `NotFound`, `NotReady`."""
        async with self._client() as redis:
            found = _fields(await redis.hgetall(_keys(job)[0]))
            if not found or tenant not in {None, found["tenant"]}:
                raise _unknown(job)
            status = cast("Status", found["status"])
            events = [] if status in LIVE else await self._events(redis, job)
        end = events[-1] if events else None
        return Job(
            id=job,
            status=status,
            events_url=f"/jobs/{job}/events",
            durable=self.durable,
            created=float(found["created"]),
            started=_number(found.get("started")),
            ended=_number(found.get("ended")),
            worker=found.get("worker"),
            request=SolveRequest.model_validate_json(found["request"]),
            result=_RESULT.validate_python(_bare(end)) if isinstance(end, SolveFinished) else None,
            error=_problem(end) if isinstance(end, SolveFailed) else None,
        )

    async def forget(self, job: str, event: SolveFailed) -> bool:
        """Cancel a job that nobody has begun; False if somebody has. Raises `NotReady`."""
        keys, now = _keys(job), str(time.time())
        async with self._client() as redis:
            data = event.model_dump_json()
            forgotten = bool(await redis.eval(scripts.FORGET, len(keys), *keys, event.type, data, now, str(self.ttl)))
            if forgotten:
                await self.docket.cancel(job)
            return forgotten

    async def wish(self, job: str, wish: Wish) -> bool:
        """Ask for a job's end; False if it has ended. Raises `NotFound`, `NotReady`."""
        async with self._client() as redis:
            done = await redis.eval(scripts.WISH, 3, *_keys(job)[:3], wish)
        if done == -1:
            raise _unknown(job)
        return bool(done)

    async def wishes(self, job: str) -> AsyncIterator[Wish]:
        """Every wish for a job, as it comes, for as long as it takes."""
        last = "0-0"
        while True:
            try:
                read = await self._read(_keys(job)[2], last, wait=True)
            except NotReady:
                await anyio.sleep(AGAIN_SECONDS)
                continue
            for name, fields in read:
                last = name
                yield cast("Wish", fields["wish"])

    async def follow(self, job: str, after: int) -> AsyncIterator[SolveEvent]:
        """Every event of a job after number `after`, as it comes, until the last. Raises `NotFound`, `NotReady`."""
        last = f"{after}-0"
        live = True
        while live:
            live = await self._status(job) in LIVE
            for name, fields in await self._read(_keys(job)[1], last, wait=live):
                last = name
                yield _event(fields)

    async def take(self, job: str) -> Taken | None:
        """Begin or go on with a job; None if it has ended or is gone. Raises `Held`, `NotReady`."""

        async def taken(redis: Any) -> Taken | None:  # noqa: ANN401 - both kinds of client
            keys = _keys(job)
            epoch = int(await redis.eval(scripts.TAKE, len(keys), *keys, str(time.time()), str(self._lease_ms), WORKER))
            if epoch < 0:
                raise Held(job)
            if not epoch:
                return None
            found = _fields(await redis.hgetall(_keys(job)[0]))
            records = _fields(await redis.hgetall(_keys(job)[3]))
            return Taken(
                job,
                epoch,
                SolveRequest.model_validate_json(found["request"]),
                float(found["started"]),
                found["tenant"],
                found["traceparent"] or None,
                await self._events(redis, job),
                {key: Record.model_validate_json(record) for key, record in records.items()},
            )

        return await self._patiently(taken)

    async def hold(self, taken: Taken) -> None:
        """Keep others from taking the job, for a lease. Raises `Fenced`, `NotReady`."""
        await self._fenced(scripts.HOLD, taken, self._lease_ms)

    async def drop(self, taken: Taken) -> None:
        """Let another worker have the job at once. Raises `Fenced`, `NotReady`."""
        await self._fenced(scripts.DROP, taken)

    async def append(self, taken: Taken, event: SolveEvent) -> None:
        """Add an event under its number. Raises `Fenced`."""
        kind, data = event.model_dump()["type"], event.model_dump_json()
        await self._fenced(scripts.APPEND, taken, event.seq, kind, data)

    async def keep(self, taken: Taken, key: str, record: Record) -> None:
        """Record a call. Raises `Fenced`."""
        await self._fenced(scripts.KEEP, taken, key, record.model_dump_json())

    async def end(self, taken: Taken, status: Status, event: SolveEvent) -> None:
        """End a job with its last event. Raises `Fenced`."""
        kind, data = event.model_dump()["type"], event.model_dump_json()
        await self._fenced(scripts.END, taken, event.seq, kind, data, status, time.time(), self.ttl)

    async def _fenced(self, script: str, taken: Taken, *arguments: object) -> None:
        keys = _keys(taken.id)

        async def run(redis: Any) -> object:  # noqa: ANN401 - both kinds of client
            return await redis.eval(script, len(keys), *keys, str(taken.epoch), *map(str, arguments))

        try:
            mine = await self._patiently(run)
        except NotReady:
            taken.lost = True
            raise
        if not mine:
            taken.lost = True
            raise Fenced(taken.id)

    async def _patiently(self, work: Callable[[Any], Awaitable[Any]]) -> Any:  # noqa: ANN401 - what the work returns
        """Try again while the store is away. Raises `NotReady` after `PATIENCE_SECONDS`."""
        async for attempt in stamina.retry_context(NotReady, attempts=None, timeout=PATIENCE_SECONDS, wait_max=1.0):
            with attempt:
                async with self._client() as redis:
                    return await work(redis)
        raise AssertionError("retrying ended without a result")

    @property
    def _lease_ms(self) -> int:
        return round(self.lease * 1_000)

    async def _status(self, job: str) -> Status:
        async with self._client() as redis:
            status = await redis.hget(_keys(job)[0], "status")
        if status is None:
            raise _unknown(job)
        return cast("Status", _text(status))

    async def _read(self, stream: str, after: str, *, wait: bool) -> list[tuple[str, dict[str, str]]]:
        async with self._client() as redis:
            read = await redis.xread({stream: after}, block=FOLLOW_MS if wait else None)
        return [(_text(name), _fields(fields)) for _, entries in read or () for name, fields in entries]

    @staticmethod
    async def _events(redis: Any, job: str) -> list[SolveEvent]:  # noqa: ANN401 - both kinds of client
        return [_event(_fields(fields)) for _, fields in await redis.xrange(_keys(job)[1])]

    @asynccontextmanager
    async def _client(self) -> AsyncGenerator[Any]:
        """A client of the store. Raises `NotReady` where it cannot be reached."""
        try:
            async with self.docket.redis() as redis:
                yield redis
        except (RedisError, OSError) as error:
            raise NotReady(f"jobs are stored in Redis, which cannot be reached: {error}", retry_after=1) from error


def _keys(job: str) -> tuple[str, str, str, str, str]:
    """Of a job, its events, its wishes, its journal, its lease; in one slot of a cluster."""
    name = f"counterpoint:{{{job}}}"
    return name, f"{name}:events", f"{name}:wishes", f"{name}:calls", f"{name}:lease"


def _event(fields: dict[str, str]) -> SolveEvent:
    return _KINDS[fields["type"]].model_validate_json(fields["data"])


def _bare(event: SolveEvent) -> dict[str, Any]:
    """The result or the problem that a last event holds."""
    return event.model_dump(exclude={"solve_id", "seq", "spent", "type"}, by_alias=True)


def _problem(event: SolveFailed) -> Problem:
    return Problem.model_validate({**_bare(event), "type": f"urn:counterpoint:error:{event.code}"})


def _unknown(job: str) -> NotFound:
    return NotFound(f"there is no job {job[:64]}, or it has expired")


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _fields(found: dict[object, object]) -> dict[str, str]:
    return {_text(key): _text(value) for key, value in found.items()}


def _number(text: str | None) -> float | None:
    return None if text is None else float(text)
