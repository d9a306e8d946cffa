"""Fixtures of every test."""

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The backend that the services run on."""
    return "asyncio"
