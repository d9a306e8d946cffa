"""Guide 1: solving problems.

Send a request to `POST /solve` with a problem, how to spend compute on it (the *strategy*) and the limits (the *budget*).
Every test on this page uses three running services. Their engines run a script that computes sums and sometimes makes a
mistake, so everything takes milliseconds.
"""

import json
from typing import Any

import pytest
from stack import stack

from orchestrator.request import SolveRequest
from services.engines.scripted import Plausible, ScriptedOptions
from services.http.client import stream_events

pytestmark = pytest.mark.anyio


async def test_only_a_problem_is_required():
    """The response has the answer and the solution, which is the full text of the chosen candidate."""
    async with stack() as running:
        response = await running.client.post("/solve", json={"problem": "Add 12 and 30."})
        result = response.json()
        assert response.status_code == 200
        assert f"\\boxed{{{result['answer']}}}" in result["solution"]


async def test_a_conversation_can_replace_the_problem():
    """Send `messages`, as in any chat API, instead of `problem`."""
    async with stack() as running:
        messages = [
            {"role": "user", "content": "Add 1 and 2."},
            {"role": "assistant", "content": "The answer is 3."},
            {"role": "user", "content": "Now add 4 to it."},
        ]
        assert (await running.client.post("/solve", json={"messages": messages})).status_code == 200


async def test_a_strategy_is_a_name_or_an_object():
    """A name uses the defaults; the response shows the strategy with all defaults filled in."""
    async with stack() as running:
        result = await running.solve(strategy="best_of_n")
        assert result["strategy"]["n"] == 8
        result = await running.solve(strategy={"name": "best_of_n", "n": 2, "select": "majority"})
        assert (result["strategy"]["n"], result["strategy"]["select"]) == (2, "majority")


async def test_the_response_lists_candidates_with_verdicts():
    """`refine` writes a draft, judges it and refines it if it is wrong; `parent` is the candidate that was refined."""
    actor, critic = ScriptedOptions(script=_wrong_then_right), ScriptedOptions(script=Plausible(misjudge_rate=0.0))
    async with stack(actor, critic) as running:
        result = await running.solve(strategy="refine", trace="full")
        draft, refined = result["candidates"][:2]
        assert (draft["answer"], draft["parent"], draft["verdict"]) == ("50", None, "incorrect")
        assert (refined["answer"], refined["parent"], refined["selected"]) == ("49", draft["id"], True)
        assert result["stop_reason"] == "accepted"


def _wrong_then_right(generation: Any, _source: Any) -> str:
    """Return a wrong first attempt and a right second one."""
    retry = any(message.role == "assistant" for message in generation.prompt.messages)
    return f"Step 1: 42 + 7 = {49 if retry else 50}\nThe answer is \\boxed{{{49 if retry else 50}}}."


async def test_a_budget_is_never_exceeded():
    """At the limit you get the best candidate so far, with `stop_reason` `budget`; spending matches the engines' counts."""
    async with stack() as running:
        result = await running.solve(
            strategy={"name": "best_of_n", "n": 16, "stop_early": False}, budget={"max_tokens": 1_000}
        )
        assert result["stop_reason"] == "budget"
        assert result["answer"]
        assert result["budget"]["spent"]["tokens"] == sum(running.engine_tokens()) <= 1_000


async def test_the_same_seed_gives_the_same_answer():
    """A solve is a function of its request, whatever runs in parallel.

    There is one exception: calls that still run when a vote is decided early may be judged in one run and not in another.
    """
    whole = {"name": "best_of_n", "stop_early": False}
    async with stack() as running:
        first, second = [await running.solve(strategy=whole, sampling={"seed": 7}) for _ in range(2)]
        assert first["candidates"] == second["candidates"]
        one, two = [await running.solve(strategy="best_of_n", sampling={"seed": 7}) for _ in range(2)]
        assert one["solution"] == two["solution"]
        assert one["confidence"] == two["confidence"]


async def test_events_can_be_streamed():
    """With `stream`, each event is a JSON object with its number and the spending so far; the last has the response."""
    async with stack() as running:
        request = SolveRequest(problem="Add 12 and 30.", stream=True)
        async with stream_events(running.client, "/solve", request, headers={}) as events:
            received = [json.loads(event.data) async for event in events]
        assert [event["seq"] for event in received] == list(range(1, len(received) + 1))
        kinds = [event["type"] for event in received]
        assert kinds[:3] == ["solve.started", "candidate.started", "step.written"]
        assert kinds[-1] == "solve.finished"
        assert received[-1]["answer"]


async def test_errors_have_a_code_and_a_location():
    """Errors are problem details (RFC 9457) with a `code` for programs and the location of each mistake."""
    async with stack() as running:
        response = await running.client.post("/solve", json={"problem": "Add 1 and 2.", "strategie": "refine"})
        assert response.status_code == 422
        assert response.headers["content-type"] == "application/problem+json"
        problem = response.json()
        assert problem["code"] == "invalid_request"
        assert problem["errors"][0]["loc"] == ["body", "strategie"]
