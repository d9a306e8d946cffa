"""Pipelining: the critic reads while the actor writes, and a wrong draft is aborted in the engine."""

import random
from typing import Any

import pytest
from stack import Stack, stack

from services.engines.protocol import Generation
from services.engines.scripted import Plausible, ScriptedOptions, fixed
from services.testing import wait_until

pytestmark = pytest.mark.anyio

LINES = [f"Step {k}: {k} + 1 = {k + 1}" for k in range(1, 9)]
ANSWER = "The answer is \\boxed{9}."
WRONG = [*LINES[:1], "Step 2: 2 + 1 = 4", *LINES[2:]]
STRICT = ScriptedOptions(script=Plausible(misjudge_rate=0.0))
ABORT = {"name": "refine", "abort_on_error": True, "check_every": 2, "abort_at": 0.4, "rounds": 2}


def wrong_then_right(generation: Generation, _source: random.Random) -> str:
    """Write a draft with an error in its second step; in a second attempt, write the remaining steps without one."""
    kept = len([line for line in generation.prompt.prefix.splitlines() if line.strip()])
    again = any(message.role == "assistant" for message in generation.prompt.messages)
    return "\n".join([*(LINES if kept or again else WRONG)[kept:], ANSWER])


def always_right(generation: Generation, source: random.Random) -> str:
    """Write a solution without errors."""
    del generation, source
    return "\n".join([*LINES, ANSWER])


SLOW = ScriptedOptions(script=wrong_then_right, token_seconds=0.002)
AT_ONCE = ScriptedOptions(script=wrong_then_right)


async def solved(running: Stack, **fields: Any) -> dict[str, Any]:
    """Solve with `abort_on_error`."""
    return await running.solve(strategy={**ABORT, **fields}, sampling={"seed": 1}, trace="full")


async def test_a_wrong_draft_is_cancelled_in_the_engine_and_rewound():
    """Only the steps that the critic read remain; the refinement continues after the right ones, and all is charged."""
    async with stack(SLOW, STRICT) as running:
        result = await solved(running)
        draft, refined = result["candidates"]
        assert (draft["finish_reason"], draft["answer"], draft["first_error"]) == ("cancelled", None, 2)
        assert [step["text"] for step in draft["steps"]] == WRONG[:2]
        assert 0 < draft["completion_tokens"] < 100
        assert [step["text"] for step in refined["steps"]] == [*LINES, ANSWER]
        assert (result["answer"], result["stop_reason"], result["degraded"]) == ("9", "accepted", [])
        assert running.actor.aborted == 1
        assert result["budget"]["spent"]["tokens"] == result["usage"]["total_tokens"] == sum(running.engine_tokens())


async def test_the_outcome_does_not_depend_on_which_role_is_faster():
    """The critic judges the same steps if the actor has already finished."""
    outcomes: list[Any] = []
    for actor, critic in ((SLOW, STRICT), (AT_ONCE, STRICT), (AT_ONCE, ScriptedOptions(STRICT.script, 0.05))):
        async with stack(actor, critic) as running:
            candidates = (await solved(running))["candidates"]
            outcomes.append([{**candidate, "completion_tokens": None} for candidate in candidates])
    assert outcomes[0] == outcomes[1] == outcomes[2]


async def test_a_right_draft_is_not_aborted():
    """It is checked four times while it is written, and judged once as a whole."""
    async with stack(ScriptedOptions(script=always_right), STRICT) as running:
        result = await solved(running)
        assert (result["answer"], result["usage"]["actor"]["calls"]) == ("9", 1)
        assert result["usage"]["critic"]["calls"] == len(LINES) // 2 + 1
        assert running.actor.aborted == 0


async def test_a_check_of_all_steps_is_the_judgement():
    """A solution of three steps that is checked every three needs no other critique."""
    async with stack(ScriptedOptions(script=fixed("\n".join([*LINES[:2], ANSWER]))), STRICT) as running:
        result = await solved(running, check_every=3)
        assert (result["stop_reason"], result["usage"]["critic"]["calls"]) == ("accepted", 1)


async def test_without_abort_a_wrong_draft_is_written_to_its_end():
    """The critic reads along, and the draft still has its answer."""
    async with stack(SLOW, STRICT) as running:
        result = await solved(running, abort_on_error=False, pipeline=True, rounds=1)
        assert result["candidates"][0]["finish_reason"] == "stop"
        assert running.actor.aborted == 0


async def test_a_draft_is_not_aborted_if_it_could_not_be_refined():
    """If the budget ends with the draft, the draft stays as it is."""
    async with stack(SLOW, STRICT) as running:
        alone = await running.solve(strategy="single", sampling={"seed": 1})
        needed = alone["usage"]["total_tokens"]
        result = await running.solve(strategy=ABORT, sampling={"seed": 1}, budget={"max_tokens": needed + 200})
        assert result["answer"] is not None
        assert result["budget"]["spent"]["tokens"] <= needed + 200


async def test_an_unreachable_critic_does_not_stop_the_actor():
    """A check that fails is not repeated."""
    async with stack(SLOW, without="critic") as running:
        result = await solved(running)
        assert (result["answer"], [entry["code"] for entry in result["degraded"]]) == ("9", ["critic_unavailable"])


async def test_a_deadline_while_both_roles_work_empties_both_engines():
    """No call is left in either engine."""
    forever = ScriptedOptions(script=always_right, token_seconds=30)
    async with stack(forever, STRICT) as running:
        request = {"problem": "Add.", "strategy": ABORT, "budget": {"max_seconds": 0.3}}
        assert (await running.client.post("/solve", json=request)).status_code == 504
        await wait_until(lambda: running.actor.in_flight + running.critic.in_flight == 0)
