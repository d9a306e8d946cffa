"""Scripting an engine: a model that says what a test wants it to say.

Nothing here is mocked. A *script* is a function from a call of the engine and a source of chance to a text. The scripted
engine plays it as any other engine would: token by token, with exact counts, as slowly and as unreliably as it is told.
The services around it are the real ones.
"""

import random

import pytest
from stack import stack

from services.contracts.sampling import Sampling
from services.engines.protocol import Generation, Guide
from services.engines.scripted import Plausible, ScriptedEngine, ScriptedOptions, fixed, tokens
from services.engines.testing import complete, user_prompt

pytestmark = pytest.mark.anyio


def dice(generation: Generation, source: random.Random) -> str:
    """A script: it may look at the prompt, and what it takes from `source` follows from the seed."""
    sides = 20 if "d20" in generation.prompt.messages[-1].content else 6
    return f"You rolled {source.randint(1, sides)}."


async def test_a_script_is_a_function():
    """The same prompt and seed give the same samples; another seed gives others."""
    engine = ScriptedEngine(ScriptedOptions(script=dice))
    rolls = [await complete(engine, Generation(user_prompt("Roll a d20."), Sampling(seed=seed), n=8)) for seed in (1, 1, 2)]
    assert rolls[0].texts == rolls[1].texts
    assert rolls[0].texts != rolls[2].texts


async def test_tokens_are_counted_as_anybody_can_count_them():
    """Words, runs of white space, and other characters one by one; the prompt counts once for all samples."""
    engine = ScriptedEngine(ScriptedOptions(script=fixed("Yes, 42.")))
    assert tokens("Yes, 42.") == ["Yes", ",", " ", "42", "."]
    call = Generation(user_prompt("Why?"), Sampling(), n=3)
    _, usage, _ = await complete(engine, call)
    assert (usage.prompt_tokens, usage.completion_tokens) == (engine.count(call.prompt), 15)


async def test_a_critic_answers_in_the_form_it_is_asked_for():
    """A *guide* says what the text must look like; the plausible script follows it and checks the arithmetic."""
    engine = ScriptedEngine(ScriptedOptions(script=Plausible(misjudge_rate=0.0)))
    shown = user_prompt("<solution>\nStep 1: 2 + 2 = 5\n</solution>\n\nIs it correct?")
    texts, _, deltas = await complete(
        engine, Generation(shown, Sampling(), guide=Guide("choice", ("Correct", "Incorrect")), top_logprobs=5)
    )
    assert texts == ["Incorrect"]
    assert "Correct" in dict(deltas[0].logprobs[0].top)


async def test_services_run_on_it():
    """An actor that is always wrong and a critic that always notices: every round is used, and nothing is accepted."""
    actor = ScriptedOptions(script=fixed("Step 1: 1 + 1 = 3\nThe answer is \\boxed{3}."))
    critic = ScriptedOptions(script=Plausible(misjudge_rate=0.0))
    async with stack(actor, critic) as running:
        result = await running.solve(strategy={"name": "refine", "rounds": 2})
        assert [candidate["verdict"] for candidate in result["candidates"]] == ["incorrect"] * 3
        assert result["stop_reason"] == "rounds"


@pytest.mark.parametrize(
    ("critic", "degraded"),
    [
        (ScriptedOptions(garbage_rate=1.0), "critique_unparsable"),
        (ScriptedOptions(failure_rate=1.0), "critic_unavailable"),
    ],
    ids=["garbage", "failure"],
)
async def test_trouble_is_a_knob(critic: ScriptedOptions, degraded: str):
    """Garbage, failures and latency are options; a solve survives a critic in trouble and says so."""
    async with stack(critic=critic) as running:
        result = await running.solve(strategy="refine")
        assert result["answer"]
        assert {entry["code"] for entry in result["degraded"]} == {degraded}


async def test_latency_is_a_knob_too():
    """Time runs out while the critic thinks: the draft is the answer."""
    async with stack(critic=ScriptedOptions(first_token_seconds=60.0)) as running:
        result = await running.solve(strategy="refine", budget={"max_seconds": 0.5})
        assert result["answer"]
        assert result["stop_reason"] == "deadline"
