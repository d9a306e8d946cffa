"""A client of `/jobs` for tests."""

import json
from typing import Any, cast

import httpx

from services.sse import decode

ASK = {"problem": "Add 12 and 30 and 7.", "strategy": {"name": "refine", "rounds": 3}, "sampling": {"seed": 4}}


async def submit(client: httpx.AsyncClient, key: str | None = None, **fields: Any) -> dict[str, Any]:
    """Submit a job."""
    headers = {} if key is None else {"Idempotency-Key": key}
    response = await client.post("/jobs", json={**ASK, **fields}, headers=headers)
    assert response.status_code == 202, response.text
    return response.json()


async def followed(
    client: httpx.AsyncClient, job: str, after: str | None = None, most: int = 999, until: str = ""
) -> list[dict[str, Any]]:
    """A job's events, to the end, or `most` of them, or the first of a type."""
    headers = {} if after is None else {"Last-Event-ID": after}
    found: list[dict[str, Any]] = []
    async with client.stream("GET", f"/jobs/{job}/events", headers=headers) as response:
        assert response.status_code == 200
        async for event in decode(response.aiter_bytes()):
            found.append({**json.loads(event.data), "event_id": event.id})
            if len(found) == most or found[-1]["type"] == until:
                break
    return found


async def ended(client: httpx.AsyncClient, job: str) -> dict[str, Any]:
    """The job after its last event."""
    await followed(client, job)
    return (await client.get(f"/jobs/{job}")).json()


def timeless(value: Any) -> Any:
    """Without ids, times and what a cache knew."""
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        return {k: timeless(v) for k, v in fields.items() if k not in {"id", "solve_id", "seconds", "cached_tokens"}}
    return [timeless(entry) for entry in cast("list[Any]", value)] if isinstance(value, list) else value
