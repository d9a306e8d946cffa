"""The state of one solve, shared by all branches of its strategy: messages, budget, candidates, account and events."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Generic, TypeVar

import anyio

from orchestrator.budget import Lease, Ledger, LimitReached
from orchestrator.candidates import Candidate
from orchestrator.ports import Actor, CallFailed, CallStream, Critic, Equivalence
from orchestrator.solve.candidate_register import CandidateRegister
from services.call_context import CallContext
from services.contracts.events import AnySolveEvent, BudgetWarning, DegradedEvent
from services.contracts.messages import Message
from services.contracts.sampling import MAX_SEED, Sampling
from services.contracts.solve import Degraded, Role, RoleUsage, StopReason
from services.errors import NotReady

WARN_AT = 0.8
"""The share of a limit at which a `budget.warning` is sent, once per limit."""

ResultT = TypeVar("ResultT")

Emit = Callable[[AnySolveEvent], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The candidate that a strategy chose, and why it ended. `confidence` is null where nothing judged the answer."""

    candidate: Candidate
    stop_reason: StopReason
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class Attempt(Generic[ResultT]):
    """The end of a part of a strategy: its result, or the limit or failed call that stopped it."""

    result: ResultT | None
    stopped: LimitReached | CallFailed | None = None


@dataclass(slots=True)
class AnswerNow:
    """Ends a solve early with its incumbent: on request, or as soon after the request as there is an incumbent."""

    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    requested: bool = False
    answerable: bool = False

    def request(self) -> None:
        """Request an answer."""
        self.requested = True
        self._end()

    def offer(self) -> None:
        """Record that there is an incumbent."""
        self.answerable = True
        self._end()

    def _end(self) -> None:
        if self.requested and self.answerable:
            self.scope.cancel()


@dataclass(slots=True)
class Solve:
    """The state of one solve."""

    id: str
    caller: CallContext
    """The request that is being answered. Calls inherit its tenant, trace and deadline."""
    messages: tuple[Message, ...]
    sampling: Sampling
    seed: int
    ledger: Ledger
    actor: Actor
    critic: Critic
    equivalence: Equivalence
    send: Emit
    plain: bool = False
    """True if drafts are the actor's plain answers to the conversation, without the step prompt."""
    answer_now: AnswerNow = field(default_factory=AnswerNow)
    critique_tokens: int = 512
    call_attempts: int = 3
    candidates: CandidateRegister = field(default_factory=CandidateRegister)
    usage: dict[Role, RoleUsage] = field(default_factory=lambda: {"actor": RoleUsage(), "critic": RoleUsage()})
    degraded: list[Degraded] = field(default_factory=list[Degraded])
    critic_unavailable: bool = False
    unknown_usages: int = 0
    _pending: list[AnySolveEvent] = field(default_factory=list[AnySolveEvent])
    _warned: set[str] = field(default_factory=set[str])
    _calls: int = 0

    @property
    def texts(self) -> list[str]:
        """The texts of the messages."""
        return [message.content for message in self.messages]

    async def emit(self, event: AnySolveEvent) -> None:
        """Send an event, after the pending ones."""
        await self.flush()
        await self.send(event)

    async def flush(self) -> None:
        """Send the pending events."""
        pending, self._pending = self._pending, []
        for event in pending:
            await self.send(event)

    def degrade(self, code: str, detail: str) -> None:
        """Record something that went wrong without failing the solve; a repetition is recorded once."""
        entry = Degraded(code=code, detail=detail)
        if entry not in self.degraded:
            self.degraded.append(entry)
            self._pending.append(DegradedEvent(code=code, detail=detail))

    def critic_failed(self, failure: CallFailed) -> None:
        """Record that a judgement failed. A critic that cannot be reached is not called again in this solve."""
        self.degrade("critic_unavailable", failure.cause.detail)
        if isinstance(failure.cause, NotReady):
            self.critic_unavailable = True

    def seed_of(self, *place: object) -> int:
        """Return the seed of a call: a hash of the solve's seed and the call's place, in [0, 2^31)."""
        digest = blake2b(repr((self.seed, *place)).encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") % (MAX_SEED + 1)

    def next_call(self) -> CallContext:
        """Return the context of the next call. Later calls have a higher priority, since the solve is closer to its end."""
        self._calls += 1
        call_id = f"{self.id}-{self._calls}"
        return replace(self.caller, session_id=self.id, call_id=call_id, priority=-self._calls)

    def settle(self, role: Role, lease: Lease, stream: CallStream[object]) -> None:
        """Charge the reported usage of a call, or its whole lease (degraded) if the usage never arrived."""
        if stream.usage is not None:
            lease.settle(stream.usage)
            total = self.usage[role] + RoleUsage(**stream.usage.model_dump())
            self.usage[role] = total.model_copy(update={"calls": self.usage[role].calls + 1})
        elif stream.spent_nothing:
            lease.release()
        else:
            lease.forfeit()
            self.unknown_usages += 1
            self.degrade("usage_unknown", f"the {role} did not report the usage of a call, which was charged in full")
        self._warn()

    def _warn(self) -> None:
        for limit, share in self.ledger.shares().items():
            if share >= WARN_AT and limit not in self._warned:
                self._warned.add(limit)
                self._pending.append(BudgetWarning(limit=limit, share=share))
