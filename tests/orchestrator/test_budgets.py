"""Hard budgets under random strategies, limits and failures, against real servers and scripted engines."""

import random
from typing import Any

import pytest
from stack import stack

from orchestrator.budget import Ledger
from services.engines.scripted import ScriptedOptions
from services.testing import wait_until

pytestmark = pytest.mark.anyio

SOLVES = 1000


def _strategy(source: random.Random, depth: int = 0) -> dict[str, Any]:
    name = source.choice(["single", "refine", "auto", "best_of_n"] if depth < 2 else ["single", "refine"])
    if name == "refine":
        mode, gate = source.choice(["rewrite", "rewind"]), source.random() < 0.7
        deep = source.choice(["verdict", "labels", "explain"])
        return {"name": name, "rounds": source.randrange(1, 4), "mode": mode, "gate": gate, "gate_depth": deep}
    if name == "best_of_n":
        select = source.choice(["critic", "majority", "weighted"])
        return {"name": name, "n": source.randrange(1, 5), "select": select, "inner": _strategy(source, depth + 1)}
    return {"name": name}


def _budget(source: random.Random) -> dict[str, Any]:
    budget: dict[str, Any] = {"max_tokens": int(10 ** source.uniform(0.5, 4))}
    if source.random() < 0.4:
        budget["max_completion_tokens"] = source.randrange(1, 400)
    if source.random() < 0.4:
        budget["max_calls"] = source.randrange(1, 20)
    if source.random() < 0.4:
        budget[source.choice(["actor", "critic"])] = {"max_tokens": int(10 ** source.uniform(0.5, 3.5))}
    return budget


def _within(limits: dict[str, Any], spent: dict[str, Any]) -> bool:
    pairs = [("max_tokens", "tokens"), ("max_completion_tokens", "completion_tokens"), ("max_calls", "calls")]
    here = all(limits.get(limit) is None or spent[amount] <= limits[limit] for limit, amount in pairs)
    return here and all(_within(limits[role], spent[role]) for role in ("actor", "critic") if limits.get(role))


async def test_a_thousand_random_solves_never_overspend_and_leave_no_lease(monkeypatch: pytest.MonkeyPatch):
    """Every solve is an answer within its limits or a typed error; every lease is settled."""
    ledgers: list[Ledger] = []
    build = Ledger.__init__

    def remembered(self: Ledger, *args: Any) -> None:
        build(self, *args)
        ledgers.append(self)

    monkeypatch.setattr(Ledger, "__init__", remembered)
    source = random.Random(20)
    endings: dict[str, int] = {}
    options = ScriptedOptions(failure_rate=0.1, garbage_rate=0.1)
    async with stack(options, options) as running:
        for number in range(SOLVES):
            ask = {"strategy": _strategy(source), "budget": _budget(source), "sampling": {"seed": number, "max_tokens": 200}}
            response = await running.client.post("/solve", json={"problem": f"Add {number} and 30 and 7.", **ask})
            body = response.json()
            ending = body["stop_reason"] if response.status_code == 200 else body["code"]
            endings[ending] = endings.get(ending, 0) + 1
            assert ending in {
                "accepted", "agreed", "completed", "rounds", "budget", "budget_too_small", "actor_failed", "engine_failed"
            }, body  # fmt: skip
            assert ledgers[-1].total.spent.tokens <= ask["budget"]["max_tokens"], (ask, body)
            if response.status_code == 200:
                assert _within(body["budget"]["limits"], body["budget"]["spent"]), (ask, body)
            assert ledgers[-1].open_leases == 0, (ask, body)
        await wait_until(lambda: running.actor.in_flight + running.critic.in_flight == 0)
        assert sum(running.engine_tokens()) <= sum(ledger.total.spent.tokens for ledger in ledgers)
    assert len(ledgers) == SOLVES
    assert endings["budget"] > 20
    assert endings["budget_too_small"] > 20
