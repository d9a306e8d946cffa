"""The life of every call of a model: leased, sent with a seed of its own, repeated if that can help, settled.

A call that failed before it produced anything is sent again from a new place, and so with a new seed, if its error allows
it. A call that the role service refuses because its prompt is too long for the lease is leased again at its exact length.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

from orchestrator.budget import CallSize, Grant, Lease, Place
from orchestrator.ports import CallFailed, CallStream
from orchestrator.solve.state import Solve
from services.contracts.sampling import Sampling
from services.contracts.solve import Role
from services.errors import BudgetTooSmall, EngineFailed

ResultT = TypeVar("ResultT")


@dataclass(slots=True)
class LeasedCall:
    """A call that is leased and sent until it succeeds or cannot be repeated.

    `reserved` is a reservation that was made for this call; `place` is its position in the strategy.
    """

    solve: Solve
    role: Role
    size: CallSize
    place: Place
    reserved: Lease | None = None
    attempt: int = 0
    exact: bool = False

    async def run(self, send: Callable[[Grant, Sampling], Awaitable[ResultT]]) -> ResultT:
        """Return what `send` makes of a lease and the sampling of an attempt. Raises `LimitReached`, `CallFailed`."""
        while True:
            reserved, self.reserved = self.reserved, None
            grant = await self.solve.ledger.lease(self.role, self.size, self.place, reserved)
            seed = self.solve.seed_of(self.role, self.place, self.attempt)
            try:
                return await send(grant, self.solve.sampling.model_copy(update={"seed": seed}))
            except CallFailed as failure:
                self._prepare_repeat(failure)

    def _prepare_repeat(self, failure: CallFailed) -> None:
        """Prepare the next attempt, or raise the error that ends the call."""
        cause = failure.cause
        if isinstance(cause, BudgetTooSmall) and cause.needed is not None:
            needed = int(cause.needed)
            if self.exact:
                raise self.solve.ledger.limit_of(self.role, needed) from failure
            self.size = replace(self.size, max_prompt=needed, expected_prompt=needed)
            self.exact = True
            return
        self.attempt += 1
        if not isinstance(cause, EngineFailed) or self.attempt >= self.solve.call_attempts:
            raise failure


@asynccontextmanager
async def settled(solve: Solve, role: Role, lease: Lease, stream: CallStream[object]) -> AsyncGenerator[None]:
    """Enter a call, and settle its lease once the call has been left, however it ends."""
    with lease:
        try:
            async with stream:
                yield
        finally:
            solve.settle(role, lease, stream)
