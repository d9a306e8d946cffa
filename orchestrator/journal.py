"""The journal of a solve's calls: a call that is in it is not made again, its events and its usage are given back.

A call's key is its verb and a digest of what it asks. That holds the call's seed, which is a hash of its place in the
strategy, so the same place of the same solve finds its own record and no other. What a call may spend is not part of the
key: it depends on what runs beside it.
"""

from collections.abc import AsyncIterator
from hashlib import blake2b
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar, cast

import anyio
from pydantic import BaseModel, ConfigDict

from orchestrator.ports import Actor, CallFailed, CallId, Calling, Critic, Drafting, Judging
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

_EVENTS: dict[str, type[BaseModel]] = {
    kind.__name__: kind for kind in (StepEvent, CandidateEvent, LabelEvent, ExplanationEvent, CritiqueEvent)
}


class Record(BaseModel):
    """How a call went: its events, its usage, the error it ended with, and whether its strategy left it before its end."""

    model_config = ConfigDict(frozen=True)

    events: tuple[tuple[str, str], ...]
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


class JournaledCalling(Generic[EventT]):
    """A call that is looked up before it is made, and recorded when it ends; see `ports.Calling`."""

    def __init__(self, inner: Calling[EventT], role: Role, journal: Journal, key: str, deadline: float | None) -> None:
        self._inner = inner
        self._deadline = deadline
        self._role: Role = role
        self._journal = journal
        self._key = key
        self._found: Record | None = None
        self._events: list[tuple[str, str]] = []
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
                self._events.append((type(event).__name__, cast("BaseModel", event).model_dump_json()))
                yield event
        except CallFailed as failure:
            self._error = failure.cause.problem()
            raise
        self._ended = True

    async def _given_back(self, found: Record) -> AsyncIterator[EventT]:
        for name, data in found.events:
            yield cast("Any", _EVENTS[name].model_validate_json(data))
        if found.error is not None:
            raise CallFailed(self._role, error_of(found.error))
        if found.left:
            await anyio.sleep(LEFT_SECONDS)
            raise CallFailed(self._role, as_error(EngineFailed("this call was left before its end when it was first made")))


class JournaledActor:
    """The actor, whose calls are kept."""

    def __init__(self, inner: Actor, journal: Journal) -> None:
        self._inner = inner
        self._journal = journal

    @property
    def card(self) -> ModelCard | None:
        """The actor's."""
        return self._inner.card

    def draft(self, body: Draft, call: CallId) -> Drafting:
        """Write solutions."""
        return JournaledCalling(self._inner.draft(body, call), "actor", self._journal, key_of("draft", body), call.deadline)

    def refine(self, body: Refine, call: CallId) -> Drafting:
        """Write new solutions given a critique."""
        return JournaledCalling(
            self._inner.refine(body, call), "actor", self._journal, key_of("refine", body), call.deadline
        )


class JournaledCritic:
    """The critic, whose calls are kept."""

    def __init__(self, inner: Critic, journal: Journal) -> None:
        self._inner = inner
        self._journal = journal

    @property
    def card(self) -> ModelCard | None:
        """The critic's."""
        return self._inner.card

    def critique(self, body: Judge, call: CallId) -> Judging:
        """Judge a solution."""
        return JournaledCalling(
            self._inner.critique(body, call), "critic", self._journal, key_of("critique", body), call.deadline
        )


def key_of(verb: str, body: BaseModel) -> str:
    """A call's name within its solve."""
    asked = body.model_dump_json(exclude={"allowance"})
    return f"{verb}-{blake2b(asked.encode(), digest_size=12).hexdigest()}"
