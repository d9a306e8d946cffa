"""The strategy `auto` through three real servers on scripted engines."""

from typing import Any

import pytest
from stack import stack

from services.engines.scripted import Plausible, ScriptedOptions

pytestmark = pytest.mark.anyio

RIGHT, WRONG = ScriptedOptions(script=Plausible(error_rate=0.0)), ScriptedOptions(script=Plausible(error_rate=1.0))


async def test_an_accepted_draft_costs_one_draft_and_one_verdict():
    """The critic is called once, and no other call is made."""
    async with stack(actor=RIGHT, critic=RIGHT) as running:
        result = await running.solve(strategy="auto", sampling={"seed": 1})
        assert result["stop_reason"] == "accepted"
        assert [result["usage"][role]["calls"] for role in ("actor", "critic")] == [1, 1]
        assert result["confidence"] == result["candidates"][0]["p_correct"]


async def test_the_first_draft_is_greedy_and_waves_are_not():
    """The first draft does not depend on the seed, and the samples of the waves do."""
    body: dict[str, Any] = {"strategy": {"name": "auto", "accept_at": 1.0, "rounds": 0, "max_samples": 6, "agree_at": 1.0}}
    async with stack() as running:
        one, two = [await running.solve(**body, sampling={"seed": seed, "temperature": 1.0}) for seed in (1, 2)]
        texts = [[step["text"] for step in result["candidates"][0]["steps"]] for result in (one, two)]
        assert texts[0] == texts[1]
        drafts = {candidate["id"].split(".")[0] for candidate in one["candidates"]}
        assert len(drafts) == 7, "each sample may also be refined once"
        assert one["candidates"][1:] != two["candidates"][1:]
        assert one["stop_reason"] == "completed"
        again = await running.solve(**body, sampling={"seed": 1, "temperature": 1.0})
        assert again["candidates"] == one["candidates"]


async def test_no_samples_are_drawn_at_temperature_0():
    """Every sample would repeat the first draft."""
    async with stack() as running:
        result = await running.solve(strategy={"name": "auto", "accept_at": 1.0, "rounds": 1}, sampling={"temperature": 0.0})
        assert all(candidate["id"].split(".")[0] == "c0" for candidate in result["candidates"])


@pytest.mark.parametrize("tokens", [120, 200, 400, 800, 1600, 3200])
async def test_every_budget_has_an_answer(tokens: int):
    """A budget that covers one draft yields an answer, and no budget is exceeded."""
    async with stack() as running:
        strategy = {"name": "auto", "accept_at": 1.0, "agree_at": 1.0}
        sampling = {"seed": 3, "temperature": 1.0}
        result = await running.solve(strategy=strategy, budget={"max_tokens": tokens}, sampling=sampling)
        assert result["solution"]
        assert result["budget"]["spent"]["tokens"] <= tokens
        assert result["stop_reason"] in {"budget", "completed", "agreed", "accepted", "rounds"}


async def test_without_a_critic_the_first_draft_is_the_answer():
    """The response reports the critic as unavailable, and no second draft is written."""
    async with stack(without="critic") as running:
        result = await running.solve(strategy="auto")
        assert result["answer"]
        assert [entry["code"] for entry in result["degraded"]] == ["critic_unavailable"]
        assert result["usage"]["actor"]["calls"] == 1
