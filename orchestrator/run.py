"""How a solve is run where it is not the usual way, and how its events are stamped as they leave."""

from dataclasses import dataclass

from orchestrator.journal import Journal
from orchestrator.solve import AnswerNow, Emit, Solve
from services.contracts.events import AnySolveEvent


@dataclass(frozen=True, slots=True)
class Run:
    """How a solve is run, where it is not the usual way.

    `plain` drafts are the actor's bare answers, without the prompt that asks for steps. `id` names the solve. `started` is
    when it first began, on the event loop's clock, in seconds: its deadline counts from there. `answer_now` ends it early.
    Calls that stand in `journal` are not made again.
    """

    plain: bool = False
    id: str | None = None
    started: float | None = None
    answer_now: AnswerNow | None = None
    journal: Journal | None = None


USUAL = Run()


async def nobody(_event: AnySolveEvent) -> None:
    """Follow a solve without listening; events that nobody hears are not even stamped."""


@dataclass(slots=True)
class Stamped:
    """Stamps events with the solve, their number and what has been spent."""

    solve: Solve
    emit: Emit
    seq: int = 0

    async def send(self, event: AnySolveEvent) -> None:
        """Stamp an event and send it."""
        self.seq += 1
        stamp = {"solve_id": self.solve.id, "seq": self.seq, "spent": self.solve.ledger.tokens}
        await self.emit(event.model_copy(update=stamp))
