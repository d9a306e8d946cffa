"""Rates and quotas of tenants, each decided in one script of the store: Redis, or this process's memory."""

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import NamedTuple, Self

import anyio
import structlog
from docket import Docket
from redis.exceptions import RedisError

from orchestrator.access.keys import Keys, Tenant
from services.call_context import new_id
from services.contracts.errors import Limit
from services.contracts.solve import Budget
from services.errors import NotReady, QuotaExhausted, RateLimited
from services.redis import RedisClient, run_script

log = structlog.get_logger("access")

DAY = 86_400
GRACE_SECONDS = 60.0
"""Time after its deadline at which the reservation of a solve whose process died expires."""


async def count_request(redis: RedisClient, key: str, *, now_ms: float, interval_ms: float, burst: int) -> int:
    """Count a request and return 0, or return the milliseconds after which it may come again.

    This is GCRA: each request is due an interval after the one before, and `burst` of them may come at once.
    """
    lua = """
    local now, interval = tonumber(now_ms), tonumber(interval_ms)
    local due = tonumber(redis.call('GET', rate) or now_ms)
    if due < now then due = now end
    local wait = due - interval * (tonumber(burst) - 1) - now
    if wait > 0 then return math.ceil(wait) end
    redis.call('SET', rate, tostring(due + interval), 'PX', math.ceil(due + interval - now))
    return 0
    """
    return int(await run_script(redis, lua, {"rate": key}, now_ms=now_ms, interval_ms=interval_ms, burst=burst))


class QuotaKeys(NamedTuple):
    """The Redis keys of a tenant's quota, in one hash slot of a cluster."""

    spent: str
    """String: tokens spent on one day of UTC."""
    reserved: str
    """Sorted set: reservations, as `<name>:<tokens>`, by the time at which they expire."""

    @classmethod
    def of(cls, tenant: str, now: float) -> Self:
        """Return the keys of a tenant at a time, in seconds since 1970."""
        return cls(f"counterpoint:tokens:{{{tenant}}}:{int(now // DAY)}", f"counterpoint:reserved:{{{tenant}}}")

    async def reserve(self, redis: RedisClient, *, now: float, quota: int, tokens: int, expires: float, name: str) -> int:
        """Reserve `tokens`, or as many as are left of the quota, and return how many; below 1 nothing was reserved."""
        lua = """
        redis.call('ZREMRANGEBYSCORE', reserved, '-inf', now)
        local held = 0
        for _, member in ipairs(redis.call('ZRANGE', reserved, 0, -1)) do
            held = held + tonumber(string.match(member, ':(%d+)$'))
        end
        local left = tonumber(quota) - tonumber(redis.call('GET', spent) or '0') - held
        if left < 1 then return left end
        local granted = math.min(left, tonumber(tokens))
        redis.call('ZADD', reserved, expires, name .. ':' .. string.format('%d', granted))
        return granted
        """
        arguments = {"now": now, "quota": quota, "tokens": tokens, "expires": expires, "name": name}
        return int(await run_script(redis, lua, self._asdict(), **arguments))

    async def settle(self, redis: RedisClient, *, reservation: str, tokens: int) -> None:
        """Release a reservation (`<name>:<tokens>`) and charge the tokens that were spent."""
        lua = """
        redis.call('ZREM', reserved, reservation)
        local total = tonumber(redis.call('GET', spent) or '0') + tonumber(tokens)
        redis.call('SET', spent, string.format('%d', total), 'PX', ttl_ms)
        return 1
        """
        await run_script(redis, lua, self._asdict(), reservation=reservation, tokens=tokens, ttl_ms=2_000 * DAY)


@dataclass(slots=True)
class TokenQuota:
    """A solve's share of its tenant's quota: the limits that follow from it, and the tokens `spent`, set by the solve."""

    limits: Budget
    spent: int = 0


@dataclass(frozen=True, slots=True)
class TenantQuotas:
    """Rates and token quotas by tenant, counted in the docket's store. Without keys there are no limits."""

    keys: Keys | None = None
    docket: Docket | None = None

    async def count_request(self, tenant: Tenant) -> None:
        """Count a request against the tenant's rate. Raises `RateLimited`, or `NotReady` where the store is away."""
        if tenant.requests_per_minute is None:
            return
        interval_ms, now_ms = 60_000 / tenant.requests_per_minute, time.time() * 1_000
        key = f"counterpoint:rate:{tenant.tenant}"
        async with self._client() as redis:
            wait_ms = await count_request(redis, key, now_ms=now_ms, interval_ms=interval_ms, burst=tenant.burst)
        if wait_ms > 0:
            limit = Limit(name="requests_per_minute", value=tenant.requests_per_minute)
            raise RateLimited("too many requests with this key", limit=limit, retry_after=wait_ms / 1_000)

    @asynccontextmanager
    async def reserve(self, name: str, limits: Budget, seconds: float) -> AsyncGenerator[TokenQuota]:
        """Reserve a solve's tokens, at most what is left of the tenant's day, and charge what it has spent at the end.

        Raises `QuotaExhausted`, or `NotReady` where the store is away. Spending that cannot be charged is logged.
        """
        tenant = self.keys.tenant_named(name) if self.keys else None
        if tenant is None or tenant.tokens_per_day is None:
            yield TokenQuota(limits)
            return
        quota, now, reservation = tenant.tokens_per_day, time.time(), new_id("reservation")
        keys, expires = QuotaKeys.of(name, now), now + seconds + GRACE_SECONDS
        tokens = limits.max_tokens or quota
        async with self._client() as redis:
            granted = await keys.reserve(redis, now=now, quota=quota, tokens=tokens, expires=expires, name=reservation)
        if granted < 1:
            raise QuotaExhausted(
                "the day's tokens of this key are spent or reserved",
                limit=Limit(name="tokens_per_day", value=quota),
                retry_after=DAY - now % DAY,
            )
        share = TokenQuota(limits.model_copy(update={"max_tokens": granted}))
        try:
            yield share
        finally:
            with anyio.CancelScope(shield=True):
                await self._settle(keys, f"{reservation}:{granted}", share.spent)

    async def _settle(self, keys: QuotaKeys, reservation: str, tokens: int) -> None:
        try:
            async with self._client() as redis:
                await keys.settle(redis, reservation=reservation, tokens=tokens)
        except NotReady as error:
            log.warning("quota_not_settled", reservation=reservation, tokens=tokens, error=error.detail)

    @asynccontextmanager
    async def _client(self) -> AsyncGenerator[RedisClient]:
        assert self.docket is not None  # noqa: S101 - keys come with a store
        try:
            async with self.docket.redis() as redis:
                yield redis
        except (RedisError, OSError) as error:
            raise NotReady(f"limits are counted in Redis, which cannot be reached: {error}", retry_after=1) from error
