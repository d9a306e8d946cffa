"""Solving problems: what a client sends and what it gets back.

Counterpoint answers `POST /solve`. A request names a problem, how compute is to be spent on it (the *strategy*) and what may
be spent at most (the *budget*). Every test of this page speaks to three running services; their engines play a script, which
computes sums and now and then makes a mistake, so everything here takes milliseconds.
"""

import json
from typing import Any

import pytest
from stack import stack

from orchestrator.request import SolveRequest
from services.client import stream_events
from services.engines.scripted import Plausible, ScriptedOptions

pytestmark = pytest.mark.anyio


async def test_a_problem_is_all_that_is_needed():
    """The answer is what the solution states; the solution is the chosen candidate's whole text."""
    async with stack() as running:
        response = await running.client.post("/solve", json={"problem": "Add 12 and 30."})
        result = response.json()
        assert response.status_code == 200
        assert f"\\boxed{{{result['answer']}}}" in result["solution"]


async def test_a_conversation_may_stand_in_its_place():
    """`messages` as every chat API has them, instead of `problem`."""
    async with stack() as running:
        messages = [
            {"role": "user", "content": "Add 1 and 2."},
            {"role": "assistant", "content": "The answer is 3."},
            {"role": "user", "content": "Now add 4 to it."},
        ]
        assert (await running.client.post("/solve", json={"messages": messages})).status_code == 200


async def test_a_strategy_is_a_name_or_an_object():
    """A bare name means its defaults; the response shows the strategy with every default filled in."""
    async with stack() as running:
        result = await running.solve(strategy="best_of_n")
        assert result["strategy"]["n"] == 8
        result = await running.solve(strategy={"name": "best_of_n", "n": 2, "select": "majority"})
        assert (result["strategy"]["n"], result["strategy"]["select"]) == (2, "majority")


async def test_every_candidate_is_there_with_what_the_critic_thought():
    """`refine` drafts, has the draft judged, and writes it again where it was wrong; `parent` tells from what."""
    actor, critic = ScriptedOptions(script=_wrong_then_right), ScriptedOptions(script=Plausible(misjudge_rate=0.0))
    async with stack(actor, critic) as running:
        result = await running.solve(strategy="refine", trace="full")
        draft, refined = result["candidates"][:2]
        assert (draft["answer"], draft["parent"], draft["verdict"]) == ("50", None, "incorrect")
        assert (refined["answer"], refined["parent"], refined["selected"]) == ("49", draft["id"], True)
        assert result["stop_reason"] == "accepted"


def _wrong_then_right(generation: Any, _source: Any) -> str:
    """A first attempt with a mistake, a second one without."""
    again = any(message.role == "assistant" for message in generation.prompt.messages)
    return f"Step 1: 42 + 7 = {49 if again else 50}\nThe answer is \\boxed{{{49 if again else 50}}}."


async def test_a_budget_is_never_exceeded_and_running_out_is_an_answer():
    """The best candidate so far is returned, with `stop_reason` `budget`; what was spent is what the engines counted."""
    async with stack() as running:
        result = await running.solve(
            strategy={"name": "best_of_n", "n": 16, "stop_early": False}, budget={"max_tokens": 1_000}
        )
        assert result["stop_reason"] == "budget"
        assert result["answer"]
        assert result["budget"]["spent"]["tokens"] == sum(running.engine_tokens()) <= 1_000


async def test_the_same_seed_gives_the_same_answer():
    """Whatever runs side by side: a solve is a function of its request.

    Only what a vote that is decided early leaves running may be judged in one run and not in another.
    """
    whole = {"name": "best_of_n", "stop_early": False}
    async with stack() as running:
        first, second = [await running.solve(strategy=whole, sampling={"seed": 7}) for _ in range(2)]
        assert first["candidates"] == second["candidates"]
        early, again = [await running.solve(strategy="best_of_n", sampling={"seed": 7}) for _ in range(2)]
        assert early["solution"] == again["solution"]
        assert early["confidence"] == again["confidence"]


async def test_it_can_be_followed_as_it_happens():
    """With `stream`, each event is one JSON object with its number and what has been spent; the last holds the response."""
    async with stack() as running:
        request = SolveRequest(problem="Add 12 and 30.", stream=True)
        async with stream_events(running.client, "/solve", request, headers={}) as events:
            told = [json.loads(event.data) async for event in events]
        assert [event["seq"] for event in told] == list(range(1, len(told) + 1))
        kinds = [event["type"] for event in told]
        assert kinds[:3] == ["solve.started", "candidate.started", "step.written"]
        assert kinds[-1] == "solve.finished"
        assert told[-1]["answer"]


async def test_what_is_refused_says_why():
    """Every error is a problem object (RFC 9457) with a `code` to switch on; the place of a mistake is named."""
    async with stack() as running:
        response = await running.client.post("/solve", json={"problem": "Add 1 and 2.", "strategie": "refine"})
        assert response.status_code == 422
        assert response.headers["content-type"] == "application/problem+json"
        problem = response.json()
        assert problem["code"] == "invalid_request"
        assert problem["errors"][0]["loc"] == ["body", "strategie"]
