"""Fixtures of every test."""

import pytest
from hypothesis import settings

settings.register_profile("unhurried", deadline=None)  # machines that run tests are busy
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The backend that the services run on."""
    return "asyncio"
