"""The atomic steps of a job, one Lua script a method: the signature names the arguments that the script reads."""

from typing import NamedTuple, Self

from orchestrator.jobs.job import JobCommand, JobStatus
from services.contracts.events import AnySolveEvent, SolveFailed
from services.redis import RedisClient, run_script


class JobKeys(NamedTuple):
    """The Redis keys of a job, all in one hash slot of a cluster."""

    job: str
    """Hash: status, epoch, number of events, request, tenant, times, worker."""
    events: str
    """Stream: the events under their numbers."""
    commands: str
    """Stream: the commands of clients."""
    calls: str
    """Hash: the journal's records by the keys of their calls."""
    lease: str
    """String that expires with the lease of the current claim."""

    @classmethod
    def of(cls, job_id: str) -> Self:
        """Return the keys of a job."""
        name = f"counterpoint:{{{job_id}}}"
        return cls(name, f"{name}:events", f"{name}:commands", f"{name}:calls", f"{name}:lease")


_ADD_EVENT = """
if tonumber(redis.call('HGET', job, 'events')) < tonumber(number) then
    redis.call('XADD', events, number .. '-0', 'type', event_type, 'data', data)
    redis.call('HSET', job, 'events', number)
end
"""
_END = """
redis.call('HSET', job, 'status', status, 'ended', now)
for _, key in ipairs(KEYS) do redis.call('EXPIRE', key, ttl) end
"""


class JobScripts(NamedTuple):
    """The scripts of one job.

    Every claim of a job raises its epoch. The steps of a claimed job carry the epoch of their claim; where it is no longer
    the job's, they change nothing and return False.
    """

    redis: RedisClient
    keys: JobKeys

    async def create(self, *, request: str, now: float, tenant: str, traceparent: str) -> bool:
        """Store a queued job; return False if it exists already. `traceparent` is the span of the caller, if any."""
        lua = """
        if redis.call('EXISTS', job) == 1 then return 0 end
        redis.call('HSET', job, 'status', 'queued', 'epoch', '0', 'events', '0')
        redis.call('HSET', job, 'request', request, 'created', now, 'tenant', tenant)
        redis.call('HSET', job, 'traceparent', traceparent)
        return 1
        """
        return bool(await self._run(lua, request=request, now=now, tenant=tenant, traceparent=traceparent))

    async def claim(self, *, now: float, lease_ms: int, worker: str) -> int:
        """Claim a job and return its new epoch, 0 if it has ended or does not exist, -1 if another claim's lease runs."""
        lua = """
        local status = redis.call('HGET', job, 'status')
        if status ~= 'queued' and status ~= 'running' then return 0 end
        if redis.call('EXISTS', lease) == 1 then return -1 end
        if not redis.call('HGET', job, 'started') then redis.call('HSET', job, 'started', now) end
        redis.call('HSET', job, 'status', 'running', 'worker', worker)
        redis.call('SET', lease, '1', 'PX', lease_ms)
        return redis.call('HINCRBY', job, 'epoch', 1)
        """
        return await self._run(lua, now=now, lease_ms=lease_ms, worker=worker)

    async def renew(self, epoch: int, *, lease_ms: int) -> bool:
        """Start the lease of a claim anew."""
        return await self._run_claimed(epoch, "redis.call('SET', lease, '1', 'PX', lease_ms)", lease_ms=lease_ms)

    async def release(self, epoch: int) -> bool:
        """End the lease of a claim, so that another worker can claim the job at once."""
        return await self._run_claimed(epoch, "redis.call('DEL', lease)")

    async def append_event(self, epoch: int, *, event: AnySolveEvent) -> bool:
        """Add an event under its number, unless that number is taken."""
        return await self._run_claimed(epoch, _ADD_EVENT, **_fields(event))

    async def record_call(self, epoch: int, *, call: str, record: str) -> bool:
        """Add the record of a call to the journal, under the call's key."""
        return await self._run_claimed(epoch, "redis.call('HSET', calls, call, record)", call=call, record=record)

    async def finish(self, epoch: int, *, event: AnySolveEvent, status: JobStatus, now: float, ttl: int) -> bool:
        """End a job with its last event, which holds the result or the error; all of it expires after `ttl` seconds."""
        return await self._run_claimed(epoch, _ADD_EVENT + _END, **_fields(event), status=status, now=now, ttl=ttl)

    async def send_command(self, *, command: JobCommand) -> int:
        """Add a command; return 1, or 0 if the job has ended, -1 if there is no such job."""
        lua = """
        local status = redis.call('HGET', job, 'status')
        if not status then return -1 end
        if status ~= 'queued' and status ~= 'running' then return 0 end
        redis.call('XADD', commands, '*', 'command', command)
        return 1
        """
        return await self._run(lua, command=command)

    async def cancel_queued(self, *, event: SolveFailed, now: float, ttl: int) -> bool:
        """Cancel a job that no worker has claimed yet, with its only event; return False if one has."""
        lua = f"if redis.call('HGET', job, 'status') ~= 'queued' then return 0 end {_ADD_EVENT} {_END} return 1"
        return bool(await self._run(lua, **_fields(event), status="cancelled", now=now, ttl=ttl))

    async def _run(self, lua: str, **arguments: str | float) -> int:
        return int(await run_script(self.redis, lua, self.keys._asdict(), **arguments))

    async def _run_claimed(self, epoch: int, lua: str, **arguments: str | float) -> bool:
        check = "if redis.call('HGET', job, 'epoch') ~= epoch then return 0 end"
        return bool(await self._run(f"{check} {lua} return 1", epoch=epoch, **arguments))


def _fields(event: AnySolveEvent) -> dict[str, str | int]:
    return {"number": event.seq, "event_type": event.type, "data": event.model_dump_json()}
