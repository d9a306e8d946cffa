"""The actor's application and its routes, which respond with streams of events."""

from fastapi import APIRouter, FastAPI

from actor_service.service import ActorService
from services.call_context import Call
from services.contracts.calls import DraftRequest, RefineRequest
from services.engines.factory import open_engine
from services.http.openapi import CALL_ERRORS, responses
from services.http.streaming import EventStreamResponse
from services.role import create_role_app
from services.settings import ActorSettings


def router(service: ActorService) -> APIRouter:
    """Return the routes `POST /v1/draft` and `POST /v1/refine`."""
    routes = APIRouter(prefix="/v1", tags=["actor"])

    @routes.post("/draft", response_class=EventStreamResponse, status_code=200, responses=responses(*CALL_ERRORS))
    async def draft(body: DraftRequest, call: Call) -> EventStreamResponse:
        """Write step-by-step solutions: `step`, `candidate`, `usage`, `error` events."""
        return EventStreamResponse(lambda emit: service.draft(body, call, emit))

    @routes.post("/refine", response_class=EventStreamResponse, status_code=200, responses=responses(*CALL_ERRORS))
    async def refine(body: RefineRequest, call: Call) -> EventStreamResponse:
        """Write new solutions given a critique: `step`, `candidate`, `usage`, `error` events."""
        return EventStreamResponse(lambda emit: service.refine(body, call, emit))

    return routes


def create(settings: ActorSettings) -> FastAPI:
    """Create the actor's application."""
    service = ActorService(settings, lambda: open_engine(settings))
    return create_role_app(service, "Counterpoint actor", [router(service)])
