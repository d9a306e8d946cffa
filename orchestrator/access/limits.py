"""Rates and quotas, each decided in one script of the store: Redis, or this process's memory."""

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import structlog
from docket import Docket
from redis.exceptions import RedisError

from orchestrator.access.keys import Keys, Tenant
from services.call_context import new_id
from services.contracts.errors import Limit
from services.contracts.solve import Budget
from services.errors import NotReady, QuotaExhausted, RateLimited

log = structlog.get_logger("access")

DAY = 86_400
GRACE_SECONDS = 60.0
"""How long after its deadline the reservation of a solve whose process died is given back."""

RATE = """
local now, interval, burst = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local due = tonumber(redis.call('GET', KEYS[1]) or ARGV[1])
if due < now then due = now end
local wait = due - interval * (burst - 1) - now
if wait > 0 then return math.ceil(wait) end
redis.call('SET', KEYS[1], tostring(due + interval), 'PX', math.ceil(due + interval - now))
return 0
"""
"""GCRA: a request is due an interval after the one before; `burst` of them may come at once. Milliseconds to wait, or 0."""

RESERVE = """
local quota, asked = tonumber(ARGV[2]), tonumber(ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', ARGV[1])
local held = 0
for _, member in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
    held = held + tonumber(string.match(member, ':(%d+)$'))
end
local left = quota - tonumber(redis.call('GET', KEYS[1]) or '0') - held
if left < 1 then return left end
local granted = math.min(left, asked)
redis.call('ZADD', KEYS[2], ARGV[4], ARGV[5] .. ':' .. string.format('%d', granted))
return granted
"""
"""Set tokens aside. ARGV: now, quota, asked, until, name. What was granted, at most what is left; below 1: nothing was."""

SETTLE = """
redis.call('ZREM', KEYS[2], ARGV[1])
local spent = tonumber(redis.call('GET', KEYS[1]) or '0') + tonumber(ARGV[2])
redis.call('SET', KEYS[1], string.format('%d', spent), 'PX', ARGV[3])
return 1
"""
"""Give a reservation back and charge what was spent. ARGV: reservation, tokens, ms until the count is forgotten."""


@dataclass(slots=True)
class Grant:
    """What a solve may spend, and what it spent."""

    limits: Budget
    spent: int = 0


class Limits:
    """The limits of tenants. Without keys there are none."""

    def __init__(self, keys: Keys | None = None, docket: Docket | None = None) -> None:
        self.keys = keys
        self._docket = docket

    async def pass_rate(self, tenant: Tenant) -> None:
        """Count a request. Raises `RateLimited`, or `NotReady` where the store is away."""
        if tenant.requests_per_minute is None:
            return
        interval = 60_000 / tenant.requests_per_minute
        name = f"counterpoint:rate:{tenant.tenant}"
        wait = int(await self._eval(RATE, [name], time.time() * 1_000, interval, tenant.burst))
        if wait > 0:
            limit = Limit(name="requests_per_minute", value=tenant.requests_per_minute)
            raise RateLimited("too many requests with this key", limit=limit, retry_after=wait / 1_000)

    @asynccontextmanager
    async def quota(self, name: str, limits: Budget, seconds: float) -> AsyncGenerator[Grant]:
        """Set a solve's tokens aside, at most what is left of the day's, and charge what it spent.

        Raises `QuotaExhausted`, or `NotReady` where the store is away. What cannot be charged is logged.
        """
        tenant = self.keys.named(name) if self.keys else None
        if tenant is None or tenant.tokens_per_day is None:
            yield Grant(limits)
            return
        now = time.time()
        keys = [f"counterpoint:tokens:{{{name}}}:{int(now // DAY)}", f"counterpoint:reserved:{{{name}}}"]
        place, asked = new_id("hold"), limits.max_tokens or tenant.tokens_per_day
        until = now + seconds + GRACE_SECONDS
        granted = int(await self._eval(RESERVE, keys, now, tenant.tokens_per_day, asked, until, place))
        if granted < 1:
            limit = Limit(name="tokens_per_day", value=tenant.tokens_per_day)
            raise QuotaExhausted(
                "the day's tokens of this key are spent or set aside", limit=limit, retry_after=DAY - now % DAY
            )
        grant = Grant(limits.model_copy(update={"max_tokens": granted}))
        try:
            yield grant
        finally:
            with anyio.CancelScope(shield=True):
                await self._settle(keys, f"{place}:{granted}", grant.spent)

    async def _settle(self, keys: list[str], reservation: str, spent: int) -> None:
        try:
            await self._eval(SETTLE, keys, reservation, spent, 2_000 * DAY)
        except NotReady as error:
            log.warning("quota_not_settled", reservation=reservation, tokens=spent, error=error.detail)

    async def _eval(self, script: str, keys: list[str], *arguments: object) -> Any:  # noqa: ANN401 - a script's number
        assert self._docket is not None  # noqa: S101 - keys come with a store
        try:
            async with self._docket.redis() as client:
                redis: Any = client
                return await redis.eval(script, len(keys), *keys, *map(str, arguments))
        except (RedisError, OSError) as error:
            raise NotReady(f"limits are counted in Redis, which cannot be reached: {error}", retry_after=1) from error
