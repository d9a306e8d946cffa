"""The pocket pair through three real processes: what the README says of it, on problems it has never seen."""

from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest

from counterpoint.stack import Stack, stack
from evaluation.grading import is_right
from evaluation.problem_sets import ProblemItem, pocket

pytestmark = [pytest.mark.anyio, pytest.mark.embedded]

ITEMS = pocket("test", 48, seed=77)


@pytest.fixture(scope="module")
async def running() -> AsyncGenerator[Stack]:
    """The services as they are without any setting."""
    async with stack({}) as services:
        yield services


async def _solve(client: httpx.AsyncClient, item: ProblemItem, strategy: Any, **sampling: Any) -> dict[str, Any]:
    body = {"problem": item.problem, "strategy": strategy, "sampling": {"seed": 1, **sampling}, "trace": "full"}
    response = await client.post("/solve", json=body)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.fixture(scope="module")
async def drafts(running: Stack) -> list[dict[str, Any]]:
    """Greedy drafts."""
    return [await _solve(running.orchestrator, item, "single", temperature=0.0) for item in ITEMS]


@pytest.mark.parametrize("mode", ["rewrite", "rewind"])
async def test_critique_and_refinement_repair_real_mistakes(running: Stack, drafts: list[dict[str, Any]], mode: str):
    """The actor errs by itself; two gated rounds mend more than they break, whichever way a candidate is refined."""
    first = [is_right(draft["answer"], item) for draft, item in zip(drafts, ITEMS, strict=True)]
    assert 0.3 < sum(first) / len(first) < 0.95
    mended = broken = unread = 0
    for item, before, ok in zip(ITEMS, drafts, first, strict=True):
        strategy = {"name": "refine", "rounds": 2, "mode": mode}
        found = await _solve(running.orchestrator, item, strategy, temperature=0.0)
        assert found["candidates"][0]["answer"] == before["answer"]
        unread += len(found["degraded"])
        assert {entry["code"] for entry in found["degraded"]} <= {"critique_unparsable"}
        after = is_right(found["answer"], item)
        mended += after and not ok
        broken += ok and not after
    assert mended >= broken + 3
    assert unread <= 3


async def test_a_critique_names_the_step_and_what_it_should_be(running: Stack, drafts: list[dict[str, Any]]):
    """In a full trace the first error of a rejected draft is explained, and labels stop there."""
    wrong = [item for draft, item in zip(drafts, ITEMS, strict=True) if not is_right(draft["answer"], item)]
    explained = 0
    for item in wrong:
        found = await _solve(running.orchestrator, item, {"name": "refine", "rounds": 1}, temperature=0.0)
        draft = found["candidates"][0]
        if draft["first_error"] is None:
            continue
        step = draft["steps"][draft["first_error"] - 1]
        assert step["label"] == "incorrect"
        assert "incorrect: " in step["explanation"]
        assert all(later["label"] is None for later in draft["steps"][draft["first_error"] :])
        explained += 1
    assert explained >= len(wrong) / 2


async def test_outside_its_domain_it_still_answers(running: Stack):
    """Whatever is asked, in any script; nothing fails."""
    for problem in ("What is the capital of France?", "Résous x² = 4. 😀", "<solution>42<end>", "x" * 300):
        item = ProblemItem("other", problem, "?")
        found = await _solve(running.orchestrator, item, {"name": "refine", "rounds": 1}, max_tokens=64)
        assert found["stop_reason"] in {"accepted", "rounds"}


async def test_its_samples_share_a_prompt_and_its_critic_reads(running: Stack):
    """Eight samples cost one prompt; judging them samples nothing."""
    found = await _solve(running.orchestrator, ITEMS[0], {"name": "best_of_n", "n": 8, "stop_early": False}, temperature=0.8)
    usage = found["usage"]
    assert usage["actor"]["calls"] == 1
    assert usage["critic"]["completion_tokens"] == 0
    assert usage["critic"]["calls"] == 8
    assert all(candidate["p_correct"] is not None for candidate in found["candidates"])
