"""Hard budgets under random strategies, limits, failures and disconnects, against real servers and scripted engines."""

import random
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from stack import Stack, stack

from orchestrator.budget import Ledger
from orchestrator.strategies import STRATEGIES
from services.engines.scripted import ScriptedOptions
from services.testing import wait_until

pytestmark = pytest.mark.anyio

SOLVES = 3000
PRICES: dict[str, Any] = {"actor_price_prompt": 0.001, "actor_price_completion": 0.004, "critic_price_completion": 0.002}
ENDINGS = {
    "accepted", "agreed", "completed", "rounds", "budget", "deadline",
    "budget_too_small", "actor_failed", "engine_failed", "deadline_exceeded", "disconnected",
}  # fmt: skip


def _refine(source: random.Random, _depth: int) -> dict[str, Any]:
    return {
        "rounds": source.randrange(1, 4),
        "mode": source.choice(["rewrite", "rewind", "auto"]),
        "gate": source.random() < 0.7,
        "gate_depth": source.choice(["verdict", "labels", "explain"]),
        "pipeline": source.random() < 0.3,
        "abort_on_error": source.random() < 0.3,
        "check_every": source.randrange(1, 4),
        "abort_at": source.random(),
    }


def _best_of_n(source: random.Random, depth: int) -> dict[str, Any]:
    return {
        "n": source.randrange(1, 7),
        "select": source.choice(["critic", "majority", "weighted"]),
        "inner": _strategy(source, depth + 1),
        "stop_early": source.random() < 0.7,
        "stop_rule": source.choice(["certain", "beta", "window"]),
        "window": source.randrange(2, 5),
    }


def _auto(source: random.Random, _depth: int) -> dict[str, Any]:
    sure, waves = {"accept_at": source.random(), "agree_at": source.random()}, {"first_wave": source.randrange(1, 4)}
    return {**sure, **waves, "rounds": source.randrange(3), "max_samples": source.randrange(7)}


def _step_beam(source: random.Random, _depth: int) -> dict[str, Any]:
    return {"width": source.randrange(1, 3), "expansion": source.randrange(1, 3), "levels": source.randrange(3)}


def _iterative_deepening(source: random.Random, _depth: int) -> dict[str, Any]:
    return {"start": source.randrange(1, 60), "growth": 1 + source.random(), "rounds": source.randrange(4)}


def _single(_source: random.Random, _depth: int) -> dict[str, Any]:
    return {}


KINDS: dict[str, Callable[[random.Random, int], dict[str, Any]]] = {
    "single": _single,
    "refine": _refine,
    "auto": _auto,
    "step_beam": _step_beam,
    "iterative_deepening": _iterative_deepening,
    "best_of_n": _best_of_n,
}


def _strategy(source: random.Random, depth: int = 0) -> dict[str, Any]:
    name = source.choice(list(KINDS)[: None if depth < 2 else -1])
    return {"name": name, **KINDS[name](source, depth)}


def _budget(source: random.Random) -> dict[str, Any]:
    budget: dict[str, Any] = {"max_tokens": int(10 ** source.uniform(1.5, 4.5))}
    if source.random() < 0.4:
        budget["max_completion_tokens"] = source.randrange(1, 900)
    if source.random() < 0.4:
        budget["max_calls"] = source.randrange(1, 20)
    if source.random() < 0.2:
        budget["max_cost"] = 10 ** source.uniform(-2, 1)
    if source.random() < 0.1:
        budget["max_seconds"] = 10 ** source.uniform(-3, -1)
    for role in ("actor", "critic"):
        if source.random() < 0.2:
            budget[role] = {"max_tokens": int(10 ** source.uniform(1.5, 4))}
        elif source.random() < 0.2:
            budget[role] = {"max_completion_tokens": source.randrange(1, 600), "max_calls": source.randrange(1, 9)}
    return budget


def _within(limits: dict[str, Any], spent: dict[str, Any]) -> bool:
    pairs = [
        ("max_tokens", "tokens"),
        ("max_completion_tokens", "completion_tokens"),
        ("max_calls", "calls"),
        ("max_cost", "cost"),
    ]
    here = all(limits.get(limit) is None or spent[amount] <= limits[limit] for limit, amount in pairs)
    return here and all(_within(limits[role], spent[role]) for role in ("actor", "critic") if limits.get(role))


async def _ending(running: Stack, request: dict[str, Any], disconnect_after: int | None) -> tuple[str, dict[str, Any]]:
    """Return the stop reason or the error code of a solve; its client may disconnect after some generations."""
    if disconnect_after is None:
        response = await running.client.post("/solve", json=request)
        body = response.json()
        return (body["stop_reason"] if response.status_code == 200 else body["code"]), body
    before, answered = running.generations, False

    async def post() -> None:
        nonlocal answered
        await running.client.post("/solve", json=request)
        answered = True

    async with anyio.create_task_group() as group:
        group.start_soon(post)
        await wait_until(lambda: answered or running.generations >= before + disconnect_after)
        group.cancel_scope.cancel()
    return "disconnected", {}


def _is_settled(ledger: Ledger, limits: dict[str, Any]) -> bool:
    """Return whether the account is within every limit and nothing is held."""
    spent = ledger.spent(0).model_dump()
    nothing_held = all(node.held.tokens == 0 and node.held.calls == 0 for node in (ledger.total, *ledger.roles.values()))
    return _within(limits, spent) and ledger.open_leases == 0 and nothing_held


async def test_thousands_of_random_solves_never_overspend_and_leave_no_lease(monkeypatch: pytest.MonkeyPatch):
    """Every solve is an answer within its limits or a typed error, and every lease is settled."""
    ledgers: list[Ledger] = []
    build = Ledger.__init__

    def record(self: Ledger, *args: Any) -> None:
        build(self, *args)
        ledgers.append(self)

    monkeypatch.setattr(Ledger, "__init__", record)
    source = random.Random(20)
    endings: dict[str, int] = {}
    options = ScriptedOptions(failure_rate=0.1, garbage_rate=0.1)
    async with stack(options, options, **PRICES) as running:
        for number in range(SOLVES):
            limits = _budget(source)
            request = {"strategy": _strategy(source), "budget": limits, "sampling": {"seed": number, "max_tokens": 200}}
            disconnect_after = source.randrange(1, 6) if source.random() < 0.1 else None
            ending, body = await _ending(running, {"problem": f"Add {number} and 30 and 7.", **request}, disconnect_after)
            endings[ending] = endings.get(ending, 0) + 1
            assert ending in ENDINGS, (request, body)
            await wait_until(lambda: not ledgers or ledgers[-1].open_leases == 0)
            assert not ledgers or _is_settled(ledgers[-1], limits), (request, body)
            if "stop_reason" in body:
                assert _within(body["budget"]["limits"], body["budget"]["spent"]), (request, body)
        await wait_until(lambda: running.actor.in_flight + running.critic.in_flight == 0)
        assert sum(running.engine_tokens()) <= sum(ledger.total.spent.tokens for ledger in ledgers)
    often = {"accepted", "rounds", "budget", "budget_too_small", "deadline_exceeded", "disconnected"}
    assert all(endings.get(ending, 0) > 20 for ending in often), sorted(endings.items())


def test_every_strategy_is_tried():
    """A new strategy has to be added to the random solves."""
    assert set(KINDS) == {kind.model_fields["name"].default for kind in STRATEGIES}
