"""`best_of_n`: run N inner strategies side by side and choose one answer by the critic, by majority or by both.

Equivalent answers are grouped. Candidates enter the poll in place order, whatever the order of their arrival, so that the
same seed always decides the same way. With `stop_early`, the remaining candidates are cancelled, or not started, once the
choice cannot change or is unlikely to (`orchestrator.stopping`). The rules that may be wrong draw in waves of `window`:
a candidate that was not started costs nothing.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal

import anyio
from anyio.abc import TaskGroup
from pydantic import Field

from orchestrator.candidates import Candidate
from orchestrator.selection import Poll, Select, choose
from orchestrator.solve import Context, Outcome
from orchestrator.stopping import StopRule, decided
from orchestrator.strategies.base import Strategy
from services.contracts.critique import Depth
from services.contracts.events import VotesChanged

if TYPE_CHECKING:
    from orchestrator.strategies.base import Strategy as AnyStrategy

MAX_N = 64


class BestOfN(Strategy):
    """Run N inner strategies side by side; the critic, the majority or a weighted vote selects the answer."""

    name: Literal["best_of_n"] = "best_of_n"
    n: Annotated[int, Field(ge=1, le=MAX_N)] = 8
    inner: "AnyStrategy" = Field(default="single", validate_default=True)
    select: Select = "critic"
    depth: Depth = "labels"
    stop_early: bool = True
    stop_rule: StopRule = "beta"
    window: Annotated[int, Field(ge=2, le=MAX_N)] = 4

    @property
    def wave(self) -> int:
        """The number of candidates that start together."""
        return self.window if self.stop_early and self.stop_rule != "certain" else self.n

    @property
    def breadth(self) -> int:
        """The drafts side by side, including those of the inner strategy."""
        return self.n * self.inner.breadth

    async def run(self, ctx: Context) -> Outcome:
        """Draw, judge and poll."""
        drawing = _Drawing(self, ctx)
        async with drawing.group:
            while drawing.started < self.n and drawing.stopped is None:
                await drawing.wave(min(self.wave, self.n - drawing.started))
        return await drawing.outcome()


@dataclass(slots=True)
class _Drawing:
    """One run of the strategy: the candidates that were started, arrived and were polled, and what ended it."""

    plan: BestOfN
    ctx: Context
    group: TaskGroup = field(default_factory=anyio.create_task_group)
    poll: Poll = field(default_factory=Poll)
    arrived: dict[int, Candidate | None] = field(default_factory=dict[int, Candidate | None])
    started: int = 0
    polled: int = 0
    agreed: bool = False
    stopped: Exception | None = None
    turn: anyio.Lock = field(default_factory=anyio.Lock)

    async def wave(self, n: int) -> None:
        """Start `n` candidates and wait until all of them have been polled."""
        async with anyio.create_task_group() as group:
            if self.plan.inner.only_drafts:
                await self.draw(n, group)
            else:
                for number in range(self.started, self.started + n):
                    group.start_soon(self.branch, number)
                self.started += n

    async def draw(self, n: int, group: TaskGroup) -> None:
        """Draft in one call, or in as few as the budget allows, and judge each candidate as soon as it is written."""
        judge = None if self.plan.select == "majority" else self.plan.depth
        end = self.started + n
        while self.started < end:
            first = self.started

            async def on_candidate(number: int, candidate: Candidate, first: int = first) -> None:
                group.start_soon(self.consider, first + number, candidate)

            attempt = await self.ctx.attempt(self.ctx.drafts(end - first, judge=judge, on_candidate=on_candidate))
            if attempt.result is None:
                self.stopped = attempt.stopped
                return
            for number, candidate in enumerate(attempt.result):
                if candidate is None:
                    await self.enter(first + number, None)
            self.started += len(attempt.result)

    async def branch(self, number: int) -> None:
        """Run the inner strategy in its own branch; if a limit ends it, its incumbent still counts."""
        branch = self.ctx.branch(number)
        attempt = await branch.attempt(self.plan.inner.run(branch))
        self.stopped = attempt.stopped or self.stopped
        outcome = attempt.result or branch.incumbent
        if outcome is None:
            await self.enter(number, None)
        else:
            await self.consider(number, outcome.candidate)

    async def consider(self, number: int, candidate: Candidate) -> None:
        """Judge a candidate if the selection needs it, and enter it into the poll at its place."""
        if self.plan.select != "majority":
            attempt = await self.ctx.attempt(self.ctx.judge(candidate, self.plan.depth))
            self.stopped = attempt.stopped or self.stopped
            candidate = attempt.result or candidate
        await self.enter(number, candidate)

    async def enter(self, number: int, candidate: Candidate | None) -> None:
        """Poll the candidates that have arrived, in place order; None keeps the place of one that failed."""
        self.arrived[number] = candidate
        async with self.turn:
            while self.polled in self.arrived and not self.agreed:
                arrived = self.arrived.pop(self.polled)
                self.polled += 1
                if arrived is not None:
                    await self.count(arrived)

    async def count(self, candidate: Candidate) -> None:
        """Add a vote; end the wave if the remaining candidates are unlikely to change the choice."""
        await self.ctx.add_to(self.poll, candidate)
        await self.ctx.emit(VotesChanged(groups=self.poll.vote_groups(self._select, self.ctx.prior)))
        choice = choose(self.poll, self._select, self.ctx.prior)
        if choice is not None:
            self.ctx.offer(choice.candidate, choice.confidence, replace=True)
        remaining = self.plan.n - self.polled
        if self.plan.stop_early and self._decided(remaining):
            self.agreed = True
            self.group.cancel_scope.cancel()

    async def outcome(self) -> Outcome:
        """Return the choice. Raises the error that stopped the wave if there is no candidate to choose from."""
        await self.ctx.cancel_unfinished()
        choice = choose(self.poll, self._select, self.ctx.prior)
        if choice is None:
            raise self.stopped or AssertionError("a wave ended with neither a candidate nor a reason")
        reason = "agreed" if self.agreed else ("budget" if self.stopped else "completed")
        return Outcome(choice.candidate, reason, choice.confidence)

    def _decided(self, remaining: int) -> bool:
        plan = self.plan
        return decided(self.poll, self._select, self.ctx.prior, remaining, rule=plan.stop_rule, window=plan.window)

    @property
    def _select(self) -> Select:
        """The way to select: by majority as long as nothing was judged."""
        judged = any(candidate.p_correct is not None for candidate in self.poll.candidates)
        return self.plan.select if judged else "majority"
