"""The store of jobs: Redis, or docket's memory backend, which answers to the same commands."""

import math
import os
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from hashlib import blake2b
from typing import Any, TypeVar, cast

import anyio
import stamina
from docket import Docket
from pydantic import TypeAdapter
from redis.exceptions import RedisError, ResponseError

from orchestrator.jobs import scripts
from orchestrator.jobs.job import LIVE, ClaimedJob, ClaimLost, Job, JobClaimed, JobCommand, JobStatus
from orchestrator.jobs.scripts import JobKeys
from orchestrator.journal import Record
from orchestrator.request import SolveRequest
from services.call_context import CallContext, new_id
from services.contracts.errors import ProblemDetails
from services.contracts.events import SOLVE_EVENT, AnySolveEvent, SolveFailed, SolveFinished
from services.contracts.solve import SolveResult
from services.errors import IdempotencyConflict, NotFound, NotReady
from services.redis import RedisClient

FOLLOW_MS = 2_000
"""How long a follower waits for an event before it checks that the job still exists."""
WORKER = f"{socket.gethostname()}:{os.getpid()}"
"""This process's name as the worker of a job."""
RECONNECT_SECONDS = 1.0
OUTAGE_SECONDS = 30.0
"""How long a worker retries while the store cannot be reached."""

_RESULT = TypeAdapter(SolveResult)
ResultT = TypeVar("ResultT")


class JobStore:
    """Jobs with their events, commands and journals, kept until `ttl` seconds after their end.

    A worker that does not renew its claim within `lease` seconds loses the job.
    """

    def __init__(self, docket: Docket, ttl: float, lease: float, *, durable: bool) -> None:
        self.docket = docket
        self.ttl = round(ttl)
        self.lease = lease
        self.durable = durable

    async def submit(self, request: SolveRequest, body: str, key: str | None, call: CallContext) -> Job:
        """Store a job, or return the one submitted earlier under the same `key` with the same `body`.

        Raises `IdempotencyConflict`, `NotReady`.
        """
        job_id = new_id("job")
        digest = blake2b(body.encode(), digest_size=16).hexdigest()
        async with self._client() as redis:
            if key is not None:
                name = f"counterpoint:idempotency:{call.tenant}:{key}"
                if not await redis.set(name, f"{job_id} {digest}", nx=True, ex=self.ttl):
                    job_id, _, first_digest = _text(await redis.get(name)).partition(" ")
                    if first_digest != digest:
                        raise IdempotencyConflict("this Idempotency-Key was used with another body")
                    if await redis.exists(JobKeys.of(job_id).job):
                        return await self.get(job_id)
            stored = request.model_dump_json()
            await scripts.create(
                redis, JobKeys.of(job_id), request=stored, now=time.time(), tenant=call.tenant, traceparent=call.traceparent
            )
        return await self.get(job_id)

    async def get(self, job_id: str, tenant: str | None = None) -> Job:
        """Return a job, of `tenant` if one is given. Raises `NotFound`, `NotReady`."""
        async with self._client() as redis:
            fields = _fields(await redis.hgetall(JobKeys.of(job_id).job))
            if not fields or tenant not in {None, fields["tenant"]}:
                raise _not_found(job_id)
            status = cast("JobStatus", fields["status"])
            events = [] if status in LIVE else await self._events(redis, job_id)
        last = events[-1] if events else None
        return Job(
            id=job_id,
            status=status,
            events_url=f"/jobs/{job_id}/events",
            durable=self.durable,
            created=float(fields["created"]),
            started=_number(fields.get("started")),
            ended=_number(fields.get("ended")),
            worker=fields.get("worker"),
            request=SolveRequest.model_validate_json(fields["request"]),
            result=_RESULT.validate_python(_payload(last)) if isinstance(last, SolveFinished) else None,
            error=_problem(last) if isinstance(last, SolveFailed) else None,
        )

    async def cancel_queued(self, job_id: str, event: SolveFailed) -> bool:
        """Cancel a job that no worker has claimed yet; return False if one has. Raises `NotReady`."""
        async with self._client() as redis:
            cancelled = await scripts.cancel_queued(redis, JobKeys.of(job_id), event=event, now=time.time(), ttl=self.ttl)
            if cancelled:
                await self.docket.cancel(job_id)
            return cancelled

    async def send_command(self, job_id: str, command: JobCommand) -> bool:
        """Send a command to the job's worker; return False if the job has ended. Raises `NotFound`, `NotReady`."""
        async with self._client() as redis:
            sent = await scripts.send_command(redis, JobKeys.of(job_id), command=command)
        if sent < 0:
            raise _not_found(job_id)
        return bool(sent)

    async def commands(self, job_id: str) -> AsyncIterator[JobCommand]:
        """Yield every command for a job as it arrives; never ends by itself, and waits while the store is away."""
        last = "0-0"
        while True:
            try:
                entries = await self._read(JobKeys.of(job_id).commands, last, wait=True)
            except NotReady:
                await anyio.sleep(RECONNECT_SECONDS)
                continue
            for entry_id, fields in entries:
                last = entry_id
                yield cast("JobCommand", fields["command"])

    async def follow(self, job_id: str, after: int) -> AsyncIterator[AnySolveEvent]:
        """Yield every event of a job after number `after`, as it arrives, until the last. Raises `NotFound`, `NotReady`."""
        last = f"{after}-0"
        live = True
        while live:
            live = await self._status(job_id) in LIVE
            for entry_id, fields in await self._read(JobKeys.of(job_id).events, last, wait=live):
                last = entry_id
                yield SOLVE_EVENT.validate_json(fields["data"])

    async def queue_length(self) -> tuple[float, float]:
        """Return how many jobs wait for a worker and how many workers have; NaN where the store cannot be reached."""
        try:
            async with self._client() as redis:
                total = await redis.xlen(self.docket.stream_key) + await redis.zcard(self.docket.queue_key)
                delivered = await self._delivered(redis)
        except NotReady:
            return math.nan, math.nan
        return float(max(0, total - delivered)), float(delivered)

    async def claim(self, job_id: str) -> ClaimedJob | None:
        """Claim a job, to begin or to continue it; None if it has ended or is gone. Raises `JobClaimed`, `NotReady`."""
        return await self._retry(partial(self._claim, job_id))

    async def renew(self, job: ClaimedJob) -> None:
        """Keep the claim for another lease. Raises `ClaimLost`, `NotReady`."""
        await self._write(job, partial(scripts.renew, lease_ms=self._lease_ms))

    async def release(self, job: ClaimedJob) -> None:
        """Give the claim up, so that another worker can claim the job at once. Raises `ClaimLost`, `NotReady`."""
        await self._write(job, scripts.release)

    async def append(self, job: ClaimedJob, event: AnySolveEvent) -> None:
        """Add an event under its number. Raises `ClaimLost`, `NotReady`."""
        await self._write(job, partial(scripts.append_event, event=event))

    async def record(self, job: ClaimedJob, key: str, record: Record) -> None:
        """Record a call in the job's journal. Raises `ClaimLost`, `NotReady`."""
        await self._write(job, partial(scripts.record_call, call=key, record=record.model_dump_json()))

    async def finish(self, job: ClaimedJob, status: JobStatus, event: AnySolveEvent) -> None:
        """End a job with its last event. Raises `ClaimLost`, `NotReady`."""
        await self._write(job, partial(scripts.finish, event=event, status=status, now=time.time(), ttl=self.ttl))

    async def _claim(self, job_id: str, redis: RedisClient) -> ClaimedJob | None:
        keys = JobKeys.of(job_id)
        epoch = await scripts.claim(redis, keys, now=time.time(), lease_ms=self._lease_ms, worker=WORKER)
        if epoch < 0:
            raise JobClaimed(job_id)
        if not epoch:
            return None
        fields = _fields(await redis.hgetall(keys.job))
        records = _fields(await redis.hgetall(keys.calls))
        return ClaimedJob(
            id=job_id,
            epoch=epoch,
            request=SolveRequest.model_validate_json(fields["request"]),
            started=float(fields["started"]),
            tenant=fields["tenant"],
            traceparent=fields["traceparent"] or None,
            events=await self._events(redis, job_id),
            records={key: Record.model_validate_json(record) for key, record in records.items()},
        )

    async def _write(self, job: ClaimedJob, step: Callable[[RedisClient, JobKeys, int], Awaitable[bool]]) -> None:
        """Run a step of a claimed job under its epoch; where that fails, the job is `lost`."""
        try:
            written = await self._retry(lambda redis: step(redis, JobKeys.of(job.id), job.epoch))
        except NotReady:
            job.lost = True
            raise
        if not written:
            job.lost = True
            raise ClaimLost(job.id)

    async def _retry(self, operation: Callable[[RedisClient], Awaitable[ResultT]]) -> ResultT:
        """Retry an operation while the store cannot be reached. Raises `NotReady` after `OUTAGE_SECONDS`."""
        async for attempt in stamina.retry_context(NotReady, attempts=None, timeout=OUTAGE_SECONDS, wait_max=1.0):
            with attempt:
                async with self._client() as redis:
                    return await operation(redis)
        raise AssertionError("retrying ended without a result")

    @property
    def _lease_ms(self) -> int:
        return round(self.lease * 1_000)

    async def _status(self, job_id: str) -> JobStatus:
        async with self._client() as redis:
            status = await redis.hget(JobKeys.of(job_id).job, "status")
        if status is None:
            raise _not_found(job_id)
        return cast("JobStatus", _text(status))

    async def _delivered(self, redis: RedisClient) -> int:
        try:
            return (await redis.xpending(self.docket.stream_key, self.docket.worker_group_name))["pending"]
        except ResponseError:
            return 0  # the group exists only after a first worker has connected

    async def _read(self, stream: str, after: str, *, wait: bool) -> list[tuple[str, dict[str, str]]]:
        async with self._client() as redis:
            streams = await redis.xread({stream: after}, block=FOLLOW_MS if wait else None)
        return [(_text(entry_id), _fields(fields)) for _, entries in streams or () for entry_id, fields in entries]

    @staticmethod
    async def _events(redis: RedisClient, job_id: str) -> list[AnySolveEvent]:
        entries = await redis.xrange(JobKeys.of(job_id).events)
        return [SOLVE_EVENT.validate_json(_fields(fields)["data"]) for _, fields in entries]

    @asynccontextmanager
    async def _client(self) -> AsyncGenerator[RedisClient]:
        """Yield a client of the store. Raises `NotReady` where it cannot be reached."""
        try:
            async with self.docket.redis() as redis:
                yield redis
        except (RedisError, OSError) as error:
            raise NotReady(f"jobs are stored in Redis, which cannot be reached: {error}", retry_after=1) from error


def _payload(event: SolveFinished | SolveFailed) -> dict[str, Any]:
    """Return the fields of the result or the problem that a last event carries."""
    return event.model_dump(exclude={"solve_id", "seq", "spent", "type"}, by_alias=True)


def _problem(event: SolveFailed) -> ProblemDetails:
    return ProblemDetails.model_validate({**_payload(event), "type": f"urn:counterpoint:error:{event.code}"})


def _not_found(job_id: str) -> NotFound:
    return NotFound(f"there is no job {job_id[:64]}, or it has expired")


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _fields(fields: dict[object, object]) -> dict[str, str]:
    return {_text(key): _text(value) for key, value in fields.items()}


def _number(text: str | None) -> float | None:
    return None if text is None else float(text)
