"""The routes under `/jobs`: submit a job, get it, follow its events, cancel it, or end it with its best answer so far."""

import secrets
from typing import Annotated

from fastapi import APIRouter, Depends, Header

from orchestrator.jobs.job import Job, JobCommand, JobReceipt
from orchestrator.jobs.runner import failed_event
from orchestrator.jobs.store import JobStore
from orchestrator.request import SolveRequest
from orchestrator.runner import Runner
from services import errors
from services.call_context import CallContext, call_context
from services.contracts.errors import FieldError
from services.contracts.sampling import MAX_SEED
from services.http.openapi import Responses, responses
from services.http.sse import MEDIA_TYPE
from services.http.streaming import Emit, EventStreamResponse

Call = Annotated[CallContext, Depends(call_context)]
Key = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=255, pattern=r"^[\x21-\x7e]+$")]
LastEventID = Annotated[str | None, Header(alias="Last-Event-ID")]

MAX_EVENT_DIGITS = 9

_COMMON = (errors.Unauthenticated, errors.RateLimited, errors.NotReady)
SUBMIT_RESPONSES: Responses = responses(
    errors.RequestTooLarge, errors.InvalidRequest, errors.IdempotencyConflict, errors.Overloaded, *_COMMON
)
GET_RESPONSES: Responses = responses(errors.NotFound, *_COMMON)
FOLLOW_RESPONSES: Responses = {
    200: {"description": "The job's events, from the first or after `Last-Event-ID`.", "content": {MEDIA_TYPE: {}}},
    **responses(errors.NotFound, errors.InvalidRequest, *_COMMON),
}
COMMAND_RESPONSES: Responses = responses(errors.NotFound, errors.JobFinished, *_COMMON)


def router(runner: Runner, store: JobStore) -> APIRouter:
    """Return the routes of jobs."""
    routes = APIRouter(prefix="/jobs", tags=["jobs"])

    @routes.post("", status_code=202, responses=SUBMIT_RESPONSES)
    async def submit(request: SolveRequest, call: Call, key: Key = None) -> JobReceipt:
        """Submit a solve as a job. The same `Idempotency-Key` with the same body returns the same job."""
        await runner.admit(request)
        body = request.model_dump_json()
        seeded = request if request.sampling.seed is not None else _seeded(request)
        return await store.submit(seeded, body, key, call)

    @routes.get("/{job}", responses=GET_RESPONSES)
    async def get(job: str, call: Call) -> Job:
        """Get a job: its status, and its result or its error."""
        return await store.get(job, call.tenant)

    @routes.get("/{job}/events", response_model=None, responses=FOLLOW_RESPONSES)
    async def follow(job: str, call: Call, last_event_id: LastEventID = None) -> EventStreamResponse:
        """Stream a job's events, past and to come; with `Last-Event-ID`, those after that event."""
        after = _event_number(last_event_id)
        await store.get(job, call.tenant)

        async def produce(emit: Emit) -> None:
            async for event in store.follow(job, after):
                await emit(event)

        return EventStreamResponse(produce, at_once=True)

    @routes.delete("/{job}", status_code=202, responses=COMMAND_RESPONSES)
    async def cancel(job: str, call: Call) -> JobReceipt:
        """Cancel a job, down to the engines."""
        await store.get(job, call.tenant)
        return await _send(store, job, "cancel")

    @routes.post("/{job}/answer-now", status_code=202, responses=COMMAND_RESPONSES)
    async def answer_now(job: str, call: Call) -> JobReceipt:
        """End a job with the best candidate so far, or with the first one if there is none yet."""
        await store.get(job, call.tenant)
        return await _send(store, job, "answer_now")

    return routes


async def _send(store: JobStore, job_id: str, command: JobCommand) -> JobReceipt:
    cancelled = command == "cancel" and await store.cancel_queued(
        job_id, failed_event(job_id, 1, errors.Cancelled("the job was cancelled"))
    )
    if not cancelled and not await store.send_command(job_id, command):
        raise errors.JobFinished("the job has ended; see its result")
    return await store.get(job_id)


def _seeded(request: SolveRequest) -> SolveRequest:
    """Return the request with a seed, so that a worker that takes the job over draws the same samples."""
    sampling = request.sampling.model_copy(update={"seed": secrets.randbelow(MAX_SEED)})
    return request.model_copy(update={"sampling": sampling})


def _event_number(last_event_id: str | None) -> int:
    if not last_event_id:
        return 0
    if not (last_event_id.isascii() and last_event_id.isdecimal() and len(last_event_id) <= MAX_EVENT_DIGITS):
        message = "Last-Event-ID must be the number of an event"
        field = FieldError(loc=("header", "Last-Event-ID"), msg=message, type="event_id")
        raise errors.InvalidRequest(message, errors=[field])
    return int(last_event_id)
