"""Redis: a probe of the configured server, and a runner for Lua scripts."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.errors import NotReady

CONNECT_SECONDS = 1.0

RedisClient = Any
"""A client of `Docket.redis()`: redis-py's, or that of docket's memory backend. They share no public type with `eval`."""


async def run_script(redis: RedisClient, lua: str, keys: Mapping[str, str], **arguments: str | float) -> Any:  # noqa: ANN401 - a script's reply
    """Run a Lua script as one atomic step and return its reply.

    The script reads every key and every argument as a local variable of the same name; arguments are strings there.
    """
    names = [f"local {name} = KEYS[{index}]" for index, name in enumerate(keys, 1)]
    names += [f"local {name} = ARGV[{index}]" for index, name in enumerate(arguments, 1)]
    return await redis.eval("\n".join((*names, lua)), len(keys), *keys.values(), *map(str, arguments.values()))


class RedisProbe:
    """Checks that the Redis server at `url` answers; without a URL there is none, and the check always passes."""

    def __init__(self, url: str | None) -> None:
        self._redis: Redis | None = None
        self._url = url

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Keep a connection pool while the context lasts; nothing is sent before the first check."""
        if self._url is None:
            yield
            return
        self._redis = Redis.from_url(self._url, socket_connect_timeout=CONNECT_SECONDS, socket_timeout=CONNECT_SECONDS)  # pyright: ignore[reportUnknownMemberType] - its keyword arguments have no types
        try:
            yield
        finally:
            await self._redis.aclose()

    async def check(self) -> None:
        """Raise `NotReady` if the server does not answer."""
        if self._redis is None:
            return
        try:
            await self._redis.ping()  # pyright: ignore[reportUnknownMemberType] - its types are those of both clients
        except (RedisError, OSError) as error:
            raise NotReady(f"Redis cannot be reached: {error}", retry_after=1) from error
