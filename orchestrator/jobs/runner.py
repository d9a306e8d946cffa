"""The runner of jobs: claims a job, runs its strategy over the journal, appends the new events and finishes it.

A worker that takes a job over runs the strategy again from its beginning. Journaled calls cost nothing and emit their events
once more; events that the log holds already are dropped, and those after them are appended.
"""

import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import anyio
import stamina
import structlog
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint
from docket import Docket, Worker

from orchestrator.jobs.job import ClaimedJob, ClaimLost, JobClaimed, JobStatus
from orchestrator.jobs.store import JobStore
from orchestrator.journal import Record
from orchestrator.runner import Runner, RunOptions, stream
from orchestrator.solve import AnswerNow
from services.call_context import CallContext, new_id
from services.contracts.events import AnySolveEvent, SolveFailed, SolveFinished, SolveStarted
from services.errors import Cancelled, CounterpointError, NotReady, Overloaded
from services.http.error_responses import as_error

log = structlog.get_logger("jobs")

CONCURRENCY = 64
RECONNECT = timedelta(seconds=1)
RENEWALS = 3
"""Renewals of a claim within a lease."""
CLAIM_SECONDS = 0.5
"""Time after which a worker tries again to claim a job."""


@dataclass(slots=True)
class EventLog:
    """The events of a claimed job; those that an earlier worker has appended are not appended again."""

    store: JobStore
    job: ClaimedJob
    known: Counter[str] = field(default_factory=Counter[str])
    last: int = 0
    ended: bool = False
    _lock: anyio.Lock = field(default_factory=anyio.Lock)

    def __post_init__(self) -> None:
        self.known.update(_content(event) for event in self.job.events)
        self.last = max((event.seq for event in self.job.events), default=0)

    async def add(self, event: AnySolveEvent) -> None:
        """Append an event under the next number, unless it is known. Raises `ClaimLost`, `NotReady`.

        Once the append has begun, cancellation does not interrupt it.
        """
        async with self._lock:
            content = _content(event)
            if self.known[content]:
                self.known[content] -= 1
                return
            numbered, status = event.model_copy(update={"seq": self.last + 1}), _final_status(event)
            with anyio.CancelScope(shield=True):
                if status is None:
                    await self.store.append(self.job, numbered)
                else:
                    await self.store.finish(self.job, status, numbered)
                    self.ended = True
                self.last += 1


@dataclass(slots=True)
class JobJournal:
    """The journal of a claimed job, in the store.

    A call that was cut short because this process ends or the claim is lost is not recorded: the next worker makes it again.
    """

    store: JobStore
    job: ClaimedJob
    runner: "JobRunner"

    @property
    def abandoned(self) -> bool:
        """True if another worker will continue the job."""
        return self.runner.closing or self.job.lost

    async def get(self, key: str) -> Record | None:
        """Return the record of a call that ended before the job was claimed, if there is one."""
        return self.job.records.get(key)

    async def record(self, key: str, record: Record) -> None:
        """Record a call. Raises `ClaimLost`, `NotReady`."""
        if not (record.left and self.abandoned):
            await self.store.record(self.job, key, record)


@dataclass(slots=True)
class JobRunner:
    """Runs the jobs that are submitted to a docket.

    The docket delivers a job to one or more workers, and the store decides which of them runs it. Jobs run in an anyio task
    group, not in the docket's asyncio tasks, so that cancellation reaches a solve the same way everywhere.
    """

    runner: Runner
    store: JobStore
    closing: bool = False
    _group: TaskGroup | None = None
    _open_tasks: int = 0

    async def run_job(self, job_id: str) -> None:
        """Supervise a job until it has ended, whichever worker runs it.

        If this process ends first, the task ends as cancelled, and the docket delivers the job to another worker.
        """
        assert self._group is not None  # noqa: S101 - the docket's worker runs inside `running`
        scope, over, job_ended = anyio.CancelScope(), anyio.Event(), False

        async def supervise() -> None:
            nonlocal job_ended
            try:
                with scope:
                    while not await self._claim_and_run(job_id):  # noqa: ASYNC110 - another worker's claim is polled
                        await anyio.sleep(CLAIM_SECONDS)
                    job_ended = True
            finally:
                over.set()

        self._group.start_soon(supervise)
        self._open_tasks += 1
        try:
            await over.wait()
        finally:
            scope.cancel()
            self._open_tasks -= 1
        if not job_ended:
            raise anyio.get_cancelled_exc_class()

    async def _claim_and_run(self, job_id: str) -> bool:
        """Run a job to its end if it can be claimed; return whether it has ended."""
        try:
            job = await self.store.claim(job_id)
        except (JobClaimed, NotReady):
            return False
        if job is None:
            return True
        log.info("job_claimed", job=job_id, epoch=job.epoch, events=len(job.events), calls=len(job.records))
        ended = True
        try:
            await self._run(job)
        except* (ClaimLost, NotReady) as error:
            ended = False
            log.warning("job_claim_lost", job=job_id, epoch=job.epoch, error=repr(error.exceptions[0]))
        return ended

    async def _run(self, job: ClaimedJob) -> None:
        events, answer_now = EventLog(self.store, job), AnswerNow()
        solve_scope, cancelled = anyio.CancelScope(), False
        started = anyio.current_time() - max(0.0, time.time() - job.started)
        options = RunOptions(id=job.id, started=started, answer_now=answer_now, journal=JobJournal(self.store, job, self))

        async def obey_commands() -> None:
            nonlocal cancelled
            async for command in self.store.commands(job.id):
                if command == "answer_now":
                    answer_now.request()
                else:
                    cancelled = True
                    solve_scope.cancel()

        async def renew_claim() -> None:
            while True:
                await anyio.sleep(self.store.lease / RENEWALS)
                await self.store.renew(job)

        try:
            async with anyio.create_task_group() as group:
                group.start_soon(obey_commands)
                group.start_soon(renew_claim)
                with solve_scope:
                    await self._solve(job, events, options)
                if cancelled and not events.ended:
                    await events.add(failed_event(job.id, events.last, Cancelled("the job was cancelled")))
                group.cancel_scope.cancel()
        finally:
            if self.closing and not events.ended:
                with anyio.move_on_after(1, shield=True):
                    await self.store.release(job)

    async def _solve(self, job: ClaimedJob, events: EventLog, options: RunOptions) -> None:
        """Solve once the request is admitted: until its deadline, a job waits for an actor that is not ready."""
        deadline = (options.started or 0) + self.runner.seconds(job.request.budget)
        try:
            async for attempt in stamina.retry_context(
                (NotReady, Overloaded), attempts=None, timeout=max(0.0, deadline - anyio.current_time()), wait_max=1.0
            ):
                with attempt:
                    await self.runner.admit(job.request)
        except CounterpointError as error:
            await events.add(failed_event(job.id, events.last, error))
            return
        call = CallContext(new_id("req"), job.id, new_id("call"), job.traceparent, tenant=job.tenant)
        await stream(self.runner, job.request, call, events.add, options)

    @asynccontextmanager
    async def running(self, docket: Docket) -> AsyncGenerator[None]:
        """Run the docket's jobs for as long as the context lasts."""
        lease = timedelta(seconds=self.store.lease)
        async with Worker(docket, concurrency=CONCURRENCY, redelivery_timeout=lease, reconnection_delay=RECONNECT) as worker:
            async with anyio.create_task_group() as self._group:
                group = self._group
                group.start_soon(worker.run_forever)
                try:
                    yield
                finally:
                    self.closing = True
                    group.cancel_scope.cancel()
            while self._open_tasks:  # the docket cancels its tasks without waiting for them
                await checkpoint()


def failed_event(job_id: str, seq: int, error: CounterpointError) -> SolveFailed:
    """Return the last event of a job that ends with an error."""
    problem = as_error(error).problem()
    return SolveFailed(solve_id=job_id, seq=seq, **problem.model_dump(exclude={"type", "errors"}))


def _content(event: AnySolveEvent) -> str:
    """Return the part of an event that is the same in every run of its job, without its number and the spending."""
    if isinstance(event, (SolveStarted, SolveFinished)):
        return event.type
    return event.model_dump_json(exclude={"seq", "spent"})


def _final_status(event: AnySolveEvent) -> JobStatus | None:
    if isinstance(event, SolveFinished):
        return "succeeded"
    if isinstance(event, SolveFailed):
        return "cancelled" if event.code == Cancelled.code else "failed"
    return None
