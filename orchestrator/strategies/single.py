"""`single`: one draft and no critic, the baseline of every comparison."""

from typing import ClassVar, Literal

from orchestrator.solve import Context, Outcome
from orchestrator.strategies.base import Strategy


class Single(Strategy):
    """One draft, no critic: the baseline."""

    name: Literal["single"] = "single"

    only_drafts: ClassVar[bool] = True

    async def run(self, ctx: Context) -> Outcome:
        """Draft once."""
        return Outcome(await ctx.draft(), "completed")
