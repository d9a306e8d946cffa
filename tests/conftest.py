"""Fixtures shared by all tests."""

from collections.abc import Generator
from inspect import iscoroutinefunction

import pytest
from hypothesis import settings
from sniffio import current_async_library_cvar

settings.register_profile("unhurried", deadline=None)  # test machines may be busy
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Return the backend that the services run on."""
    return "asyncio"


@pytest.fixture(autouse=True)
def own_loop(request: pytest.FixtureRequest) -> Generator[None]:
    """Let a synchronous test run its own event loop while the loop of a longer-lived fixture waits."""
    if iscoroutinefunction(getattr(request, "function", None)):
        yield
        return
    token = current_async_library_cvar.set(None)
    yield
    current_async_library_cvar.reset(token)
