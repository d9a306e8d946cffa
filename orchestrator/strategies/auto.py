"""`auto`: spend by difficulty.

One greedy draft and one verdict; what is accepted costs no more. What is not is explained and refined, round by round. What
is still not accepted is drawn anew, in waves that double, each sample judged and refined once at most, and every candidate
so far votes with its p_correct until one answer has enough of the weight. Where a budget ends this, the best so far is the
answer.

`accept_at` and `agree_at` are fitted on the development split by `counterpoint eval fit-auto`, which writes `auto.json`.
"""

import json
from pathlib import Path
from typing import Annotated, Literal

import anyio
from pydantic import Field

from orchestrator.candidates import Candidate
from orchestrator.context import Context, Mode
from orchestrator.outcomes import Outcome
from orchestrator.selection import Choice, Poll, choose
from orchestrator.strategies.base import Strategy
from services.contracts.base import Probability
from services.contracts.events import VotesChanged
from services.contracts.solve import VoteGroup

FITTED: dict[str, float] = json.loads(Path(__file__).with_name("auto.json").read_text("utf-8"))
MAX_SAMPLES = 64


class Auto(Strategy):
    """Spend by difficulty: a draft and a verdict; refinement and a widening vote where the critic is not convinced."""

    name: Literal["auto"] = "auto"
    accept_at: Probability = FITTED["accept_at"]
    agree_at: Probability = FITTED["agree_at"]
    rounds: Annotated[int, Field(ge=0, le=8)] = 4
    first_wave: Annotated[int, Field(ge=1, le=16)] = 2
    max_samples: Annotated[int, Field(ge=0, le=MAX_SAMPLES)] = 6
    first_temperature: Annotated[float, Field(ge=0, le=2)] | None = 0.0
    mode: Mode = "auto"

    @property
    def breadth(self) -> int:
        """Drafts of the largest wave."""
        return max(1, self.max_samples)

    async def run(self, ctx: Context) -> Outcome:
        """Escalate until the critic is convinced, the vote agrees, or the samples are used up."""
        first = await ctx.draft(judge=ctx.gate, temperature=self.first_temperature)
        found = await self._refined(ctx, [first], self.rounds, self.first_temperature)
        accepted = self._accepted(found)
        if accepted is not None:
            return Outcome(accepted, "accepted", accepted.p_correct)
        return await self._vote(ctx, found)

    async def _refined(
        self, ctx: Context, found: list[Candidate], rounds: int, temperature: float | None = None
    ) -> list[Candidate]:
        """Judge the last candidate, refine it while it is not accepted; all of them, the incumbent being the best."""
        found[-1] = await ctx.judge(found[-1], ctx.gate)
        self._offer(ctx, found)
        for _ in range(rounds):
            latest = found[-1]
            if latest.verdict is None or latest.accepted(self.accept_at):
                break
            ctx.begin_round(latest)
            found[-1] = latest = await ctx.judge(latest, "explain")
            kept = ctx.kept(latest, self.mode)
            refined = await ctx.refine(latest, keep_steps=kept, judge=ctx.gate, temperature=temperature)
            if refined is None:
                break
            found.append(await ctx.judge(refined, ctx.gate))
            self._offer(ctx, found)
        return found

    async def _vote(self, ctx: Context, found: list[Candidate]) -> Outcome:
        """Widen a weighted vote over everything until an answer has `agree_at` of the weight and is accepted once."""
        poll = Poll()
        for candidate in found:
            await ctx.add_to(poll, candidate)
        choice, drawn = self._choice(ctx, poll), 0
        if found[-1].verdict is None or not ctx.solve.sampling.temperature:
            return Outcome(
                choice.candidate, "completed", choice.confidence
            )  # more samples could not be told apart, or differ
        while drawn < self.max_samples:
            wave = min(max(self.first_wave, drawn), self.max_samples - drawn)
            stopped = await self._widen(ctx, poll, range(drawn, drawn + wave))
            drawn += wave
            choice = self._choice(ctx, poll)
            ctx.offer(choice.candidate, choice.confidence, replace=True)
            await ctx.emit(VotesChanged(groups=_groups(poll, ctx.prior)))
            if stopped:
                return Outcome(choice.candidate, "budget", choice.confidence)
            if choice.candidate.accepted(self.accept_at) and (choice.confidence or 0.0) >= self.agree_at:
                return Outcome(choice.candidate, "agreed", choice.confidence)
        return Outcome(choice.candidate, "completed", choice.confidence)

    async def _widen(self, ctx: Context, poll: Poll, wave: range) -> bool:
        """Draw samples side by side and let them vote in their order; whether a limit stopped one."""
        done: dict[int, list[Candidate]] = {}
        stopped = False

        async def sample(number: int) -> None:
            nonlocal stopped
            branch = ctx.branch(number)
            drawn: list[Candidate] = []
            tried = await branch.attempt(self._sample(branch, drawn))
            stopped = stopped or tried.stopped is not None
            done[number] = drawn

        async with anyio.create_task_group() as group:
            for number in wave:
                group.start_soon(sample, number)
        for number in wave:
            for candidate in done[number]:
                await ctx.add_to(poll, candidate)
        return stopped

    async def _sample(self, branch: Context, drawn: list[Candidate]) -> None:
        drawn.append(await branch.draft(judge=branch.gate))
        await self._refined(branch, drawn, 1)

    def _accepted(self, found: list[Candidate]) -> Candidate | None:
        """The accepted candidate that the critic trusts most; ties to the earlier."""
        accepted = [candidate for candidate in found if candidate.accepted(self.accept_at)]
        return max(accepted, key=lambda candidate: candidate.p_correct or 0.0, default=None)

    @staticmethod
    def _offer(ctx: Context, found: list[Candidate]) -> None:
        best = max(found, key=lambda candidate: -1.0 if candidate.p_correct is None else candidate.p_correct)
        ctx.offer(best, best.p_correct, replace=True)

    @staticmethod
    def _choice(ctx: Context, poll: Poll) -> Choice:
        choice = choose(poll, "weighted", ctx.prior)
        assert choice is not None  # noqa: S101 - the first draft is in the poll
        return choice


def _groups(poll: Poll, prior: float) -> tuple[VoteGroup, ...]:
    weights = [(group, group.weight("weighted", prior)) for group in poll.groups]
    return tuple(VoteGroup(answer=group.answer, votes=len(group.members), weight=weight) for group, weight in weights)
