"""Fixtures: a critic on the bundled model behind a real server, in each chat dialect."""

from collections.abc import AsyncIterator

import httpx
import pytest

from critic_service.routes import router
from critic_service.service import CriticService
from services.engines.llama import EmbeddedOptions
from services.engines.models import SMOLLM2, model_path
from services.engines.testing import ObservedEngine
from services.role import create_role_app
from services.settings import CriticSettings
from services.testing import serve

SECRET = b"known to the tests"


@pytest.fixture(scope="session")
def secret() -> bytes:
    """The secret from which the critics derive their nonces."""
    return SECRET


@pytest.fixture(scope="module")
def engine() -> ObservedEngine:
    """The bundled model with two slots, closed by the services."""
    return ObservedEngine(EmbeddedOptions(model_path(SMOLLM2), context_length=768, slots=2, batch=32))


@pytest.fixture(scope="module")
async def client(engine: ObservedEngine) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a critic with the dialect `structured`."""
    async for http in _client(engine, "structured"):
        yield http


@pytest.fixture(scope="module")
async def mathcritique_client(engine: ObservedEngine) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a critic with the dialect `mathcritique`."""
    async for http in _client(engine, "mathcritique"):
        yield http


async def _client(engine: ObservedEngine, dialect: str) -> AsyncIterator[httpx.AsyncClient]:
    async def open_engine() -> ObservedEngine:
        return engine

    service = CriticService(CriticSettings.load(dialect=dialect), open_engine, SECRET)
    app = create_role_app(service, "critic", [router(service)])
    async with serve(app) as url, httpx.AsyncClient(base_url=url, timeout=60) as http:
        yield http
