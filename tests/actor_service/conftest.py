"""Fixtures: an actor on the bundled model behind a real server."""

from collections.abc import AsyncIterator

import httpx
import pytest

from actor_service.routes import router
from actor_service.service import ActorService
from services.engines.llama import EmbeddedOptions
from services.engines.models import SMOLLM2, model_path
from services.engines.testing import ObservedEngine
from services.role import create_role_app
from services.settings import ActorSettings
from services.testing import serve


@pytest.fixture(scope="module")
def engine() -> ObservedEngine:
    """The bundled model with two slots, closed by the service."""
    return ObservedEngine(EmbeddedOptions(model_path(SMOLLM2), context_length=768, slots=2, batch=32))


@pytest.fixture(scope="module")
async def client(engine: ObservedEngine) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the running service."""

    async def open_engine() -> ObservedEngine:
        return engine

    service = ActorService(ActorSettings.load(dialect="structured"), open_engine)
    app = create_role_app(service, "actor", [router(service)])
    async with serve(app) as url, httpx.AsyncClient(base_url=url, timeout=60) as http:
        yield http
