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
import stamina
import structlog
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint
from docket import Docket, Worker

from orchestrator.jobs.job import Fenced, Held, Status, Taken
from orchestrator.jobs.store import JobStore
from orchestrator.journal import Record
from orchestrator.run import Run
from orchestrator.runner import Runner, stream
from orchestrator.solve import AnswerNow
from services.call_context import CallContext, new_id
from services.contracts.errors import Problem
from services.contracts.events import SolveEvent, SolveFailed, SolveFinished, SolveStarted
from services.errors import Cancelled, CounterpointError, NotReady, Overloaded
from services.problems import as_error

log = structlog.get_logger("jobs")

TASK = "run_job"
CONCURRENCY = 64
RECONNECT = timedelta(seconds=1)
HOLDS = 3
"""How often a worker shows that it lives, in a lease."""
LOOK_SECONDS = 0.5
"""How often a worker looks after a job that another one holds."""


@dataclass(slots=True)
class Log:
    """A job's events: those of an earlier worker are known, and only what is not among them is added."""

    store: JobStore
    taken: Taken
    known: Counter[str] = field(default_factory=Counter[str])
    last: int = 0
    ended: bool = False
    _lock: anyio.Lock = field(default_factory=anyio.Lock)

    def __post_init__(self) -> None:
        self.known.update(_content(event) for event in self.taken.events)
        self.last = max((event.seq for event in self.taken.events), default=0)

    async def add(self, event: SolveEvent) -> None:
        """Add an event under the next number, unless it is known; wholly or, when cancelled before, not. Raises `Fenced`."""
        async with self._lock:
            with anyio.CancelScope(shield=True):
                await self._add(event)

    async def _add(self, event: SolveEvent) -> None:
        content = _content(event)
        if self.known[content]:
            self.known[content] -= 1
            return
        numbered = event.model_copy(update={"seq": self.last + 1})
        if isinstance(event, (SolveFinished, SolveFailed)):
            status: Status = "succeeded" if isinstance(event, SolveFinished) else "failed"
            if isinstance(event, SolveFailed) and event.code == Cancelled.code:
                status = "cancelled"
            await self.store.end(self.taken, status, numbered)
            self.ended = True
        else:
            await self.store.append(self.taken, numbered)
        self.last += 1


@dataclass(slots=True)
class StoredJournal:
    """A job's journal in the store. A call that is left because the process or the job is given up is not recorded."""

    store: JobStore
    taken: Taken
    workshop: "Workshop"

    @property
    def lost(self) -> bool:
        """Whether another run of the job is to go on."""
        return self.workshop.closing or self.taken.lost

    async def find(self, key: str) -> Record | None:
        """What was recorded when the job was taken."""
        return self.taken.records.get(key)

    async def keep(self, key: str, record: Record) -> None:
        """Record a call. Raises `Fenced`."""
        if not (record.left and self.lost):
            await self.store.keep(self.taken, key, record)


@dataclass(slots=True)
class _Look:
    """A docket's task and the job that it stands for."""

    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    over: anyio.Event = field(default_factory=anyio.Event)
    ended: bool = False


@dataclass(slots=True)
class Workshop:
    """Runs the jobs that are submitted to a docket.

    The docket only says which jobs want looking after, to one worker or more of them; the store says whose each job is.
    Jobs run in a task group of their own, so that a docket that cancels its tasks cancels them the way everything else is.
    """

    runner: Runner
    store: JobStore
    closing: bool = False
    _group: TaskGroup | None = None
    _looking: int = 0

    async def run_job(self, job: str) -> None:
        """Look after a job until it has ended, whoever runs it.

        Ends as a cancelled task when this process ends first: the docket tells another worker then.
        """
        assert self._group is not None  # noqa: S101 - the docket's worker runs inside `open`
        look = _Look()
        self._group.start_soon(self._look_after, job, look)
        self._looking += 1
        try:
            await look.over.wait()
        finally:
            look.scope.cancel()
            self._looking -= 1
        if not look.ended:
            raise anyio.get_cancelled_exc_class()

    async def _look_after(self, job: str, look: "_Look") -> None:
        try:
            with look.scope:
                while not look.ended:
                    look.ended = await self._ended(job) or await _false_after(LOOK_SECONDS)
        finally:
            look.over.set()

    async def _ended(self, job: str) -> bool:
        """Whether a job has ended; runs it to its end unless it is another worker's."""
        try:
            taken = await self.store.take(job)
        except (Held, NotReady):
            return False
        if taken is None:
            return True
        log.info("job_taken", job=job, epoch=taken.epoch, events=len(taken.events), calls=len(taken.records))
        lost = False
        try:
            await self._run(taken)
        except* (Fenced, NotReady) as error:
            lost = True
            log.warning("job_lost", job=job, epoch=taken.epoch, error=repr(error.exceptions[0]))
        return not lost

    async def _run(self, taken: Taken) -> None:
        events, answer_now = Log(self.store, taken), AnswerNow()
        solving, cancelled = anyio.CancelScope(), False
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

        async def hold() -> None:
            while True:
                await anyio.sleep(self.store.lease / HOLDS)
                await self.store.hold(taken)

        try:
            async with anyio.create_task_group() as group:
                group.start_soon(listen)
                group.start_soon(hold)
                with solving:
                    await self._solve(taken, events, how)
                if cancelled and not events.ended:
                    await events.add(failure(taken.id, events.last, Cancelled("the job was cancelled")))
                group.cancel_scope.cancel()
        finally:
            if self.closing and not events.ended:
                with anyio.move_on_after(1, shield=True):
                    await self.store.drop(taken)

    async def _solve(self, taken: Taken, events: Log, how: Run) -> None:
        """The solve, once the actor is there: a job waits for it, as long as its deadline allows."""
        left = (how.started or 0) + (taken.request.budget.max_seconds or self.runner.settings.default_max_seconds)
        try:
            async for attempt in stamina.retry_context(
                (NotReady, Overloaded), attempts=None, timeout=max(0.0, left - anyio.current_time()), wait_max=1.0
            ):
                with attempt:
                    await self.runner.admit(taken.request)
        except CounterpointError as error:
            await events.add(failure(taken.id, events.last, error))
            return
        await stream(self.runner, taken.request, self._context(taken), events.add, how)

    @staticmethod
    def _context(taken: Taken) -> CallContext:
        return CallContext(
            request_id=new_id("req"),
            session_id=taken.id,
            call_id=new_id("call"),
            tenant=taken.tenant,
            traceparent=taken.traceparent,
        )

    @asynccontextmanager
    async def open(self, docket: Docket) -> AsyncGenerator[None]:
        """Work for as long as the context lasts."""
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
            while self._looking:  # the docket's own tasks, which it cancelled and did not wait for
                await checkpoint()


async def _false_after(seconds: float) -> bool:
    await anyio.sleep(seconds)
    return False


def _content(event: SolveEvent) -> str:
    """What an event says, without when and at what cost: the same in every run of a job."""
    if isinstance(event, (SolveStarted, SolveFinished)):
        return event.type
    return event.model_dump_json(exclude={"seq", "spent"})


def failure(job: str, seq: int, error: CounterpointError) -> SolveFailed:
    """A job's last event, for an error."""
    problem: Problem = as_error(error).problem()
    return SolveFailed(solve_id=job, seq=seq, **problem.model_dump(exclude={"type", "errors"}))
