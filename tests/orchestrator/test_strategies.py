"""`auto`, `step_beam`, `iterative_deepening`, mode `auto`, and drawing in waves: what each buys, and in which order."""

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
    """Wrong when greedy and when it refines; drafts that are sampled are right half of the time."""
    sampled = generation.sampling.temperature > 0 and not any(m.role == "assistant" for m in generation.prompt.messages)
    return (RIGHT if sampled and source.random() < 0.5 else WRONG)(generation, source)


def calls(result: dict[str, Any]) -> tuple[int, int]:
    """Calls of the actor and of the critic."""
    return result["usage"]["actor"]["calls"], result["usage"]["critic"]["calls"]


async def test_auto_stops_at_one_draft_that_the_critic_accepts():
    """An easy problem costs one draft and one critique."""
    async with stack(ScriptedOptions(script=RIGHT), STRICT) as running:
        result = await running.solve(strategy={"name": "auto", "accept_at": 0.5})
        assert (calls(result), result["stop_reason"]) == ((1, 1), "accepted")


async def test_auto_refines_before_it_widens():
    """A draft that is repaired needs no vote."""
    async with stack(ScriptedOptions(script=Plausible(1.0)), STRICT) as running:
        result = await running.solve(strategy={"name": "auto", "accept_at": 0.5, "rounds": 8}, sampling={"seed": 2})
        assert result["stop_reason"] == "accepted"
        assert all(candidate["id"].split(".")[0] == "c0" for candidate in result["candidates"])


async def test_auto_widens_until_its_vote_is_clear():
    """Wave after wave; the answer is one of the right ones, though most votes are for wrong ones."""
    async with stack(ScriptedOptions(script=stubborn), STRICT) as running:
        ask = {"name": "auto", "accept_at": 0.5, "agree_at": 0.6, "rounds": 1, "first_wave": 1, "max_samples": 32}
        result = await running.solve(strategy=ask, sampling={"seed": 5})
        assert (result["answer"], result["stop_reason"]) == ("49", "agreed")
        drafts = [candidate for candidate in result["candidates"] if candidate["parent"] is None]
        assert len(drafts) in {2, 3, 5, 9, 17, 33}


async def test_auto_is_an_anytime_algorithm():
    """Whatever the budget, it is kept, and there is an answer as soon as one draft fits."""
    async with stack(ScriptedOptions(script=stubborn), STRICT) as running:
        for most in (200, 300, 600, 1200, 2400):
            ask = {"strategy": {"name": "auto", "agree_at": 1.0}, "budget": {"max_tokens": most}}
            result = await running.solve(**ask, sampling={"seed": 5, "max_tokens": 100})
            assert result["answer"] is not None
            assert result["budget"]["spent"]["tokens"] <= most
            assert result["stop_reason"] in {"budget", "accepted", "completed"}


async def test_auto_without_a_critic_is_one_draft():
    """More drafts could not be told apart."""
    async with stack(without="critic") as running:
        result = await running.solve(strategy="auto")
        assert calls(result) == (1, 0)
        assert [entry["code"] for entry in result["degraded"]] == ["critic_unavailable"]


async def test_a_beam_goes_on_from_the_best_beginnings():
    """Children begin with the steps before their parent's first error, and `width` parents have `expansion` each."""
    async with stack(ScriptedOptions(script=Plausible(1.0)), STRICT) as running:
        ask = {"name": "step_beam", "width": 2, "expansion": 2, "levels": 4}
        result = await running.solve(strategy=ask, sampling={"seed": 2}, trace="full")
        found = {candidate["id"]: candidate for candidate in result["candidates"]}
        children = [candidate for candidate in found.values() if candidate["parent"]]
        assert children
        for child in children:
            parent = found[child["parent"]]
            kept = parent["first_error"] - 1
            assert [s["text"] for s in child["steps"]][:kept] == [s["text"] for s in parent["steps"]][:kept]
        assert (result["answer"], result["stop_reason"]) == ("49", "accepted")


async def test_deepening_goes_on_below_its_trigger():
    """A draft that was cut is continued, not begun anew, with more tokens each time."""
    async with stack(ScriptedOptions(script=RIGHT), STRICT) as running:
        ask = {"name": "iterative_deepening", "start": 12, "growth": 4, "trigger": "Wait."}
        result = await running.solve(strategy=ask, trace="full")
        first, *later = ["\n".join(step["text"] for step in c["steps"]) for c in result["candidates"]]
        assert result["candidates"][0]["finish_reason"] == "length"
        assert all(text.startswith(f"{first}\nWait.") for text in later)
        assert result["candidates"][-1]["answer"] is not None


async def test_mode_auto_rewrites_what_rewinding_did_not_mend():
    """After a rewind that errs in the same step again, nothing is kept; nor where the engine cannot continue."""

    def same_error(generation: Generation, _source: random.Random) -> str:
        lines = ["Step 1: 1 + 1 = 2", "Step 2: 2 + 1 = 4", "The answer is \\boxed{4}."]
        prefixes.append(generation.prompt.prefix)
        return "\n".join(lines[len(generation.prompt.prefix.splitlines()) :])

    ask = {"name": "refine", "mode": "auto", "rounds": 2}
    for prefix, kept in ((True, ["", "Step 1: 1 + 1 = 2\n", ""]), (False, ["", "", ""])):
        prefixes: list[str] = []
        able = CAPABILITIES.model_copy(update={"prefix": prefix})
        async with stack(ScriptedOptions(script=same_error, capabilities=able), STRICT) as running:
            result = await running.solve(strategy=ask)
            assert prefixes == kept
            assert result["degraded"] == []


@pytest.mark.parametrize("inner", ["single", {"name": "refine", "rounds": 1}], ids=str)
async def test_best_of_n_begins_no_wave_after_it_has_decided(inner: Any):
    """Of sixteen that agree, one window of four is drawn."""
    async with stack(ScriptedOptions(script=RIGHT), STRICT) as running:
        ask = {"name": "best_of_n", "n": 16, "select": "majority", "inner": inner, "stop_rule": "window"}
        result = await running.solve(strategy=ask)
        assert (len(result["candidates"]), result["stop_reason"]) == (4, "agreed")
        result = await running.solve(strategy={**ask, "stop_early": False})
        assert (len(result["candidates"]), result["stop_reason"]) == (16, "completed")


@pytest.mark.parametrize("name", ["auto", "step_beam", "iterative_deepening"])
async def test_the_same_seed_gives_the_same_candidates(name: str):
    """Whatever runs side by side."""
    async with stack() as running:
        first, second = [await running.solve(strategy={"name": name}, sampling={"seed": 12}, trace="full") for _ in range(2)]
        key = "id"
        assert sorted(first["candidates"], key=lambda c: c[key]) == sorted(second["candidates"], key=lambda c: c[key])
        assert first["answer"] == second["answer"]


@pytest.mark.parametrize("strategy", ["refine", "auto"])
async def test_a_refinement_that_cannot_be_judged_is_better_than_what_was_rejected(strategy: str):
    """One token less than a whole round: the refinement is made, nobody judges it, and it is the answer."""
    ask: dict[str, Any] = {"strategy": {"name": strategy, "rounds": 1}, "sampling": {"seed": 1, "temperature": 0.0}}
    async with stack(actor=ScriptedOptions(script=WRONG)) as running:
        whole = await running.solve(**ask)
        assert [bool(candidate["verdict"]) for candidate in whole["candidates"]] == [True, True]
        found = await running.solve(**ask, budget={"max_tokens": whole["usage"]["total_tokens"] - 1})
        draft, refined = found["candidates"]
        assert (draft["verdict"], refined["verdict"], refined["parent"]) == ("incorrect", None, draft["id"])
        assert (refined["selected"], found["stop_reason"], found["confidence"]) == (True, "budget", None)
