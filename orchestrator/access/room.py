"""How many solves run at a time, and how many may wait for one of them to end."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import anyio

from services.contracts.errors import Limit
from services.errors import Overloaded


@dataclass(slots=True)
class Room:
    """Room for `size` solves; up to `waiting` more wait, first come first served, for at most `seconds`."""

    size: int
    waiting: int
    seconds: float
    _places: anyio.Semaphore = field(init=False)
    _queue: int = 0

    def __post_init__(self) -> None:
        self._places = anyio.Semaphore(self.size)

    def check(self) -> None:
        """Raise `Overloaded` if one more could not even wait."""
        if self._places.value == 0 and self._queue >= self.waiting:
            limit = Limit(name="max_waiting", value=self.waiting)
            raise Overloaded("too many solves are running and waiting", limit=limit, retry_after=1)

    @asynccontextmanager
    async def taken(self) -> AsyncGenerator[None]:
        """A place, once there is one. Raises `Overloaded`; whoever is cancelled leaves the queue."""
        self.check()
        await self._wait()
        try:
            yield
        finally:
            self._places.release()

    async def _wait(self) -> None:
        with suppress(anyio.WouldBlock):
            self._places.acquire_nowait()
            return
        self._queue += 1
        try:
            with anyio.fail_after(self.seconds):
                await self._places.acquire()
        except TimeoutError as error:
            limit = Limit(name="max_waiting_seconds", value=self.seconds)
            raise Overloaded("no solve ended in time to begin this one", limit=limit, retry_after=1) from error
        finally:
            self._queue -= 1
