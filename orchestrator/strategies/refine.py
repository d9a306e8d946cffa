"""`refine`: draft, critique, refine, until a candidate is accepted or the rounds are used up.

With `gate`, the critic first gives the cheapest judgement (`gate_depth`); only what it does not accept is explained and
refined, and the best-judged candidate is the answer. Without it every round explains and refines and the last candidate is
the answer, the published setting (arXiv 2411.16579).

With `pipeline` the critic reads every `check_every` steps while the actor still writes; with `abort_on_error` a solution
with a step that is wrong with confidence `abort_at` is cancelled in the engine at once, and refined from there.
"""

from typing import Annotated, Literal

from pydantic import Field

from orchestrator.candidates import Candidate
from orchestrator.context import Context, Mode
from orchestrator.outcomes import Outcome
from orchestrator.strategies.base import Strategy
from orchestrator.watching import Watch
from services.contracts.base import Probability
from services.contracts.calls import MAX_STEPS
from services.contracts.critique import Depth

MAX_ROUNDS = 32


class Refine(Strategy):
    """Draft, critique, refine until accepted or out of rounds."""

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
        best = latest = await ctx.draft(judge=self.gate_depth, watch=self._watch)
        for _ in range(self.rounds):
            latest = await self._critique(ctx, latest)
            best = self._better(ctx, best, latest)
            if latest.verdict is None or self._done(latest):
                return self._outcome(best)
            kept = ctx.kept(latest, self.mode)
            refined = await ctx.refine(latest, keep_steps=kept, judge=self.gate_depth, watch=self._watch)
            latest = latest if refined is None else refined
        latest = await ctx.judge(latest, self.gate_depth)
        return self._outcome(self._better(ctx, best, latest))

    async def _critique(self, ctx: Context, candidate: Candidate) -> Candidate:
        """Judge as deep as a refinement needs; with the gate, no deeper than acceptance needs."""
        if self.gate:
            candidate = await ctx.judge(candidate, self.gate_depth)
            if candidate.verdict is None or self._done(candidate):
                return candidate
        ctx.begin_round(candidate)
        return await ctx.judge(candidate, "explain", explain=self.explain)

    def _done(self, candidate: Candidate) -> bool:
        return self.gate and candidate.accepted(self.accept_at)

    def _better(self, ctx: Context, best: Candidate, latest: Candidate) -> Candidate:
        """The incumbent: with the gate the highest p_correct (ties to the earlier, unjudged last), without it the last."""
        if not self.gate or latest.id == best.id or _rank(latest) > _rank(best):
            best = latest
        ctx.offer(best, best.p_correct, replace=True)
        return best

    def _outcome(self, best: Candidate) -> Outcome:
        return Outcome(best, "accepted" if self._done(best) else "rounds", best.p_correct)

    @property
    def _watch(self) -> Watch | None:
        """How solutions are read while they are written; cutting them short needs reading them."""
        if not (self.pipeline or self.abort_on_error):
            return None
        return Watch(self.check_every, self.abort_at, self.abort_on_error)


def _rank(candidate: Candidate) -> float:
    """p_correct; less than any where it was not judged, and least where the candidate was cut short."""
    if candidate.finish_reason == "cancelled":
        return -2.0
    return -1.0 if candidate.p_correct is None else candidate.p_correct
