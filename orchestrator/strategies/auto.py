"""`auto`: spend by difficulty.

It starts with one greedy draft and one verdict; if that is accepted, it costs no more. Otherwise the draft is explained and
refined, round by round. If nothing is accepted, new samples are drawn in waves that double, each judged and refined at most
once, and every candidate so far votes with its p_correct until one answer has enough of the weight. If a budget ends this,
the answer is the best candidate so far.

`accept_at` and `agree_at` are fitted on the development split by `counterpoint eval fit-auto`, which writes `auto.json`.
"""

import json
from pathlib import Path
from typing import Annotated, Literal

import anyio
from pydantic import Field

from orchestrator.candidates import Candidate
from orchestrator.selection import Choice, Poll, choose
from orchestrator.solve import Context, Mode, Outcome
from orchestrator.strategies.base import Strategy
from services.contracts.base import Probability
from services.contracts.events import VotesChanged

FITTED: dict[str, float] = json.loads(Path(__file__).with_name("auto.json").read_text("utf-8"))
MAX_SAMPLES = 64


class Auto(Strategy):
    """Spend by difficulty: a draft and a verdict; refinements and a growing vote if the critic is not convinced."""

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
        """The drafts of the largest wave."""
        return max(1, self.max_samples)

    async def run(self, ctx: Context) -> Outcome:
        """Escalate until the critic is convinced, the vote agrees, or the samples are used up."""
        first = await ctx.draft(judge=ctx.gate, temperature=self.first_temperature)
        candidates = await self._refine(ctx, [first], self.rounds, self.first_temperature)
        accepted = self._accepted(candidates)
        if accepted is not None:
            return Outcome(accepted, "accepted", accepted.p_correct)
        return await self._vote(ctx, candidates)

    async def _refine(
        self, ctx: Context, candidates: list[Candidate], rounds: int, temperature: float | None = None
    ) -> list[Candidate]:
        """Judge the last candidate and refine it while it is rejected; return all, the best one being the incumbent."""
        candidates[-1] = await ctx.judge(candidates[-1], ctx.gate)
        self._offer(ctx, candidates)
        for _ in range(rounds):
            latest = candidates[-1]
            if latest.verdict is None or latest.accepted(self.accept_at):
                break
            ctx.require_round(latest)
            candidates[-1] = latest = await ctx.judge(latest, "explain")
            keep = ctx.steps_to_keep(latest, self.mode)
            refined = await ctx.refine(latest, keep_steps=keep, judge=ctx.gate, temperature=temperature)
            if refined is None:
                break
            candidates.append(await ctx.judge(refined, ctx.gate))
            self._offer(ctx, candidates)
        return candidates

    async def _vote(self, ctx: Context, candidates: list[Candidate]) -> Outcome:
        """Extend a weighted vote until an answer has `agree_at` of the weight and one of its candidates is accepted."""
        poll = Poll()
        for candidate in candidates:
            await ctx.add_to(poll, candidate)
        choice, drawn = self._choice(ctx, poll), 0
        if candidates[-1].verdict is None or not ctx.solve.sampling.temperature:
            # without a critic more samples cannot be compared, and at temperature 0 they do not differ
            return Outcome(choice.candidate, "completed", choice.confidence)
        while drawn < self.max_samples:
            wave = min(max(self.first_wave, drawn), self.max_samples - drawn)
            stopped = await self._draw(ctx, poll, range(drawn, drawn + wave))
            drawn += wave
            choice = self._choice(ctx, poll)
            ctx.offer(choice.candidate, choice.confidence, replace=True)
            await ctx.emit(VotesChanged(groups=poll.vote_groups("weighted", ctx.prior)))
            if stopped:
                return Outcome(choice.candidate, "budget", choice.confidence)
            if choice.candidate.accepted(self.accept_at) and (choice.confidence or 0.0) >= self.agree_at:
                return Outcome(choice.candidate, "agreed", choice.confidence)
        return Outcome(choice.candidate, "completed", choice.confidence)

    async def _draw(self, ctx: Context, poll: Poll, wave: range) -> bool:
        """Draw samples side by side and add them to the poll in their order. Return whether a limit stopped one."""
        done: dict[int, list[Candidate]] = {}
        stopped = False

        async def sample(number: int) -> None:
            nonlocal stopped
            branch = ctx.branch(number)
            drawn: list[Candidate] = []
            attempt = await branch.attempt(self._sample(branch, drawn))
            stopped = stopped or attempt.stopped is not None
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
        await self._refine(branch, drawn, 1)

    def _accepted(self, candidates: list[Candidate]) -> Candidate | None:
        """Return the accepted candidate with the highest p_correct, the earlier one of a tie."""
        accepted = [candidate for candidate in candidates if candidate.accepted(self.accept_at)]
        return max(accepted, key=lambda candidate: candidate.p_correct or 0.0, default=None)

    @staticmethod
    def _offer(ctx: Context, candidates: list[Candidate]) -> None:
        best = max(candidates, key=lambda candidate: -1.0 if candidate.p_correct is None else candidate.p_correct)
        ctx.offer(best, best.p_correct, replace=True)

    @staticmethod
    def _choice(ctx: Context, poll: Poll) -> Choice:
        choice = choose(poll, "weighted", ctx.prior)
        assert choice is not None  # noqa: S101 - the first draft is in the poll
        return choice
