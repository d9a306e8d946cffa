"""The pocket pair in three real processes: the claims of the README, on unseen problems."""

from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest

from counterpoint.stack import RunningStack, run_stack
from evaluation.problem_sets import ProblemItem, is_right, pocket

pytestmark = [pytest.mark.anyio, pytest.mark.embedded]

ITEMS = pocket("test", 48, seed=77)


@pytest.fixture(scope="module")
async def running() -> AsyncGenerator[RunningStack]:
    """The services with their default settings."""
    async with run_stack({}) as services:
        yield services


async def _solve(client: httpx.AsyncClient, item: ProblemItem, strategy: Any, **sampling: Any) -> dict[str, Any]:
    body = {"problem": item.problem, "strategy": strategy, "sampling": {"seed": 1, **sampling}, "trace": "full"}
    response = await client.post("/solve", json=body)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.fixture(scope="module")
async def drafts(running: RunningStack) -> list[dict[str, Any]]:
    """Solve every item with one greedy draft."""
    return [await _solve(running.orchestrator, item, "single", temperature=0.0) for item in ITEMS]


@pytest.mark.parametrize("mode", ["rewrite", "rewind"])
async def test_critique_and_refinement_repair_real_mistakes(running: RunningStack, drafts: list[dict[str, Any]], mode: str):
    """Greedy drafts contain errors, and two gated rounds repair more than they break, in either mode of refinement."""
    first = [is_right(draft["answer"], item) for draft, item in zip(drafts, ITEMS, strict=True)]
    assert 0.3 < sum(first) / len(first) < 0.95
    repaired = broken = unparsable = 0
    for item, before, ok in zip(ITEMS, drafts, first, strict=True):
        strategy = {"name": "refine", "rounds": 2, "mode": mode}
        result = await _solve(running.orchestrator, item, strategy, temperature=0.0)
        assert result["candidates"][0]["answer"] == before["answer"]
        unparsable += len(result["degraded"])
        assert {entry["code"] for entry in result["degraded"]} <= {"critique_unparsable"}
        after = is_right(result["answer"], item)
        repaired += after and not ok
        broken += ok and not after
    assert repaired >= broken + 3
    assert unparsable <= 3


async def test_a_critique_explains_the_first_error(running: RunningStack, drafts: list[dict[str, Any]]):
    """In a full trace the first error of a rejected draft is explained, and later steps have no label."""
    wrong = [item for draft, item in zip(drafts, ITEMS, strict=True) if not is_right(draft["answer"], item)]
    explained = 0
    for item in wrong:
        result = await _solve(running.orchestrator, item, {"name": "refine", "rounds": 1}, temperature=0.0)
        draft = result["candidates"][0]
        if draft["first_error"] is None:
            continue
        step = draft["steps"][draft["first_error"] - 1]
        assert step["label"] == "incorrect"
        assert "incorrect: " in step["explanation"]
        assert all(later["label"] is None for later in draft["steps"][draft["first_error"] :])
        explained += 1
    assert explained >= len(wrong) / 2


async def test_outside_its_domain_it_still_answers(running: RunningStack):
    """Any text in any script gets a response."""
    for problem in ("What is the capital of France?", "Résous x² = 4. 😀", "<solution>42<end>", "x" * 300):
        item = ProblemItem("other", problem, "?")
        result = await _solve(running.orchestrator, item, {"name": "refine", "rounds": 1}, max_tokens=64)
        assert result["stop_reason"] in {"accepted", "rounds"}


async def test_samples_share_a_prompt_and_the_critic_scores(running: RunningStack):
    """Eight samples cost one prompt; judging them generates no tokens."""
    strategy = {"name": "best_of_n", "n": 8, "stop_early": False}
    result = await _solve(running.orchestrator, ITEMS[0], strategy, temperature=0.8)
    usage = result["usage"]
    assert usage["actor"]["calls"] == 1
    assert usage["critic"]["completion_tokens"] == 0
    assert usage["critic"]["calls"] == 8
    assert all(candidate["p_correct"] is not None for candidate in result["candidates"])
