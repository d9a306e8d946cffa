"""`/jobs`: submit, look, follow, cancel, answer now."""

import secrets
from typing import Annotated

from docket import Docket
from fastapi import APIRouter, Depends, Header
from redis.exceptions import RedisError

from orchestrator.jobs.job import Job, Wish
from orchestrator.jobs.store import JobStore
from orchestrator.jobs.worker import TASK, failure
from orchestrator.request import SolveRequest
from orchestrator.runner import Runner
from services.call_context import CallContext, call_context
from services.contracts.base import Reply
from services.contracts.errors import FieldError
from services.contracts.sampling import MAX_SEED
from services.errors import (
    Cancelled,
    IdempotencyConflict,
    InvalidRequest,
    JobFinished,
    NotFound,
    NotReady,
    Overloaded,
    RateLimited,
    RequestTooLarge,
    Unauthenticated,
)
from services.openapi import Responses, errors
from services.sse import MEDIA_TYPE
from services.streaming import Emit, EventStreamResponse

Call = Annotated[CallContext, Depends(call_context)]
Key = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=255, pattern=r"^[\x21-\x7e]+$")]
LastEventID = Annotated[str | None, Header(alias="Last-Event-ID")]

MAX_EVENT_DIGITS = 9

SUBMITTED: Responses = errors(
    Unauthenticated, RequestTooLarge, InvalidRequest, IdempotencyConflict, RateLimited, Overloaded, NotReady
)
FOUND: Responses = errors(Unauthenticated, NotFound, RateLimited, NotReady)
FOLLOWED: Responses = {
    200: {"description": "The job's events, from the first or after `Last-Event-ID`.", "content": {MEDIA_TYPE: {}}},
    **errors(Unauthenticated, NotFound, InvalidRequest, RateLimited, NotReady),
}
ENDED: Responses = errors(Unauthenticated, NotFound, JobFinished, RateLimited, NotReady)


class Submitted(Reply):
    """What a submission answers: where the job is, and whether it outlives the process that took it."""

    id: str
    status: str
    events_url: str
    durable: bool


def router(runner: Runner, store: JobStore, docket: Docket) -> APIRouter:
    """The routes of jobs."""
    routes = APIRouter(prefix="/jobs", tags=["jobs"])

    @routes.post("", status_code=202, responses=SUBMITTED)
    async def submit(request: SolveRequest, call: Call, key: Key = None) -> Submitted:
        """Submit a solve as a job; the same `Idempotency-Key` and body is the same job."""
        await runner.admit(request)
        body = request.model_dump_json()
        seeded = request if request.sampling.seed is not None else _seeded(request)
        job = await store.submit(seeded, body, key, call)
        if job.status == "queued":
            try:
                await docket.add(TASK, key=job.id)(job.id)
            except (RedisError, OSError) as error:
                raise NotReady(f"jobs are queued in Redis, which cannot be reached: {error}", retry_after=1) from error
        return _submitted(job)

    @routes.get("/{job}", responses=FOUND)
    async def look(job: str, call: Call) -> Job:
        """Where a job stands, and its result or its error."""
        return await store.get(job, call.tenant)

    @routes.get("/{job}/events", response_model=None, responses=FOLLOWED)
    async def follow(job: str, call: Call, last_event_id: LastEventID = None) -> EventStreamResponse:
        """A job's events, those that were and those that come; `Last-Event-ID` goes on after an event."""
        after = _number(last_event_id)
        await store.get(job, call.tenant)

        async def produce(emit: Emit) -> None:
            async for event in store.follow(job, after):
                await emit(event)

        return EventStreamResponse(produce, at_once=True)

    @routes.delete("/{job}", status_code=202, responses=ENDED)
    async def cancel(job: str, call: Call) -> Submitted:
        """Cancel a job, down to the engines."""
        await store.get(job, call.tenant)
        return await _wished(store, job, "cancel")

    @routes.post("/{job}/answer-now", status_code=202, responses=ENDED)
    async def answer_now(job: str, call: Call) -> Submitted:
        """End a job with the best candidate so far, or with the first one if there is none yet."""
        await store.get(job, call.tenant)
        return await _wished(store, job, "answer_now")

    return routes


async def _wished(store: JobStore, job: str, wish: Wish) -> Submitted:
    forgotten = wish == "cancel" and await store.forget(job, failure(job, 1, Cancelled("the job was cancelled")))
    if not forgotten and not await store.wish(job, wish):
        raise JobFinished("the job has ended; see its result")
    return _submitted(await store.get(job))


def _submitted(job: Job) -> Submitted:
    return Submitted(id=job.id, status=job.status, events_url=job.events_url, durable=job.durable)


def _seeded(request: SolveRequest) -> SolveRequest:
    """A job that is taken over draws what it drew before."""
    sampling = request.sampling.model_copy(update={"seed": secrets.randbelow(MAX_SEED)})
    return request.model_copy(update={"sampling": sampling})


def _number(last_event_id: str | None) -> int:
    if last_event_id is None or last_event_id == "":
        return 0
    if not (last_event_id.isascii() and last_event_id.isdecimal() and len(last_event_id) <= MAX_EVENT_DIGITS):
        message = "Last-Event-ID is the number of an event"
        raise InvalidRequest(message, errors=[FieldError(loc=("header", "Last-Event-ID"), msg=message, type="event_id")])
    return int(last_event_id)
