"""Calls of the critic: a critique of one candidate at a depth, and its events."""

from orchestrator import estimate
from orchestrator.budget import Lease, Place, Want
from orchestrator.calls import Tries, sampling, settled
from orchestrator.candidates import Candidate
from orchestrator.ports import CallFailed, CritiqueStream
from orchestrator.solve import Solve
from services.contracts.calls import Judge
from services.contracts.critique import Critique, Depth, StepExplanation, StepLabel
from services.contracts.events import StepJudged
from services.errors import EngineFailed


async def critique(
    solve: Solve, candidate: Candidate, depth: Depth, explain: str, place: Place, *, reserved: bool = True
) -> tuple[Critique, int] | None:
    """Have the critic judge a candidate: its critique and the tokens it wrote; None where the critic is unavailable.

    Raises `LimitReached`. With `reserved` it takes the tokens that were set aside for judging this candidate.
    """
    completion = estimate.critique_completion(depth, len(candidate.steps), solve.critique_tokens)
    turns, steps = [turn.content for turn in solve.turns], [step.text for step in candidate.steps]
    bound, likely = estimate.critiquing(solve.critic.card, depth, turns, steps)
    own = solve.reserved.pop(candidate.id, None) if reserved else None
    tries = Tries(solve, "critic", Want(bound, likely, completion), place, own)
    while True:
        grant = await tries.lease()
        body = Judge(
            messages=solve.turns,
            steps=tuple(step.text for step in candidate.steps),
            depth=depth,
            explain="all" if explain == "all" else "first",
            unfinished=candidate.finish_reason == "cancelled",
            sampling=sampling(solve, "critic", place, tries.number).model_copy(
                update={"temperature": 0.0, "top_p": 1.0, "max_tokens": completion, "stop": ()}
            ),
            allowance=grant.lease.allowance,
        )
        try:
            return await _judge(solve, solve.critic.critique(body, solve.next_call()), grant.lease, candidate)
        except CallFailed as failure:
            try:
                tries.after(failure)
            except CallFailed:
                solve.critic_failed(failure)
                return None


async def _judge(solve: Solve, stream: CritiqueStream, lease: Lease, candidate: Candidate) -> tuple[Critique, int]:
    final: Critique | None = None
    pending: StepLabel | None = None
    async with settled(solve, "critic", lease, stream):
        async for event in stream:
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
    return final, 0 if stream.usage is None else stream.usage.completion_tokens


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
