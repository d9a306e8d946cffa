"""What the engines' tests share: one event loop and one loaded model for all of them."""

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The event loop that the services run on."""
    return "asyncio"
