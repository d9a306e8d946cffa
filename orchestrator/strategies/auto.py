"""`auto`: spends by difficulty, under whatever budget there is.

One draft at `first_temperature` and one critique; what the critic accepts is the answer. What it finds wrong is refined, for
`rounds` rounds. While nothing is accepted, waves of further drafts at the request's temperature are judged and refined in
the same way, each wave twice as wide as the one before. Every draft has one vote, cast by the best of it and its refinements
and weighing its p_correct. The vote ends once the critic's judgements together make the leading answer likelier than
`agree_at`.

Its thresholds' defaults stand in `auto.json`, with what they were fitted on.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import anyio
from pydantic import Field

from orchestrator.candidates import Candidate
from orchestrator.context import Context, Mode
from orchestrator.outcomes import Outcome
from orchestrator.selection import Poll, choose, weight
from orchestrator.stopping import likelihood
from orchestrator.strategies.base import Strategy
from services.contracts.base import Probability
from services.contracts.events import VotesChanged
from services.contracts.solve import StopReason, VoteGroup

FITTED: dict[str, Any] = json.loads(Path(__file__).with_suffix(".json").read_text("utf-8"))["values"]

MAX_DRAFTS = 64
GROWTH = 2
"""Each wave is so many times as wide as the one before."""


class Auto(Strategy):
    """Starts with one draft and one critique; escalates to refining, then to a widening vote, while it is unsure."""

    name: Literal["auto"] = "auto"
    accept_at: Probability = FITTED["accept_at"]
    agree_at: Probability = FITTED["agree_at"]
    rounds: Annotated[int, Field(ge=0, le=8)] = FITTED["rounds"]
    wave: Annotated[int, Field(ge=1, le=16)] = FITTED["wave"]
    most: Annotated[int, Field(ge=1, le=MAX_DRAFTS)] = 32
    mode: Mode = "auto"
    first_temperature: Annotated[float, Field(ge=0.0, le=2.0)] = 0.0

    async def run(self, ctx: Context) -> Outcome:
        """Draft and refine; then wave after wave, until the vote is clear."""
        vote = _Vote(self, ctx)
        first = await ctx.draft(judge=ctx.gate, temperature=self.first_temperature)
        best = await self.improved(ctx, first, self.first_temperature)
        if best.accepted(self.accept_at):
            return Outcome(best, "accepted", best.p_correct)
        await vote.add(best)
        width = self.wave
        while vote.open:
            await vote.wave(min(width, self.most - vote.drafts))
            width *= GROWTH
        return vote.outcome()

    async def improved(self, ctx: Context, draft: Candidate, temperature: float) -> Candidate:
        """The best of a draft and its refinements, which end with the first one that the critic does not find wrong."""
        best = latest = await ctx.judge(draft, ctx.gate)
        for _ in range(self.rounds):
            if latest.verdict in {None, "correct"}:
                break
            ctx.begin_round(latest, ctx.gate)
            latest = await ctx.judge(latest, "explain")
            refined = await ctx.refine(
                latest, keep_steps=ctx.kept(latest, self.mode), judge=ctx.gate, temperature=temperature
            )
            if refined is None:
                break
            latest = await ctx.judge(refined, ctx.gate)
            best = max(best, latest, key=lambda candidate: weight(candidate, ctx.prior))
            ctx.offer(best, best.p_correct, replace=True)
        return best


@dataclass(slots=True)
class _Vote:
    """The vote: whose votes are in, and how clear it is."""

    plan: Auto
    ctx: Context
    poll: Poll = field(default_factory=Poll)
    drafts: int = 1
    stopped: Exception | None = None

    @property
    def clear(self) -> bool:
        """Whether the leading answer is likely enough."""
        return likelihood(self.poll, self.ctx.prior) > self.plan.agree_at

    @property
    def open(self) -> bool:
        """Whether more drafts may help: without a critic they could not be told apart."""
        return not self.clear and self.drafts < self.plan.most and not self.ctx.solve.critic_unavailable

    async def wave(self, n: int) -> None:
        """Draft `n` more, judge and refine each, and count their votes in the order of their places."""
        best: dict[int, Candidate] = {}
        written: list[Candidate | None] = []
        async with anyio.create_task_group() as group:

            async def each(number: int, draft: Candidate) -> None:
                group.start_soon(self._improve, draft, number, best)

            drafting = self.ctx.drafts(n, judge=self.ctx.gate, temperature=self.ctx.warm, each=each)
            tried = await self.ctx.attempt(drafting)
            written, self.stopped = tried.result or [], tried.stopped
        self.drafts += len(written)
        for number in sorted(best):
            await self.add(best[number])
        if self.stopped is not None:
            raise self.stopped

    async def _improve(self, draft: Candidate, number: int, best: dict[int, Candidate]) -> None:
        branch = self.ctx.branch(self.drafts + number)
        branch.offer(draft)
        tried = await branch.attempt(self.plan.improved(branch, draft, self.ctx.warm))
        self.stopped = tried.stopped or self.stopped
        if branch.incumbent is not None:
            best[number] = tried.result or branch.incumbent.candidate

    async def add(self, candidate: Candidate) -> None:
        """Count a vote, and offer the choice as it now stands."""
        await self.ctx.add_to(self.poll, candidate)
        prior = self.ctx.prior
        groups = [(group.answer, len(group.members), group.weight("weighted", prior)) for group in self.poll.groups]
        shown = tuple(VoteGroup(answer=answer, votes=votes, weight=heavy) for answer, votes, heavy in groups)
        await self.ctx.emit(VotesChanged(groups=shown))
        outcome = self.outcome()
        self.ctx.offer(outcome.candidate, outcome.confidence, replace=True)

    def outcome(self) -> Outcome:
        """The choice of the weighted vote; of a single vote, it is as sure as the critic."""
        choice = choose(self.poll, "weighted", self.ctx.prior)
        assert choice is not None  # noqa: S101 - the first draft has voted
        alone = len(self.poll.candidates) == 1
        reason: StopReason = "agreed" if self.clear else "completed"
        return Outcome(choice.candidate, reason, choice.candidate.p_correct if alone else choice.confidence)
