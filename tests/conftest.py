"""Fixtures of every test."""

from collections.abc import Generator
from inspect import iscoroutinefunction

import pytest
from hypothesis import settings
from sniffio import current_async_library_cvar

settings.register_profile("unhurried", deadline=None)  # machines that run tests are busy
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The backend that the services run on."""
    return "asyncio"


@pytest.fixture(autouse=True)
def own_loop(request: pytest.FixtureRequest) -> Generator[None]:
    """Let a plain test run a loop of its own while the one of a fixture that lives longer waits."""
    if iscoroutinefunction(getattr(request, "function", None)):
        yield
        return
    token = current_async_library_cvar.set(None)
    yield
    current_async_library_cvar.reset(token)
