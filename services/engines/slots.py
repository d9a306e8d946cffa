"""Slots of an engine: first come, first served, and several at once to whoever can use them."""

import anyio


class Slots:
    """A number of slots that are taken and given back."""

    def __init__(self, total: int) -> None:
        self._free = anyio.Semaphore(total)

    async def take(self, most: int) -> int:
        """Wait for a slot; take up to `most` of those that are free then. Cancellable while waiting."""
        await self._free.acquire()
        taken = 1
        try:
            while taken < most:
                self._free.acquire_nowait()
                taken += 1
        except anyio.WouldBlock:
            pass
        return taken

    def give_back(self, count: int) -> None:
        """Free slots, for those who have waited longest."""
        for _ in range(count):
            self._free.release()
