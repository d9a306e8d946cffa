"""The response of a solve, made from its state and its outcome."""

from typing import Any

from orchestrator.candidates import trace_of
from orchestrator.solve.state import Outcome, Solve
from services.contracts.solve import BudgetAccount, SolveResult, SolveUsage, Trace


def result_of(solve: Solve, outcome: Outcome, strategy: dict[str, Any], trace: Trace, seconds: float) -> SolveResult:
    """Return the response of a solve that took `seconds`, with its candidates as `trace` asks for them."""
    chosen, spent = outcome.candidate, solve.ledger.spent(seconds)
    actor, critic = solve.usage["actor"], solve.usage["critic"]
    candidates = tuple(trace_of(each, selected=each.id == chosen.id, trace=trace) for each in solve.candidates)
    return SolveResult(
        id=solve.id,
        answer=chosen.answer,
        solution=chosen.text,
        stop_reason=outcome.stop_reason,
        confidence=outcome.confidence,
        strategy=strategy,
        usage=SolveUsage(
            actor=actor,
            critic=critic,
            total_tokens=actor.total_tokens + critic.total_tokens,
            completion_tokens=actor.completion_tokens + critic.completion_tokens,
            cost=spent.cost,
            seconds=seconds,
        ),
        budget=BudgetAccount(limits=solve.ledger.limits, spent=spent),
        candidates=None if trace == "none" else candidates,
        degraded=tuple(solve.degraded),
    )
