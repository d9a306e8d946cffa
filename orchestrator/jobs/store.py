"""The store of jobs: Redis, or docket's memory backend, which answers to the same commands."""

import math
import os
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from hashlib import blake2b
from typing import Any, TypeVar, cast

import anyio
import stamina
from docket import Docket
from pydantic_core import from_json
from redis.exceptions import RedisError, ResponseError

from orchestrator.jobs.job import LIVE, ClaimedJob, ClaimLost, Job, JobClaimed, JobCommand, JobStatus
from orchestrator.jobs.scripts import JobKeys, JobScripts
from orchestrator.journal import Record
from orchestrator.request import SolveRequest
from services.call_context import CallContext, new_id
from services.contracts.events import SOLVE_EVENT, AnySolveEvent, SolveFailed, SolveFinished
from services.errors import IdempotencyConflict, NotFound, NotReady
from services.redis import RedisClient

TASK = "run_job"
"""The name of docket's task for a job."""
FOLLOW_MS = 2_000
"""Time after which a follower without a new event checks that the job still exists."""
WORKER = f"{socket.gethostname()}:{os.getpid()}"
"""This process's name as the worker of a job."""
RECONNECT_SECONDS = 1.0
OUTAGE_SECONDS = 30.0
"""Time in which a worker retries while the store cannot be reached."""

ResultT = TypeVar("ResultT")


class JobStore:
    """Jobs with their events, commands and journals, kept until `ttl` seconds after their end.

    A worker that does not renew its claim within `lease` seconds loses the job.
    """

    def __init__(self, docket: Docket, ttl: float, lease: float, *, durable: bool) -> None:
        self.docket = docket
        self.ttl = round(ttl)
        self.lease = lease
        self.lease_ms = round(lease * 1_000)
        self.durable = durable

    async def submit(self, request: SolveRequest, body: str, key: str | None, call: CallContext) -> Job:
        """Store and enqueue a job, or return the one submitted earlier under the same `key` with the same `body`.

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
            await JobScripts(redis, JobKeys.of(job_id)).create(
                request=request.model_dump_json(),
                now=time.time(),
                tenant=call.tenant,
                traceparent=call.traceparent or "",
            )
            job = await self.get(job_id)
            if job.status == "queued":
                await self.docket.add(TASK, key=job_id)(job_id)
        return job

    async def get(self, job_id: str, tenant: str | None = None) -> Job:
        """Return a job, of `tenant` if one is given. Raises `NotFound`, `NotReady`."""
        async with self._client() as redis:
            fields = _fields(await redis.hgetall(JobKeys.of(job_id).job))
            if not fields or tenant not in {None, fields["tenant"]}:
                raise _unknown_job(job_id)
            events = [] if fields["status"] in LIVE else await self._events(redis, job_id)
        last, ended = events[-1] if events else None, dict[str, Any]()
        if isinstance(last, SolveFinished):
            ended["result"] = last.model_dump()
        elif isinstance(last, SolveFailed):
            ended["error"] = {**last.model_dump(), "type": f"urn:counterpoint:error:{last.code}"}
        own = {"id": job_id, "events_url": f"/jobs/{job_id}/events", "durable": self.durable}
        return Job.model_validate({**fields, **own, **ended, "request": from_json(fields["request"])})

    async def cancel_queued(self, job_id: str, event: SolveFailed) -> bool:
        """Cancel a job that no worker has claimed yet; return False if one has. Raises `NotReady`."""
        async with self._client() as redis:
            cancelled = await JobScripts(redis, JobKeys.of(job_id)).cancel_queued(event=event, now=time.time(), ttl=self.ttl)
            if cancelled:
                await self.docket.cancel(job_id)
            return cancelled

    async def send_command(self, job_id: str, command: JobCommand) -> bool:
        """Send a command to the job's worker; return False if the job has ended. Raises `NotFound`, `NotReady`."""
        async with self._client() as redis:
            sent = await JobScripts(redis, JobKeys.of(job_id)).send_command(command=command)
        if sent < 0:
            raise _unknown_job(job_id)
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
        """Return the numbers of jobs that wait for a worker and that a worker has; NaN where the store cannot be reached."""
        try:
            async with self._client() as redis:
                total = await redis.xlen(self.docket.stream_key) + await redis.zcard(self.docket.queue_key)
                delivered = 0
                with suppress(ResponseError):  # the group exists only after a first worker has connected
                    delivered = (await redis.xpending(self.docket.stream_key, self.docket.worker_group_name))["pending"]
        except NotReady:
            return math.nan, math.nan
        return float(max(0, total - delivered)), float(delivered)

    async def claim(self, job_id: str) -> ClaimedJob | None:
        """Claim a job, to begin or to continue it; None if it has ended or is gone. Raises `JobClaimed`, `NotReady`."""
        return await self._retry(partial(self._claim, job_id))

    async def renew(self, job: ClaimedJob) -> None:
        """Keep the claim for another lease. Raises `ClaimLost`, `NotReady`."""
        await self._write(job, partial(JobScripts.renew, lease_ms=self.lease_ms))

    async def release(self, job: ClaimedJob) -> None:
        """Give the claim up, so that another worker can claim the job at once. Raises `ClaimLost`, `NotReady`."""
        await self._write(job, JobScripts.release)

    async def append(self, job: ClaimedJob, event: AnySolveEvent) -> None:
        """Add an event under its number. Raises `ClaimLost`, `NotReady`."""
        await self._write(job, partial(JobScripts.append_event, event=event))

    async def record(self, job: ClaimedJob, key: str, record: Record) -> None:
        """Record a call in the job's journal. Raises `ClaimLost`, `NotReady`."""
        await self._write(job, partial(JobScripts.record_call, call=key, record=record.model_dump_json()))

    async def finish(self, job: ClaimedJob, status: JobStatus, event: AnySolveEvent) -> None:
        """End a job with its last event. Raises `ClaimLost`, `NotReady`."""
        await self._write(job, partial(JobScripts.finish, event=event, status=status, now=time.time(), ttl=self.ttl))

    async def _claim(self, job_id: str, redis: RedisClient) -> ClaimedJob | None:
        keys = JobKeys.of(job_id)
        epoch = await JobScripts(redis, keys).claim(now=time.time(), lease_ms=self.lease_ms, worker=WORKER)
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

    async def _write(self, job: ClaimedJob, step: Callable[[JobScripts, int], Awaitable[bool]]) -> None:
        """Run a step of a claimed job under its epoch; where that fails, the job is `lost`."""
        try:
            written = await self._retry(lambda redis: step(JobScripts(redis, JobKeys.of(job.id)), job.epoch))
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

    async def _status(self, job_id: str) -> JobStatus:
        async with self._client() as redis:
            status = await redis.hget(JobKeys.of(job_id).job, "status")
        if status is None:
            raise _unknown_job(job_id)
        return cast("JobStatus", _text(status))

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


def _unknown_job(job_id: str) -> NotFound:
    return NotFound(f"there is no job {job_id[:64]}, or it has expired")


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _fields(fields: dict[object, object]) -> dict[str, str]:
    return {_text(key): _text(value) for key, value in fields.items()}
