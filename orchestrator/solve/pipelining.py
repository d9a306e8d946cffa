"""Pipelining: the critic reads the first steps of a solution while the actor still writes the next ones.

Every `every` steps, the steps so far are labelled. With `abort`, a step that is confidently wrong ends the writing in the
engine at once, and the candidate is cut to the steps that were read. Which steps are read depends on the solution alone, one
check after the other; how far the actor has come in the meantime decides the cost and never the result.

A check is optional: it is skipped if it does not fit beside the running calls, and nothing is aborted that could not be
refined afterwards.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from orchestrator.budget import Charge, LimitReached, Place
from orchestrator.candidates import Candidate
from orchestrator.ports import CallFailed
from orchestrator.solve import critic_calls, estimates
from orchestrator.solve.actor_calls import OnStep, PendingCandidate
from orchestrator.solve.state import Solve
from services.contracts.calls import WrittenStep
from services.contracts.critique import Depth
from services.contracts.events import CandidateFinished

MAX_CHECKS = 10_000
"""More checks than any solution has steps, so that the queue never blocks the writer."""

DEPTH: Depth = "labels"
"""The depth of a check."""


@dataclass(frozen=True, slots=True)
class PipelineOptions:
    """The steps between two checks, the confidence that makes an error certain, and whether it ends the writing."""

    every: int
    sure: float
    abort: bool


Write = Callable[[OnStep], Awaitable[Candidate | None]]
"""Writes the candidate, and calls back on every step."""


@dataclass(slots=True)
class PipelinedDraft:
    """One candidate that is read while it is written."""

    solve: Solve
    pending: PendingCandidate
    options: PipelineOptions
    place: Place
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    steps: tuple[WrittenStep, ...] = ()
    candidate: Candidate | None = None
    latest: Candidate | None = None
    flawed: bool = False
    stopped: Exception | None = None

    async def run(self, write: Write) -> Candidate | None:
        """Return the candidate, with its critique if it was read to its end, or cut if it was wrong. Raises as `write`."""
        send, receive = anyio.create_memory_object_stream[tuple[WrittenStep, ...]](MAX_CHECKS)
        async with anyio.create_task_group() as group:
            group.start_soon(self._check_all, receive)
            with send, self.scope:
                await self._write(write, send)
        if self.stopped is not None and not self.flawed:
            raise self.stopped
        if self.latest is None or not (self.flawed or self._is_whole(self.latest)):
            return self.candidate
        if self.flawed or self.candidate is None or self.latest.critique is None:
            candidate = self.latest
        else:
            candidate = self.candidate.judged(self.latest.critique)
        candidate = replace(candidate, completion_tokens=self.solve.candidates.sampled(candidate))
        if self.solve.candidates.finish(candidate):
            await self.solve.emit(CandidateFinished(candidate=candidate.id, answer=None, finish_reason="cancelled"))
        return candidate

    async def _write(self, write: Write, send: MemoryObjectSendStream[tuple[WrittenStep, ...]]) -> None:
        async def on_step(_number: int, step: WrittenStep) -> None:
            restarted = step.index == 1
            self.steps = (step,) if restarted else (*self.steps, step)
            if not step.index % self.options.every:
                send.send_nowait(self.steps)

        try:
            self.candidate = await write(on_step)
        except (LimitReached, CallFailed) as error:
            self.stopped = error

    async def _check_all(self, receive: MemoryObjectReceiveStream[tuple[WrittenStep, ...]]) -> None:
        """Make check after check, until one finds an error or cannot be made."""
        available = True
        async with receive:
            async for steps in receive:
                if available and not self.flawed:
                    available = await self._check(steps)

    async def _check(self, steps: tuple[WrittenStep, ...]) -> bool:
        """Check the steps so far. Return False if no further check can be made."""
        text = "\n".join(step.text for step in steps)
        part = Candidate(self.pending.id, self.pending.parent, self.pending.round, text, steps, None, "cancelled")
        try:
            self.solve.ledger.require(actor=Charge(), critic=estimates.explanation_charge(self.solve, part))
            place = (*self.place, len(steps))
            judgement = await critic_calls.critique(self.solve, part, DEPTH, "first", place, use_reservation=False)
        except LimitReached:
            return False
        if judgement is None or steps != self.steps[: len(steps)]:  # the writing had to start again
            return judgement is not None
        critique, _ = judgement
        if critique.unparsable:
            return True
        self.latest = part.judged(critique)
        p = next((label.p_correct for label in critique.labels if label.index == critique.first_error), None)
        if self.options.abort and p is not None and 1.0 - p >= self.options.sure and self._affordable(part):
            self.latest = part.judged(critique.model_copy(update={"verdict": "incorrect", "p_correct": p}))
            self.flawed = True
            self.scope.cancel()
        return True

    def _affordable(self, part: Candidate) -> bool:
        """Return whether an aborted candidate could be explained, refined and judged."""
        try:
            estimates.require_round(self.solve, part, judge=DEPTH)
        except LimitReached:
            return False
        return True

    def _is_whole(self, part: Candidate) -> bool:
        return self.candidate is not None and len(part.steps) == len(self.candidate.steps)
