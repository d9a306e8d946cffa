"""Guide 2: scripting an engine, so that it generates the text that a test needs.

Nothing is mocked. A *script* is a function from a call to the engine and a random source to a text. The scripted engine
generates it as any other engine would: token by token, with exact counts, and with configurable latency and failures. The
services around it are the real ones.
"""

import random

import pytest
from stack import stack

from services.contracts.sampling import Sampling
from services.engines.protocol import Generation, Guide
from services.engines.scripted import ScriptedEngine, ScriptedOptions, tokens
from services.engines.scripts import Plausible, fixed
from services.engines.testing import asking, said

pytestmark = pytest.mark.anyio


def dice(generation: Generation, source: random.Random) -> str:
    """Roll a die. A script may read the prompt; random values from `source` depend on the seed."""
    sides = 20 if "d20" in generation.prompt.messages[-1].content else 6
    return f"You rolled {source.randint(1, sides)}."


async def test_a_script_is_a_function():
    """The same prompt and seed give the same samples; another seed gives different ones."""
    engine = ScriptedEngine(ScriptedOptions(script=dice))
    rolls = [await said(engine, Generation(asking("Roll a d20."), Sampling(seed=seed), n=8)) for seed in (1, 1, 2)]
    assert rolls[0].texts == rolls[1].texts
    assert rolls[0].texts != rolls[2].texts


async def test_tokens_are_easy_to_count():
    """Words, runs of whitespace and other single characters are tokens; the prompt counts once for all samples."""
    engine = ScriptedEngine(ScriptedOptions(script=fixed("Yes, 42.")))
    assert tokens("Yes, 42.") == ["Yes", ",", " ", "42", "."]
    call = Generation(asking("Why?"), Sampling(), n=3)
    _, usage, _ = await said(engine, call)
    assert (usage.prompt_tokens, usage.completion_tokens) == (engine.count(call.prompt), 15)


async def test_guided_decoding_is_followed():
    """A *guide* constrains the generated text; the `Plausible` script follows it and checks the arithmetic."""
    engine = ScriptedEngine(ScriptedOptions(script=Plausible(misjudge_rate=0.0)))
    shown = asking("<solution>\nStep 1: 2 + 2 = 5\n</solution>\n\nIs it correct?")
    texts, _, deltas = await said(
        engine, Generation(shown, Sampling(), guide=Guide("choice", ("Correct", "Incorrect")), top_logprobs=5)
    )
    assert texts == ["Incorrect"]
    assert "Correct" in dict(deltas[0].logprobs[0].top)


async def test_services_run_on_scripted_engines():
    """With an actor that is always wrong and a critic that always notices, all rounds are used and nothing is accepted."""
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
async def test_failures_are_configurable(critic: ScriptedOptions, degraded: str):
    """A solve survives a critic that returns garbage or fails, and reports it in `degraded`."""
    async with stack(critic=critic) as running:
        result = await running.solve(strategy="refine")
        assert result["answer"]
        assert {entry["code"] for entry in result["degraded"]} == {degraded}


async def test_latency_is_configurable():
    """The deadline passes while the critic is working, so the draft is the answer."""
    async with stack(critic=ScriptedOptions(first_token_seconds=60.0)) as running:
        result = await running.solve(strategy="refine", budget={"max_seconds": 0.5})
        assert result["answer"]
        assert result["stop_reason"] == "deadline"
