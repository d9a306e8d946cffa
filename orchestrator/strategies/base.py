"""The base of every strategy: its parameters, and one method.

The fields of a strategy are its wire format: the object under `strategy` in a request is the strategy that runs. A strategy
holds no state, handles no errors, and never decides by the order in which parallel calls happen to finish.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from orchestrator.solve import Context, Outcome


class Strategy(BaseModel, ABC):
    """A way to spend compute."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    only_drafts: ClassVar[bool] = False
    """True if a run is one draft and nothing else, so that several runs can share a call and its prompt."""

    @abstractmethod
    async def run(self, ctx: Context) -> Outcome:
        """Spend until an outcome is decided. May raise `LimitReached` and `CallFailed`, which the incumbent survives."""

    @property
    def breadth(self) -> int:
        """The most drafts that run side by side."""
        return 1

    def resolved(self) -> dict[str, Any]:
        """Return the strategy with every default filled in, as a response shows it."""
        return self.model_dump(mode="json")
