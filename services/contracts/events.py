"""The events of a solve, in the order in which a stream sends them. Indices are 1-based.

A strategy emits an event without `solve_id`, `seq` and `spent`; the runner fills them in as it sends the event.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from services.contracts.base import Probability, Reply
from services.contracts.calls import FinishReason
from services.contracts.critique import Label, Verdict
from services.contracts.errors import Limit
from services.contracts.solve import Budget, SolveResult, Spent, VoteGroup


class SolveEvent(Reply):
    """Base of every event. A subclass adds `type`, which is also the name of the server-sent event."""

    solve_id: str = ""
    seq: int = 0
    spent: Spent = Spent()


class SolveStarted(SolveEvent):
    """The solve was admitted."""

    type: Literal["solve.started"] = "solve.started"
    strategy: dict[str, Any]
    limits: Budget


class CandidateStarted(SolveEvent):
    """A draft or a refinement started."""

    type: Literal["candidate.started"] = "candidate.started"
    candidate: str
    parent: str | None
    round: int


class StepWritten(SolveEvent):
    """The actor completed a step."""

    type: Literal["step.written"] = "step.written"
    candidate: str
    index: int
    text: str


class StepJudged(SolveEvent):
    """The critic judged a step."""

    type: Literal["step.judged"] = "step.judged"
    candidate: str
    index: int
    label: Label | None
    p_correct: Probability | None
    explanation: str | None


class CandidateJudged(SolveEvent):
    """The critic judged a candidate."""

    type: Literal["candidate.judged"] = "candidate.judged"
    candidate: str
    verdict: Verdict | None
    p_correct: Probability | None
    first_error: int | None


class CandidateFinished(SolveEvent):
    """A candidate is complete, or ended early."""

    type: Literal["candidate.finished"] = "candidate.finished"
    candidate: str
    answer: str | None
    finish_reason: FinishReason


class VotesChanged(SolveEvent):
    """The current votes."""

    type: Literal["votes.changed"] = "votes.changed"
    groups: tuple[VoteGroup, ...]


class DegradedEvent(SolveEvent):
    """Something went wrong without failing the solve."""

    type: Literal["degraded"] = "degraded"
    code: str
    detail: str


class BudgetWarning(SolveEvent):
    """Most of a limit is spent; `share` is the fraction spent."""

    type: Literal["budget.warning"] = "budget.warning"
    limit: str
    share: float


class SolveFinished(SolveEvent, SolveResult):
    """The solve finished with this result."""

    type: Literal["solve.finished"] = "solve.finished"


class SolveFailed(SolveEvent):
    """The solve failed: problem details, but with `type` being the event's instead of `urn:...:<code>`."""

    type: Literal["solve.failed"] = "solve.failed"
    title: str
    status: int
    detail: str
    code: str
    limit: Limit | None = None
    needed: float | int | None = None
    retry_after: float | None = None


AnySolveEvent = Annotated[
    SolveStarted
    | CandidateStarted
    | StepWritten
    | StepJudged
    | CandidateJudged
    | CandidateFinished
    | VotesChanged
    | DegradedEvent
    | BudgetWarning
    | SolveFinished
    | SolveFailed,
    Field(discriminator="type"),
]
"""Any event of a solve."""

SOLVE_EVENT: TypeAdapter[AnySolveEvent] = TypeAdapter(AnySolveEvent)
"""Parses an event of a solve by its `type`."""

SOLVE_EVENT_TYPES = tuple(str(kind.model_fields["type"].default) for kind in SolveEvent.__subclasses__())
"""The `type` of every event."""
