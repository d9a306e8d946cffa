"""Calls of the actor, a draft of several samples or a refinement: their events, and the candidates they become."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from orchestrator.budget import CallSize, Grant, Place
from orchestrator.candidates import Candidate
from orchestrator.ports import CallFailed, DraftStream
from orchestrator.solve import estimates
from orchestrator.solve.leased_call import LeasedCall, settled
from orchestrator.solve.state import Solve
from services.contracts.calls import CandidateEvent, DraftRequest, RefineRequest, StepEvent, WrittenStep
from services.contracts.events import CandidateFinished, CandidateStarted, StepWritten
from services.contracts.sampling import Sampling
from services.errors import EngineFailed

OnCandidate = Callable[[int, Candidate], Awaitable[None]]
"""Called with the number of a sample within its call and the candidate it became."""

OnStep = Callable[[int, WrittenStep], Awaitable[None]]
"""Called with the number of a sample within its call and a step that was just completed."""


@dataclass(frozen=True, slots=True)
class PendingCandidate:
    """A candidate that is to be written."""

    id: str
    parent: str | None = None
    round: int = 0


async def ignore_progress(_number: int, _item: object) -> None:
    """Do nothing with a step or a candidate of a call."""


@dataclass(frozen=True, slots=True)
class DraftOptions:
    """Options of a call of the actor: temperature and length, if not the solve's, and callbacks for its progress."""

    temperature: float | None = None
    max_tokens: int | None = None
    on_candidate: OnCandidate = ignore_progress
    on_step: OnStep = ignore_progress

    def max_completion(self, solve: Solve) -> int:
        """Return the most tokens of a completion."""
        return min(solve.sampling.max_tokens, self.max_tokens or solve.sampling.max_tokens)

    def apply(self, sampling: Sampling, solve: Solve) -> Sampling:
        """Return the sampling at this temperature and length."""
        temperature = sampling.temperature if self.temperature is None else self.temperature
        return sampling.model_copy(update={"temperature": temperature, "max_tokens": self.max_completion(solve)})


async def draft(
    solve: Solve, pending: Sequence[PendingCandidate], judgement: CallSize | None, place: Place, options: DraftOptions
) -> list[Candidate | None]:
    """Write up to `len(pending)` first attempts in one call, fewer where the budget allows no more; None = one that failed.

    Raises `LimitReached`, and `CallFailed` if no attempt of the call produced a candidate.
    """
    bound, expected = estimates.prompt_size(solve.actor.card, "draft", solve.texts)
    size = CallSize(bound, expected, options.max_completion(solve), n=len(pending), judgement=judgement)

    async def send(grant: Grant, sampling: Sampling) -> list[Candidate | None]:
        body = DraftRequest(
            messages=solve.messages,
            n=grant.lease.n,
            sampling=options.apply(sampling, solve),
            allowance=grant.lease.allowance,
            plain=solve.plain,
        )
        return await _write(solve, solve.actor.draft(body, solve.next_call()), grant, pending, options)

    return await LeasedCall(solve, "actor", size, place).run(send)


async def refine(
    solve: Solve,
    original: Candidate,
    pending: Sequence[PendingCandidate],
    keep_steps: int,
    judgement: CallSize | None,
    place: Place,
    options: DraftOptions,
) -> list[Candidate | None]:
    """Write new attempts at `original` with its critique in one call; None (and degraded) for those that failed.

    Raises `LimitReached`, also if an attempt of the length of what it replaces and its verdict cannot both be leased.
    """
    bound, expected = estimates.refine_prompt(solve, original)
    longest = options.max_completion(solve)
    size = CallSize(
        bound,
        expected,
        longest,
        n=len(pending),
        judgement=judgement,
        require_judgement=True,
        min_completion=min(longest, max(1, estimates.length(original, keep_steps))),
    )

    async def send(grant: Grant, sampling: Sampling) -> list[Candidate | None]:
        body = RefineRequest(
            messages=solve.messages,
            solution=original.text,
            critique=original.critique,
            keep_steps=keep_steps,
            n=grant.lease.n,
            sampling=options.apply(sampling, solve),
            allowance=grant.lease.allowance,
        )
        return await _write(solve, solve.actor.refine(body, solve.next_call()), grant, pending, options)

    try:
        return await LeasedCall(solve, "actor", size, place).run(send)
    except CallFailed as failure:
        for candidate in pending:
            await _fail(solve, candidate)
        solve.degrade("actor_failed", f"refining {original.id} failed: {failure.cause.detail}")
        return [None] * len(pending)


async def _write(
    solve: Solve, stream: DraftStream, grant: Grant, pending: Sequence[PendingCandidate], options: DraftOptions
) -> list[Candidate | None]:
    written: dict[int, Candidate] = {}
    pending = pending[: grant.lease.n]
    ids = [candidate.id for candidate in pending]
    solve.candidates.reserve(ids, grant.reserved)
    try:
        async with settled(solve, "actor", grant.lease, stream):
            await _start(solve, pending)
            async for event in stream:
                if event.sample >= len(pending) or event.sample in written:
                    raise CallFailed("actor", EngineFailed("the actor wrote a sample that was not requested"))
                if isinstance(event, StepEvent):
                    await solve.emit(StepWritten(candidate=ids[event.sample], index=event.index, text=event.text))
                    await options.on_step(event.sample, WrittenStep(index=event.index, text=event.text))
                else:
                    await _finish(solve, pending[event.sample], event, written, options)
        if not written:
            raise CallFailed("actor", EngineFailed("the actor ended without a candidate"))
    except CallFailed as failure:
        if not written:
            solve.candidates.release(ids)
            raise
        solve.degrade("actor_failed", failure.cause.detail)
    finally:
        if len(pending) == 1 and stream.usage is not None:
            solve.candidates.record_sampled(ids[0], stream.usage.completion_tokens)
    for number, candidate in enumerate(pending):
        if number not in written:
            await _fail(solve, candidate)
    return [written.get(number) for number in range(len(pending))]


async def _start(solve: Solve, pending: Sequence[PendingCandidate]) -> None:
    for candidate in pending:
        if solve.candidates.start(candidate.id):
            await solve.emit(CandidateStarted(candidate=candidate.id, parent=candidate.parent, round=candidate.round))


async def _finish(
    solve: Solve, pending: PendingCandidate, event: CandidateEvent, written: dict[int, Candidate], options: DraftOptions
) -> None:
    if event.finish_reason in {"failed", "cancelled"}:
        solve.degrade("actor_failed", f"the writing of {pending.id} {event.finish_reason}")
        return
    candidate = Candidate(
        id=pending.id,
        parent=pending.parent,
        round=pending.round,
        text=event.text,
        steps=event.steps,
        answer=event.answer,
        finish_reason=event.finish_reason,
        completion_tokens=event.completion_tokens,
    )
    written[event.sample] = candidate
    solve.candidates.finish(candidate)
    await solve.emit(
        CandidateFinished(candidate=candidate.id, answer=candidate.answer, finish_reason=candidate.finish_reason)
    )
    await options.on_candidate(event.sample, candidate)


async def _fail(solve: Solve, pending: PendingCandidate) -> None:
    if solve.candidates.fail(pending.id):
        await solve.emit(CandidateFinished(candidate=pending.id, answer=None, finish_reason="failed"))
