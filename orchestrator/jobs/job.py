"""A job in its two views: that of its client, and that of the worker that has claimed it."""

from dataclasses import dataclass
from typing import Literal

from orchestrator.journal import Record
from orchestrator.request import SolveRequest
from services.contracts.base import Reply
from services.contracts.errors import ProblemDetails
from services.contracts.events import AnySolveEvent
from services.contracts.solve import SolveResult

JobStatus = Literal["queued", "running", "succeeded", "failed", "cancelled"]
LIVE: frozenset[JobStatus] = frozenset({"queued", "running"})
"""The statuses of a job that has not ended."""
JobCommand = Literal["cancel", "answer_now"]


class ClaimLost(Exception):
    """Another worker has claimed the job; this worker's writes have no effect any more."""


class JobClaimed(Exception):
    """Another worker holds a claim on the job that has not expired."""


class JobReceipt(Reply):
    """An accepted submission or command: the job's status, the URL of its events, and whether it outlives this process."""

    id: str
    status: JobStatus
    events_url: str
    durable: bool


class Job(JobReceipt):
    """A job as `GET /jobs/{id}` returns it.

    Times are seconds since 1970. `worker` is the host and the process of the last claim.
    """

    created: float
    started: float | None = None
    ended: float | None = None
    worker: str | None = None
    request: SolveRequest
    result: SolveResult | None = None
    error: ProblemDetails | None = None


@dataclass(slots=True)
class ClaimedJob:
    """A job that this worker runs: the epoch of its claim, its request, and the events and calls recorded before the claim.

    `started` is when the job first ran, in seconds since 1970. `lost` is set once another worker has claimed the job, or
    the store was unreachable for too long.
    """

    id: str
    epoch: int
    request: SolveRequest
    started: float
    tenant: str
    traceparent: str | None
    events: list[AnySolveEvent]
    records: dict[str, Record]
    lost: bool = False
