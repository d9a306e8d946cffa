"""`best_of_n`: N inner strategies side by side, one of their answers chosen by the critic, by majority or by both.

Equivalent answers are grouped. Candidates enter the poll in place order, whatever order they arrive in, so the same seed
decides the same way; with `stop_early` the rest is cancelled once the poll cannot, or will hardly, change.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal

import anyio
from pydantic import Field

from orchestrator.candidates import Candidate
from orchestrator.context import Context, Outcome
from orchestrator.selection import Poll, Select, choose, decided
from orchestrator.strategies.base import Strategy
from orchestrator.strategies.single import Single
from services.contracts.critique import Depth
from services.contracts.events import VotesChanged
from services.contracts.solve import VoteGroup

if TYPE_CHECKING:
    from orchestrator.budget import LimitReached
    from orchestrator.strategies.base import Strategy as AnyStrategy

MAX_N = 64


class BestOfN(Strategy):
    """N inner strategies side by side; the critic, the majority or a weighted vote selects."""

    name: Literal["best_of_n"] = "best_of_n"
    n: Annotated[int, Field(ge=1, le=MAX_N)] = 8
    inner: AnyStrategy = Single()
    select: Select = "critic"
    depth: Depth = "labels"
    stop_early: bool = True

    @property
    def breadth(self) -> int:
        """Drafts side by side, counting those of the inner strategy."""
        return self.n * self.inner.breadth

    async def run(self, ctx: Context) -> Outcome:
        """Draw, judge and poll."""
        wave = _Wave(self, ctx)
        async with anyio.create_task_group() as group:
            wave.cancel = group.cancel_scope.cancel
            if isinstance(self.inner, Single):
                await wave.draw(group)
            else:
                for number in range(self.n):
                    group.start_soon(wave.branch, number)
        return await wave.outcome()
