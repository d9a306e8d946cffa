"""The critic's application and its route, which responds with a stream of events."""

import secrets

from fastapi import APIRouter, FastAPI

from critic_service.service import CriticService
from services.call_context import Call
from services.contracts.calls import CritiqueRequest
from services.engines.factory import open_engine
from services.http.openapi import CALL_ERRORS, responses
from services.http.streaming import EventStreamResponse
from services.role import create_role_app
from services.settings import CriticSettings


def router(service: CriticService) -> APIRouter:
    """Return the route `POST /v1/critique`."""
    routes = APIRouter(prefix="/v1", tags=["critic"])

    @routes.post("/critique", response_class=EventStreamResponse, status_code=200, responses=responses(*CALL_ERRORS))
    async def critique(body: CritiqueRequest, call: Call) -> EventStreamResponse:
        """Judge a solution: `label`, `explanation`, `critique`, `usage`, `error` events."""
        return EventStreamResponse(lambda emit: service.judge(body, call, emit))

    return routes


def create(settings: CriticSettings) -> FastAPI:
    """Create the critic's application."""
    configured = settings.nonce_secret
    secret = configured.get_secret_value().encode() if configured else secrets.token_bytes(32)
    service = CriticService(settings, lambda: open_engine(settings), secret)
    return create_role_app(service, "Counterpoint critic", [router(service)])
