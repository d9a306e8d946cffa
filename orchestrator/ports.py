"""What the orchestrator needs from an actor, a critic and a judge of equivalence, whoever provides them."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Protocol, Self, TypeVar

from services.contracts.calls import CandidateEvent, Draft, Judge, Refine, StepEvent
from services.contracts.critique import Critique, StepExplanation, StepLabel
from services.contracts.model import ModelCard
from services.contracts.solve import Role
from services.contracts.usage import Usage
from services.errors import CounterpointError

Verb = Literal["draft", "refine", "critique"]


@dataclass(frozen=True, slots=True)
class CallId:
    """Who calls: the solve (the session of every hop), the call itself, and the request both belong to."""

    solve: str
    call: str
    request: str = ""
    traceparent: str | None = None
    deadline: float | None = None
    """Absolute, on the event loop's clock, in seconds."""
    priority: int = 0
    """Lower first, where an engine can choose."""


class CallFailed(Exception):
    """A call failed at its boundary: the role, and the error it answered with."""

    def __init__(self, role: Role, cause: CounterpointError) -> None:
        super().__init__(f"{role}: {cause.detail}")
        self.role: Role = role
        self.cause = cause


EventT_co = TypeVar("EventT_co", covariant=True)


class Calling(Protocol[EventT_co]):
    """A call: enter it, iterate its events, leave it.

    Leaving early, by an error or by cancellation, aborts the call down to the engine and still waits a moment for its
    usage. `usage` events update the account and are not passed on. Iterating raises `CallFailed`.
    """

    @property
    def usage(self) -> Usage | None:
        """The last usage reported: exact once the call was left; None where none ever arrived."""
        ...

    @property
    def spent_nothing(self) -> bool:
        """Whether the call was never sent, or refused before anything was computed."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None: ...

    def __aiter__(self) -> AsyncIterator[EventT_co]: ...


Drafting = Calling[StepEvent | CandidateEvent]
Judging = Calling[StepLabel | StepExplanation | Critique]


class Actor(Protocol):
    """The actor service."""

    @property
    def card(self) -> ModelCard | None:
        """What the actor said about itself; None before it was first reached."""
        ...

    def draft(self, body: Draft, call: CallId) -> Drafting:
        """Write solutions."""
        ...

    def refine(self, body: Refine, call: CallId) -> Drafting:
        """Write new solutions given a critique."""
        ...


class Critic(Protocol):
    """The critic service."""

    @property
    def card(self) -> ModelCard | None:
        """What the critic said about itself; None before it was first reached."""
        ...

    def critique(self, body: Judge, call: CallId) -> Judging:
        """Judge a solution."""
        ...


class Equivalence(Protocol):
    """Decides whether two answers are the same."""

    async def group_of(self, answer: str, representatives: list[str]) -> int | None:
        """Index of the first representative that `answer` is equivalent to; None if it is a new answer."""
        ...
