"""One solve as all of its strategy's branches share it: the problem, the budget, the candidates, the account, the events."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from hashlib import blake2b

import anyio

from orchestrator.budget import Lease, Ledger
from orchestrator.candidates import Candidate
from orchestrator.ports import Actor, CallFailed, CallStream, Critic, Equivalence
from services.call_context import CallContext
from services.contracts.events import AnySolveEvent, BudgetWarning, DegradedEvent
from services.contracts.problem import Message
from services.contracts.sampling import MAX_SEED, Sampling
from services.contracts.solve import Degraded, Role, RoleUsage
from services.contracts.usage import Usage
from services.errors import NotReady

WARN_AT = 0.8
"""Share of a limit at which a `budget.warning` is sent, once a limit."""

Emit = Callable[[AnySolveEvent], Awaitable[None]]


@dataclass(slots=True)
class AnswerNow:
    """Ends a solve with its incumbent: when that is asked for, or as soon afterwards as there is one."""

    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    asked: bool = False
    offered: bool = False

    def ask(self) -> None:
        """Somebody wants an answer."""
        self.asked = True
        self._end()

    def offer(self) -> None:
        """There is an incumbent."""
        self.offered = True
        self._end()

    def _end(self) -> None:
        if self.asked and self.offered:
            self.scope.cancel()


@dataclass(slots=True)
class Solve:
    """The state of one solve."""

    id: str
    caller: CallContext
    """The request that this solve answers; its calls inherit the tenant, the trace and the deadline."""
    turns: tuple[Message, ...]
    sampling: Sampling
    seed: int
    ledger: Ledger
    actor: Actor
    critic: Critic
    equivalence: Equivalence
    send: Emit
    plain: bool = False
    """Whether drafts are the actor's bare answers to the conversation."""
    answer_now: AnswerNow = field(default_factory=AnswerNow)
    critique_tokens: int = 512
    call_tries: int = 3
    candidates: dict[str, Candidate] = field(default_factory=dict[str, Candidate])
    unfinished: dict[str, None] = field(default_factory=dict[str, None])
    reserved: dict[str, Lease] = field(default_factory=dict[str, Lease])
    sampled: dict[str, int] = field(default_factory=dict[str, int])
    """Tokens that were sampled for a candidate that was written alone, cut short or not."""
    usage: dict[Role, RoleUsage] = field(default_factory=lambda: {"actor": RoleUsage(), "critic": RoleUsage()})
    degraded: list[Degraded] = field(default_factory=list[Degraded])
    critic_unavailable: bool = False
    unknown_usages: int = 0
    _unsent: list[AnySolveEvent] = field(default_factory=list[AnySolveEvent])
    _warned: set[str] = field(default_factory=set[str])
    _calls: int = 0

    async def emit(self, event: AnySolveEvent) -> None:
        """Send an event, after whatever was noted before it."""
        unsent, self._unsent = self._unsent, []
        for earlier in unsent:
            await self.send(earlier)
        await self.send(event)

    async def flush(self) -> None:
        """Send whatever was noted."""
        unsent, self._unsent = self._unsent, []
        for earlier in unsent:
            await self.send(earlier)

    def note(self, code: str, detail: str) -> None:
        """Record something that went wrong without failing the solve; the same thing is told once."""
        entry = Degraded(code=code, detail=detail)
        if entry not in self.degraded:
            self.degraded.append(entry)
            self._unsent.append(DegradedEvent(code=code, detail=detail))

    def critic_failed(self, failure: CallFailed) -> None:
        """Note that a judgement could not be had; a critic that cannot be reached is not asked again."""
        self.note("critic_unavailable", failure.cause.detail)
        if isinstance(failure.cause, NotReady):
            self.critic_unavailable = True

    def seed_of(self, *place: object) -> int:
        """The seed of a call: a hash of the solve's seed and the call's place, in [0, 2^31)."""
        digest = blake2b(repr((self.seed, *place)).encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") % (MAX_SEED + 1)

    def next_call(self) -> CallContext:
        """Return the context of the next call. Later calls of a solve have precedence: that solve ends sooner."""
        self._calls += 1
        call_id = f"{self.id}-{self._calls}"
        return replace(self.caller, session_id=self.id, call_id=call_id, priority=-self._calls)

    def settle(self, role: Role, lease: Lease, stream: CallStream[object]) -> None:
        """Charge what a call reported; charge it whole, and say so, where it never did."""
        if stream.usage is not None:
            lease.settle(stream.usage)
            self._account(role, stream.usage)
        elif stream.spent_nothing:
            lease.release()
        else:
            lease.forfeit()
            self.unknown_usages += 1
            self.note("usage_unknown", f"the {role} did not report what a call used; it was charged whole")
        self._warn()

    def release_reserved(self) -> None:
        """Give back reservations for judgements that will not be bought."""
        for lease in self.reserved.values():
            lease.release()
        self.reserved.clear()

    def _account(self, role: Role, usage: Usage) -> None:
        so_far = self.usage[role]
        total = so_far + RoleUsage(**usage.model_dump())
        self.usage[role] = total.model_copy(update={"calls": so_far.calls + 1})

    def _warn(self) -> None:
        for limit, share in self.ledger.shares().items():
            if share >= WARN_AT and limit not in self._warned:
                self._warned.add(limit)
                self._unsent.append(BudgetWarning(limit=limit, share=share))
