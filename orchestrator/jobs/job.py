"""What a job is: to whoever asks for it, and to the worker that runs it."""

from dataclasses import dataclass
from typing import Literal

from orchestrator.journal import Record
from orchestrator.request import SolveRequest
from services.contracts.base import Reply
from services.contracts.errors import Problem
from services.contracts.events import SolveEvent
from services.contracts.solve import SolveResult

Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]
LIVE: frozenset[Status] = frozenset({"queued", "running"})
Wish = Literal["cancel", "answer_now"]


class Fenced(Exception):
    """Another worker has taken the job over; whatever this one still does is void."""


class Held(Exception):
    """Another worker is at the job, or was a moment ago."""


class Job(Reply):
    """A job as `GET /jobs/{id}` shows it. `durable` tells whether it outlives this process.

    Times are seconds since 1970. `worker` is the host and the process that took it last.
    """

    id: str
    status: Status
    events_url: str
    durable: bool
    created: float
    started: float | None = None
    ended: float | None = None
    worker: str | None = None
    request: SolveRequest
    result: SolveResult | None = None
    error: Problem | None = None


@dataclass(slots=True)
class Taken:
    """A job that a worker runs: under which epoch, what was asked, when it first began, and what is known of it already.

    `lost` once another worker has it, or the store could not be reached for too long.
    """

    id: str
    epoch: int
    request: SolveRequest
    started: float
    tenant: str
    traceparent: str | None
    events: list[SolveEvent]
    records: dict[str, Record]
    lost: bool = False
