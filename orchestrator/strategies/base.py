"""A strategy is its parameters and one method.

Its fields are its wire format: the object under `strategy` in a request is the strategy that runs. It holds no state, does
not handle errors and never decides on the order in which parallel calls happen to finish.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from orchestrator.context import Context
from orchestrator.outcomes import Outcome


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
