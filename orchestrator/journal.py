"""The journal of a solve's calls: a recorded call is not made again, but replayed with its events and its usage.

The key of a call is its verb and a digest of its body. The body holds the call's seed, which is a hash of its place in the
strategy, so the same place in the same solve finds its own record and no other. The allowance is not part of the key: it
depends on what runs beside the call.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from hashlib import blake2b
from types import TracebackType
from typing import Annotated, Any, Generic, Protocol, Self, TypeVar, cast

import anyio
from pydantic import BaseModel, ConfigDict, Field

from orchestrator.ports import Actor, CallFailed, CallStream, Critic, CritiqueStream, DraftStream
from services.call_context import CallContext
from services.contracts import calls
from services.contracts.calls import CritiqueRequest, DraftRequest, RefineRequest
from services.contracts.errors import ProblemDetails
from services.contracts.model import ModelCard
from services.contracts.solve import Role
from services.contracts.usage import Usage
from services.errors import EngineFailed
from services.http.error_responses import as_error, error_of

LEFT_SECONDS = 5.0
"""Time in which the strategy should leave a replayed call that it left when the call was recorded."""

EventT = TypeVar("EventT")
ServiceT = TypeVar("ServiceT", Actor, Critic)

AnyCallEvent = Annotated[
    calls.StepEvent | calls.CandidateEvent | calls.LabelEvent | calls.ExplanationEvent | calls.CritiqueEvent,
    Field(discriminator="type"),
]
"""Any event of a call that is yielded to its caller."""


class Record(BaseModel):
    """A finished call: its events, its usage, its error, if any, and whether its strategy left it before its end."""

    model_config = ConfigDict(frozen=True)

    events: tuple[AnyCallEvent, ...]
    usage: Usage | None
    spent_nothing: bool
    error: ProblemDetails | None = None
    left: bool = False


class Journal(Protocol):
    """A store of records."""

    @property
    def abandoned(self) -> bool:
        """True if another run of the solve will continue this one and report what was spent."""
        ...

    async def get(self, key: str) -> Record | None:
        """Return the record of a call, if there is one."""
        ...

    async def record(self, key: str, record: Record) -> None:
        """Store the record of a call."""
        ...


@dataclass(slots=True)
class JournaledCallStream(Generic[EventT]):
    """A call that is replayed from the journal, or made and recorded when it ends; see `ports.CallStream`."""

    _inner: CallStream[EventT]
    _role: Role
    _journal: Journal
    _key: str
    _deadline: float | None
    _record: Record | None = None
    _events: list[Any] = field(default_factory=list[Any])
    _error: ProblemDetails | None = None
    _ended: bool = False

    @property
    def usage(self) -> Usage | None:
        """The usage of the call, made or replayed."""
        return self._inner.usage if self._record is None else self._record.usage

    @property
    def spent_nothing(self) -> bool:
        """True if the call was never sent, or was refused."""
        return self._inner.spent_nothing if self._record is None else self._record.spent_nothing

    async def __aenter__(self) -> Self:
        self._record = await self._journal.get(self._key)
        if self._record is None:
            if self._deadline is not None and anyio.current_time() > self._deadline:
                await anyio.sleep_forever()  # after the deadline records are replayed, but no new call starts
            await self._inner.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._record is not None:
            return
        await self._inner.__aexit__(kind, error, tb)
        if self.usage is None and self._error is None:
            return  # its usage is unknown, so it will be made again
        left = not self._ended and self._error is None
        record = Record(
            events=tuple(self._events), usage=self.usage, spent_nothing=self.spent_nothing, error=self._error, left=left
        )
        with anyio.CancelScope(shield=True):
            await self._journal.record(self._key, record)

    async def __aiter__(self) -> AsyncIterator[EventT]:
        if self._record is not None:
            async for event in self._replay(self._record):
                yield event
            return
        try:
            async for event in self._inner:
                self._events.append(event)
                yield event
        except CallFailed as failure:
            self._error = failure.cause.problem()
            raise
        self._ended = True

    async def _replay(self, record: Record) -> AsyncIterator[EventT]:
        for event in record.events:
            yield cast("EventT", event)
        if record.error is not None:
            raise CallFailed(self._role, error_of(record.error))
        if record.left:
            await anyio.sleep(LEFT_SECONDS)
            raise CallFailed(self._role, as_error(EngineFailed("this call was left before its end when it was recorded")))


@dataclass(frozen=True, slots=True)
class _Journaled(Generic[ServiceT]):
    """A role service whose calls are journaled."""

    _inner: ServiceT
    _journal: Journal

    @property
    def card(self) -> ModelCard | None:
        """The card of the service."""
        return self._inner.card

    def _stream(
        self, inner: CallStream[EventT], role: Role, verb: str, body: BaseModel, call: CallContext
    ) -> JournaledCallStream[EventT]:
        content = body.model_dump_json(exclude={"allowance"})
        key = f"{verb}-{blake2b(content.encode(), digest_size=12).hexdigest()}"
        return JournaledCallStream(inner, role, self._journal, key, call.deadline)


class JournaledActor(_Journaled[Actor]):
    """The actor, with its calls journaled."""

    def draft(self, body: DraftRequest, call: CallContext) -> DraftStream:
        """Write solutions."""
        return self._stream(self._inner.draft(body, call), "actor", "draft", body, call)

    def refine(self, body: RefineRequest, call: CallContext) -> DraftStream:
        """Write new solutions given a critique."""
        return self._stream(self._inner.refine(body, call), "actor", "refine", body, call)


class JournaledCritic(_Journaled[Critic]):
    """The critic, with its calls journaled."""

    def critique(self, body: CritiqueRequest, call: CallContext) -> CritiqueStream:
        """Judge a solution."""
        return self._stream(self._inner.critique(body, call), "critic", "critique", body, call)
