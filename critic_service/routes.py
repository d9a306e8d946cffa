"""The critic's route; its answer is a stream of events."""

from typing import Annotated

from fastapi import APIRouter, Depends

from critic_service.service import CriticService
from services.contracts.calls import Judge
from services.identity import CallContext, call_context
from services.streaming import EventStreamResponse

Call = Annotated[CallContext, Depends(call_context)]


def router(service: CriticService) -> APIRouter:
    """`POST /v1/critique`."""
    routes = APIRouter(prefix="/v1", tags=["critic"])

    @routes.post("/critique", response_class=EventStreamResponse)
    async def critique(body: Judge, call: Call) -> EventStreamResponse:
        """Judge a solution: `label`, `explanation`, `critique`, `usage`, `error` events."""
        return EventStreamResponse(lambda emit: service.judge(body, call, emit))

    return routes
