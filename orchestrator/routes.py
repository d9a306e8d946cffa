"""`POST /solve` and `GET /strategies`."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header

from orchestrator import strategies
from orchestrator.request import SolveRequest
from orchestrator.runner import Runner, ignore_events, stream
from services.call_context import CallContext, call_context
from services.contracts.events import SOLVE_EVENT_TYPES
from services.contracts.solve import SolveResult
from services.errors import ActorFailed, DeadlineExceeded, QuotaExhausted, RateLimited, Unauthenticated
from services.http.openapi import CALL_ERRORS, Responses, responses
from services.http.sse import MEDIA_TYPE
from services.http.streaming import Emit, EventStreamResponse, OwnedJSONResponse

Call = Annotated[CallContext, Depends(call_context)]
Accept = Annotated[str, Header()]

EVENT_SCHEMA = {
    "type": "object",
    "required": ["id", "event", "data"],
    "properties": {
        "id": {"type": "string", "pattern": "^[0-9]+$"},
        "event": {"enum": list(SOLVE_EVENT_TYPES)},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
}
"""The schema of one event of the stream; `id` is its number."""

RESPONSES: Responses = {
    200: {
        "description": "The answer, or with `stream` the events as they happen (`services.contracts.events`).",
        "content": {MEDIA_TYPE: {"schema": EVENT_SCHEMA}},
    },
    **responses(Unauthenticated, RateLimited, QuotaExhausted, ActorFailed, *CALL_ERRORS, DeadlineExceeded),
}
"""The responses of `POST /solve`."""


def router(runner: Runner) -> APIRouter:
    """Return the routes of solves and strategies."""
    routes = APIRouter(tags=["solve"])

    @routes.post("/solve", response_model=SolveResult, responses=RESPONSES)
    async def solve(request: SolveRequest, call: Call, accept: Accept = "") -> EventStreamResponse | OwnedJSONResponse:
        """Solve a problem. Answer with one JSON object, or with `stream` or `Accept: text/event-stream` with its events."""

        async def produce(emit: Emit) -> None:
            await stream(runner, request, call, emit)

        async def work() -> SolveResult:
            await runner.admit(request)
            return await runner.run(request, call, ignore_events)

        if request.stream or MEDIA_TYPE in accept:
            return EventStreamResponse(produce)
        return OwnedJSONResponse(work)

    @routes.get("/strategies")
    async def list_strategies() -> list[dict[str, Any]]:
        """List the strategies: the name, the description, and the JSON schema of the parameters of each."""
        return strategies.described()

    return routes
