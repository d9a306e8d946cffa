"""Admission: how many solves run at a time, and how many may wait for one of them to end."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import anyio

from services.contracts.errors import Limit
from services.errors import Overloaded


@dataclass(slots=True)
class AdmissionQueue:
    """Admits `max_in_flight` solves at a time; up to `max_waiting` more wait in order, for `max_waiting_seconds` at most."""

    max_in_flight: int
    max_waiting: int
    max_waiting_seconds: float
    _slots: anyio.Semaphore = field(init=False)
    _waiting: int = 0

    def __post_init__(self) -> None:
        self._slots = anyio.Semaphore(self.max_in_flight)

    def check(self) -> None:
        """Raise `Overloaded` if a solve could neither run nor wait."""
        if self._slots.value == 0 and self._waiting >= self.max_waiting:
            limit = Limit(name="max_waiting", value=self.max_waiting)
            raise Overloaded("too many solves are running and waiting", limit=limit, retry_after=1)

    @asynccontextmanager
    async def slot(self) -> AsyncGenerator[None]:
        """Hold a slot for one solve, once there is one. Raises `Overloaded`. Cancellation leaves the queue."""
        self.check()
        await self._acquire()
        try:
            yield
        finally:
            self._slots.release()

    async def _acquire(self) -> None:
        with suppress(anyio.WouldBlock):
            self._slots.acquire_nowait()
            return
        self._waiting += 1
        try:
            with anyio.fail_after(self.max_waiting_seconds):
                await self._slots.acquire()
        except TimeoutError as error:
            limit = Limit(name="max_waiting_seconds", value=self.max_waiting_seconds)
            raise Overloaded("no running solve ended in time for this one to start", limit=limit, retry_after=1) from error
        finally:
            self._waiting -= 1
