"""A client of `/jobs` for tests."""

import json
from typing import Any, cast

import httpx

from services.http.sse import decode

REQUEST = {"problem": "Add 12 and 30 and 7.", "strategy": {"name": "refine", "rounds": 3}, "sampling": {"seed": 4}}


async def submit(client: httpx.AsyncClient, key: str | None = None, **fields: Any) -> dict[str, Any]:
    """Submit a job and return its receipt."""
    headers = {} if key is None else {"Idempotency-Key": key}
    response = await client.post("/jobs", json={**REQUEST, **fields}, headers=headers)
    assert response.status_code == 202, response.text
    return response.json()


async def follow(
    client: httpx.AsyncClient, job: str, after: str | None = None, most: int = 999, until: str = ""
) -> list[dict[str, Any]]:
    """Return a job's events: up to its end, at most `most` of them, or up to the first of type `until`."""
    headers = {} if after is None else {"Last-Event-ID": after}
    events: list[dict[str, Any]] = []
    async with client.stream("GET", f"/jobs/{job}/events", headers=headers) as response:
        assert response.status_code == 200
        async for event in decode(response.aiter_bytes()):
            events.append({**json.loads(event.data), "event_id": event.id})
            if len(events) == most or events[-1]["type"] == until:
                break
    return events


async def wait_for_end(client: httpx.AsyncClient, job: str) -> dict[str, Any]:
    """Follow a job to its last event and return it."""
    await follow(client, job)
    return (await client.get(f"/jobs/{job}")).json()


def comparable(value: Any) -> Any:
    """Return a JSON value without ids, times and cached tokens, which differ from run to run."""
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        return {k: comparable(v) for k, v in fields.items() if k not in {"id", "solve_id", "seconds", "cached_tokens"}}
    return [comparable(entry) for entry in cast("list[Any]", value)] if isinstance(value, list) else value
