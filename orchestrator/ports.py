"""The interfaces through which the orchestrator uses an actor, a critic and a test for equivalent answers."""

from collections.abc import AsyncIterator
from types import TracebackType
from typing import Protocol, Self, TypeVar

from services.call_context import CallContext
from services.contracts import calls
from services.contracts.calls import CritiqueRequest, DraftRequest, RefineRequest
from services.contracts.model import ModelCard
from services.contracts.solve import Role
from services.contracts.usage import Usage
from services.errors import CounterpointError


class CallFailed(Exception):
    """A call failed at its boundary: the role, and the error that it answered with."""

    def __init__(self, role: Role, cause: CounterpointError) -> None:
        super().__init__(f"{role}: {cause.detail}")
        self.role: Role = role
        self.cause = cause


EventT_co = TypeVar("EventT_co", covariant=True)


class CallStream(Protocol[EventT_co]):
    """A call of a role service: enter it, iterate over its events, leave it.

    Leaving early, by an error or by cancellation, aborts the call down to the engine and waits a moment for its usage.
    `usage` events update the account and are not yielded. Iterating raises `CallFailed`.
    """

    @property
    def usage(self) -> Usage | None:
        """The last usage reported, which is exact once the call has been left; None where none ever arrived."""
        ...

    @property
    def spent_nothing(self) -> bool:
        """True if the call was never sent, or was refused before anything was computed."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None: ...

    def __aiter__(self) -> AsyncIterator[EventT_co]: ...


DraftStream = CallStream[calls.StepEvent | calls.CandidateEvent]
CritiqueStream = CallStream[calls.LabelEvent | calls.ExplanationEvent | calls.CritiqueEvent]


class _RoleService(Protocol):
    @property
    def card(self) -> ModelCard | None:
        """The model card of the service; None before it was first reached."""
        ...


class Actor(_RoleService, Protocol):
    """The actor service."""

    def draft(self, body: DraftRequest, call: CallContext) -> DraftStream:
        """Write solutions."""
        ...

    def refine(self, body: RefineRequest, call: CallContext) -> DraftStream:
        """Write new solutions given a critique."""
        ...


class Critic(_RoleService, Protocol):
    """The critic service."""

    def critique(self, body: CritiqueRequest, call: CallContext) -> CritiqueStream:
        """Judge a solution."""
        ...


class Equivalence(Protocol):
    """A test for equivalent answers."""

    async def group_of(self, answer: str, representatives: list[str]) -> int | None:
        """Return the index of the first representative that `answer` is equivalent to; None if it is a new answer."""
        ...
