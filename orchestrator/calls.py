"""One call of a model: lease, ask, follow its events, settle.

A call that fails before it produced anything is tried again from a new place (and so with a new seed) if its error allows.
A call that the role service refuses as too large for its allowance is leased once more with the prompt's exact length.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from orchestrator import estimate
from orchestrator.budget import Grant, Lease, Place, Want
from orchestrator.candidates import Candidate
from orchestrator.ports import CallFailed, Calling, Drafting, Judging
from orchestrator.solve import Solve
from services.contracts.calls import CandidateEvent, Draft, Judge, Refine, StepEvent
from services.contracts.critique import Critique, Depth, StepExplanation, StepLabel
from services.contracts.events import CandidateFinished, CandidateStarted, StepJudged, StepWritten
from services.contracts.sampling import Sampling
from services.contracts.solve import Role
from services.errors import BudgetTooSmall, EngineFailed

Each = Callable[[int, Candidate], Awaitable[None]]
"""Told the number of a sample within its call, and the candidate it became."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A candidate to be written."""

    id: str
    parent: str | None = None
    round: int = 0


@dataclass(slots=True)
class Tries:
    """How a call is repeated: after an engine's failure from a new place, after a refusal with the exact want."""

    solve: Solve
    role: Role
    want: Want
    place: Place
    reserved: Lease | None = None
    number: int = 0
    exact: bool = False

    async def lease(self) -> Grant:
        """The next try's lease."""
        reserved, self.reserved = self.reserved, None
        return await self.solve.ledger.lease(self.role, self.want, self.place, reserved)

    def after(self, failure: CallFailed) -> None:
        """Prepare the next try, or raise what the failure means."""
        cause = failure.cause
        if isinstance(cause, BudgetTooSmall) and cause.needed is not None:
            needed = int(cause.needed)
            if self.exact:
                raise self.solve.ledger.limit_of(self.role, needed) from failure
            self.want = replace(self.want, bound=needed, likely=needed)
            self.exact = True
            return
        self.number += 1
        if not isinstance(cause, EngineFailed) or self.number >= self.solve.call_tries:
            raise failure


async def draft(
    solve: Solve,
    slots: Sequence[Slot],
    judge: Want | None,
    place: Place,
    each: Each,
    temperature: float | None = None,
) -> list[Candidate | None]:
    """Write up to `len(slots)` first attempts in one call, fewer where the budget allows no more; None = one that failed.

    Raises `LimitReached`, and `CallFailed` when no try produced a candidate.
    """
    bound, likely = estimate.prompt(solve.actor.card, "draft", [turn.content for turn in solve.turns])
    want = Want(bound, likely, solve.sampling.max_tokens, n=len(slots), judge=judge)
    tries = Tries(solve, "actor", want, place)
    while True:
        grant = await tries.lease()
        taken = slots[: grant.lease.n]
        body = Draft(
            messages=solve.turns,
            n=len(taken),
            sampling=sampling(solve, "actor", place, tries.number, temperature),
            allowance=grant.lease.allowance,
            plain=solve.plain,
        )
        try:
            return await _write(solve, solve.actor.draft(body, solve.call_id()), grant, taken, each)
        except CallFailed as failure:
            tries.after(failure)


async def refine(
    solve: Solve,
    original: Candidate,
    slot: Slot,
    keep_steps: int,
    judge: Want | None,
    place: Place,
    temperature: float | None = None,
) -> Candidate | None:
    """Write a new attempt at `original` with its critique; None (and degraded) where the actor failed.

    Raises `LimitReached` also where the attempt and its verdict cannot both be leased.
    """
    bound, likely = estimate.refining(solve.actor.card, [turn.content for turn in solve.turns], original)
    want = Want(bound, likely, solve.sampling.max_tokens, judge=judge, strict=judge is not None)
    tries = Tries(solve, "actor", want, place)
    while True:
        grant = await tries.lease()
        body = Refine(
            messages=solve.turns,
            solution=original.text,
            critique=original.critique,
            keep_steps=keep_steps,
            sampling=sampling(solve, "actor", place, tries.number, temperature),
            allowance=grant.lease.allowance,
        )
        try:
            (written,) = await _write(solve, solve.actor.refine(body, solve.call_id()), grant, [slot], _nothing)
            return written  # noqa: TRY300 - what follows is the failure's path
        except CallFailed as failure:
            try:
                tries.after(failure)
            except CallFailed:
                await _finish_failed(solve, slot.id)
                solve.note("actor_failed", f"refining {original.id} failed: {failure.cause.detail}")
                return None


async def critique(solve: Solve, candidate: Candidate, depth: Depth, explain: str, place: Place) -> Critique | None:
    """Have the critic judge a candidate; None (and degraded) where the critic is unavailable. Raises `LimitReached`."""
    completion = estimate.critique_completion(depth, len(candidate.steps), solve.critique_tokens)
    turns, steps = [turn.content for turn in solve.turns], [step.text for step in candidate.steps]
    bound, likely = estimate.critiquing(solve.critic.card, depth, turns, steps)
    tries = Tries(solve, "critic", Want(bound, likely, completion), place, solve.reserved.pop(candidate.id, None))
    while True:
        grant = await tries.lease()
        body = Judge(
            messages=solve.turns,
            steps=tuple(step.text for step in candidate.steps),
            depth=depth,
            explain="all" if explain == "all" else "first",
            sampling=sampling(solve, "critic", place, tries.number).model_copy(
                update={"temperature": 0.0, "top_p": 1.0, "max_tokens": completion, "stop": ()}
            ),
            allowance=grant.lease.allowance,
        )
        try:
            return await _judge(solve, solve.critic.critique(body, solve.call_id()), grant.lease, candidate)
        except CallFailed as failure:
            try:
                tries.after(failure)
            except CallFailed:
                solve.critic_failed(failure)
                return None


def sampling(solve: Solve, role: Role, place: Place, attempt: int, temperature: float | None = None) -> Sampling:
    """The solve's sampling with the seed of this call, and its temperature where it has one of its own."""
    own = {} if temperature is None else {"temperature": temperature}
    return solve.sampling.model_copy(update={"seed": solve.seed_of(role, place, attempt), **own})


async def _nothing(_number: int, _candidate: Candidate) -> None:
    return


@asynccontextmanager
async def _settled(solve: Solve, role: Role, lease: Lease, calling: Calling[object]) -> AsyncGenerator[None]:
    """Settle the lease once the call has been left, however it ends."""
    with lease:
        try:
            async with calling:
                yield
        finally:
            solve.settle(role, lease, calling)


async def _write(solve: Solve, calling: Drafting, grant: Grant, slots: Sequence[Slot], each: Each) -> list[Candidate | None]:
    written: dict[int, Candidate] = {}
    solve.reserved.update(zip((slot.id for slot in slots), grant.reserved, strict=False))
    try:
        async with _settled(solve, "actor", grant.lease, calling):
            await _start(solve, slots)
            async for event in calling:
                if event.sample >= len(slots) or event.sample in written:
                    raise CallFailed("actor", EngineFailed("the actor wrote a sample that was not asked for"))
                if isinstance(event, StepEvent):
                    await solve.emit(StepWritten(candidate=slots[event.sample].id, index=event.index, text=event.text))
                else:
                    await _finish(solve, slots[event.sample], event, written, each)
        if not written:
            raise CallFailed("actor", EngineFailed("the actor ended without a candidate"))
    except CallFailed as failure:
        if not written:
            _release(solve, slots)
            raise
        solve.note("actor_failed", failure.cause.detail)
    for number, slot in enumerate(slots):
        if number not in written:
            await _finish_failed(solve, slot.id)
    return [written.get(number) for number in range(len(slots))]


async def _start(solve: Solve, slots: Sequence[Slot]) -> None:
    for slot in slots:
        if slot.id not in solve.unfinished:
            solve.unfinished[slot.id] = None
            await solve.emit(CandidateStarted(candidate=slot.id, parent=slot.parent, round=slot.round))


async def _finish(solve: Solve, slot: Slot, event: CandidateEvent, written: dict[int, Candidate], each: Each) -> None:
    if event.finish_reason in {"failed", "cancelled"}:
        solve.note("actor_failed", f"the writing of {slot.id} {event.finish_reason}")
        return
    candidate = Candidate(
        id=slot.id,
        parent=slot.parent,
        round=slot.round,
        text=event.text,
        steps=event.steps,
        answer=event.answer,
        finish_reason=event.finish_reason,
        completion_tokens=event.completion_tokens,
    )
    written[event.sample] = candidate
    solve.candidates[candidate.id] = candidate
    del solve.unfinished[candidate.id]
    await solve.emit(
        CandidateFinished(candidate=candidate.id, answer=candidate.answer, finish_reason=candidate.finish_reason)
    )
    await each(event.sample, candidate)


async def _finish_failed(solve: Solve, slot_id: str) -> None:
    _release(solve, [Slot(slot_id)])
    if slot_id in solve.unfinished:
        del solve.unfinished[slot_id]
        await solve.emit(CandidateFinished(candidate=slot_id, answer=None, finish_reason="failed"))


def _release(solve: Solve, slots: Sequence[Slot]) -> None:
    for slot in slots:
        lease = solve.reserved.pop(slot.id, None)
        if lease is not None:
            lease.release()


async def _judge(solve: Solve, calling: Judging, lease: Lease, candidate: Candidate) -> Critique:
    final: Critique | None = None
    pending: StepLabel | None = None
    async with _settled(solve, "critic", lease, calling):
        async for event in calling:
            if isinstance(event, Critique):
                final = event
            elif isinstance(event, StepExplanation):
                label = pending if pending and pending.index == event.index else None
                pending = None if label else pending
                await _tell(solve, candidate, event.index, label, event.text)
            else:
                await _tell_pending(solve, candidate, pending)
                pending = event
        await _tell_pending(solve, candidate, pending)
    if final is None:
        raise CallFailed("critic", EngineFailed("the critic ended without a critique"))
    judged = (label.index for label in (*final.labels, *final.explanations))
    if max(final.first_error or 0, *judged, 0) > len(candidate.steps):
        raise CallFailed("critic", EngineFailed("the critic judged steps that do not exist"))
    return final


async def _tell_pending(solve: Solve, candidate: Candidate, label: StepLabel | None) -> None:
    if label is not None:
        await _tell(solve, candidate, label.index, label, None)


async def _tell(solve: Solve, candidate: Candidate, index: int, label: StepLabel | None, words: str | None) -> None:
    known = label or next((x for x in (candidate.critique.labels if candidate.critique else ()) if x.index == index), None)
    await solve.emit(
        StepJudged(
            candidate=candidate.id,
            index=index,
            label=known.label if known else None,
            p_correct=known.p_correct if known else None,
            explanation=words,
        )
    )
