"""`POST /solve` and `GET /strategies`."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header

from orchestrator import strategies
from orchestrator.request import SolveRequest
from orchestrator.runner import Runner, nobody, stream
from services.contracts.solve import SolveResult
from services.identity import CallContext, call_context
from services.sse import MEDIA_TYPE
from services.streaming import Emit, EventStreamResponse, OwnedJSONResponse

Call = Annotated[CallContext, Depends(call_context)]
Accept = Annotated[str, Header()]


def router(runner: Runner) -> APIRouter:
    """The orchestrator's own routes."""
    routes = APIRouter(tags=["solve"])

    @routes.post("/solve", response_model=SolveResult)
    async def solve(request: SolveRequest, call: Call, accept: Accept = "") -> EventStreamResponse | OwnedJSONResponse:
        """Solve a problem: one JSON object, or with `stream` (or `Accept: text/event-stream`) its events as they happen."""

        async def produce(emit: Emit) -> None:
            await stream(runner, request, call, emit)

        async def work() -> SolveResult:
            await runner.admit(request)
            return await runner.run(request, call, nobody)

        if request.stream or MEDIA_TYPE in accept:
            return EventStreamResponse(produce)
        return OwnedJSONResponse(work)

    @routes.get("/strategies")
    async def list_strategies() -> list[dict[str, Any]]:
        """Every strategy: its name, what it does, the JSON schema of its parameters."""
        return strategies.described()

    return routes
