"""Calls of the actor: a draft of several samples, a refinement; their events, and the candidates they become."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from orchestrator import estimate
from orchestrator.budget import Grant, Place, Want
from orchestrator.calls import Tries, sampling, settled
from orchestrator.candidates import Candidate
from orchestrator.ports import CallFailed, DraftStream
from orchestrator.solve import Solve
from services.contracts.calls import CandidateEvent, Draft, Refine, StepEvent, WrittenStep
from services.contracts.events import CandidateFinished, CandidateStarted, StepWritten
from services.contracts.sampling import Sampling
from services.errors import EngineFailed

Each = Callable[[int, Candidate], Awaitable[None]]
"""Told the number of a sample within its call, and the candidate it became."""


Seen = Callable[[int, WrittenStep], Awaitable[None]]
"""Told the number of a sample within its call, and a step that it has just completed."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A candidate to be written."""

    id: str
    parent: str | None = None
    round: int = 0


async def _no_candidate(_number: int, _candidate: Candidate) -> None:
    return


async def _no_step(_number: int, _step: WrittenStep) -> None:
    return


@dataclass(frozen=True, slots=True)
class Manner:
    """How the actor writes in one call: at what temperature and length, if not the solve's, and who is told as it writes."""

    temperature: float | None = None
    max_tokens: int | None = None
    each: Each = _no_candidate
    seen: Seen = _no_step

    def completion(self, solve: Solve) -> int:
        """Most tokens of a completion."""
        return min(solve.sampling.max_tokens, self.max_tokens or solve.sampling.max_tokens)

    def sampling(self, solve: Solve, place: Place, attempt: int) -> Sampling:
        """The solve's sampling with the seed of this call, at this temperature and length."""
        given = sampling(solve, "actor", place, attempt)
        temperature = given.temperature if self.temperature is None else self.temperature
        return given.model_copy(update={"temperature": temperature, "max_tokens": self.completion(solve)})


async def draft(
    solve: Solve, slots: Sequence[Slot], judge: Want | None, place: Place, manner: Manner
) -> list[Candidate | None]:
    """Write up to `len(slots)` first attempts in one call, fewer where the budget allows no more; None = one that failed.

    Raises `LimitReached`, and `CallFailed` when no try produced a candidate.
    """
    bound, likely = estimate.prompt(solve.actor.card, "draft", [turn.content for turn in solve.turns])
    want = Want(bound, likely, manner.completion(solve), n=len(slots), judge=judge)
    tries = Tries(solve, "actor", want, place)
    while True:
        grant = await tries.lease()
        taken = slots[: grant.lease.n]
        body = Draft(
            messages=solve.turns,
            n=len(taken),
            sampling=manner.sampling(solve, place, tries.number),
            allowance=grant.lease.allowance,
            plain=solve.plain,
        )
        try:
            return await _write(solve, solve.actor.draft(body, solve.next_call()), grant, taken, manner)
        except CallFailed as failure:
            tries.after(failure)


async def refine(
    solve: Solve,
    original: Candidate,
    slots: Sequence[Slot],
    keep_steps: int,
    judge: Want | None,
    place: Place,
    manner: Manner,
) -> list[Candidate | None]:
    """Write new attempts at `original` with its critique in one call; None (and degraded) for those that failed.

    Raises `LimitReached` also where an attempt as long as what it replaces and its verdict cannot both be leased.
    """
    bound, likely = estimate.refining(solve.actor.card, [turn.content for turn in solve.turns], original)
    completion = manner.completion(solve)
    least = min(completion, max(1, estimate.length(original, keep_steps)))
    want = Want(bound, likely, completion, n=len(slots), judge=judge, strict=True, least=least)
    tries = Tries(solve, "actor", want, place)
    while True:
        grant = await tries.lease()
        taken = slots[: grant.lease.n]
        body = Refine(
            messages=solve.turns,
            solution=original.text,
            critique=original.critique,
            keep_steps=keep_steps,
            n=len(taken),
            sampling=manner.sampling(solve, place, tries.number),
            allowance=grant.lease.allowance,
        )
        try:
            return await _write(solve, solve.actor.refine(body, solve.next_call()), grant, taken, manner)
        except CallFailed as failure:
            try:
                tries.after(failure)
            except CallFailed:
                for slot in taken:
                    await _finish_failed(solve, slot.id)
                solve.note("actor_failed", f"refining {original.id} failed: {failure.cause.detail}")
                return [None] * len(taken)


async def _write(
    solve: Solve, stream: DraftStream, grant: Grant, slots: Sequence[Slot], manner: Manner
) -> list[Candidate | None]:
    written: dict[int, Candidate] = {}
    solve.reserved.update(zip((slot.id for slot in slots), grant.reserved, strict=False))
    try:
        async with settled(solve, "actor", grant.lease, stream):
            await _start(solve, slots)
            async for event in stream:
                if event.sample >= len(slots) or event.sample in written:
                    raise CallFailed("actor", EngineFailed("the actor wrote a sample that was not asked for"))
                if isinstance(event, StepEvent):
                    await solve.emit(StepWritten(candidate=slots[event.sample].id, index=event.index, text=event.text))
                    await manner.seen(event.sample, WrittenStep(index=event.index, text=event.text))
                else:
                    await _finish(solve, slots[event.sample], event, written, manner.each)
        if not written:
            raise CallFailed("actor", EngineFailed("the actor ended without a candidate"))
    except CallFailed as failure:
        if not written:
            _release(solve, slots)
            raise
        solve.note("actor_failed", failure.cause.detail)
    finally:
        if len(slots) == 1 and stream.usage is not None:
            solve.sampled[slots[0].id] = stream.usage.completion_tokens
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
