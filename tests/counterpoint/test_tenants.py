"""A tenant's name travels from its key to the engine, through three processes."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
from openai_server import Server

from counterpoint.stack import run_stack
from services.testing import serve

pytestmark = pytest.mark.anyio

KEYS = {"physics": "the-key-of-physics", "history": "the-key-of-history"}


def keys_file(folder: Path) -> Path:
    """Write a file of keys, one a tenant."""
    entries = (
        f'[[keys]]\ntenant = "{tenant}"\nsha256 = "{hashlib.sha256(key.encode()).hexdigest()}"\n'
        for tenant, key in KEYS.items()
    )
    path = folder / "keys.toml"
    path.write_text("".join(entries), "utf-8")
    return path


async def test_every_call_of_a_solve_carries_the_cache_salt_of_its_tenant(tmp_path: Path):
    """Drafts, critiques and refinements of two keys reach the engine under two salts, so no prefix cache is shared."""
    server = Server(understands=frozenset({"logprobs", "top_logprobs", "cache_salt"}))
    async with serve(server.app()) as url:
        settings = {"COUNTERPOINT_KEYS_FILE": str(keys_file(tmp_path))}
        for role in ("ACTOR", "CRITIC"):
            fields = {"ENGINE": "openai", "BASE_URLS": url, "MODEL": "scripted", "DIALECT": "structured"}
            settings |= {f"COUNTERPOINT_{role}_{name}": value for name, value in fields.items()}
        async with run_stack(settings) as services:
            salts: dict[str, set[Any]] = {}
            for tenant, key in KEYS.items():
                first = len(server.bodies)
                response = await services.orchestrator.post(
                    "/solve",
                    json={"problem": "Add 12 and 30 and 7.", "strategy": {"name": "refine", "rounds": 1, "accept_at": 1.0}},
                    headers={"Authorization": f"Bearer {key}"},
                )
                assert response.status_code == 200, response.text
                usage = response.json()["usage"]
                assert usage["actor"]["calls"]
                assert usage["critic"]["calls"]
                calls = [body for body in server.bodies[first:] if body.get("stream")]
                assert len(calls) >= usage["actor"]["calls"] + usage["critic"]["calls"]
                salts[tenant] = {body.get("cache_salt") for body in calls}
    assert salts == {tenant: {tenant} for tenant in KEYS}
