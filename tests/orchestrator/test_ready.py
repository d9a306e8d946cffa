"""`GET /readyz` of the orchestrator: the services that it requires, and those that it can do without."""

from pathlib import Path

import httpx
import pytest
from redis_server import redis_server
from stack import stack

pytestmark = pytest.mark.anyio


async def _state(client: httpx.AsyncClient) -> tuple[int, dict[str, str]]:
    response = await client.get("/readyz")
    return response.status_code, response.json()["checks"]


async def test_everything_is_ok_without_a_redis():
    """Without a URL of Redis, its check passes."""
    async with stack() as running:
        assert await _state(running.client) == (200, {"actor": "ok", "critic": "ok", "redis": "ok"})


async def test_a_dead_redis_degrades(tmp_path: Path):
    """Solves still succeed without it."""
    with redis_server(tmp_path) as redis:
        async with stack(redis_url=redis.url) as running:
            assert await _state(running.client) == (200, {"actor": "ok", "critic": "ok", "redis": "ok"})
            redis.kill()
            assert await _state(running.client) == (200, {"actor": "ok", "critic": "ok", "redis": "degraded"})
            await running.solve(strategy="single")


@pytest.mark.parametrize(
    ("without", "status", "checks"),
    [("actor", 503, {"actor": "down", "critic": "ok"}), ("critic", 200, {"actor": "ok", "critic": "degraded"})],
)
async def test_the_actor_is_required_and_the_critic_is_not(without: str, status: int, checks: dict[str, str]):
    """The answer is 200 if and only if the actor is reachable."""
    async with stack(without=without) as running:
        assert await _state(running.client) == (status, {**checks, "redis": "ok"})
