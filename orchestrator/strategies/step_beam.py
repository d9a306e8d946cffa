"""`step_beam`: a beam search over steps, with the critic's labels as value.

A state of the search is the part of a solution before its first error. `width` x `expansion` drafts are labelled; the
`width` best states are explained, and from each the actor goes on in `expansion` ways (anew where its engine cannot continue
a solution). States that begin alike are one. It ends when the critic accepts a solution, or after `levels` levels.

The value of a solution is the share of its steps that are likely to come before its first error: the sum over the steps of
the probability that all up to it are right, divided by their number.
"""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import Field

from orchestrator.candidates import Candidate
from orchestrator.context import Context
from orchestrator.outcomes import Attempt, Outcome
from orchestrator.strategies.base import Strategy
from services.contracts.base import Probability

LABELS = {"correct": 1.0, "unsure": 0.5, "incorrect": 0.0}
"""Of a label without a probability."""


class StepBeam(Strategy):
    """Keeps the most promising beginnings of solutions, by the critic's labels, and goes on from each in several ways."""

    name: Literal["step_beam"] = "step_beam"
    width: Annotated[int, Field(ge=1, le=16)] = 2
    expansion: Annotated[int, Field(ge=1, le=16)] = 2
    levels: Annotated[int, Field(ge=0, le=16)] = 3
    accept_at: Probability = 0.5

    @property
    def breadth(self) -> int:
        """Drafts side by side."""
        return self.width * self.expansion

    async def run(self, ctx: Context) -> Outcome:
        """Draft, label, keep, go on."""
        drafts = await ctx.drafts(self.breadth, judge="labels", temperature=ctx.warm)
        beam = await self._kept(ctx, [draft for draft in drafts if draft is not None])
        for _ in range(self.levels):
            if beam[0].accepted(self.accept_at) or beam[0].verdict is None:
                break
            beam = await self._kept(ctx, [*beam, *await self._expanded(ctx, beam)])
        best = beam[0]
        return Outcome(best, "accepted" if best.accepted(self.accept_at) else "rounds", best.p_correct)

    async def _kept(self, ctx: Context, candidates: Sequence[Candidate]) -> list[Candidate]:
        """The `width` best states, the best first; of those that begin alike the first."""
        judged = await ctx.together([partial(ctx.judge, candidate, "labels") for candidate in candidates])
        states: dict[str, Candidate] = {}
        for candidate, tried in zip(candidates, judged, strict=True):
            found = tried.result or candidate
            states.setdefault(_state(found), found)
        beam = sorted(states.values(), key=value, reverse=True)[: self.width]
        ctx.offer(beam[0], beam[0].p_correct, replace=True)
        _raise_first(judged)
        return beam

    async def _expanded(self, ctx: Context, beam: Sequence[Candidate]) -> list[Candidate]:
        """What follows from each state, in `expansion` ways."""
        grown = await ctx.together([partial(self._grow, ctx, candidate) for candidate in beam])
        if not any(tried.result for tried in grown):
            _raise_first(grown)
        return [candidate for tried in grown for candidate in tried.result or ()]

    async def _grow(self, ctx: Context, candidate: Candidate) -> list[Candidate]:
        explained = await ctx.judge(candidate, "explain")
        keep = ctx.kept(explained, "rewind")
        return await ctx.expand(explained, self.expansion, keep_steps=keep, judge="labels", temperature=ctx.warm)


def value(candidate: Candidate) -> float:
    """The share of its steps that are likely to come before its first error, in [0, 1]; 0 where nothing is known."""
    if candidate.critique is None or not candidate.steps:
        return 0.0
    right, total = 1.0, 0.0
    for label in candidate.critique.labels:
        right *= LABELS[label.label] if label.p_correct is None else label.p_correct
        total += right
    return total / len(candidate.steps)


def _state(candidate: Candidate) -> str:
    """The steps before the first error; the whole text where there is none."""
    if candidate.first_error is None:
        return candidate.text
    return "\n".join(step.text for step in candidate.steps[: candidate.first_error - 1])


def _raise_first(tried: Sequence[Attempt[Any]]) -> None:
    """Go on only where no part was stopped."""
    for stopped in (attempt.stopped for attempt in tried):
        if stopped is not None:
            raise stopped
