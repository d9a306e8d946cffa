"""`refine`: draft, critique and refine, until a candidate is accepted or the rounds are used up.

With `gate`, the critic first gives its cheapest judgement (`gate_depth`). Only a candidate that it rejects is explained and
refined, and the answer is the best-judged candidate. Without `gate`, every round explains and refines, and the answer is the
last candidate: the published setting (arXiv 2411.16579).

With `pipeline`, the critic reads every `check_every` steps while the actor still writes. With `abort_on_error`, a solution
with a step that is wrong with confidence `abort_at` is cancelled in the engine at once and refined from there.
"""

from typing import Annotated, Literal

from pydantic import Field

from orchestrator.candidates import Candidate
from orchestrator.solve import Context, Mode, Outcome, PipelineOptions
from orchestrator.strategies.base import Strategy
from services.contracts.base import Probability
from services.contracts.calls import MAX_STEPS
from services.contracts.critique import Depth

MAX_ROUNDS = 32


class Refine(Strategy):
    """Draft, critique and refine, until a candidate is accepted or the rounds are used up."""

    name: Literal["refine"] = "refine"
    rounds: Annotated[int, Field(ge=1, le=MAX_ROUNDS)] = 3
    mode: Mode = "rewrite"
    accept_at: Probability = 0.5
    gate: bool = True
    gate_depth: Depth = "verdict"
    explain: Literal["first", "all"] = "first"
    pipeline: bool = False
    abort_on_error: bool = False
    check_every: Annotated[int, Field(ge=1, le=MAX_STEPS)] = 4
    abort_at: Probability = 0.9

    async def run(self, ctx: Context) -> Outcome:
        """Draft, then critique and refine round by round."""
        best = latest = await ctx.draft(judge=self.gate_depth, pipeline=self._pipeline)
        for _ in range(self.rounds):
            latest = await self._critique(ctx, latest)
            best = self._better(ctx, best, latest)
            if latest.verdict is None or self._done(latest):
                return self._outcome(best)
            keep = ctx.steps_to_keep(latest, self.mode)
            refined = await ctx.refine(latest, keep_steps=keep, judge=self.gate_depth, pipeline=self._pipeline)
            latest = latest if refined is None else refined
        latest = await ctx.judge(latest, self.gate_depth)
        return self._outcome(self._better(ctx, best, latest))

    async def _critique(self, ctx: Context, candidate: Candidate) -> Candidate:
        """Judge as deeply as a refinement needs; a candidate that the gate accepts no deeper than that."""
        if self.gate:
            candidate = await ctx.judge(candidate, self.gate_depth)
            if candidate.verdict is None or self._done(candidate):
                return candidate
        ctx.require_round(candidate)
        return await ctx.judge(candidate, "explain", explain=self.explain)

    def _done(self, candidate: Candidate) -> bool:
        return self.gate and candidate.accepted(self.accept_at)

    def _better(self, ctx: Context, best: Candidate, latest: Candidate) -> Candidate:
        """Return the incumbent: with the gate the highest p_correct (the earlier of a tie, unjudged last), else the last."""
        if not self.gate or latest.id == best.id or _rank(latest) > _rank(best):
            best = latest
        ctx.offer(best, best.p_correct, replace=True)
        return best

    def _outcome(self, best: Candidate) -> Outcome:
        return Outcome(best, "accepted" if self._done(best) else "rounds", best.p_correct)

    @property
    def _pipeline(self) -> PipelineOptions | None:
        """The options for reading solutions while they are written; aborting them implies reading them."""
        if not (self.pipeline or self.abort_on_error):
            return None
        return PipelineOptions(self.check_every, self.abort_at, self.abort_on_error)


def _rank(candidate: Candidate) -> float:
    """Return p_correct; a lower number if the candidate was not judged, and the lowest if it was cut short."""
    if candidate.finish_reason == "cancelled":
        return -2.0
    return -1.0 if candidate.p_correct is None else candidate.p_correct
