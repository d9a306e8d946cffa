"""The critic's route; its answer is a stream of events."""

from typing import Annotated

from fastapi import APIRouter, Depends

from critic_service.service import CriticService
from services.call_context import CallContext, call_context
from services.contracts.calls import CritiqueRequest
from services.http.openapi import CALL_ERRORS, responses
from services.http.streaming import EventStreamResponse

Call = Annotated[CallContext, Depends(call_context)]

RESPONSES = responses(*CALL_ERRORS)
"""The responses to a call that fails before its first event."""


def router(service: CriticService) -> APIRouter:
    """Return the route `POST /v1/critique`."""
    routes = APIRouter(prefix="/v1", tags=["critic"])

    @routes.post("/critique", response_class=EventStreamResponse, responses=RESPONSES)
    async def critique(body: CritiqueRequest, call: Call) -> EventStreamResponse:
        """Judge a solution: `label`, `explanation`, `critique`, `usage`, `error` events."""
        return EventStreamResponse(lambda emit: service.judge(body, call, emit))

    return routes
