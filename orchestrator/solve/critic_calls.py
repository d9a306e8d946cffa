"""Calls of the critic: a critique of one candidate at a depth, and its events."""

from orchestrator.budget import CallSize, Grant, Lease, Place
from orchestrator.candidates import Candidate
from orchestrator.ports import CallFailed, CritiqueStream
from orchestrator.solve import estimates
from orchestrator.solve.leased_call import LeasedCall, settled
from orchestrator.solve.state import Solve
from services.contracts.calls import CritiqueRequest
from services.contracts.critique import Critique, Depth, StepExplanation, StepLabel
from services.contracts.events import StepJudged
from services.contracts.sampling import Sampling
from services.errors import EngineFailed

GREEDY = {"temperature": 0.0, "top_p": 1.0, "stop": ()}
"""The sampling of every critique."""


async def critique(
    solve: Solve, candidate: Candidate, depth: Depth, explain: str, place: Place, *, use_reservation: bool = True
) -> tuple[Critique, int] | None:
    """Return the critique of a candidate and the tokens the critic wrote; None (degraded) if the critic is unavailable.

    Raises `LimitReached`. With `use_reservation`, the call takes the tokens that were reserved for judging this candidate.
    """
    steps = tuple(step.text for step in candidate.steps)
    max_completion = estimates.critique_completion(depth, len(steps), solve.critique_tokens)
    bound, expected = estimates.critique_prompt(solve, depth, steps)
    reserved = solve.candidates.take_reservation(candidate.id) if use_reservation else None

    async def send(grant: Grant, sampling: Sampling) -> tuple[Critique, int]:
        body = CritiqueRequest(
            messages=solve.messages,
            steps=steps,
            depth=depth,
            explain="all" if explain == "all" else "first",
            unfinished=candidate.finish_reason == "cancelled",
            sampling=sampling.model_copy(update={**GREEDY, "max_tokens": max_completion}),
            allowance=grant.lease.allowance,
        )
        return await _read(solve, solve.critic.critique(body, solve.next_call()), grant.lease, candidate)

    try:
        return await LeasedCall(solve, "critic", CallSize(bound, expected, max_completion), place, reserved).run(send)
    except CallFailed as failure:
        solve.critic_failed(failure)
        return None


async def _read(solve: Solve, stream: CritiqueStream, lease: Lease, candidate: Candidate) -> tuple[Critique, int]:
    final: Critique | None = None
    pending: StepLabel | None = None
    async with settled(solve, "critic", lease, stream):
        async for event in stream:
            if isinstance(event, Critique):
                final = event
            elif isinstance(event, StepExplanation):
                label = pending if pending and pending.index == event.index else None
                pending = None if label else pending
                await _emit(solve, candidate, event.index, label, event.text)
            else:
                await _emit_pending(solve, candidate, pending)
                pending = event
        await _emit_pending(solve, candidate, pending)
    if final is None:
        raise CallFailed("critic", EngineFailed("the critic ended without a critique"))
    judged = (label.index for label in (*final.labels, *final.explanations))
    if max(final.first_error or 0, *judged, 0) > len(candidate.steps):
        raise CallFailed("critic", EngineFailed("the critic judged steps that do not exist"))
    return final, 0 if stream.usage is None else stream.usage.completion_tokens


async def _emit_pending(solve: Solve, candidate: Candidate, label: StepLabel | None) -> None:
    if label is not None:
        await _emit(solve, candidate, label.index, label, None)


async def _emit(solve: Solve, candidate: Candidate, index: int, label: StepLabel | None, explanation: str | None) -> None:
    """Emit a judged step, with the label of an earlier critique if this one has none yet."""
    earlier = candidate.critique.labels if candidate.critique else ()
    label = label or next((entry for entry in earlier if entry.index == index), None)
    await solve.emit(
        StepJudged(
            candidate=candidate.id,
            index=index,
            label=label.label if label else None,
            p_correct=label.p_correct if label else None,
            explanation=explanation,
        )
    )
