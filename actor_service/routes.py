"""The actor's routes; every answer is a stream of events."""

from typing import Annotated

from fastapi import APIRouter, Depends

from actor_service.service import ActorService
from services.call_context import CallContext, call_context
from services.contracts.calls import DraftRequest, RefineRequest
from services.http.openapi import CALL_ERRORS, responses
from services.http.streaming import EventStreamResponse

Call = Annotated[CallContext, Depends(call_context)]

RESPONSES = responses(*CALL_ERRORS)
"""The responses to a call that fails before its first event."""


def router(service: ActorService) -> APIRouter:
    """Return the routes `POST /v1/draft` and `POST /v1/refine`."""
    routes = APIRouter(prefix="/v1", tags=["actor"])

    @routes.post("/draft", response_class=EventStreamResponse, responses=RESPONSES)
    async def draft(body: DraftRequest, call: Call) -> EventStreamResponse:
        """Write step-by-step solutions: `step`, `candidate`, `usage`, `error` events."""
        return EventStreamResponse(lambda emit: service.draft(body, call, emit))

    @routes.post("/refine", response_class=EventStreamResponse, responses=RESPONSES)
    async def refine(body: RefineRequest, call: Call) -> EventStreamResponse:
        """Write new solutions given a critique: `step`, `candidate`, `usage`, `error` events."""
        return EventStreamResponse(lambda emit: service.refine(body, call, emit))

    return routes
