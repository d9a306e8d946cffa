"""A strategy is its parameters and one method.

Its fields are its wire format: the object under `strategy` in a request is the strategy that runs. It holds no state, does
not handle errors and never decides on the order in which parallel calls happen to finish.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from orchestrator.candidates import Candidate
from orchestrator.context import Context, Outcome
from services.contracts.critique import Depth


class Strategy(BaseModel, ABC):
    """How compute is spent."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    only_drafts: ClassVar[bool] = False
    """Whether one run is one draft and nothing else, so that several runs can share a call and its prompt."""

    @abstractmethod
    async def run(self, ctx: Context) -> Outcome:
        """Spend until an outcome is decided. May raise `LimitReached` and `CallFailed`; the incumbent outlives both."""

    @property
    def breadth(self) -> int:
        """Most drafts that run side by side."""
        return 1

    def resolved(self) -> dict[str, Any]:
        """The strategy with every default filled in, as a response shows it."""
        return self.model_dump(mode="json")


Mode = Literal["rewrite", "rewind", "auto"]
"""How a candidate is refined: from the start, after the steps before its first error, or whichever keeps something."""


async def improved(
    ctx: Context,
    candidate: Candidate,
    judge: Depth,
    keep: Callable[[Candidate], int],
    temperature: float | None = None,
    explain: Literal["first", "all"] = "first",
) -> tuple[Candidate, Candidate | None]:
    """One round: the candidate explained, and refined unless the actor failed. `keep` tells the steps that are kept.

    Raises `LimitReached` unless explanation, refinement and its judgement at `judge` are likely to fit together.
    """
    ctx.begin_round(candidate, judge)
    explained = await ctx.judge(candidate, "explain", explain=explain)
    return explained, await ctx.refine(explained, keep_steps=keep(explained), judge=judge, temperature=temperature)


def kept_steps(ctx: Context, candidate: Candidate, mode: Mode) -> int:
    """Steps that a refinement keeps: those before the first error, unless it is unknown or everything is rewritten.

    `auto` rewinds where there is a step to keep and the actor's engine can continue a prefix, which is then cached.
    """
    if mode == "rewrite" or candidate.first_error is None:
        return 0
    if not ctx.can_rewind:
        if mode == "rewind":
            ctx.solve.note("rewind_unavailable", "the actor's engine cannot continue a solution; it was rewritten")
        return 0
    return candidate.first_error - 1
