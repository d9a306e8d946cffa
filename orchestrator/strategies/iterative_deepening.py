"""`iterative_deepening`: one solution that goes on, with a self-correction trigger, at geometrically growing budgets.

The first attempt may take `start` tokens. While the critic does not accept it, `trigger` is written below it and the actor
goes on from there with `growth` times as many tokens as before, at most `rounds` times (arXiv 2502.05449, with the critic's
verdict to end it). The answer is the last that the solution states. Inside `best_of_n` it is the paper's vote. Where the
engine cannot continue a solution, the actor writes anew below the one that ends with the trigger.
"""

from typing import Annotated, Literal

from pydantic import Field

from orchestrator.candidates import Candidate
from orchestrator.context import Context
from orchestrator.outcomes import Outcome
from orchestrator.selection import weight
from orchestrator.strategies.base import Strategy
from services.contracts.base import FilledText, Probability
from services.contracts.sampling import MAX_COMPLETION_TOKENS

MAX_TRIGGER_CHARS = 500


class IterativeDeepening(Strategy):
    """Lets one solution go on and correct itself, with more tokens each time, until the critic accepts it."""

    name: Literal["iterative_deepening"] = "iterative_deepening"
    start: Annotated[int, Field(ge=1, le=MAX_COMPLETION_TOKENS)] = 256
    growth: Annotated[float, Field(ge=1.0, le=8.0)] = 2.0
    rounds: Annotated[int, Field(ge=0, le=16)] = 3
    trigger: Annotated[FilledText, Field(max_length=MAX_TRIGGER_CHARS)] = "Wait, let me check this from the beginning."
    accept_at: Probability = 0.5

    async def run(self, ctx: Context) -> Outcome:
        """Draft, then trigger and go on."""
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
        """Accepted, and not only since it was cut before it could go wrong."""
        return best.accepted(self.accept_at) and best.finish_reason == "stop"

    @staticmethod
    def _better(ctx: Context, best: Candidate, latest: Candidate) -> Candidate:
        """The more trusted one that states an answer; of equals the longer one, which knows more."""
        known = latest.answer is not None or best.answer is None
        if known and (best.answer is None or weight(latest, ctx.prior) >= weight(best, ctx.prior)):
            best = latest
        ctx.offer(best, best.p_correct, replace=True)
        return best
