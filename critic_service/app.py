"""The critic's composition root."""

import secrets

from fastapi import FastAPI

from critic_service.routes import router
from critic_service.service import CriticService
from services.engines.factory import open_engine
from services.role import create_role_app
from services.settings import CriticSettings


def create(settings: CriticSettings) -> FastAPI:
    """Create the critic's application."""
    configured = settings.nonce_secret
    secret = configured.get_secret_value().encode() if configured else secrets.token_bytes(32)
    service = CriticService(settings, lambda: open_engine(settings), secret)
    return create_role_app(service, "Counterpoint critic", [router(service)])
