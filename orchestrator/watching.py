"""Pipelining: the critic reads a solution's first steps while the actor still writes the next ones.

Every `every` steps the steps so far are labelled. With `abort`, a step that is wrong with confidence ends the writing in the
engine at once, and the candidate is cut to the steps that were read. The steps that are read are a function of the solution
alone, one check after the other; how far the actor had come meanwhile decides what it costs and never what comes of it.

A check is a luxury: it is skipped where it does not fit beside what runs, and nothing is aborted that could not be refined.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from orchestrator import judging, rounds
from orchestrator.budget import Charge, LimitReached, Place
from orchestrator.candidates import Candidate
from orchestrator.ports import CallFailed
from orchestrator.solve import Solve
from orchestrator.writing import Seen, Slot
from services.contracts.calls import WrittenStep
from services.contracts.critique import Critique, Depth
from services.contracts.events import CandidateFinished

CHECKS = 10_000
"""More checks than any solution has steps; the queue never blocks the writer."""


@dataclass(frozen=True, slots=True)
class Watch:
    """When a solution is read while it is written, and how sure the critic must be of an error for the writing to end."""

    every: int
    sure: float
    abort: bool


Write = Callable[[Seen], Awaitable[Candidate | None]]
"""Writes the candidate, and tells of every step."""


@dataclass(slots=True)
class Watcher:
    """One candidate being written and read."""

    solve: Solve
    slot: Slot
    watch: Watch
    place: Place
    writing: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    steps: tuple[WrittenStep, ...] = ()
    candidate: Candidate | None = None
    latest: Candidate | None = None
    flawed: bool = False
    stopped: Exception | None = None

    async def follow(self, write: Write) -> Candidate | None:
        """The candidate, with its critique if it was read to its end; cut short if it was wrong. Raises as `write`."""
        send, receive = anyio.create_memory_object_stream[tuple[WrittenStep, ...]](CHECKS)
        async with anyio.create_task_group() as group:
            group.start_soon(self._read, receive)
            with send, self.writing:
                await self._write(write, send)
        if self.stopped is not None and not self.flawed:
            raise self.stopped
        if self.latest is None or not (self.flawed or self._whole(self.latest)):
            return self.candidate
        found = self.latest if self.flawed or self.candidate is None else self._judged(self.candidate, self.latest)
        found = replace(found, completion_tokens=self.solve.sampled.get(found.id, found.completion_tokens))
        self.solve.candidates[found.id] = found
        if self.solve.unfinished.pop(found.id, self) is None:
            await self.solve.emit(CandidateFinished(candidate=found.id, answer=None, finish_reason="cancelled"))
        return found

    async def _write(self, write: Write, send: MemoryObjectSendStream[tuple[WrittenStep, ...]]) -> None:
        async def seen(_number: int, step: WrittenStep) -> None:
            again = step.index == 1
            self.steps = (step,) if again else (*self.steps, step)
            if not step.index % self.watch.every:
                send.send_nowait(self.steps)

        try:
            self.candidate = await write(seen)
        except (LimitReached, CallFailed) as error:
            self.stopped = error

    async def _read(self, receive: MemoryObjectReceiveStream[tuple[WrittenStep, ...]]) -> None:
        """Check after check, until one finds an error or cannot be had."""
        going = True
        async with receive:
            async for steps in receive:
                if going and not self.flawed:
                    going = await self._check(steps)

    async def _check(self, steps: tuple[WrittenStep, ...]) -> bool:
        text = "\n".join(step.text for step in steps)
        part = Candidate(self.slot.id, self.slot.parent, self.slot.round, text, steps, None, "cancelled")
        try:
            self.solve.ledger.require(actor=Charge(), critic=rounds.explanation(self.solve, part))
            judged = await judging.critique(
                self.solve, part, self._depth, "first", (*self.place, len(steps)), reserved=False
            )
        except LimitReached:
            return False
        if judged is None or steps != self.steps[: len(steps)]:  # the writing had to begin anew
            return judged is not None
        found, _ = judged
        if found.unparsable:
            return True
        self.latest = part.judged(found)
        p = wrong_at(found)
        if self.watch.abort and p is not None and 1.0 - p >= self.watch.sure and self._affordable(part):
            self.latest = part.judged(found.model_copy(update={"verdict": "incorrect", "p_correct": p}))
            self.flawed = True
            self.writing.cancel()
        return True

    @property
    def _depth(self) -> Depth:
        return "labels"

    def _affordable(self, part: Candidate) -> bool:
        """Whether what was aborted could be explained, refined and judged."""
        try:
            rounds.require(self.solve, part, judge=self._depth)
        except LimitReached:
            return False
        return True

    def _whole(self, part: Candidate) -> bool:
        """Whether what was read is the whole solution."""
        return self.candidate is not None and len(part.steps) == len(self.candidate.steps)

    @staticmethod
    def _judged(candidate: Candidate, part: Candidate) -> Candidate:
        return candidate if part.critique is None else candidate.judged(part.critique)


def wrong_at(critique: Critique) -> float | None:
    """p_correct of the first step that is labelled wrong; None where there is none, or no probability."""
    return next((label.p_correct for label in critique.labels if label.index == critique.first_error), None)
