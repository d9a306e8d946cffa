"""The actor's composition root."""

from fastapi import FastAPI

from actor_service.routes import router
from actor_service.service import ActorService
from services.engines.factory import open_engine
from services.role import create_role_app
from services.settings import ActorSettings


def create(settings: ActorSettings) -> FastAPI:
    """Create the actor's application."""
    service = ActorService(settings, lambda: open_engine(settings))
    return create_role_app(service, "Counterpoint actor", [router(service)])
