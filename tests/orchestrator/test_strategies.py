"""`auto`, `step_beam`, `iterative_deepening`, mode `auto` and drawing in waves: the calls of each, and their order."""

import random
from typing import Any

import pytest
from stack import stack

from services.engines.protocol import Generation
from services.engines.scripted import CAPABILITIES, Plausible, ScriptedOptions

pytestmark = pytest.mark.anyio

RIGHT = Plausible(error_rate=0.0)
WRONG = Plausible(error_rate=1.0)
STRICT = ScriptedOptions(script=Plausible(misjudge_rate=0.0))


def stubborn(generation: Generation, source: random.Random) -> str:
    """Write wrong greedy drafts and wrong refinements; sampled drafts are right half of the time."""
    sampled = generation.sampling.temperature > 0 and not any(m.role == "assistant" for m in generation.prompt.messages)
    return (RIGHT if sampled and source.random() < 0.5 else WRONG)(generation, source)


def calls(result: dict[str, Any]) -> tuple[int, int]:
    """Return the number of calls of the actor and of the critic."""
    return result["usage"]["actor"]["calls"], result["usage"]["critic"]["calls"]


async def test_auto_stops_at_one_draft_that_the_critic_accepts():
    """An easy problem costs one draft and one critique."""
    async with stack(ScriptedOptions(script=RIGHT), STRICT) as running:
        result = await running.solve(strategy={"name": "auto", "accept_at": 0.5})
        assert (calls(result), result["stop_reason"]) == ((1, 1), "accepted")


async def test_auto_refines_before_it_widens():
    """A draft that a refinement repairs needs no vote."""
    async with stack(ScriptedOptions(script=Plausible(1.0)), STRICT) as running:
        result = await running.solve(strategy={"name": "auto", "accept_at": 0.5, "rounds": 8}, sampling={"seed": 2})
        assert result["stop_reason"] == "accepted"
        assert all(candidate["id"].split(".")[0] == "c0" for candidate in result["candidates"])


async def test_auto_widens_until_its_vote_is_clear():
    """It draws wave after wave; the answer is right, although most votes are for wrong ones."""
    async with stack(ScriptedOptions(script=stubborn), STRICT) as running:
        request = {"name": "auto", "accept_at": 0.5, "agree_at": 0.6, "rounds": 1, "first_wave": 1, "max_samples": 32}
        result = await running.solve(strategy=request, sampling={"seed": 5})
        assert (result["answer"], result["stop_reason"]) == ("49", "agreed")
        drafts = [candidate for candidate in result["candidates"] if candidate["parent"] is None]
        assert len(drafts) in {2, 3, 5, 9, 17, 33}


async def test_auto_is_an_anytime_algorithm():
    """Every budget is kept, and there is an answer as soon as one draft fits."""
    async with stack(ScriptedOptions(script=stubborn), STRICT) as running:
        for most in (200, 300, 600, 1200, 2400):
            request = {"strategy": {"name": "auto", "agree_at": 1.0}, "budget": {"max_tokens": most}}
            result = await running.solve(**request, sampling={"seed": 5, "max_tokens": 100})
            assert result["answer"] is not None
            assert result["budget"]["spent"]["tokens"] <= most
            assert result["stop_reason"] in {"budget", "accepted", "completed"}


async def test_auto_without_a_critic_is_one_draft():
    """More drafts could not be compared."""
    async with stack(without="critic") as running:
        result = await running.solve(strategy="auto")
        assert calls(result) == (1, 0)
        assert [entry["code"] for entry in result["degraded"]] == ["critic_unavailable"]


async def test_a_beam_continues_the_best_states():
    """Children begin with the steps before their parent's first error, and `width` parents have `expansion` each."""
    async with stack(ScriptedOptions(script=Plausible(1.0)), STRICT) as running:
        request = {"name": "step_beam", "width": 2, "expansion": 2, "levels": 4}
        result = await running.solve(strategy=request, sampling={"seed": 2}, trace="full")
        by_id = {candidate["id"]: candidate for candidate in result["candidates"]}
        children = [candidate for candidate in by_id.values() if candidate["parent"]]
        assert children
        for child in children:
            parent = by_id[child["parent"]]
            kept = parent["first_error"] - 1
            assert [s["text"] for s in child["steps"]][:kept] == [s["text"] for s in parent["steps"]][:kept]
        assert (result["answer"], result["stop_reason"]) == ("49", "accepted")


async def test_deepening_continues_below_its_trigger():
    """A draft that was cut is continued, not started again, with more tokens each time."""
    async with stack(ScriptedOptions(script=RIGHT), STRICT) as running:
        request = {"name": "iterative_deepening", "start": 12, "growth": 4, "trigger": "Wait."}
        result = await running.solve(strategy=request, trace="full")
        first, *later = ["\n".join(step["text"] for step in c["steps"]) for c in result["candidates"]]
        assert result["candidates"][0]["finish_reason"] == "length"
        assert all(text.startswith(f"{first}\nWait.") for text in later)
        assert result["candidates"][-1]["answer"] is not None


async def test_mode_auto_rewrites_after_a_rewind_that_did_not_help():
    """No steps are kept after a rewind that fails in the same step, or if the engine cannot continue a solution."""

    def same_error(generation: Generation, _source: random.Random) -> str:
        lines = ["Step 1: 1 + 1 = 2", "Step 2: 2 + 1 = 4", "The answer is \\boxed{4}."]
        prefixes.append(generation.prompt.prefix)
        return "\n".join(lines[len(generation.prompt.prefix.splitlines()) :])

    request = {"name": "refine", "mode": "auto", "rounds": 2}
    for prefix, kept in ((True, ["", "Step 1: 1 + 1 = 2\n", ""]), (False, ["", "", ""])):
        prefixes: list[str] = []
        able = CAPABILITIES.model_copy(update={"prefix": prefix})
        async with stack(ScriptedOptions(script=same_error, capabilities=able), STRICT) as running:
            result = await running.solve(strategy=request)
            assert prefixes == kept
            assert result["degraded"] == []


@pytest.mark.parametrize("inner", ["single", {"name": "refine", "rounds": 1}], ids=str)
async def test_best_of_n_starts_no_wave_after_its_decision(inner: Any):
    """Of sixteen candidates that agree, one window of four is drawn."""
    async with stack(ScriptedOptions(script=RIGHT), STRICT) as running:
        request = {"name": "best_of_n", "n": 16, "select": "majority", "inner": inner, "stop_rule": "window"}
        result = await running.solve(strategy=request)
        assert (len(result["candidates"]), result["stop_reason"]) == (4, "agreed")
        result = await running.solve(strategy={**request, "stop_early": False})
        assert (len(result["candidates"]), result["stop_reason"]) == (16, "completed")


@pytest.mark.parametrize("name", ["auto", "step_beam", "iterative_deepening"])
async def test_the_same_seed_gives_the_same_candidates(name: str):
    """They do not depend on what runs side by side."""
    async with stack() as running:
        first, second = [await running.solve(strategy={"name": name}, sampling={"seed": 12}, trace="full") for _ in range(2)]
        key = "id"
        assert sorted(first["candidates"], key=lambda c: c[key]) == sorted(second["candidates"], key=lambda c: c[key])
        assert first["answer"] == second["answer"]


@pytest.mark.parametrize("strategy", ["refine", "auto"])
async def test_an_unjudged_refinement_is_preferred_to_a_rejected_draft(strategy: str):
    """With one token less than a whole round, the refinement is made but not judged, and it is the answer."""
    request: dict[str, Any] = {"strategy": {"name": strategy, "rounds": 1}, "sampling": {"seed": 1, "temperature": 0.0}}
    async with stack(actor=ScriptedOptions(script=WRONG)) as running:
        whole = await running.solve(**request)
        assert [bool(candidate["verdict"]) for candidate in whole["candidates"]] == [True, True]
        result = await running.solve(**request, budget={"max_tokens": whole["usage"]["total_tokens"] - 1})
        draft, refined = result["candidates"]
        assert (draft["verdict"], refined["verdict"], refined["parent"]) == ("incorrect", None, draft["id"])
        assert (refined["selected"], result["stop_reason"], result["confidence"]) == (True, "budget", None)
