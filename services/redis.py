"""Redis, where one is configured: the store that outlives a process."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.errors import NotReady

CONNECT_SECONDS = 1.0


class Store:
    """A Redis server, or without a URL this process's own memory, which is always there."""

    def __init__(self, url: str | None) -> None:
        self._redis: Redis | None = None
        self._url = url

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Open the connections, and close them at the end; nothing is sent before it is needed."""
        if self._url is None:
            yield
            return
        self._redis = Redis.from_url(self._url, socket_connect_timeout=CONNECT_SECONDS, socket_timeout=CONNECT_SECONDS)  # pyright: ignore[reportUnknownMemberType] - its keyword arguments have no types
        try:
            yield
        finally:
            await self._redis.aclose()

    async def check(self) -> None:
        """Return if the store answers. Raises `NotReady`."""
        if self._redis is None:
            return
        try:
            await self._redis.ping()  # pyright: ignore[reportUnknownMemberType] - its types are those of both clients
        except (RedisError, OSError) as error:
            raise NotReady(f"Redis cannot be reached: {error}", retry_after=1) from error
