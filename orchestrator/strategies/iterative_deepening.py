"""`iterative_deepening`: continue one solution after a self-correction trigger, at geometrically growing budgets.

The first attempt may take `start` tokens. While the critic rejects it, `trigger` is appended and the actor continues with
`growth` times as many tokens as before, at most `rounds` times (arXiv 2502.05449, which has no critic to end it). The answer
is the last one that the solution states. Inside `best_of_n` this is the vote of that paper. If the engine cannot continue a
solution, the actor writes a new one below the text that ends with the trigger.
"""

from typing import Annotated, Literal

from pydantic import Field

from orchestrator.candidates import Candidate
from orchestrator.selection import weight
from orchestrator.solve import Context, Outcome
from orchestrator.strategies.base import Strategy
from services.contracts.base import FilledText, Probability
from services.contracts.sampling import MAX_COMPLETION_TOKENS

MAX_TRIGGER_CHARS = 500


class IterativeDeepening(Strategy):
    """Let one solution continue and correct itself, with more tokens each time, until the critic accepts it."""

    name: Literal["iterative_deepening"] = "iterative_deepening"
    start: Annotated[int, Field(ge=1, le=MAX_COMPLETION_TOKENS)] = 256
    growth: Annotated[float, Field(ge=1.0, le=8.0)] = 2.0
    rounds: Annotated[int, Field(ge=0, le=16)] = 3
    trigger: Annotated[FilledText, Field(max_length=MAX_TRIGGER_CHARS)] = "Wait, let me check this from the beginning."
    accept_at: Probability = 0.5

    async def run(self, ctx: Context) -> Outcome:
        """Draft, then append the trigger and continue."""
        tokens = float(self.start)
        best = latest = await ctx.judge(await ctx.draft(judge="verdict", max_tokens=self.start), "verdict")
        for _ in range(self.rounds):
            if self._done(best):
                break
            tokens = min(tokens * self.growth, float(MAX_COMPLETION_TOKENS))
            longer = await ctx.resume(latest, self.trigger, judge="verdict", max_tokens=int(tokens))
            if longer is None:
                break
            latest = await ctx.judge(longer, "verdict")
            best = self._better(ctx, best, latest)
        return Outcome(best, "accepted" if self._done(best) else "rounds", best.p_correct)

    def _done(self, best: Candidate) -> bool:
        """Return whether the solution is accepted and complete; a cut one may have been cut before its first error."""
        return best.accepted(self.accept_at) and best.finish_reason == "stop"

    @staticmethod
    def _better(ctx: Context, best: Candidate, latest: Candidate) -> Candidate:
        """Return the more trusted one that states an answer, the longer one if they are equal, and make it the incumbent."""
        known = latest.answer is not None or best.answer is None
        if known and (best.answer is None or weight(latest, ctx.prior) >= weight(best, ctx.prior)):
            best = latest
        ctx.offer(best, best.p_correct, replace=True)
        return best
