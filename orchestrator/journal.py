"""The journal of a solve's calls: a call that is in it is not made again, its events and its usage are given back.

A call's key is its verb and a digest of what it asks. That holds the call's seed, which is a hash of its place in the
strategy, so the same place of the same solve finds its own record and no other. What a call may spend is not part of the
key: it depends on what runs beside it.
"""

from collections.abc import AsyncIterator
from hashlib import blake2b
from types import TracebackType
from typing import Annotated, Any, Generic, Protocol, Self, TypeVar, cast

import anyio
from pydantic import BaseModel, ConfigDict, Field

from orchestrator.ports import Actor, CallFailed, CallStream, Critic, CritiqueStream, DraftStream
from services.call_context import CallContext
from services.contracts.calls import (
    CandidateEvent,
    CritiqueEvent,
    Draft,
    ExplanationEvent,
    Judge,
    LabelEvent,
    Refine,
    StepEvent,
)
from services.contracts.errors import Problem
from services.contracts.model import ModelCard
from services.contracts.solve import Role
from services.contracts.usage import Usage
from services.errors import EngineFailed
from services.problems import as_error, error_of

LEFT_SECONDS = 5.0
"""How long a call that its strategy once left waits to be left again."""

EventT = TypeVar("EventT")
ServiceT = TypeVar("ServiceT", Actor, Critic)

AnyCallEvent = Annotated[
    StepEvent | CandidateEvent | LabelEvent | ExplanationEvent | CritiqueEvent, Field(discriminator="type")
]
"""Any event of a call that is yielded to its caller."""


class Record(BaseModel):
    """How a call went: its events, its usage, the error it ended with, and whether its strategy left it before its end."""

    model_config = ConfigDict(frozen=True)

    events: tuple[AnyCallEvent, ...]
    usage: Usage | None
    spent_nothing: bool
    error: Problem | None = None
    left: bool = False


class Journal(Protocol):
    """Where records are kept."""

    @property
    def lost(self) -> bool:
        """Whether this run is given up and another one goes on: what it spent is the other one's to tell."""
        ...

    async def find(self, key: str) -> Record | None:
        """What was recorded under a key."""
        ...

    async def keep(self, key: str, record: Record) -> None:
        """Record a call that has ended."""
        ...


class JournaledCallStream(Generic[EventT]):
    """A call that is looked up before it is made, and recorded when it ends; see `ports.CallStream`."""

    def __init__(self, inner: CallStream[EventT], role: Role, journal: Journal, key: str, deadline: float | None) -> None:
        self._inner = inner
        self._deadline = deadline
        self._role: Role = role
        self._journal = journal
        self._key = key
        self._found: Record | None = None
        self._events: list[Any] = []
        self._error: Problem | None = None
        self._ended = False

    @property
    def usage(self) -> Usage | None:
        """What the call took, now or when it was made."""
        return self._inner.usage if self._found is None else self._found.usage

    @property
    def spent_nothing(self) -> bool:
        """Whether it was never sent, or refused."""
        return self._inner.spent_nothing if self._found is None else self._found.spent_nothing

    async def __aenter__(self) -> Self:
        self._found = await self._journal.find(self._key)
        if self._found is None:
            if self._deadline is not None and anyio.current_time() > self._deadline:
                await anyio.sleep_forever()  # what was recorded is given back after the deadline; nothing new begins
            await self._inner.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._found is not None:
            return
        await self._inner.__aexit__(kind, error, tb)
        if self.usage is None and self._error is None:
            return  # nobody knows what it took: it is made again
        left = not self._ended and self._error is None
        record = Record(
            events=tuple(self._events), usage=self.usage, spent_nothing=self.spent_nothing, error=self._error, left=left
        )
        with anyio.CancelScope(shield=True):
            await self._journal.keep(self._key, record)

    async def __aiter__(self) -> AsyncIterator[EventT]:
        if self._found is not None:
            async for event in self._given_back(self._found):
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

    async def _given_back(self, found: Record) -> AsyncIterator[EventT]:
        for event in found.events:
            yield cast("EventT", event)
        if found.error is not None:
            raise CallFailed(self._role, error_of(found.error))
        if found.left:
            await anyio.sleep(LEFT_SECONDS)
            raise CallFailed(self._role, as_error(EngineFailed("this call was left before its end when it was first made")))


class _Journaled(Generic[ServiceT]):
    """A role service whose calls are journaled."""

    def __init__(self, inner: ServiceT, journal: Journal) -> None:
        self._inner = inner
        self._journal = journal

    @property
    def card(self) -> ModelCard | None:
        """The card of the service."""
        return self._inner.card


class JournaledActor(_Journaled[Actor]):
    """The actor, with its calls journaled."""

    def draft(self, body: Draft, call: CallContext) -> DraftStream:
        """Write solutions."""
        stream = self._inner.draft(body, call)
        return JournaledCallStream(stream, "actor", self._journal, key_of("draft", body), call.deadline)

    def refine(self, body: Refine, call: CallContext) -> DraftStream:
        """Write new solutions given a critique."""
        stream = self._inner.refine(body, call)
        return JournaledCallStream(stream, "actor", self._journal, key_of("refine", body), call.deadline)


class JournaledCritic(_Journaled[Critic]):
    """The critic, with its calls journaled."""

    def critique(self, body: Judge, call: CallContext) -> CritiqueStream:
        """Judge a solution."""
        stream = self._inner.critique(body, call)
        return JournaledCallStream(stream, "critic", self._journal, key_of("critique", body), call.deadline)


def key_of(verb: str, body: BaseModel) -> str:
    """A call's name within its solve."""
    asked = body.model_dump_json(exclude={"allowance"})
    return f"{verb}-{blake2b(asked.encode(), digest_size=12).hexdigest()}"
