"""Runs jobs: takes one, gives its strategy what its journal holds, records what is new, and ends it.

A worker that takes over runs the strategy again from its beginning. Calls that are in the journal cost nothing and are told
of again, so events that are in the log already are left out; what comes after them is added.
"""

import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import anyio
import structlog
from docket import Docket, Worker

from orchestrator.jobs.store import Fenced, JobStore, Status, Taken
from orchestrator.journal import Record
from orchestrator.runner import Run, Runner, stream
from orchestrator.solve import AnswerNow
from services.contracts.errors import Problem
from services.contracts.events import SolveEvent, SolveFailed, SolveFinished, SolveStarted
from services.errors import Cancelled, CounterpointError
from services.identity import CallContext, new_id
from services.problems import as_error

log = structlog.get_logger("jobs")

TASK = "run_job"
CONCURRENCY = 64
REDELIVERY = timedelta(seconds=3)
"""After how long without a sign of life a worker's jobs are another's."""


@dataclass(slots=True)
class Log:
    """A job's events: those of an earlier worker are known, and only what is not among them is added."""

    store: JobStore
    taken: Taken
    known: Counter[str] = field(default_factory=Counter[str])
    last: int = 0
    ended: bool = False

    def __post_init__(self) -> None:
        self.known.update(_content(event) for event in self.taken.events)
        self.last = max((event.seq for event in self.taken.events), default=0)

    async def add(self, event: SolveEvent) -> None:
        """Add an event under the next number, unless it is known. Raises `Fenced`."""
        content = _content(event)
        if self.known[content]:
            self.known[content] -= 1
            return
        self.last += 1
        numbered = event.model_copy(update={"seq": self.last})
        if isinstance(event, (SolveFinished, SolveFailed)):
            status: Status = "succeeded" if isinstance(event, SolveFinished) else "failed"
            if isinstance(event, SolveFailed) and event.code == Cancelled.code:
                status = "cancelled"
            await self.store.end(self.taken, status, numbered)
            self.ended = True
        else:
            await self.store.append(self.taken, numbered)


@dataclass(slots=True)
class StoredJournal:
    """A job's journal in the store. Once `closing`, a call that is left was left by this process, and is not recorded."""

    store: JobStore
    taken: Taken
    workshop: "Workshop"

    async def find(self, key: str) -> Record | None:
        """What was recorded when the job was taken."""
        return self.taken.records.get(key)

    async def keep(self, key: str, record: Record) -> None:
        """Record a call. Raises `Fenced`."""
        if not (record.left and self.workshop.closing):
            await self.store.keep(self.taken, key, record)


@dataclass(slots=True)
class Workshop:
    """Runs the jobs that are submitted to a docket."""

    runner: Runner
    store: JobStore
    closing: bool = False

    async def run_job(self, job: str) -> None:
        """Run a job to its end, or until it is another worker's."""
        taken = await self.store.take(job)
        if taken is None:
            return
        log.info("job_taken", job=job, epoch=taken.epoch, events=len(taken.events), calls=len(taken.records))
        try:
            await self._run(taken)
        except* Fenced:
            log.warning("job_fenced", job=job, epoch=taken.epoch)

    async def _run(self, taken: Taken) -> None:
        events, answer_now = Log(self.store, taken), AnswerNow()
        cancelled = False
        started = anyio.current_time() - max(0.0, time.time() - taken.started)
        how = Run(id=taken.id, started=started, answer_now=answer_now, journal=StoredJournal(self.store, taken, self))

        async def listen() -> None:
            nonlocal cancelled
            async for wish in self.store.wishes(taken.id):
                if wish == "answer_now":
                    answer_now.ask()
                else:
                    cancelled = True
                    solving.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(listen)
            with anyio.CancelScope() as solving:
                await stream(self.runner, taken.request, self._context(taken), events.add, how)
            if cancelled and not events.ended:
                await events.add(_failed(taken.id, events.last, Cancelled("the job was cancelled")))
            group.cancel_scope.cancel()

    @staticmethod
    def _context(taken: Taken) -> CallContext:
        return CallContext(request_id=new_id("req"), session_id=taken.id, call_id=new_id("call"))

    @asynccontextmanager
    async def open(self, docket: Docket) -> AsyncGenerator[None]:
        """Work for as long as the context lasts."""
        docket.register(self.run_job, names=[TASK])
        async with (
            Worker(docket, concurrency=CONCURRENCY, redelivery_timeout=REDELIVERY) as worker,
            anyio.create_task_group() as group,
        ):
            group.start_soon(worker.run_forever)
            try:
                yield
            finally:
                self.closing = True
                group.cancel_scope.cancel()


def _content(event: SolveEvent) -> str:
    """What an event says, without when and at what cost: the same in every run of a job."""
    if isinstance(event, (SolveStarted, SolveFinished)):
        return event.type
    return event.model_dump_json(exclude={"seq", "spent"})


def _failed(job: str, seq: int, error: CounterpointError) -> SolveFailed:
    problem: Problem = as_error(error).problem()
    return SolveFailed(solve_id=job, seq=seq, **problem.model_dump(exclude={"type", "errors"}))
