"""Prefix caches are not shared between tenants: the tenant of an API key reaches vLLM as the cache salt."""

import hashlib
from pathlib import Path

import httpx
import pytest

from counterpoint.stack import run_stack
from pocket.problems import problems
from tests.vllm.conftest import CORES, on_vllm

pytestmark = [pytest.mark.vllm, pytest.mark.anyio]

KEYS = {"physics": "the-key-of-physics", "history": "the-key-of-history"}


async def cached_tokens(orchestrator: httpx.AsyncClient, key: str) -> tuple[int, int]:
    """Return the number of the actor's prompt tokens in a solve and how many of them were cached."""
    body = {"problem": next(problems(3, split="dev")).text, "strategy": "single", "sampling": {"temperature": 0.0}}
    response = await orchestrator.post("/solve", json=body, headers={"Authorization": f"Bearer {key}"})
    usage = response.raise_for_status().json()["usage"]["actor"]
    return usage["prompt_tokens"], usage["cached_tokens"]


async def test_a_prompt_is_cached_for_its_tenant_only(tmp_path: Path):
    """A repeated problem is cached for the same key and computed again for another tenant's key."""
    entries = (f'[[keys]]\ntenant = "{t}"\nsha256 = "{hashlib.sha256(k.encode()).hexdigest()}"\n' for t, k in KEYS.items())
    (tmp_path / "keys.toml").write_text("".join(entries), "utf-8")
    settings = {
        **on_vllm("actor", context_length=1024),
        "COUNTERPOINT_CRITIC_ENGINE": "scripted",
        "COUNTERPOINT_KEYS_FILE": str(tmp_path / "keys.toml"),
    }
    async with run_stack(settings, {"actor": CORES["actor"]}, start_seconds=400) as services:
        _, first = await cached_tokens(services.orchestrator, KEYS["physics"])
        tokens, again = await cached_tokens(services.orchestrator, KEYS["physics"])
        _, other = await cached_tokens(services.orchestrator, KEYS["history"])
    blocks = tokens // 32 * 32
    assert blocks > 0
    assert (first, again, other) == (0, min(blocks, tokens - 1) // 32 * 32, 0)
