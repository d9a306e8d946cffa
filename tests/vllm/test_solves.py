"""Solves through three processes, with actor and critic on the real vLLM."""

import json
import os
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from counterpoint.stack import RunningStack
from services.http import sse
from tests.vllm.counters import metric_value

pytestmark = [pytest.mark.anyio, pytest.mark.vllm]

PROBLEM = (
    "At first Tom has 145 cards. He gives away 3 packs of 18 cards each. Then the cards become 4 times as many. "
    "He splits the cards into 7 equal parts and keeps one part. How many cards does Tom have now?"
)
STRATEGIES = {
    "single": {"name": "single"},
    "rewrite": {"name": "refine", "rounds": 2, "gate": False},
    "rewind": {"name": "refine", "rounds": 2, "mode": "rewind", "accept_at": 1.0},
    "best of 8": {"name": "best_of_n", "n": 8, "stop_early": False},
    "vote of 4, each refined": {
        "name": "best_of_n",
        "n": 4,
        "select": "weighted",
        "inner": {"name": "refine", "rounds": 1},
        "stop_early": False,
    },
}


async def solve(running: RunningStack, strategy: object, **fields: object) -> tuple[list[str], dict[str, Any]]:
    """Return the event names and the response of a streamed solve."""
    body = {"problem": PROBLEM, "strategy": strategy, "sampling": {"seed": 3, "temperature": 0.8}, "stream": True, **fields}
    names, last = list[str](), dict[str, Any]()
    async with running.orchestrator.stream("POST", "/solve", json=body, timeout=120) as response:
        async for event in sse.decode(response.aiter_raw()):
            names.append(event.event)
            last = json.loads(event.data)
    assert names[-1] == "solve.finished", last
    return names, last.get("response", last)


@pytest.mark.parametrize("name", STRATEGIES)
async def test_usage_equals_vllms_counters(pair: RunningStack, name: str):
    """Each strategy streams its steps and returns an answer, and its usage equals vLLM's own counters."""
    before = [await metric_value(role, "vllm:generation_tokens_total") for role in (pair.actor, pair.critic)]
    events, result = await solve(pair, STRATEGIES[name])
    after = [await metric_value(role, "vllm:generation_tokens_total") for role in (pair.actor, pair.critic)]
    assert {"step.written", "candidate.finished"} <= set(events)
    assert result["answer"]
    assert not result["degraded"]
    spent = [result["usage"][role]["completion_tokens"] for role in ("actor", "critic")]
    assert spent == [b - a for a, b in zip(before, after, strict=True)]


async def test_samples_and_refinements_use_cached_prompts(pair: RunningStack):
    """Eight samples share the prefill of their prompt, and a rewind reuses the cached prefix of the draft."""
    hits = await metric_value(pair.actor, "vllm:prefix_cache_hits_total")
    _, result = await solve(pair, STRATEGIES["best of 8"], sampling={"seed": 11})
    assert await metric_value(pair.actor, "vllm:prefix_cache_hits_total") - hits >= 7 * 32
    assert result["usage"]["actor"]["prompt_tokens"] < 100, "a shared prompt counts once"
    _, result = await solve(pair, STRATEGIES["rewind"], sampling={"seed": 12, "temperature": 1.0})
    assert result["usage"]["actor"]["cached_tokens"] >= 32


@pytest.mark.parametrize("depth", ["verdict", "labels", "explain"])
async def test_a_critique_at_each_depth(pair: RunningStack, depth: str):
    """At each depth, the critique of a solution with a wrong second step has a probability and the first error."""
    steps = ["Step 1: 3 * 18 = 54", "Step 2: 145 - 54 = 81", "Step 3: 81 * 4 = 324"]
    body = {"problem": PROBLEM, "steps": steps, "depth": depth, "explain": "first", "sampling": {"temperature": 0.0}}
    async with pair.critic.stream("POST", "/v1/critique", json=body, headers={"accept": sse.MEDIA_TYPE}) as response:
        events = {e.event: json.loads(e.data) async for e in sse.decode(response.aiter_raw())}
    critique = events["critique"]
    assert critique["verdict"] == "incorrect"
    assert critique["p_correct"] < 0.5
    assert depth == "verdict" or critique["first_error"] == 2
    assert depth != "explain" or critique["explanations"]


async def test_the_verdict_of_an_instruct_model_is_guided(instructed: RunningStack):
    """A guide restricts an instruct model's verdict to the two labels and yields its probability."""
    card = (await instructed.critic.get("/v1/model")).json()
    assert (card["engine"], card["dialect"], card["counts"]) == ("vllm", "structured", "exact")
    assert card["parameters"] == pytest.approx(134.5e6, rel=0.01)
    _, result = await solve(instructed, {"name": "best_of_n", "n": 2, "depth": "verdict"}, sampling={"max_tokens": 120})
    assert not result["degraded"]
    assert all(0 <= candidate["p_correct"] <= 1 for candidate in result["candidates"])
    body = {"problem": "What is 2 + 2?", "steps": ["Step 1: 2 + 2 = 5"], "depth": "labels"}
    async with instructed.critic.stream("POST", "/v1/critique", json=body, headers={"accept": sse.MEDIA_TYPE}) as response:
        events = [(e.event, json.loads(e.data)) async for e in sse.decode(response.aiter_raw())]
    assert [name for name, _ in events] == ["label", "critique", "usage"]
    assert events[0][1]["p_correct"] is not None


async def test_a_disconnect_aborts_the_requests_in_vllm(instructed: RunningStack):
    """After a disconnect vLLM runs no requests, and the engine still serves calls."""
    body = {
        "problem": "Tell a long story about numbers.",
        "strategy": "single",
        "sampling": {"max_tokens": 1800, "temperature": 1.0},
    }
    async with instructed.orchestrator.stream("POST", "/solve", json={**body, "stream": True}) as response:
        async for event in sse.decode(response.aiter_raw()):
            if event.event == "step.written" or await metric_value(instructed.actor, "vllm:num_requests_running"):
                break
    with anyio.fail_after(10):
        while await metric_value(instructed.actor, "vllm:num_requests_running"):  # noqa: ASYNC110 - another process
            await anyio.sleep(0.01)
    assert await metric_value(instructed.actor, "counterpoint_engine_in_flight") == 0
    await solve(instructed, "single", sampling={"max_tokens": 20})


async def test_a_dead_engine_is_reported_and_restarted(pair: RunningStack):
    """When the engine's process dies, `/readyz` fails until the supervisor has restarted the service."""
    engines = [pid for pid in _descendants(os.getpid()) if _name(pid).startswith("VLLM::EngineCor")]
    (engine,) = [pid for pid in engines if _is_actor(pid, pair)]
    os.kill(engine, 9)
    with anyio.fail_after(300):
        while await _ready(pair.actor):  # noqa: ASYNC110 - another process
            await anyio.sleep(0.01)
        while not await _ready(pair.actor):  # noqa: ASYNC110 - as above
            await anyio.sleep(0.05)
    _, result = await solve(pair, "single")
    assert result["answer"]


async def _ready(service: httpx.AsyncClient) -> bool:
    try:
        return (await service.get("/readyz", timeout=5)).is_success
    except httpx.TransportError:
        return False


def _is_actor(pid: int, running: RunningStack) -> bool:
    """Return whether an engine process belongs to the actor: its parent's command line has the actor's port."""
    parent = int(Path(f"/proc/{pid}/stat").read_text("utf-8").rsplit(")", 1)[1].split()[1])
    return str(running.actor.base_url.port).encode() in Path(f"/proc/{parent}/cmdline").read_bytes()


def _descendants(pid: int) -> list[int]:
    children = [int(c) for t in Path(f"/proc/{pid}/task").iterdir() for c in (t / "children").read_text("utf-8").split()]
    return [*children, *(other for child in children for other in _descendants(child))]


def _name(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text("utf-8").strip()
