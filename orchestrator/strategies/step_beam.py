"""`step_beam`: a beam search over steps, valued by the critic's labels.

A state of the search is the part of a solution before its first error. `width` x `expansion` drafts are labelled. The
`width` best states are explained, and the actor continues each in `expansion` ways (it starts again if its engine cannot
continue a solution). Solutions with the same state count once. The search ends when the critic accepts a solution, or after
`levels` levels.

The value of a solution is the expected share of its steps before the first error: the sum over its steps of the probability
that all steps up to this one are right, divided by the number of steps.
"""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import Field

from orchestrator.candidates import Candidate
from orchestrator.solve import Attempt, Context, Outcome
from orchestrator.strategies.base import Strategy
from services.contracts.base import Probability

LABELS = {"correct": 1.0, "unsure": 0.5, "incorrect": 0.0}
"""The probability of a label that has none."""


class StepBeam(Strategy):
    """Search over steps: keep the solutions whose first steps the critic trusts most, and continue each several times."""

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
        """Draft and label; then keep the best states and continue them, level by level."""
        drafts = await ctx.drafts(self.breadth, judge="labels", temperature=ctx.warm)
        beam = await self._best(ctx, [draft for draft in drafts if draft is not None])
        for _ in range(self.levels):
            if beam[0].accepted(self.accept_at) or beam[0].verdict is None:
                break
            beam = await self._best(ctx, [*beam, *await self._expand(ctx, beam)])
        best = beam[0]
        return Outcome(best, "accepted" if best.accepted(self.accept_at) else "rounds", best.p_correct)

    async def _best(self, ctx: Context, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Return the candidates of the `width` best states, the best first; of equal states the first."""
        judged = await ctx.together([partial(ctx.judge, candidate, "labels") for candidate in candidates])
        states: dict[str, Candidate] = {}
        for candidate, attempt in zip(candidates, judged, strict=True):
            latest = attempt.result or candidate
            states.setdefault(_state(latest), latest)
        beam = sorted(states.values(), key=value, reverse=True)[: self.width]
        ctx.offer(beam[0], beam[0].p_correct, replace=True)
        _raise_first(judged)
        return beam

    async def _expand(self, ctx: Context, beam: Sequence[Candidate]) -> list[Candidate]:
        """Continue each state in `expansion` ways."""
        grown = await ctx.together([partial(self._grow, ctx, candidate) for candidate in beam])
        if not any(attempt.result for attempt in grown):
            _raise_first(grown)
        return [candidate for attempt in grown for candidate in attempt.result or ()]

    async def _grow(self, ctx: Context, candidate: Candidate) -> list[Candidate]:
        explained = await ctx.judge(candidate, "explain")
        keep = ctx.steps_to_keep(explained, "rewind")
        return await ctx.expand(explained, self.expansion, keep_steps=keep, judge="labels", temperature=ctx.warm)


def value(candidate: Candidate) -> float:
    """Return the expected share of steps before the first error, in [0, 1]; 0 without a critique."""
    if candidate.critique is None or not candidate.steps:
        return 0.0
    right, total = 1.0, 0.0
    for label in candidate.critique.labels:
        right *= LABELS[label.label] if label.p_correct is None else label.p_correct
        total += right
    return total / len(candidate.steps)


def _state(candidate: Candidate) -> str:
    """Return the steps before the first error; the whole text if there is none."""
    if candidate.first_error is None:
        return candidate.text
    return "\n".join(step.text for step in candidate.steps[: candidate.first_error - 1])


def _raise_first(attempts: Sequence[Attempt[Any]]) -> None:
    """Raise the first limit or failed call among the attempts, if any."""
    for stopped in (attempt.stopped for attempt in attempts):
        if stopped is not None:
            raise stopped
