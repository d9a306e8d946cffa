"""`GET /readyz` of the orchestrator: what it needs, and what it can do without."""

import shutil
import subprocess
from collections.abc import Generator

import httpx
import pytest
from stack import stack

from counterpoint.supervisor import free_port

pytestmark = pytest.mark.anyio


@pytest.fixture
def redis() -> Generator[tuple[str, subprocess.Popen[bytes]]]:
    """A real Redis, and its process."""
    assert shutil.which("redis-server")
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert any(b"Ready to accept" in line for line in iter(process.stdout.readline, b""))
        yield f"redis://127.0.0.1:{port}/0", process
        process.terminate()


async def _state(client: httpx.AsyncClient) -> tuple[int, dict[str, str]]:
    response = await client.get("/readyz")
    return response.status_code, response.json()["checks"]


async def test_everything_is_ok_without_a_redis():
    """Without a URL the stores are this process's own."""
    async with stack() as running:
        assert await _state(running.client) == (200, {"actor": "ok", "critic": "ok", "redis": "ok"})


async def test_a_redis_that_dies_degrades(redis: tuple[str, subprocess.Popen[bytes]]):
    """Solving goes on without it."""
    url, process = redis
    async with stack(redis_url=url) as running:
        assert await _state(running.client) == (200, {"actor": "ok", "critic": "ok", "redis": "ok"})
        process.terminate()
        process.wait(10)
        assert await _state(running.client) == (200, {"actor": "ok", "critic": "ok", "redis": "degraded"})
        await running.solve(strategy="single")


@pytest.mark.parametrize(
    ("without", "status", "checks"),
    [("actor", 503, {"actor": "down", "critic": "ok"}), ("critic", 200, {"actor": "ok", "critic": "degraded"})],
)
async def test_the_actor_is_needed_and_the_critic_is_not(without: str, status: int, checks: dict[str, str]):
    """200 if and only if the actor is reachable."""
    async with stack(without=without) as running:
        assert await _state(running.client) == (status, {**checks, "redis": "ok"})
