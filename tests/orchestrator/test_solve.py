"""`POST /solve` through three real servers on scripted engines."""

import json
from typing import Any

import anyio
import httpx
import pytest
from stack import Stack, stack

from services.engines.scripted import ScriptedOptions
from services.testing import wait_until

pytestmark = pytest.mark.anyio

STRATEGIES: list[Any] = [
    "single",
    "refine",
    {"name": "refine", "mode": "rewind", "gate_depth": "labels"},
    {"name": "refine", "gate": False, "rounds": 1, "explain": "all"},
    {"name": "best_of_n", "n": 4, "select": "critic"},
    {"name": "best_of_n", "n": 4, "select": "majority"},
    {"name": "best_of_n", "n": 4, "select": "weighted", "depth": "verdict"},
    {"name": "best_of_n", "n": 3, "inner": "refine"},
    {"name": "refine", "mode": "auto", "accept_at": 1.0},
    "auto",
    {"name": "auto", "accept_at": 1.0, "agree_at": 0.6, "mode": "auto"},
    {"name": "auto", "accept_at": 1.0, "rounds": 0, "max_samples": 5},
]


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
async def test_every_strategy_answers_with_an_exact_account(strategy: Any):
    """The usage in the response equals the engines' own totals and the budget's charges."""
    async with stack() as running:
        result = await running.solve(strategy=strategy, sampling={"seed": 4}, trace="full")
        used = result["usage"]
        reported = tuple(used[role]["prompt_tokens"] + used[role]["completion_tokens"] for role in ("actor", "critic"))
        assert reported == running.engine_tokens()
        assert result["budget"]["spent"]["tokens"] == used["total_tokens"] == sum(reported)
        assert result["stop_reason"] in {"accepted", "agreed", "completed", "rounds"}
        assert [c["id"] for c in result["candidates"] if c["selected"]]
        assert result["degraded"] == []


async def test_the_same_seed_gives_the_same_answer():
    """Two solves with the same seed have the same candidates."""
    async with stack() as running:
        request = {"strategy": {"name": "best_of_n", "n": 4}, "sampling": {"seed": 11}}
        first, second = await running.solve(**request), await running.solve(**request)
        assert first["candidates"] == second["candidates"]


async def _events(running: Stack, **body: Any) -> list[dict[str, Any]]:
    body = {"problem": "Add 1 and 2.", "stream": True, **body}
    async with running.client.stream("POST", "/solve", json=body) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        return [json.loads(line[6:]) async for line in response.aiter_lines() if line.startswith("data: ")]


async def test_a_stream_has_all_events_in_order_and_ends_with_the_response():
    """Events are numbered from 1, begin with solve.started and end with solve.finished."""
    async with stack() as running:
        events = await _events(running, strategy="refine")
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        assert (events[0]["type"], events[-1]["type"]) == ("solve.started", "solve.finished")
        kinds = {event["type"] for event in events}
        assert {"candidate.started", "step.written", "candidate.finished", "candidate.judged"} <= kinds
        assert events[-1]["spent"]["total_tokens"] == events[-1]["usage"]["total_tokens"]


@pytest.mark.parametrize(
    ("strategy", "reason"), [("refine", "rounds"), ({"name": "best_of_n", "n": 3}, "completed")], ids=str
)
async def test_a_dead_critic_degrades_and_does_not_fail(strategy: Any, reason: str):
    """`refine` returns the draft, and `best_of_n` votes by majority."""
    async with stack(without="critic") as running:
        result = await running.solve(strategy=strategy)
        assert [entry["code"] for entry in result["degraded"]] == ["critic_unavailable"]
        assert result["stop_reason"] in {reason, "agreed"}
        assert result["usage"]["critic"]["calls"] == 0


async def test_a_dead_actor_is_not_ready():
    """Nothing can be solved without an actor, so the answer is 503 with `Retry-After`."""
    async with stack(without="actor") as running:
        response = await running.client.post("/solve", json={"problem": "Add 1 and 2."})
        assert (response.status_code, response.json()["code"]) == (503, "not_ready")
        assert response.headers["retry-after"] == "1"


async def test_an_actor_that_always_fails_is_a_502():
    """After every attempt has failed, the code is `actor_failed`."""
    async with stack(ScriptedOptions(failure_rate=1.0)) as running:
        response = await running.client.post("/solve", json={"problem": "Add 1 and 2."})
        assert (response.status_code, response.json()["code"]) == (502, "actor_failed")


async def test_unparsable_critiques_are_unsure_and_never_accept():
    """They are reported as degraded, and the solve goes on."""
    async with stack(critic=ScriptedOptions(garbage_rate=1.0)) as running:
        result = await running.solve(strategy="refine", trace="full")
        assert "critique_unparsable" in {entry["code"] for entry in result["degraded"]}
        assert {candidate["verdict"] for candidate in result["candidates"]} == {"unsure"}
        assert result["stop_reason"] == "rounds"


async def test_a_budget_too_small_for_a_draft_is_refused_with_the_tokens_needed():
    """The answer is 422 with the tokens that would be enough."""
    async with stack() as running:
        request = {"problem": "Add 1 and 2.", "strategy": "single", "budget": {"max_tokens": 3}}
        response = await running.client.post("/solve", json=request)
        problem = response.json()
        assert (response.status_code, problem["code"]) == (422, "budget_too_small")
        enough = {**request, "budget": {"max_tokens": problem["needed"]}}
        assert (await running.client.post("/solve", json=enough)).status_code == 200


async def test_a_deadline_without_any_answer_is_a_504():
    """The time runs out during the first draft."""
    async with stack(ScriptedOptions(first_token_seconds=30)) as running:
        response = await running.client.post("/solve", json={"problem": "Add 1.", "budget": {"max_seconds": 0.4}})
        assert (response.status_code, response.json()["code"]) == (504, "deadline_exceeded")
        await wait_until(lambda: running.actor.in_flight == 0)


async def test_a_deadline_with_a_draft_has_an_answer():
    """The incumbent is returned if the critic takes too long."""
    async with stack(critic=ScriptedOptions(first_token_seconds=30)) as running:
        result = await running.solve(strategy="refine", budget={"max_seconds": 1})
        assert result["stop_reason"] == "deadline"
        assert result["answer"]


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_disconnect_empties_the_engine(*, streamed: bool):
    """A client that disconnects from a streamed or a plain solve leaves no call in the engine, two hops away."""
    async with stack(ScriptedOptions(first_token_seconds=30)) as running:
        async with anyio.create_task_group() as group:
            body = {"problem": "Add 1 and 2.", "strategy": {"name": "best_of_n", "n": 3}, "stream": streamed}
            group.start_soon(_post_and_read, running.client, body)
            await wait_until(lambda: running.actor.in_flight > 0)
            group.cancel_scope.cancel()
        assert await wait_until(lambda: running.actor.in_flight == 0) < 1


async def _post_and_read(client: httpx.AsyncClient, body: dict[str, Any]) -> None:
    async with client.stream("POST", "/solve", json=body) as response:
        async for _ in response.aiter_bytes():
            pass
