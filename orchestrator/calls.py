"""What every call of a model has in common: leased, tried again, given its seed, settled.

A call that fails before it produced anything is tried again from a new place (and so with a new seed) if its error allows.
A call that the role service refuses as too large for its allowance is leased once more with the prompt's exact length.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from orchestrator.budget import Grant, Lease, Place, Want
from orchestrator.ports import CallFailed, CallStream
from orchestrator.solve import Solve
from services.contracts.sampling import Sampling
from services.contracts.solve import Role
from services.errors import BudgetTooSmall, EngineFailed


@dataclass(slots=True)
class Tries:
    """How a call is repeated: after an engine's failure from a new place, after a refusal with the exact want."""

    solve: Solve
    role: Role
    want: Want
    place: Place
    reserved: Lease | None = None
    number: int = 0
    exact: bool = False

    async def lease(self) -> Grant:
        """The next try's lease."""
        reserved, self.reserved = self.reserved, None
        return await self.solve.ledger.lease(self.role, self.want, self.place, reserved)

    def after(self, failure: CallFailed) -> None:
        """Prepare the next try, or raise what the failure means."""
        cause = failure.cause
        if isinstance(cause, BudgetTooSmall) and cause.needed is not None:
            needed = int(cause.needed)
            if self.exact:
                raise self.solve.ledger.limit_of(self.role, needed) from failure
            self.want = replace(self.want, bound=needed, likely=needed)
            self.exact = True
            return
        self.number += 1
        if not isinstance(cause, EngineFailed) or self.number >= self.solve.call_tries:
            raise failure


def sampling(solve: Solve, role: Role, place: Place, attempt: int) -> Sampling:
    """The solve's sampling with the seed of this call."""
    return solve.sampling.model_copy(update={"seed": solve.seed_of(role, place, attempt)})


@asynccontextmanager
async def settled(solve: Solve, role: Role, lease: Lease, stream: CallStream[object]) -> AsyncGenerator[None]:
    """Settle the lease once the call has been left, however it ends."""
    with lease:
        try:
            async with stream:
                yield
        finally:
            solve.settle(role, lease, stream)
