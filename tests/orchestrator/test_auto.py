"""`auto` through three real servers on scripted engines."""

from typing import Any

import pytest
from stack import stack

from services.engines.scripted import Plausible, ScriptedOptions

pytestmark = pytest.mark.anyio

RIGHT, WRONG = ScriptedOptions(script=Plausible(error_rate=0.0)), ScriptedOptions(script=Plausible(error_rate=1.0))


async def test_what_is_accepted_at_once_costs_a_draft_and_a_verdict():
    """The critic is asked once, and nothing else is bought."""
    async with stack(actor=RIGHT, critic=RIGHT) as running:
        found = await running.solve(strategy="auto", sampling={"seed": 1})
        assert found["stop_reason"] == "accepted"
        assert [found["usage"][role]["calls"] for role in ("actor", "critic")] == [1, 1]
        assert found["confidence"] == found["candidates"][0]["p_correct"]


async def test_the_first_draft_is_greedy_and_waves_are_not():
    """The first draft does not depend on the seed; samples of the waves do."""
    ask: dict[str, Any] = {"strategy": {"name": "auto", "accept_at": 1.0, "rounds": 0, "max_samples": 6, "agree_at": 1.0}}
    async with stack() as running:
        one, two = [await running.solve(**ask, sampling={"seed": seed, "temperature": 1.0}) for seed in (1, 2)]
        texts = [[step["text"] for step in found["candidates"][0]["steps"]] for found in (one, two)]
        assert texts[0] == texts[1]
        drafts = {candidate["id"].split(".")[0] for candidate in one["candidates"]}
        assert len(drafts) == 7, "each sample may be refined once besides"
        assert one["candidates"][1:] != two["candidates"][1:]
        assert one["stop_reason"] == "completed"
        again = await running.solve(**ask, sampling={"seed": 1, "temperature": 1.0})
        assert again["candidates"] == one["candidates"]


async def test_nothing_is_drawn_that_could_not_differ():
    """At temperature 0 every sample would be the first draft."""
    async with stack() as running:
        found = await running.solve(strategy={"name": "auto", "accept_at": 1.0, "rounds": 1}, sampling={"temperature": 0.0})
        assert all(candidate["id"].split(".")[0] == "c0" for candidate in found["candidates"])


@pytest.mark.parametrize("tokens", [120, 200, 400, 800, 1600, 3200])
async def test_every_budget_has_an_answer(tokens: int):
    """From what covers one draft on, and never more than it."""
    async with stack() as running:
        strategy = {"name": "auto", "accept_at": 1.0, "agree_at": 1.0}
        sampling = {"seed": 3, "temperature": 1.0}
        found = await running.solve(strategy=strategy, budget={"max_tokens": tokens}, sampling=sampling)
        assert found["solution"]
        assert found["budget"]["spent"]["tokens"] <= tokens
        assert found["stop_reason"] in {"budget", "completed", "agreed", "accepted", "rounds"}


async def test_without_a_critic_the_first_draft_is_the_answer():
    """And the response says so."""
    async with stack(without="critic") as running:
        found = await running.solve(strategy="auto")
        assert found["answer"]
        assert [entry["code"] for entry in found["degraded"]] == ["critic_unavailable"]
        assert found["usage"]["actor"]["calls"] == 1
